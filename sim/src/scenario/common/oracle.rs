//! What is asked beside a run about what is promised, wherever it lies, and about the bucket as it is now.
//!
//! *Owns*: the search for bytes through what the worst crash leaves of devices; fsck of a copy; the draws
//! of when a copy is looked at.
//! *Does not own*: what a copy must serve (the scenarios), bytes that lie in a bucket (kept.rs).
//!
//! Invariants
//! 1. Whoever asks changes nothing in the run: copies live on executors of their own, and draws come
//!    from a stream of their own.
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_bucket::Bucket;
use tidewater_stream_store::{Fsck, FsckFinding, ObjectWalConfig, StreamStore};
use tidewater_types::{Env, sometimes};

use super::{LIMITS, failure_of};
use crate::bucket::SimBucket;
use crate::check::{Violation, find, fsck, liveness};
use crate::disk::Device;
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};
use crate::rng::Rng;

/// Bytes of a device that are looked through at a time.
const STEP_BYTES: u64 = 16 << 10;
/// How far before the last find the next search begins: acknowledgements come out of order.
const BACK_BYTES: u64 = 8 << 10;

/// Draws, and where promised bytes were found last.
pub(crate) struct Oracle {
    seed: u64,
    rng: Rng,
    num_copies: u64,
    last: (usize, u64),
}

impl Oracle {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = Rng::new(seed, "oracle");
        Self {
            seed,
            rng,
            num_copies: 0,
            last: (0, 0),
        }
    }

    /// In so many of 1,000 calls, the seed of the next copy.
    pub(crate) fn draw(&mut self, per_mille: u32) -> Option<u64> {
        self.rng.chance(per_mille).then(|| {
            self.num_copies += 1;
            self.seed ^ (self.num_copies << 32)
        })
    }

    /// Whether the worst crash leaves `bytes` somewhere on one of the devices.
    pub(crate) fn survive_on(&mut self, devices: &[Device], bytes: &[u8]) -> bool {
        let (first, from) = self.last;
        let order = (first..devices.len()).chain(0..first);
        for node in order {
            let from = if node == first { from } else { 0 };
            if let Some(at) = find_on(&devices[node], bytes, from.saturating_sub(BACK_BYTES)) {
                self.last = (node, at);
                return true;
            }
        }
        false
    }
}

/// Where the durable bytes of the device hold `bytes`, looked for from `from` on and then before it.
fn find_on(device: &Device, bytes: &[u8], from: u64) -> Option<u64> {
    let end = device.num_bytes();
    let step = |at: u64| {
        let len = STEP_BYTES + bytes.len() as u64;
        let part = device.durable_bytes(at, usize::try_from(len).expect("small"));
        find(&part, bytes).map(|found| at + found as u64)
    };
    let steps = |range: std::ops::Range<u64>| range.step_by(STEP_BYTES as usize);
    let from = from.min(end);
    steps(from..end).chain(steps(0..from)).find_map(step)
}

/// How much of a bucket is looked at.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// The metadata log alone: the objects that it names need not be there.
    Metadata,
    /// Metadata and objects.
    Objects,
    /// Metadata, objects and the write-ahead logs with these settings: together they tile every stream.
    Logs(ObjectWalConfig),
}

/// A copy of the bucket as it is now is in order.
pub(crate) fn fsck_copy(bucket: &SimBucket, seed: u64, scope: Scope) -> Result<(), Violation> {
    sometimes!("the bucket is checked in the middle of a run");
    let executor = Executor::new(seed);
    let copy: Arc<dyn Bucket> = Arc::new(bucket.fork(executor.handle(), seed));
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(executor.handle(), seed, Tag(1), 0));
    let names_objects = !matches!(scope, Scope::Metadata);
    let check = Fsck::new(env, copy).with_checksums(true);
    let check = match scope {
        Scope::Logs(config) => check.with_object_wal(config),
        Scope::Metadata | Scope::Objects => check.without_wals(),
    };
    let outcome = executor.run(LIMITS, async move {
        let report = check.run().await.map(|mut report| {
            let is_asked = |finding: &FsckFinding| names_objects || fsck::is_of_metadata(finding);
            report.findings.retain(is_asked);
            report.findings
        });
        fsck::ended(report.as_deref(), false)
    });
    failure_of(outcome).map_or(Ok(()), |found| {
        let detail = format!("of a copy: {}", found.detail);
        Err(Violation::new("fsck", detail))
    })
}

/// Everything was uploaded and nothing fails: no byte waits, and the write-ahead log has let go of all.
pub(crate) fn all_let_go(store: &StreamStore) -> Result<(), Violation> {
    let counters = store.counters();
    liveness::nothing_waits(counters.waiting_bytes, counters.accepted_bytes)?;
    let (trimmed, durable) = (counters.watermarks.trimmed, counters.watermarks.durable);
    liveness::done(trimmed == durable, || {
        format!("everything is uploaded, and the log is trimmed to {trimmed}, durable to {durable}")
    })
}

#[cfg(test)]
mod tests {
    use super::Oracle;
    use crate::check::payload;
    use crate::disk::{Device, DiskFaults, DiskShape};
    use crate::exec::Executor;

    #[test]
    fn copies_have_seeds_of_their_own() {
        let mut oracle = Oracle::new(7);
        let seeds = [oracle.draw(1000), oracle.draw(1000)];
        assert!(seeds[0].is_some() && seeds[0] != seeds[1]);
        assert_eq!(oracle.draw(0), None);
    }

    #[test]
    fn what_no_device_holds_does_not_survive() {
        let shape = DiskShape {
            block_bytes: 512,
            sector_bytes: 512,
            write_ns: 1,
            flush_ns: 1,
            is_file: false,
        };
        let executor = Executor::new(1);
        let device = || Device::new(executor.handle(), 1, shape, DiskFaults::default());
        let mut oracle = Oracle::new(7);
        assert!(!oracle.survive_on(&[device(), device()], &payload(3, 60)));
    }
}
