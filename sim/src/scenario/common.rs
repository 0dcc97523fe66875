//! What the scenarios share: limits, the small WAL, how a stop becomes a failure.
//!
//! *Owns*: these helpers. *Does not own*: any scenario.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use tidewater_bucket::Bucket;
use tidewater_s3stream::{FsckOptions, Severity};
use tidewater_types::Env;
use tidewater_wal::{DeviceWalConfig, WalError, WalMode};

use crate::bucket::SimBucket;
use crate::check::Violation;
use crate::disk::{Device, SimDisk};
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

/// Whether reads that failed explain the refusal: both superblocks unreadable is told as damage.
pub(crate) fn unreadable(plan: &Plan, error: &WalError) -> bool {
    let faults = &plan.disk_faults;
    (faults.read_eio > 0 || faults.removed > 0)
        && matches!(error, WalError::SuperblocksDamaged { .. })
}

/// What a run's end says is wrong.
pub(crate) fn failure_of(outcome: Result<Result<(), Violation>, Stop>) -> Option<Violation> {
    match outcome {
        Ok(result) => result.err(),
        Err(stop @ Stop::Panic { .. }) => Some(Violation::new("panic", stop.to_string())),
        Err(stop) => Some(Violation::new("liveness", stop.to_string())),
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

/// Whether `needle` stands somewhere in `bytes`.
pub(crate) fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let (Some(first), len) = (needle.get(..16), needle.len()) else {
        return false;
    };
    bytes
        .windows(16)
        .enumerate()
        .any(|(at, window)| window == first && bytes.get(at..at + len) == Some(needle))
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
    let report = report.map_err(|error| Violation::new("fsck", format!("refused: {error}")))?;
    match report
        .findings
        .iter()
        .find(|finding| finding.severity == Severity::Error)
    {
        None => Ok(()),
        Some(finding) => Err(Violation::new("fsck", format!("{finding:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::holds;
    use crate::check::payload;

    #[test]
    fn bytes_are_found_whole_or_not_at_all() {
        let needle = payload(5, 100);
        let around = [vec![0; 37], needle.clone(), vec![1; 9]].concat();
        assert!(holds(&around, &needle));
        assert!(!holds(&around[..130], &needle));
        let mut torn = around;
        torn[100] ^= 1;
        assert!(!holds(&torn, &needle));
    }
}
