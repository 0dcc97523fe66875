//! Production's answers to the ports: the tokio environment and the device WAL's opener.
//!
//! *Owns*: clock, sleep, spawn and randomness of a real process; the blocking open of a WAL file.
//! *Does not own*: what the WAL checks.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the production driver"
)]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_types::{BoxFuture, ClusterId, Env, Instant, Lsn, NodeId};
use tidewater_wal::inspect::{Found, inspect};
use tidewater_wal::{
    DeviceWal, DeviceWalConfig, Identity, OpenMode, RecoveryReport, WalError, peek_identity,
    set_aside,
};
use tracing::warn;

use crate::format::frame::{BadFrame, FrameHead};
use crate::opener::{FrameSink, OpenedWal, WalExpectation, WalOpener, is_lost};

/// How long the writes of a killed owner may take to land.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The environment of a real process: tokio's timers and tasks, the host's clock and entropy.
#[derive(Debug)]
pub struct TokioEnv {
    started: std::time::Instant,
    runtime: tokio::runtime::Handle,
}

impl TokioEnv {
    /// The environment on the runtime this is called from.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn current() -> Self {
        Self {
            started: std::time::Instant::now(),
            runtime: tokio::runtime::Handle::current(),
        }
    }
}

impl Env for TokioEnv {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall_ms(&self) -> i64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let _in_runtime = self.runtime.enter();
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn(&self, _label: &'static str, task: BoxFuture<'static, ()>) {
        self.runtime.spawn(task);
    }

    fn random(&self, _label: &'static str) -> u64 {
        getrandom::u64().expect("the operating system has entropy")
    }
}

/// Opens the device WAL in a file or on a block device.
pub struct DeviceWalOpener {
    /// The file or block device.
    pub path: PathBuf,
    /// The WAL's settings.
    pub config: DeviceWalConfig,
    /// The environment.
    pub env: Arc<dyn Env>,
}

impl WalOpener for DeviceWalOpener {
    fn limit(&mut self, _limits: &dyn Fn(Arc<dyn Bucket>) -> Arc<dyn Bucket>) {}

    fn peek(&self) -> BoxFuture<'_, Result<Option<ClusterId>, WalError>> {
        let path = self.path.clone();
        Box::pin(async move {
            blocking(move || match peek_identity(&path) {
                Ok(identity) => Ok(Some(identity.cluster)),
                Err(WalError::Missing { .. }) => Ok(None),
                Err(error) => Err(error),
            })
            .await
        })
    }

    fn open(
        self: Box<Self>,
        expect: WalExpectation,
        on_frame: FrameSink,
    ) -> BoxFuture<'static, Result<OpenedWal, WalError>> {
        Box::pin(async move { blocking(move || self.open_blocking(expect, on_frame)).await })
    }
}

impl DeviceWalOpener {
    fn open_blocking(
        self,
        expect: WalExpectation,
        mut on_frame: FrameSink,
    ) -> Result<OpenedWal, WalError> {
        // A WAL that was never named may be created; one that was must be there.
        let is_there = !matches!(peek_identity(&self.path), Err(WalError::Missing { .. }));
        let mode = if is_there || expect.wal.is_some() {
            OpenMode::Existing
        } else {
            OpenMode::Create
        };
        let (mode, opened) = match self.attempt(&expect, mode) {
            Err(loss) if expect.accept_data_loss && is_lost(&loss) => {
                let kept = set_aside(&self.path)?;
                warn!(%loss, ?kept, "the WAL is given up as asked: what only it held is lost");
                let unnamed = WalExpectation {
                    wal: None,
                    ..expect
                };
                (OpenMode::Create, self.attempt(&unnamed, OpenMode::Create)?)
            }
            opened => (mode, opened?),
        };
        let (wal, report, frames) = opened;
        // Only now: the frames of a WAL that was set aside must not be taken for durable.
        for (lsn, frame) in frames {
            on_frame(lsn, frame);
        }
        let (id, is_used) = (Some(wal.wal_id()), report.end > Lsn(0));
        let report = (mode == OpenMode::Existing).then(|| describe(&report));
        Ok(OpenedWal {
            wal: Arc::new(wal),
            id,
            is_used,
            report,
        })
    }

    /// Opens the WAL; the frames it recovered come with it.
    fn attempt(&self, expect: &WalExpectation, mode: OpenMode) -> Result<Attempt, WalError> {
        let identity = Identity {
            cluster: expect.cluster,
            node: expect.node,
            wal: expect.wal,
        };
        let started = std::time::Instant::now();
        loop {
            let frames = Arc::new(Mutex::new(Vec::new()));
            let sink = Arc::clone(&frames);
            let on_frame = move |lsn, frame| sink.lock().push((lsn, frame));
            let (env, config) = (Arc::clone(&self.env), self.config.clone());
            match DeviceWal::open(&self.path, env, config, identity, mode, on_frame) {
                // A killed owner keeps the lock until its last write has landed.
                Err(WalError::Busy { .. } | WalError::DeviceInUse { .. })
                    if started.elapsed() < LOCK_WAIT =>
                {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(error) => return Err(error),
                // Nobody has named it, and what it holds may be lost.
                Ok((_, report))
                    if expect.accept_data_loss && expect.wal.is_none() && report.end > Lsn(0) =>
                {
                    let path = self.path.display().to_string();
                    return Err(WalError::Exists { path });
                }
                Ok((wal, report)) => {
                    let frames = std::mem::take(&mut *frames.lock());
                    return Ok((wal, report, frames));
                }
            }
        }
    }
}

/// A device WAL to look at.
#[derive(Clone, Debug)]
pub(crate) struct DevicePlace {
    /// Whose it is.
    pub(crate) node: NodeId,
    /// The file or block device.
    pub(crate) path: PathBuf,
    /// Whether a process may be using it.
    pub(crate) in_use: bool,
}

/// What was found on a device.
pub(crate) struct DeviceLook {
    pub(crate) identity: Option<Identity>,
    /// The head of each frame, or why there is none.
    pub(crate) frames: Vec<(Lsn, Result<FrameHead, BadFrame>)>,
    /// LSN behind the last frame.
    pub(crate) end: Lsn,
    pub(crate) refusal: Option<WalError>,
    pub(crate) damaged_slot: Option<usize>,
}

/// Looks at a device WAL without opening it.
pub(crate) async fn look_at_device(place: &DevicePlace) -> Result<DeviceLook, WalError> {
    let place = place.clone();
    blocking(move || {
        let (mut frames, mut end) = (Vec::new(), Lsn(0));
        let inspection = inspect(&place.path, &mut |found| {
            match found {
                // A log may be larger than memory: only heads are kept.
                Found::Frame { lsn, bytes } => frames.push((lsn, FrameHead::decode(&bytes))),
                Found::Group { end: behind, .. } => end = end.max(behind),
            }
            ControlFlow::Continue(())
        })?;
        let path = || place.path.display().to_string();
        if inspection.is_unsettled() || (inspection.in_use() && !place.in_use) {
            return Err(WalError::Busy { path: path() });
        }
        // A log whose superblocks cannot be read has no identity, and a refusal that says so.
        let identity = peek_identity(&place.path).ok();
        Ok(DeviceLook {
            identity,
            frames,
            end,
            refusal: inspection.refusal().cloned(),
            damaged_slot: inspection.damaged_slot(),
        })
    })
    .await
}

/// A WAL that opened, what recovery did, and the frames it found.
type Attempt = (DeviceWal, RecoveryReport, Vec<(Lsn, Bytes)>);

/// What the operator should know of a recovery, in one line.
fn describe(report: &RecoveryReport) -> String {
    let mut text = format!(
        "recovered {} frames ({} bytes) in {} ms up to lsn {}; stopped at position {}: {}",
        report.num_frames,
        report.num_bytes,
        report.duration.as_millis(),
        report.end,
        report.stop_position,
        report.stop_reason,
    );
    if let Some(slot) = report.damaged_slot {
        text.push_str(&format!(
            "; superblock slot {slot} was damaged and is repaired"
        ));
    }
    text
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, WalError> + Send + 'static,
) -> Result<R, WalError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(WalError::Closed))
}
