//! How a store gets its WAL: the port, and the openers for the object and the memory WAL.
//!
//! *Owns*: which WAL is right for a cluster and node, and what `accept_data_loss` permits.
//! *Does not own*: the WALs.
//!
//! Invariants
//! 1. A WAL that the metadata names is never created anew, unless losing it was accepted.
//! 2. Nothing is deleted: a WAL that is given up is renamed, or stays where it is.
//!
//! *IO: none* (the device opener's blocking part is in driver.rs)

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_types::{BoxFuture, ClusterId, Env, Lsn, NodeId, WalId, sometimes};
use tidewater_wal::{
    Identity, MemoryWal, ObjectWal, ObjectWalConfig, OpenMode, TakeoverReport, Wal, WalError,
};
use tracing::warn;

/// What the metadata says the WAL must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalExpectation {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The WAL the metadata names for this node; `None` if it never named one.
    pub wal: Option<WalId>,
    /// Whether an empty WAL may take the place of a missing, wiped or foreign one.
    pub accept_data_loss: bool,
}

/// A WAL that is open and recovered.
pub struct OpenedWal {
    /// The WAL.
    pub wal: Arc<dyn Wal>,
    /// Its identity; `None` for one that does not outlive the process.
    pub id: Option<WalId>,
    /// Whether it ever took a frame.
    pub is_used: bool,
    /// What recovery found, for the operator.
    pub report: Option<String>,
}

/// Takes each recovered frame, in LSN order.
pub type FrameSink = Box<dyn FnMut(Lsn, Bytes) + Send>;

/// Opens the WAL once the store knows which one to expect.
pub trait WalOpener: Send + Sync + 'static {
    /// A WAL that makes requests makes them through `limits` of the bucket it was given: there they go
    /// ahead of all others and count like them. One that makes none has nothing to do. Called before
    /// [`WalOpener::open`].
    fn limit(&mut self, limits: &dyn Fn(Arc<dyn Bucket>) -> Arc<dyn Bucket>);

    /// The cluster of the WAL that is there, read without changing or locking anything;
    /// `None` if there is none, or none that can be read.
    fn peek(&self) -> BoxFuture<'_, Result<Option<ClusterId>, WalError>> {
        Box::pin(async { Ok(None) })
    }

    /// Opens or creates it. Every recovered frame was handed to `on_frame` and is durable
    /// before the future completes.
    fn open(
        self: Box<Self>,
        expect: WalExpectation,
        on_frame: FrameSink,
    ) -> BoxFuture<'static, Result<OpenedWal, WalError>>;
}

/// Opens a WAL on an object store: takes it over from whoever had it.
pub struct ObjectWalOpener {
    /// Where its chain lies; may be the bucket of everything else.
    pub bucket: Arc<dyn Bucket>,
    /// Whose WAL it is.
    pub node: NodeId,
    /// The WAL's settings.
    pub config: ObjectWalConfig,
    /// The environment.
    pub env: Arc<dyn Env>,
}

impl WalOpener for ObjectWalOpener {
    fn limit(&mut self, limits: &dyn Fn(Arc<dyn Bucket>) -> Arc<dyn Bucket>) {
        self.bucket = limits(Arc::clone(&self.bucket));
    }

    fn peek(&self) -> BoxFuture<'_, Result<Option<ClusterId>, WalError>> {
        let (bucket, env) = (Arc::clone(&self.bucket), Arc::clone(&self.env));
        Box::pin(ObjectWal::peek(bucket, env, &self.config, self.node))
    }

    fn open(
        self: Box<Self>,
        expect: WalExpectation,
        mut on_frame: FrameSink,
    ) -> BoxFuture<'static, Result<OpenedWal, WalError>> {
        Box::pin(async move {
            let frames = Arc::new(Mutex::new(Vec::new()));
            let sink = Arc::clone(&frames);
            let (wal, report) = match self.attempt(&expect, sink).await {
                Err(loss) if expect.accept_data_loss && is_lost(&loss) => {
                    warn!(%loss, "the WAL is given up as asked: what only it held is lost");
                    frames.lock().clear();
                    let Self {
                        bucket,
                        config,
                        env,
                        ..
                    } = *self;
                    ObjectWal::replace(bucket, env, config, identity(&expect, None)).await?
                }
                opened => opened?,
            };
            // Only now: the frames of a WAL that is given up must not be taken for durable.
            for (lsn, frame) in std::mem::take(&mut *frames.lock()) {
                on_frame(lsn, frame);
            }
            sometimes!("store: object wal opened");
            let (id, is_used) = (Some(wal.wal_id()), report.end > Lsn(0));
            let report = report.fence.is_some().then(|| describe(&report));
            Ok(OpenedWal {
                wal: Arc::new(wal),
                id,
                is_used,
                report,
            })
        })
    }
}

type Frames = Arc<Mutex<Vec<(Lsn, Bytes)>>>;

impl ObjectWalOpener {
    /// A WAL that was never named may be created; one that was must be there.
    async fn attempt(
        &self,
        expect: &WalExpectation,
        frames: Frames,
    ) -> Result<(ObjectWal, TakeoverReport), WalError> {
        let (first, second) = if expect.wal.is_some() {
            (OpenMode::Existing, None)
        } else {
            // Found by a life that ended before the metadata named it.
            (OpenMode::Create, Some(OpenMode::Existing))
        };
        match (self.open_as(expect, first, &frames).await, second) {
            (Err(exists @ WalError::Exists { .. }), Some(mode)) => {
                let (wal, report) = self.open_as(expect, mode, &frames).await?;
                // Nobody has named it, and what it holds may be lost.
                if expect.accept_data_loss && report.end > Lsn(0) {
                    return Err(exists);
                }
                Ok((wal, report))
            }
            (opened, _) => opened,
        }
    }

    async fn open_as(
        &self,
        expect: &WalExpectation,
        mode: OpenMode,
        frames: &Frames,
    ) -> Result<(ObjectWal, TakeoverReport), WalError> {
        let sink = Arc::clone(frames);
        let on_frame = move |lsn, frame| sink.lock().push((lsn, frame));
        let (bucket, env) = (Arc::clone(&self.bucket), Arc::clone(&self.env));
        let identity = identity(expect, expect.wal);
        ObjectWal::open(bucket, env, self.config.clone(), identity, mode, on_frame).await
    }
}

fn identity(expect: &WalExpectation, wal: Option<WalId>) -> Identity {
    Identity {
        cluster: expect.cluster,
        node: expect.node,
        wal,
    }
}

/// Whether accepting the loss of data lets an empty WAL take this one's place. A WAL of a newer
/// format or one that somebody else has taken over is not lost.
pub(crate) fn is_lost(loss: &WalError) -> bool {
    matches!(
        loss,
        WalError::Missing { .. }
            | WalError::Exists { .. }
            | WalError::ForeignCluster { .. }
            | WalError::ForeignNode { .. }
            | WalError::ForeignWal { .. }
            | WalError::SuperblocksDamaged { .. }
            | WalError::Corrupt { .. }
    )
}

/// What the operator should know of a takeover, in one line.
fn describe(report: &TakeoverReport) -> String {
    format!(
        "recovered {} frames ({} bytes in {} objects) in {} ms up to lsn {}; fenced at {}",
        report.num_frames,
        report.num_bytes,
        report.num_entries,
        report.duration.as_millis(),
        report.end,
        report.fence.as_deref().unwrap_or("nothing"),
    )
}

/// Opens a memory WAL: for tests and throw-away clusters, nothing outlives the process.
pub struct MemoryWalOpener {
    /// Payload bytes that may wait for their upload.
    pub capacity_bytes: usize,
    /// How long a reservation waits for room, in milliseconds.
    pub reserve_ms_max: u64,
    /// The environment.
    pub env: Arc<dyn Env>,
}

impl WalOpener for MemoryWalOpener {
    fn limit(&mut self, _limits: &dyn Fn(Arc<dyn Bucket>) -> Arc<dyn Bucket>) {}

    fn open(
        self: Box<Self>,
        expect: WalExpectation,
        _on_frame: FrameSink,
    ) -> BoxFuture<'static, Result<OpenedWal, WalError>> {
        Box::pin(async move {
            if let Some(named) = expect.wal.filter(|_| !expect.accept_data_loss) {
                // The node's acknowledged data may be in the WAL it used before.
                let path = format!("WAL {named} (a memory WAL was asked for)");
                return Err(WalError::Missing { path });
            }
            let wal: Arc<dyn Wal> = {
                let Self {
                    capacity_bytes,
                    reserve_ms_max,
                    env,
                } = *self;
                Arc::new(MemoryWal::new(env, capacity_bytes, reserve_ms_max))
            };
            Ok(OpenedWal {
                wal,
                id: None,
                is_used: false,
                report: None,
            })
        })
    }
}
