//! A bucket as a process sees it that may be stopped and wake up later, or be parted from the store.
//!
//! *Owns*: holding requests and answers back while the process sleeps or nothing gets through.
//! *Does not own*: the store.
//!
//! *IO: none*

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::{
    Bucket, BucketError, ListPage, MultipartId, MultipartLimits, Part, PartTag, Purpose,
};
use tidewater_types::{BoxFuture, Instant};

use crate::bucket::SimBucket;
use crate::exec::Handle;
use crate::rng::Rng;

/// What does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Requests,
    Answers,
    Both,
}

/// The bucket of one process.
#[derive(Clone)]
pub(crate) struct Gate {
    handle: Handle,
    bucket: SimBucket,
    shut: Arc<Mutex<Shut>>,
    naps: Option<Arc<Mutex<Naps>>>,
}

/// How a process falls asleep before some of its requests.
struct Naps {
    rng: Rng,
    most_ns: u64,
}

/// Until when nothing gets through.
#[derive(Default)]
struct Shut {
    requests: Instant,
    answers: Instant,
}

impl Gate {
    pub(crate) fn new(handle: Handle, bucket: SimBucket) -> Self {
        let shut = Arc::default();
        Self {
            handle,
            bucket,
            shut,
            naps: None,
        }
    }

    /// A process that now and then sleeps up to `most_ns` before it sends a request.
    pub(crate) fn with_naps(mut self, seed: u64, most_ns: u64) -> Self {
        let rng = Rng::new(seed, "naps");
        self.naps = Some(Arc::new(Mutex::new(Naps { rng, most_ns })));
        self
    }

    /// From now on nothing is sent and nothing is heard for `time`.
    pub(crate) fn sleep(&self, time: Duration) {
        self.shut(Cut::Both, time);
    }

    /// A partition between the process and the store, which holds back what it cuts for `time`.
    pub(crate) fn cut(&self, what: Cut, time: Duration) {
        self.handle.strike(match what {
            Cut::Requests => "cut_requests",
            Cut::Answers => "cut_answers",
            Cut::Both => "cut_both",
        });
        self.handle
            .line(|| format!("bucket {what:?} held back for {time:?}"));
        self.shut(what, time);
    }

    fn shut(&self, what: Cut, time: Duration) {
        let until = self.handle.now().after(time);
        let mut shut = self.shut.lock();
        if what != Cut::Answers {
            shut.requests = until;
        }
        if what != Cut::Requests {
            shut.answers = until;
        }
    }

    async fn wait_until(&self, open: impl Fn(&Shut) -> Instant) {
        let wait = open(&self.shut.lock()).since(self.handle.now());
        if !wait.is_zero() {
            self.handle.sleep(wait).await;
        }
    }

    fn nap(&self) -> Option<Duration> {
        let mut naps = self.naps.as_ref()?.lock();
        let most_ns = naps.most_ns;
        let falls_asleep = naps.rng.chance(250);
        falls_asleep.then(|| Duration::from_nanos(naps.rng.below(most_ns)))
    }

    async fn through<T>(&self, request: BoxFuture<'_, T>) -> T {
        if let Some(nap) = self.nap() {
            self.handle.strike("nap");
            self.handle.sleep(nap).await;
        }
        self.wait_until(|shut| shut.requests).await;
        let answer = request.await;
        self.wait_until(|shut| shut.answers).await;
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

    fn multipart(&self) -> Option<MultipartLimits> {
        self.bucket.multipart()
    }

    fn create_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<MultipartId, BucketError>> {
        Box::pin(self.through(self.bucket.create_multipart(purpose, key)))
    }

    fn put_part<'a>(
        &'a self,
        purpose: Purpose,
        part: Part<'a>,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(self.through(self.bucket.put_part(purpose, part, body)))
    }

    fn copy_part<'a>(
        &'a self,
        purpose: Purpose,
        part: Part<'a>,
        source: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(self.through(self.bucket.copy_part(purpose, part, source, range)))
    }

    fn complete_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
        parts: &'a [PartTag],
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(self.through(self.bucket.complete_multipart(purpose, key, upload, parts)))
    }

    fn abort_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(self.through(self.bucket.abort_multipart(purpose, key, upload)))
    }
}
