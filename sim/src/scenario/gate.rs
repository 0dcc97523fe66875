//! A bucket as a process sees it that may be stopped and wake up later.
//!
//! *Owns*: holding requests and answers back while the process sleeps.
//! *Does not own*: the store.
//!
//! *IO: none*

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::{Bucket, BucketError, ListPage, Purpose};
use tidewater_types::{BoxFuture, Instant};

use crate::bucket::SimBucket;
use crate::exec::Handle;

/// The bucket of one process.
#[derive(Clone)]
pub(crate) struct Gate {
    handle: Handle,
    bucket: SimBucket,
    asleep_until: Arc<Mutex<Instant>>,
}

impl Gate {
    pub(crate) fn new(handle: Handle, bucket: SimBucket) -> Self {
        let asleep_until = Arc::default();
        Self {
            handle,
            bucket,
            asleep_until,
        }
    }

    /// From now on nothing is sent and nothing is heard for `time`.
    pub(crate) fn sleep(&self, time: Duration) {
        *self.asleep_until.lock() = self.handle.now().after(time);
    }

    async fn awake(&self) {
        let wait = self.asleep_until.lock().since(self.handle.now());
        if !wait.is_zero() {
            self.handle.sleep(wait).await;
        }
    }

    async fn through<T>(&self, request: BoxFuture<'_, T>) -> T {
        self.awake().await;
        let answer = request.await;
        self.awake().await;
        answer
    }
}

impl Bucket for Gate {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(self.through(self.bucket.create(purpose, key, body)))
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(self.through(self.bucket.get(purpose, key, range)))
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        Box::pin(self.through(self.bucket.size(purpose, key)))
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(self.through(self.bucket.delete(purpose, key)))
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        Box::pin(self.through(self.bucket.list(purpose, prefix, after)))
    }
}
