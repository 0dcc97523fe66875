//! What the scenarios share: limits, the small WAL, how a stop becomes a failure.
//!
//! *Owns*: these helpers. *Does not own*: any scenario.
//!
//! *IO: none*

pub(crate) mod kept;
pub(crate) mod oracle;
pub(crate) mod served;

use std::sync::Arc;
use std::time::Duration;

use tidewater_bucket::Bucket;
use tidewater_s3stream::FsckOptions;
use tidewater_types::Env;
use tidewater_wal::{DeviceWalConfig, WalMode};

use crate::bucket::SimBucket;
pub(crate) use crate::check::holds;
use crate::check::{self, Violation, liveness};
use crate::disk::{Device, DiskFaults, SimDisk};
use crate::env::SimEnv;
use crate::exec::{Handle, Limits, Stop, Tag};
use crate::plan::{Plan, Sync};

/// What a run may take; a run that needs more hangs.
pub(crate) const LIMITS: Limits = Limits {
    polls: 3_000_000,
    time: Duration::from_secs(3600),
};

/// Opens the device as soon as its lock is free; a slow write of an earlier life may hold it.
pub(crate) async fn open_when_free(device: &Device, handle: &Handle) -> SimDisk {
    let mut wait = Duration::from_micros(20);
    loop {
        if let Some(disk) = device.open() {
            return disk;
        }
        handle.sleep(wait).await;
        wait = (wait * 2).min(Duration::from_millis(20));
    }
}

/// Counts a life that ended before it had opened or been refused.
pub(crate) struct Opening {
    handle: Handle,
    over: bool,
}

impl Opening {
    pub(crate) fn new(handle: &Handle) -> Self {
        let handle = handle.clone();
        Self {
            handle,
            over: false,
        }
    }

    pub(crate) fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.over {
            self.handle.strike("crash_in_recovery");
        }
    }
}

/// Whether reads fail in a plan, so that both superblocks may be unreadable.
pub(crate) fn reads_fail(faults: &DiskFaults) -> bool {
    faults.read_eio > 0 || faults.removed > 0
}

/// What a run's end says is wrong.
pub(crate) fn failure_of(outcome: Result<Result<(), Violation>, Stop>) -> Option<Violation> {
    match outcome {
        Ok(result) => result.err(),
        Err(stop) => Some(liveness::stopped(&stop)),
    }
}

/// The settings of the WAL: small, so that the ring wraps and fills.
pub(crate) fn wal_config(plan: &Plan, sync: Sync) -> DeviceWalConfig {
    DeviceWalConfig {
        capacity_bytes: plan.segments * 64 * 1024,
        mode: match sync {
            Sync::Flush => WalMode::RingSync,
            Sync::Dsync => WalMode::RingDsync,
        },
        ..DeviceWalConfig::tiny()
    }
}

/// The objects and the metadata agree.
pub(crate) async fn fsck(
    handle: &Handle,
    seed: u64,
    tag: Tag,
    bucket: &SimBucket,
) -> Result<(), Violation> {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(handle.clone(), seed, tag, 0));
    let bucket: Arc<dyn Bucket> = Arc::new(bucket.clone());
    let options = FsckOptions {
        verify_checksums: true,
        ..FsckOptions::default()
    };
    let report = tidewater_s3stream::fsck(bucket, env, options).await;
    check::fsck::ended(report.as_ref().map(|report| &report.findings[..]), false)
}
