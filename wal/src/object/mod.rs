//! A WAL on an object store: a chain of objects, each created only if absent.
//!
//! *Owns*: opening it; the `Wal` port on the shared state.
//! *Does not own*: the store (the bucket port), decisions (`core.rs`, `takeover/core.rs`).
//!
//! Invariants
//! 1. Dropping the last handle stops the engine without making anything more durable.
//! 2. An idle WAL makes no request.
//!
//! *Format: docs/formats/object-wal.md* · *IO: through the bucket port*

mod core;
mod deletes;
mod engine;
mod film;
mod format;
mod hedge;
mod look;
mod owner;
mod put;
mod remains;
mod settings;
mod shared;
mod store;
mod takeover;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_bucket::Bucket;
use tidewater_types::{BoxFuture, ClusterId, Env, Epoch, Lsn, NodeId, WalId};

pub use self::settings::ObjectWalConfig;
pub use self::takeover::TakeoverReport;

use self::core::{Core, Tuning};
use self::engine::Engine;
use self::format::Place;
use self::look::Looked;
use self::shared::Shared;
use self::store::Store;
use self::takeover::{Keep, Mode};
use crate::acks::Append;
use crate::config::{ConfigError, Identity, OpenMode};
use crate::error::WalError;
use crate::port::{Frame, Wal, WalCounters, Watermarks};
use crate::room::{Permit, Reserve};

/// A write-ahead log in a chain of objects.
pub struct ObjectWal {
    shared: Arc<Shared>,
    store: Store,
    node: NodeId,
    wal: WalId,
    epoch: Epoch,
    description: String,
}

impl ObjectWal {
    /// Takes the WAL in `bucket` over from whoever had it, or creates it; `on_frame` gets each
    /// recovered frame in LSN order. The last owner, should it still live, is fenced.
    ///
    /// # Errors
    /// [`WalError::Fenced`] if somebody else took it over meanwhile; [`WalError::Missing`] and
    /// [`WalError::Exists`] by `mode`, the `Foreign…` errors by `identity`,
    /// [`WalError::NewerFormat`] and [`WalError::Corrupt`] by what is there,
    /// [`WalError::Config`] for a setting out of range, [`WalError::Bucket`] for a store that
    /// does not answer.
    pub fn open(
        bucket: Arc<dyn Bucket>,
        env: Arc<dyn Env>,
        config: ObjectWalConfig,
        identity: Identity,
        mode: OpenMode,
        on_frame: impl FnMut(Lsn, Bytes) + Send + 'static,
    ) -> BoxFuture<'static, Result<(Self, TakeoverReport), WalError>> {
        let mode = match mode {
            OpenMode::Create => Mode::Create,
            OpenMode::Existing => Mode::Existing,
        };
        Box::pin(start(bucket, env, config, identity, mode, on_frame))
    }

    /// Gives up what is there and founds another log behind it; nothing is deleted. Whoever
    /// owns the old one is not fenced in it: only for a log that is lost.
    ///
    /// # Errors
    /// As [`ObjectWal::open`].
    pub fn replace(
        bucket: Arc<dyn Bucket>,
        env: Arc<dyn Env>,
        config: ObjectWalConfig,
        identity: Identity,
    ) -> BoxFuture<'static, Result<(Self, TakeoverReport), WalError>> {
        let mode = Mode::Replace;
        Box::pin(start(bucket, env, config, identity, mode, |_, _| {}))
    }

    /// The cluster of the log of `node` in `bucket`; `None` if there is no log, or none that can
    /// be read. Changes nothing.
    ///
    /// # Errors
    /// [`WalError::Bucket`] for a store that does not answer.
    pub async fn peek(
        bucket: Arc<dyn Bucket>,
        env: Arc<dyn Env>,
        config: &ObjectWalConfig,
        node: NodeId,
    ) -> Result<Option<ClusterId>, WalError> {
        look::peek(&Store::new(bucket, env, config), node).await
    }

    /// What opening the WAL of `node` would find: whose it is, the frames it would recover in LSN
    /// order, and what it would report; `None` if there is none. Of each frame the first
    /// [`FRAME_HEAD_BYTES_MAX`] bytes are kept, so `takeover_bytes_max` sets no limit. Changes
    /// nothing: an owner that lives goes on undisturbed, and its log is then a picture of something
    /// that moves. Requests count as those of a check.
    ///
    /// [`FRAME_HEAD_BYTES_MAX`]: crate::FRAME_HEAD_BYTES_MAX
    ///
    /// # Errors
    /// As [`ObjectWal::open`]; [`WalError::Busy`] if it changed faster than it could be looked at.
    pub fn look(
        bucket: Arc<dyn Bucket>,
        env: Arc<dyn Env>,
        config: ObjectWalConfig,
        node: NodeId,
    ) -> BoxFuture<'static, Result<Option<Looked>, WalError>> {
        Box::pin(async move {
            config.validate().map_err(refused)?;
            look::look(bucket, env, &config, node).await
        })
    }

    /// What is damaged or missing among the objects of all epochs that are never deleted, starts,
    /// fences and barriers. Opening gets by without most of them, as [`ObjectWal::look`] does; they
    /// are there to stop a write of an earlier life that lands late. One request an object. Changes
    /// nothing.
    ///
    /// # Errors
    /// [`WalError::Config`] for a setting out of range, [`WalError::Bucket`] for a store that does not
    /// answer. What is wrong is in the answer, as [`WalError::Corrupt`].
    pub fn look_at_remains(
        bucket: Arc<dyn Bucket>,
        env: Arc<dyn Env>,
        config: ObjectWalConfig,
        node: NodeId,
    ) -> BoxFuture<'static, Result<Vec<WalError>, WalError>> {
        Box::pin(async move {
            config.validate().map_err(refused)?;
            remains::look(bucket, env, &config, node).await
        })
    }

    /// The WAL's own identifier.
    #[must_use]
    pub fn wal_id(&self) -> WalId {
        self.wal
    }

    /// The epoch of this life.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Largest frame in bytes.
    #[must_use]
    pub fn frame_bytes_max(&self) -> usize {
        self.shared.room.frame_bytes_max()
    }
}

async fn start(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    config: ObjectWalConfig,
    identity: Identity,
    mode: Mode,
    mut on_frame: impl FnMut(Lsn, Bytes) + Send + 'static,
) -> Result<(ObjectWal, TakeoverReport), WalError> {
    config.validate().map_err(refused)?;
    let store = Store::new(bucket, env.clone(), &config);
    let keep = Keep::Frames {
        bytes_max: config.takeover_bytes_max,
    };
    let taken = takeover::take_over(&store, identity, mode, config.window, keep).await?;
    for (lsn, frame) in taken.frames {
        on_frame(lsn, frame);
    }
    drop(on_frame);
    let report = taken.report;
    let core = Core::new(env.now(), taken.start, tuning(&config));
    let pool_bytes = usize::try_from(config.pool_bytes).expect("validated");
    let patience = Duration::from_millis(config.reserve_ms_max);
    let marks = (report.trimmed, report.end);
    let shared = Arc::new(Shared::new(env.clone(), pool_bytes, patience, marks));
    let engine = Engine::new(core, store.clone(), shared.clone());
    env.spawn("wal: engine", Box::pin(engine.run()));
    let wal = ObjectWal {
        shared,
        store,
        node: identity.node,
        wal: report.wal,
        epoch: report.epoch,
        description: format!("object store, epoch {}", report.epoch),
    };
    Ok((wal, report))
}

fn refused(error: ConfigError) -> WalError {
    let ConfigError {
        field,
        value,
        expected,
    } = error;
    WalError::Config {
        field,
        value,
        expected,
    }
}

fn tuning(config: &ObjectWalConfig) -> Tuning {
    Tuning {
        linger: Duration::from_millis(config.linger_ms_max),
        object_bytes_max: config.object_bytes_max,
        depth: config.depth as usize,
        window: config.window.into(),
        pace: config.pace(),
        trim_idle: Duration::from_millis(config.trim_idle_ms),
        close_patience: Duration::from_millis(config.attempt_ms_max),
        delete_delay: Duration::from_millis(config.delete_delay_ms),
    }
}

impl std::fmt::Debug for ObjectWal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectWal")
            .field("wal", &self.wal)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Drop for ObjectWal {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

impl Wal for ObjectWal {
    fn reserve(&self, num_bytes: usize) -> Reserve {
        self.shared.room.take(num_bytes)
    }

    fn try_reserve(&self, num_bytes: usize) -> Result<Permit, WalError> {
        self.shared.room.try_take(num_bytes)
    }

    fn append(&self, permit: Permit, frame: Frame) -> Result<Append, WalError> {
        self.shared.append(permit, frame)
    }

    fn trim(&self, up_to: Lsn) {
        self.shared.trim(up_to);
    }

    fn read(&self, lsn: Lsn) -> BoxFuture<'static, Result<Bytes, WalError>> {
        let answer = self.shared.read(lsn);
        Box::pin(async move { answer.await.unwrap_or(Err(WalError::Closed)) })
    }

    fn watermarks(&self) -> Watermarks {
        self.shared.watermarks()
    }

    fn counters(&self) -> WalCounters {
        self.shared.counters()
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn confirm(&self) -> BoxFuture<'static, Result<(), WalError>> {
        let (store, node, epoch) = (self.store.clone(), self.node, self.epoch);
        Box::pin(async move {
            // Whoever takes the log over claims a later epoch first.
            let last = format::key(node, Place::new(epoch, u64::MAX));
            let later = store.list(&format::prefix(node), Some(&last)).await?;
            let Some(entry) = later.entries.into_iter().next() else {
                return Ok(());
            };
            let by = format::place_of(node, &entry.key).map_or(epoch, |place| place.epoch);
            let key = entry.key;
            Err(WalError::Fenced { key, epoch, by })
        })
    }

    fn close(&self) -> BoxFuture<'static, Result<(), WalError>> {
        Box::pin(self.shared.clone().close())
    }
}
