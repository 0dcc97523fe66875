//! A bucket that is far away: every request takes a fixed time more.
//!
//! *Owns*: the delay; what was created, how large, how many at a time.
//! *Does not own*: the objects.
//!
//! Invariants
//! 1. Half of the delay passes before the request takes effect and half behind it, as on a way
//!    there and back.
//!
//! *IO: none (time comes from the environment)*

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidewater_bucket::{
    Bucket, BucketError, ListPage, MultipartId, MultipartLimits, Part, PartTag, Purpose,
};
use tidewater_types::{BoxFuture, Env};

/// [`Bucket`] with a delay.
pub struct SlowBucket {
    inner: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    latency: Duration,
    under_way: AtomicU64,
    creates: Mutex<Creates>,
}

/// The creates that a [`SlowBucket`] saw, and the parts of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Creates {
    /// Bytes of each, in the order in which they began.
    pub sizes: Vec<usize>,
    /// For each, how many were under way once it had begun, summed up.
    pub sum_under_way: u64,
}

impl Creates {
    /// Creates under way at a time, on average; at least 1.
    #[must_use]
    pub fn depth(&self) -> usize {
        let num_creates = self.sizes.len().max(1) as u64;
        let depth = (self.sum_under_way + num_creates / 2) / num_creates;
        usize::try_from(depth).unwrap_or(usize::MAX).max(1)
    }
}

impl SlowBucket {
    /// `inner` behind a line on which a request and its answer take `latency` together.
    #[must_use]
    pub fn new(inner: Arc<dyn Bucket>, env: Arc<dyn Env>, latency: Duration) -> Self {
        Self {
            inner,
            env,
            latency,
            under_way: AtomicU64::new(0),
            creates: Mutex::default(),
        }
    }

    /// What was created since this was asked last.
    #[must_use]
    pub fn take_creates(&self) -> Creates {
        let mut creates = self.creates.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut creates)
    }

    /// A create or a part begins.
    fn begin(&self, body: &[Bytes]) -> UnderWay<'_> {
        let (guard, num_under_way) = UnderWay::begin(&self.under_way);
        let mut creates = self.creates.lock().unwrap_or_else(PoisonError::into_inner);
        creates.sizes.push(body.iter().map(Bytes::len).sum());
        creates.sum_under_way += num_under_way;
        guard
    }

    async fn delayed<T>(&self, request: impl Future<Output = T>) -> T {
        self.env.sleep(self.latency / 2).await;
        let answer = request.await;
        self.env.sleep(self.latency - self.latency / 2).await;
        answer
    }
}

/// Counts a create as long as it is under way, and also when it is given up half-way.
struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn begin(counter: &'a AtomicU64) -> (Self, u64) {
        let others = counter.fetch_add(1, Ordering::Relaxed);
        (Self(counter), others + 1)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bucket for SlowBucket {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            let _under_way = self.begin(&body);
            self.delayed(self.inner.create(purpose, key, body)).await
        })
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(self.delayed(self.inner.get(purpose, key, range)))
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        Box::pin(self.delayed(self.inner.size(purpose, key)))
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(self.delayed(self.inner.delete(purpose, key)))
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        Box::pin(self.delayed(self.inner.list(purpose, prefix, after)))
    }

    fn multipart(&self) -> Option<MultipartLimits> {
        self.inner.multipart()
    }

    fn create_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<MultipartId, BucketError>> {
        Box::pin(self.delayed(self.inner.create_multipart(purpose, key)))
    }

    fn put_part<'a>(
        &'a self,
        purpose: Purpose,
        part: Part<'a>,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(async move {
            let _under_way = self.begin(&body);
            self.delayed(self.inner.put_part(purpose, part, body)).await
        })
    }

    fn copy_part<'a>(
        &'a self,
        purpose: Purpose,
        part: Part<'a>,
        source: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(self.delayed(self.inner.copy_part(purpose, part, source, range)))
    }

    fn complete_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
        parts: &'a [PartTag],
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(self.delayed(self.inner.complete_multipart(purpose, key, upload, parts)))
    }

    fn abort_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(self.delayed(self.inner.abort_multipart(purpose, key, upload)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Creates, SlowBucket};
    use bytes::Bytes;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tidewater_bucket::{Bucket, MemoryBucket, Purpose, conformance};
    use tidewater_types::{BoxFuture, Env, Instant};

    /// Sleeps at once and remembers it, with what the bucket held then.
    struct Sleepless {
        bucket: MemoryBucket,
        slept: Mutex<Vec<(Duration, bool)>>,
    }

    impl Env for Sleepless {
        fn now(&self) -> Instant {
            Instant(0)
        }
        fn wall_ms(&self) -> i64 {
            0
        }
        fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
            let created = crate::block_on(self.bucket.size(Purpose::Wal, "t/key")).is_ok();
            self.slept.lock().unwrap().push((wait, created));
            Box::pin(std::future::ready(()))
        }
        fn spawn(&self, _label: &'static str, _task: BoxFuture<'static, ()>) {}
        fn random(&self, _label: &'static str) -> u64 {
            0
        }
    }

    fn slow(latency: Duration) -> (SlowBucket, Arc<Sleepless>) {
        let bucket = MemoryBucket::new();
        let env = Arc::new(Sleepless {
            bucket: bucket.clone(),
            slept: Mutex::default(),
        });
        (SlowBucket::new(Arc::new(bucket), env.clone(), latency), env)
    }

    #[test]
    fn a_slow_bucket_conforms() {
        crate::block_on(conformance::run(&slow(Duration::from_millis(3)).0, "t"));
    }

    #[test]
    fn an_object_appears_half_way_and_is_counted_with_its_size() {
        let (bucket, env) = slow(Duration::from_millis(3));
        let body = vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
        crate::block_on(bucket.create(Purpose::Wal, "t/key", body)).unwrap();
        let half = Duration::from_micros(1500);
        assert_eq!(*env.slept.lock().unwrap(), [(half, false), (half, true)]);
        let seen = bucket.take_creates();
        assert_eq!(
            seen,
            Creates {
                sizes: vec![3],
                sum_under_way: 1
            }
        );
        assert_eq!(bucket.take_creates(), Creates::default());
    }

    #[test]
    fn depth_is_the_rounded_mean() {
        let creates = |num, sum_under_way| Creates {
            sizes: vec![1; num],
            sum_under_way,
        };
        assert_eq!(creates(0, 0).depth(), 1);
        assert_eq!(creates(4, 9).depth(), 2);
        assert_eq!(creates(4, 10).depth(), 3);
    }
}
