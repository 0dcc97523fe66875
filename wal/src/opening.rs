//! From a disk to an engine that is ready to run.
//!
//! *Owns*: putting recovery, core and callers' state together.
//! *Does not own*: where the engine runs.
//!
//! *IO: through the disk port*

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_types::{Env, Lsn};

use crate::config::{ConfigError, DeviceWalConfig, Identity, OpenMode, WalMode};
use crate::core::{Core, Tuning};
use crate::disk::Disk;
use crate::engine::Engine;
use crate::error::WalError;
use crate::format::group::{HEADER_BYTES, PREFIX_BYTES};
use crate::inlet::PoolShape;
use crate::io::DiskIo;
use crate::recovery::{RecoveryReport, recover};
use crate::shared::{Beginning, Shared};

/// A recovered WAL whose engine does not run yet.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) shared: Arc<Shared>,
    pub(crate) report: RecoveryReport,
}

/// Recovers the WAL on `disk`.
pub(crate) async fn prepare(
    disk: Box<dyn Disk>,
    env: Arc<dyn Env>,
    config: DeviceWalConfig,
    identity: Identity,
    mode: OpenMode,
    note: String,
    mut on_frame: Box<dyn FnMut(Lsn, Bytes) + Send>,
) -> Result<Opened, WalError> {
    validated(&config)?;
    let mut io = DiskIo::new(disk);
    let recovered = recover(&mut io, &*env, &config, &identity, mode, &mut *on_frame).await;
    // What was read ahead ends before the disk goes on to the engine, or back.
    io.settle().await;
    let recovered = recovered?;
    if mode == OpenMode::Create {
        io.publish()?;
    }
    // Also of a log that was there: whoever made it may have come no further than its name.
    io.sync_name()?;
    drop(on_frame);
    let (start, report) = (recovered.start, recovered.report);
    let tuning = Tuning {
        durable_writes: config.mode == WalMode::RingDsync,
        overlaps: config.mode != WalMode::Portable,
        depth: config.depth,
        mark_idle: Duration::from_millis(config.mark_idle_ms),
        retry: Duration::from_millis(config.retry_ms),
        zero_ahead: config.zero_ahead,
        slow_op: Duration::from_millis(config.slow_op_ms),
    };
    let pool = PoolShape::of(&config, &start.geometry)?;
    let group = usize::try_from(start.geometry.group_bytes_max()).expect("a group");
    let shared = Arc::new(Shared::new(
        env,
        Beginning {
            wal: report.wal,
            description: format!("{} ({note})", io.path()),
            frame_bytes_max: group - HEADER_BYTES - PREFIX_BYTES,
            patience: Duration::from_millis(config.reserve_ms_max),
            slow_op: tuning.slow_op,
            pool,
            trimmed: report.trimmed,
            end: report.end,
            index: recovered.index,
        },
    ));
    let path = start.path.clone();
    let core = Core::new(start, tuning);
    let engine = Engine::new(core, io.into_disk(), shared.clone(), path, report.trimmed);
    Ok(Opened {
        engine,
        shared,
        report,
    })
}

/// Refuses settings out of range.
pub(crate) fn validated(config: &DeviceWalConfig) -> Result<(), WalError> {
    config.validate().map_err(|error| {
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
    })
}
