//! The reads of a bucket: recorded while somebody reads, and done again without that somebody.
//!
//! *Owns*: which ranges were read and how many bytes at a time; keeping as many under way again.
//! *Does not own*: the objects, latency, memory for answers (`copied.rs`).
//!
//! Invariants
//! 1. A replay asks for the recorded ranges in the recorded order, each once. It waits for the whole
//!    of each answer, looks at no byte of it and drops it.
//!
//! *IO: through the bucket port*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, ListPage, Purpose};
use tidewater_types::BoxFuture;
use tokio::sync::Semaphore;

/// The reads that a [`GetLog`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gets {
    /// Key and range of each, in the order in which they began. What was read whole is not there.
    pub ranges: Vec<(String, Range<u64>)>,
    /// The most bytes that were under way at a time.
    pub under_way_bytes: u64,
}

/// A bucket that remembers what was read from it.
pub struct GetLog {
    inner: Arc<dyn Bucket>,
    under_way_bytes: AtomicU64,
    gets: Mutex<Gets>,
}

impl GetLog {
    /// `inner`, watched.
    #[must_use]
    pub fn new(inner: Arc<dyn Bucket>) -> Self {
        Self {
            inner,
            under_way_bytes: AtomicU64::new(0),
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
struct UnderWay<'a>(&'a AtomicU64, u64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
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
            let Some(range) = range else {
                return self.inner.get(purpose, key, None).await;
            };
            let num_bytes = range.end.saturating_sub(range.start);
            let others = self.under_way_bytes.fetch_add(num_bytes, Ordering::Relaxed);
            let _under_way = UnderWay(&self.under_way_bytes, num_bytes);
            {
                let mut gets = self.gets.lock().unwrap_or_else(PoisonError::into_inner);
                gets.ranges.push((key.to_owned(), range.clone()));
                gets.under_way_bytes = gets.under_way_bytes.max(others + num_bytes);
            }
            self.inner.get(purpose, key, Some(range)).await
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

/// Does the recorded reads again, as many bytes at a time as there were at most then. Answers how long
/// they took and how many bytes came back.
///
/// # Errors
/// The first read that fails.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn replay_gets(
    bucket: Arc<dyn Bucket>,
    gets: &Gets,
) -> Result<(Duration, u64), BucketError> {
    let room = usize::try_from(gets.under_way_bytes).expect("they were in memory");
    let room = Arc::new(Semaphore::new(room));
    let begun = Instant::now();
    let mut reads = Vec::with_capacity(gets.ranges.len());
    for (key, range) in gets.ranges.clone() {
        let num_bytes = u32::try_from(range.end - range.start).expect("requests are smaller");
        let permit = room.clone().acquire_many_owned(num_bytes).await;
        let (permit, bucket) = (permit.expect("never closed"), bucket.clone());
        reads.push(tokio::spawn(async move {
            let bytes = bucket.get(Purpose::Read, &key, Some(range)).await?;
            drop(permit);
            Ok(std::hint::black_box(bytes).len() as u64)
        }));
    }
    let mut num_bytes = 0;
    for read in reads {
        num_bytes += read.await.expect("a read never panics")?;
    }
    Ok((begun.elapsed(), num_bytes))
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
        log.get(Purpose::Read, "t/key", Some(0..6)).await.unwrap();
        let gets = log.take();
        assert_eq!((gets.ranges.len(), gets.under_way_bytes), (2, 6));
        let log = Arc::new(log);
        let (_, num_bytes) = replay_gets(log.clone(), &gets).await.unwrap();
        assert_eq!((num_bytes, log.take()), (8, gets));
        assert_eq!(log.take(), Gets::default());
    }
}
