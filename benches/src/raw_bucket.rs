//! Raw creates: what a bucket gives to a program that does nothing else.
//!
//! *Owns*: keeping as many creates under way as were recorded, of the recorded sizes.
//! *Does not own*: the recording.
//!
//! Invariants
//! 1. Every create has a key of its own and is deleted again once it counted, outside the time
//!    that counts for its latency.
//!
//! *IO: through the bucket port*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, Purpose};

use crate::raw::{RawRun, noise};
use crate::sample::{Cpu, Latencies};
use crate::slow_bucket::Creates;

/// What the workers of a replay share.
struct Replay {
    bucket: Arc<dyn Bucket>,
    /// Where the deletes go, so that they wait for nobody.
    behind: Arc<dyn Bucket>,
    prefix: String,
    sizes: Vec<usize>,
    body: Bytes,
    begun: AtomicU64,
}

/// Creates objects of the recorded sizes, as many at a time as were under way then, for `wait`.
/// `behind` is the same bucket without its latency. `num_ops` of the answer are creates.
///
/// # Errors
/// The first create or delete that fails.
///
/// # Panics
/// If nothing was recorded, or outside of a tokio runtime.
pub async fn replay_creates(
    (bucket, behind): (Arc<dyn Bucket>, Arc<dyn Bucket>),
    prefix: &str,
    creates: &Creates,
    wait: Duration,
) -> Result<RawRun, BucketError> {
    let largest = *creates.sizes.iter().max().expect("a recorded create");
    let replay = Arc::new(Replay {
        bucket,
        behind,
        prefix: prefix.to_owned(),
        sizes: creates.sizes.clone(),
        body: noise(largest.max(1)),
        begun: AtomicU64::new(0),
    });
    let (begun, cpu) = (Instant::now(), Cpu::now());
    let workers: Vec<_> = (0..creates.depth())
        .map(|_| tokio::spawn(worker(replay.clone(), begun + wait)))
        .collect();
    let mut run = RawRun::default();
    for worker in workers {
        run.latencies
            .merge(worker.await.expect("a worker never panics")?);
    }
    run.num_ops = run.latencies.len() as u64;
    (run.elapsed, run.cpu) = (begun.elapsed(), cpu.spent());
    Ok(run)
}

async fn worker(replay: Arc<Replay>, end: Instant) -> Result<Latencies, BucketError> {
    let mut latencies = Latencies::default();
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok(latencies);
        }
        let number = replay.begun.fetch_add(1, Ordering::Relaxed);
        let at = usize::try_from(number).unwrap_or(0) % replay.sizes.len();
        let body = vec![replay.body.slice(..replay.sizes[at])];
        let key = format!("{}/{number}", replay.prefix);
        replay.bucket.create(Purpose::Wal, &key, body).await?;
        latencies.push(started.elapsed());
        replay.behind.delete(Purpose::Wal, &key).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::replay_creates;
    use crate::Creates;
    use std::sync::Arc;
    use std::time::Duration;
    use tidewater_bucket::{Bucket, MemoryBucket, Purpose};

    #[tokio::test]
    async fn every_create_counts_and_leaves_nothing() {
        let bucket = Arc::new(MemoryBucket::new());
        let creates = Creates {
            sizes: vec![10, 20],
            sum_under_way: 6,
        };
        let both = (bucket.clone() as _, bucket.clone() as _);
        let run = replay_creates(both, "raw", &creates, Duration::from_millis(5))
            .await
            .unwrap();
        assert!(run.num_ops > 0);
        let left = bucket.list(Purpose::Wal, "", None).await.unwrap();
        assert!(left.entries.is_empty());
    }
}
