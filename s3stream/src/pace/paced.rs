//! A bucket whose requests wait for their turn.
//!
//! *Owns*: asking for the turn, waiting, telling how a request ended.
//! *Does not own*: whose turn it is (`core.rs`), retries.
//!
//! Invariants
//! 1. A request that is given up, waiting or under way, is in nobody's way.
//! 2. One call is still one request.
//!
//! *IO: none* (requests go through the bucket port)

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select;
use parking_lot::Mutex;
use tidewater_bucket::{
    Bucket, BucketError, ListPage, MultipartId, MultipartLimits, Part, PartTag, Purpose,
};
use tidewater_types::{BoxFuture, Env, mutant, sometimes};
use tokio::sync::Notify;

use super::core::{Class, Cost, Pace, Ticket, Verdict};
use crate::config::PaceConfig;

/// Clones share the pace.
#[derive(Clone)]
pub(crate) struct Paced {
    inner: Arc<dyn Bucket>,
    shared: Arc<Shared>,
    place: Place,
}

/// Where requests stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// As their purpose says.
    Own,
    /// In this class, whatever their purpose.
    Of(Class),
    /// Ahead of all: whoever sends them asks for a turn before, and repeats at a pace of its own. Its
    /// deletions are of the last class, as all are: they may wait.
    Ahead,
}

struct Shared {
    env: Arc<dyn Env>,
    pace: Mutex<Pace>,
    changed: Notify,
}

/// In the queue; leaves it when dropped.
struct Waiting<'a> {
    shared: &'a Shared,
    ticket: Ticket,
    has_gone: bool,
}

/// Under way until dropped.
struct UnderWay<'a> {
    shared: &'a Shared,
    class: Class,
    /// Whether it was not given up.
    has_ended: bool,
}

impl Paced {
    pub(crate) fn new(inner: Arc<dyn Bucket>, env: Arc<dyn Env>, config: &PaceConfig) -> Self {
        let shared = Shared {
            env,
            pace: Mutex::new(Pace::new(config)),
            changed: Notify::new(),
        };
        Self {
            inner,
            shared: Arc::new(shared),
            place: Place::Own,
        }
    }

    /// The same pace over `inner`, for requests that go ahead of all others. They never wait; what
    /// waits, before a request is begun, is [`Bucket::turn`].
    pub(crate) fn ahead(&self, inner: Arc<dyn Bucket>) -> Self {
        Self {
            inner,
            shared: Arc::clone(&self.shared),
            place: Place::Ahead,
        }
    }

    /// The same bucket and pace, where every request is of `class`.
    pub(crate) fn of_class(&self, class: Class) -> Self {
        Self {
            place: Place::Of(class),
            ..self.clone()
        }
    }

    async fn go<T>(
        &self,
        purpose: Purpose,
        key: &str,
        cost: Cost,
        request: impl Future<Output = Result<T, BucketError>>,
    ) -> Result<T, BucketError> {
        let class = match self.place {
            Place::Own => Class::of(purpose),
            Place::Of(class) => class,
            Place::Ahead => {
                let shared = &*self.shared;
                shared.pace.lock().take_ahead(shared.env.now(), cost);
                return request.await;
            }
        };
        self.in_turn(class, key, cost, request).await
    }

    async fn in_turn<T>(
        &self,
        class: Class,
        key: &str,
        cost: Cost,
        request: impl Future<Output = Result<T, BucketError>>,
    ) -> Result<T, BucketError> {
        let shared = &*self.shared;
        let mut under_way = shared.turn(class, key, cost).await;
        let outcome = request.await;
        under_way.has_ended = true;
        drop(under_way);
        let now = shared.env.now();
        match &outcome {
            Err(BucketError::Throttled { .. }) => shared.pace.lock().throttled(now, key),
            // No answer says nothing about the pace.
            Err(BucketError::Unknown { .. }) => {}
            _ => shared.pace.lock().answered(now, key),
        }
        outcome
    }
}

impl Shared {
    async fn turn(&self, class: Class, key: &str, cost: Cost) -> UnderWay<'_> {
        loop {
            let pause = self.pace.lock().pause(self.env.now(), key);
            if pause.is_zero() {
                break;
            }
            sometimes!("s3stream: request waits for a throttled prefix");
            self.env.sleep(self.spread(pause)).await;
        }
        let mut waiting = Waiting {
            shared: self,
            ticket: self.pace.lock().enter(class),
            has_gone: false,
        };
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let verdict = (self.pace.lock()).ask(self.env.now(), waiting.ticket, cost);
            match verdict {
                Verdict::Go => break,
                Verdict::WaitForOthers => changed.await,
                Verdict::Wait(wait) => _ = select(changed, self.env.sleep(wait)).await,
            }
        }
        waiting.has_gone = true;
        UnderWay {
            shared: self,
            class,
            has_ended: false,
        }
    }

    /// Those who wait for the same prefix shall not all come at once.
    fn spread(&self, pause: Duration) -> Duration {
        let quarter = u64::try_from(pause.as_nanos() / 4).unwrap_or(u64::MAX);
        let more = self.env.random("s3stream: pause") % quarter.max(1);
        pause + Duration::from_nanos(more)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.has_gone {
            self.shared.pace.lock().leave(self.ticket);
        }
        self.shared.changed.notify_waiters();
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if mutant!(97) && !self.has_ended {
            return;
        }
        self.shared.pace.lock().ended(self.class);
        self.shared.changed.notify_waiters();
    }
}

impl Bucket for Paced {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let cost = Cost {
            bytes_out: body.iter().map(|part| part.len() as u64).sum(),
            bytes_in: 0,
        };
        Box::pin(self.go(purpose, key, cost, self.inner.create(purpose, key, body)))
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        // A read of an object whose size is not known takes at least a byte.
        let known = (range.as_ref()).map_or(1, |range| range.end.saturating_sub(range.start));
        let cost = Cost {
            bytes_in: known,
            bytes_out: 0,
        };
        Box::pin(async move {
            let request = self.inner.get(purpose, key, range);
            let bytes = self.go(purpose, key, cost, request).await?;
            let ahead = self.place == Place::Ahead;
            (self.shared.pace.lock()).was_read(known, bytes.len() as u64, ahead);
            Ok(bytes)
        })
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        let request = self.inner.size(purpose, key);
        Box::pin(self.go(purpose, key, Cost::default(), request))
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let request = self.inner.delete(purpose, key);
        if self.place == Place::Ahead {
            return Box::pin(self.in_turn(Class::Compaction, key, Cost::default(), request));
        }
        Box::pin(self.go(purpose, key, Cost::default(), request))
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        let request = self.inner.list(purpose, prefix, after);
        Box::pin(self.go(purpose, prefix, Cost::default(), request))
    }

    fn turn(&self, purpose: Purpose) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.place != Place::Ahead {
                return self.inner.turn(purpose).await;
            }
            loop {
                // The clock is read under the lock: time that was counted must not be counted again.
                let wait = {
                    let mut pace = self.shared.pace.lock();
                    pace.wait_ahead(self.shared.env.now())
                };
                if wait.is_zero() {
                    return;
                }
                self.shared.env.sleep(wait).await;
            }
        })
    }

    fn multipart(&self) -> Option<MultipartLimits> {
        self.inner.multipart()
    }

    fn create_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<MultipartId, BucketError>> {
        let request = self.inner.create_multipart(purpose, key);
        Box::pin(self.go(purpose, key, Cost::default(), request))
    }

    fn put_part<'a>(
        &'a self,
        purpose: Purpose,
        part: Part<'a>,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        let cost = Cost {
            bytes_out: body.iter().map(|part| part.len() as u64).sum(),
            bytes_in: 0,
        };
        let request = self.inner.put_part(purpose, part, body);
        Box::pin(self.go(purpose, part.key, cost, request))
    }

    fn copy_part<'a>(
        &'a self,
        purpose: Purpose,
        part: Part<'a>,
        source: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        // Its bytes do not pass through here.
        let request = self.inner.copy_part(purpose, part, source, range);
        Box::pin(self.go(purpose, part.key, Cost::default(), request))
    }

    fn complete_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
        parts: &'a [PartTag],
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let request = self.inner.complete_multipart(purpose, key, upload, parts);
        Box::pin(self.go(purpose, key, Cost::default(), request))
    }

    fn abort_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let request = self.inner.abort_multipart(purpose, key, upload);
        Box::pin(self.go(purpose, key, Cost::default(), request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FaultyBucket, Op, TestEnv};
    use tidewater_bucket::{MemoryBucket, conformance};

    #[tokio::test(start_paused = true)]
    async fn a_paced_bucket_conforms() {
        let config = PaceConfig {
            requests_per_s: 100,
            bytes_in_per_s: 1 << 20,
            bytes_out_per_s: 1 << 20,
            ..PaceConfig::default()
        };
        let paced = Paced::new(Arc::new(MemoryBucket::new()), TestEnv::shared(1), &config);
        conformance::run(&paced, "t").await;
    }

    /// Compaction asks for more than there is, all the time.
    #[tokio::test(start_paused = true)]
    async fn the_log_goes_ahead_of_compaction_and_what_it_sends_counts() {
        let bucket: Arc<dyn Bucket> = Arc::new(MemoryBucket::new());
        let config = PaceConfig {
            bytes_out_per_s: 1 << 20,
            ..PaceConfig::default()
        };
        let paced = Paced::new(Arc::clone(&bucket), TestEnv::shared(1), &config);
        let log = paced.ahead(bucket);
        let begun = tokio::time::Instant::now();
        let body = |kib: usize| vec![Bytes::from(vec![0; kib << 10])];
        let sent = Arc::new(Mutex::new(0));
        for n in 0..4 {
            let (paced, sent) = (paced.clone(), Arc::clone(&sent));
            tokio::spawn(async move {
                for m in 0.. {
                    let key = format!("c/{n}-{m}");
                    let create = paced.create(Purpose::Compaction, &key, body(8 << 10));
                    create.await.unwrap();
                    *sent.lock() += 8 << 20;
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        // Seconds' worth of compaction have just gone out, and nobody of the log waits for them.
        for n in 0..4 {
            let asked = begun.elapsed();
            log.turn(Purpose::Wal).await;
            assert_eq!(begun.elapsed(), asked);
            log.create(Purpose::Wal, &format!("w/{n}"), body(8))
                .await
                .unwrap();
        }
        // As much as may go ahead, and then no more than that in any time.
        for n in 4..=640 {
            log.turn(Purpose::Wal).await;
            log.create(Purpose::Wal, &format!("w/{n}"), body(8))
                .await
                .unwrap();
        }
        let seconds = begun.elapsed().as_secs_f64();
        assert!(
            (9.5..10.5).contains(&seconds),
            "half of a MiB a second: {seconds}"
        );
        // Together they stay within the limit, but for what compaction began last.
        let compacted = f64::from(*sent.lock()) / f64::from(1 << 20);
        assert!(compacted <= 0.5 * seconds + 16.5, "{compacted}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_log_deletes_and_reads_at_a_start_does_not_hold_up_what_it_sends() {
        let bucket: Arc<dyn Bucket> = Arc::new(MemoryBucket::new());
        let config = PaceConfig {
            requests_per_s: 10,
            ..PaceConfig::default()
        };
        let paced = Paced::new(Arc::clone(&bucket), TestEnv::shared(1), &config);
        let log = paced.ahead(bucket);
        let begun = tokio::time::Instant::now();
        for n in 0..600 {
            let found = log.get(Purpose::Wal, &format!("w/{n}"), None).await;
            assert!(matches!(found, Err(BucketError::Absent { .. })));
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "a start waits for nobody");
        log.turn(Purpose::Wal).await;
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(2), "{waited:?}");
        let deleting = tokio::spawn({
            let log = log.clone();
            async move {
                for n in 0..40 {
                    let gone = log.delete(Purpose::Wal, &format!("w/{n}")).await;
                    assert!(matches!(gone, Ok(()) | Err(BucketError::Absent { .. })));
                }
            }
        });
        for n in 0..10 {
            let asked = tokio::time::Instant::now();
            log.turn(Purpose::Wal).await;
            let key = format!("n/{n}");
            log.create(Purpose::Wal, &key, Vec::new()).await.unwrap();
            let waited = asked.elapsed();
            assert!(waited <= Duration::from_millis(400), "{n}: {waited:?}");
        }
        deleting.await.unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        assert!(seconds > 4.0, "deletions keep to the limit: {seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_frees_its_place() {
        let bucket = FaultyBucket::new();
        let config = PaceConfig {
            requests_per_s: 1,
            compaction_floor_percent: 0,
            compaction_parallel: 1,
            ..PaceConfig::default()
        };
        let paced = Paced::new(bucket.clone(), TestEnv::shared(1), &config);
        let list = |purpose| paced.list(purpose, "x/", None);
        // The second one is lent by the next second.
        list(Purpose::Gc).await.unwrap();
        list(Purpose::Gc).await.unwrap();
        let waiting = list(Purpose::Read);
        let soon = tokio::time::timeout(Duration::from_millis(100), waiting);
        assert!(soon.await.is_err(), "one request in a second");
        let begun = tokio::time::Instant::now();
        list(Purpose::Gc).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(bucket.count(Op::List, "x/"), 3);
    }
}
