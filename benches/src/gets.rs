//! The reads of a bucket: recorded while somebody reads, and done again without that somebody.
//!
//! *Owns*: which ranges were read and how many at a time; keeping as many under way again.
//! *Does not own*: the objects, latency.
//!
//! Invariants
//! 1. A replay asks for the recorded ranges in the recorded order, each once, and does nothing
//!    with the answers; unless the bucket hands out its own memory: then each answer is copied
//!    once, as the client of a store would have to.
//! 2. Answers are kept until as many bytes came behind them as a reader keeps. Memory that is used
//!    again at once stays in the processor's caches, and a read into it says nothing about one
//!    whose answer somebody wants.
//!
//! *IO: through the bucket port*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, ListPage, Purpose};
use tidewater_types::BoxFuture;

/// The reads that a [`GetLog`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gets {
    /// Key and range of each, in the order in which they began.
    pub ranges: Vec<(String, Option<Range<u64>>)>,
    /// For each, how many were under way once it had begun, summed up.
    pub sum_under_way: u64,
}

impl Gets {
    /// Reads under way at a time, on average; at least 1.
    #[must_use]
    pub fn depth(&self) -> usize {
        let num = self.ranges.len().max(1) as u64;
        let depth = (self.sum_under_way + num / 2) / num;
        usize::try_from(depth).unwrap_or(usize::MAX).max(1)
    }
}

/// A bucket that remembers what was read from it.
pub struct GetLog {
    inner: Arc<dyn Bucket>,
    under_way: AtomicU64,
    gets: Mutex<Gets>,
}

impl GetLog {
    /// `inner`, watched.
    #[must_use]
    pub fn new(inner: Arc<dyn Bucket>) -> Self {
        Self {
            inner,
            under_way: AtomicU64::new(0),
            gets: Mutex::default(),
        }
    }

    /// What was read since this was asked last.
    #[must_use]
    pub fn take(&self) -> Gets {
        std::mem::take(&mut self.gets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts a read as long as it is under way, and also when it is given up half-way.
struct UnderWay<'a>(&'a AtomicU64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bucket for GetLog {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.inner.create(purpose, key, body)
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(async move {
            let others = self.under_way.fetch_add(1, Ordering::Relaxed);
            let _under_way = UnderWay(&self.under_way);
            {
                let mut gets = self.gets.lock().unwrap_or_else(PoisonError::into_inner);
                gets.ranges.push((key.to_owned(), range.clone()));
                gets.sum_under_way += others + 1;
            }
            self.inner.get(purpose, key, range).await
        })
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        self.inner.size(purpose, key)
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.inner.delete(purpose, key)
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        self.inner.list(purpose, prefix, after)
    }
}

/// Does the recorded reads again, as many at a time as then; copies the answers if `is_memory`, and
/// keeps the last `kept_bytes` of them. Answers how long they took and how many bytes came back.
///
/// # Errors
/// The first read that fails.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn replay_gets(
    bucket: Arc<dyn Bucket>,
    gets: &Gets,
    is_memory: bool,
    kept_bytes: usize,
) -> Result<(Duration, u64), BucketError> {
    let (ranges, next) = (Arc::new(gets.ranges.clone()), Arc::new(AtomicUsize::new(0)));
    let kept = Arc::new(Mutex::new(Kept {
        bytes_max: kept_bytes,
        ..Kept::default()
    }));
    let begun = Instant::now();
    let workers: Vec<_> = (0..gets.depth())
        .map(|_| {
            tokio::spawn(worker(
                bucket.clone(),
                ranges.clone(),
                next.clone(),
                is_memory,
                kept.clone(),
            ))
        })
        .collect();
    let mut num_bytes = 0;
    for worker in workers {
        num_bytes += worker.await.expect("a worker never panics")?;
    }
    Ok((begun.elapsed(), num_bytes))
}

/// The answers that came last.
#[derive(Default)]
struct Kept {
    answers: VecDeque<Bytes>,
    num_bytes: usize,
    bytes_max: usize,
}

impl Kept {
    fn push(&mut self, answer: Bytes) {
        self.num_bytes += answer.len();
        self.answers.push_back(answer);
        while self.num_bytes > self.bytes_max
            && let Some(oldest) = self.answers.pop_front()
        {
            self.num_bytes -= oldest.len();
        }
    }
}

async fn worker(
    bucket: Arc<dyn Bucket>,
    ranges: Arc<Vec<(String, Option<Range<u64>>)>>,
    next: Arc<AtomicUsize>,
    is_memory: bool,
    kept: Arc<Mutex<Kept>>,
) -> Result<u64, BucketError> {
    let (mut num_bytes, mut copy) = (0, Vec::new());
    while let Some((key, range)) = ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
        let bytes = bucket.get(Purpose::Read, key, range.clone()).await?;
        if is_memory {
            copy.clear();
            copy.extend_from_slice(&bytes);
            std::hint::black_box(&copy);
        }
        num_bytes += bytes.len() as u64;
        (kept.lock().unwrap_or_else(PoisonError::into_inner)).push(bytes);
    }
    Ok(num_bytes)
}

#[cfg(test)]
mod tests {
    use super::{GetLog, Gets, replay_gets};
    use bytes::Bytes;
    use std::sync::Arc;
    use tidewater_bucket::{Bucket, MemoryBucket, Purpose, conformance};

    #[test]
    fn a_watched_bucket_conforms() {
        let log = GetLog::new(Arc::new(MemoryBucket::new()));
        crate::block_on(conformance::run(&log, "t"));
    }

    #[tokio::test]
    async fn what_was_read_is_read_again() {
        let log = GetLog::new(Arc::new(MemoryBucket::new()));
        let body = vec![Bytes::from_static(b"abcdef")];
        log.create(Purpose::Upload, "t/key", body).await.unwrap();
        log.get(Purpose::Read, "t/key", Some(1..3)).await.unwrap();
        log.get(Purpose::Read, "t/key", None).await.unwrap();
        let gets = log.take();
        assert_eq!((gets.ranges.len(), gets.depth()), (2, 1));
        let log = Arc::new(log);
        let (_, num_bytes) = replay_gets(log.clone(), &gets, true, 4).await.unwrap();
        assert_eq!((num_bytes, log.take().ranges), (8, gets.ranges));
        assert_eq!(log.take(), Gets::default());
    }
}
