//! The device WAL: a handle on an engine that runs elsewhere.
//!
//! *Owns*: opening over any disk; the `Wal` port on the shared state.
//! *Does not own*: files, threads and rings (`driver`), decisions (`core`).
//!
//! Invariants
//! 1. Dropping the last handle stops the engine without making anything more durable.
//!
//! *IO: through the disk port*

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_types::{BoxFuture, Env, Lsn, WalId};

use crate::acks::Append;
use crate::config::{DeviceWalConfig, Identity, OpenMode};
use crate::disk::Disk;
use crate::error::WalError;
use crate::opening::prepare;
use crate::port::{Frame, Wal, WalCounters, Watermarks};
use crate::recovery::RecoveryReport;
use crate::room::{Permit, Reserve};
use crate::shared::Shared;

/// A write-ahead log in a ring of segments on a file or block device.
pub struct DeviceWal {
    shared: Arc<Shared>,
    on_drop: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl DeviceWal {
    /// Opens the WAL in the file at `path`, with a thread of its own for the I/O. Blocks until
    /// recovery is done; `on_frame` gets each recovered frame in LSN order.
    ///
    /// # Errors
    /// [`WalError::Busy`] if another process has it open, [`WalError::Missing`] and
    /// [`WalError::Exists`] by `mode`, the `Foreign…` errors by `identity`,
    /// [`WalError::NewerFormat`], [`WalError::SuperblocksDamaged`] and [`WalError::Corrupt`]
    /// by what is there, [`WalError::Config`] for a setting out of range.
    pub fn open(
        path: &Path,
        env: Arc<dyn Env>,
        config: DeviceWalConfig,
        identity: Identity,
        mode: OpenMode,
        on_frame: impl FnMut(Lsn, Bytes) + Send + 'static,
    ) -> Result<(Self, RecoveryReport), WalError> {
        let opened = crate::driver::open(path, env, config, identity, mode, Box::new(on_frame))?;
        let (shared, report, on_drop) = opened;
        let on_drop = Some(on_drop);
        Ok((Self { shared, on_drop }, report))
    }

    /// Opens the WAL on any disk, with the engine as a task of `env`. Never blocks. The caller
    /// sees to it that nobody else writes to the disk.
    ///
    /// # Errors
    /// As [`DeviceWal::open`], without [`WalError::Busy`].
    pub fn open_on(
        disk: Box<dyn Disk>,
        env: Arc<dyn Env>,
        config: DeviceWalConfig,
        identity: Identity,
        mode: OpenMode,
        on_frame: impl FnMut(Lsn, Bytes) + Send + 'static,
    ) -> BoxFuture<'static, Result<(Self, RecoveryReport), WalError>> {
        Box::pin(async move {
            let opened = {
                let note = config.mode.to_string();
                prepare(
                    disk,
                    env.clone(),
                    config,
                    identity,
                    mode,
                    note,
                    Box::new(on_frame),
                )
                .await?
            };
            env.spawn("wal: engine", Box::pin(opened.engine.run()));
            Ok((
                Self {
                    shared: opened.shared,
                    on_drop: None,
                },
                opened.report,
            ))
        })
    }

    /// The WAL's own identifier.
    #[must_use]
    pub fn wal_id(&self) -> WalId {
        self.shared.wal
    }

    /// The bytes on the device that hold the frame at `lsn`: its whole group. `None` if it was
    /// not submitted yet, or was trimmed.
    #[must_use]
    pub fn locate(&self, lsn: Lsn) -> Option<Range<u64>> {
        self.shared.locate(lsn)
    }

    /// Largest frame in bytes.
    #[must_use]
    pub fn frame_bytes_max(&self) -> usize {
        self.shared.room.frame_bytes_max()
    }
}

impl std::fmt::Debug for DeviceWal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceWal")
            .field("wal", &self.shared.wal)
            .finish_non_exhaustive()
    }
}

impl Drop for DeviceWal {
    fn drop(&mut self) {
        self.shared.abandon();
        if let Some(on_drop) = self.on_drop.take() {
            on_drop();
        }
    }
}

impl Wal for DeviceWal {
    fn reserve(&self, num_bytes: usize) -> Reserve {
        self.shared.room.take(num_bytes)
    }

    fn try_reserve(&self, num_bytes: usize) -> Result<Permit, WalError> {
        self.shared.room.try_take(num_bytes)
    }

    fn append(&self, permit: Permit, frame: Frame) -> Result<Append, WalError> {
        self.shared.append(permit, &frame)
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
        self.shared.description.clone()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), WalError>> {
        Box::pin(self.shared.clone().close())
    }
}
