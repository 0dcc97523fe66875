//! A second request for a read that is slow to come.
//!
//! *Owns*: how slow is too slow, the budget of second requests, the race of the two.
//! *Does not own*: retries. Nothing but reads passes twice: a write is never hedged.
//!
//! Invariants
//! 1. Of all reads at most `percent` in a hundred are sent a second time.
//! 2. The answer is that of whichever comes first with bytes; an error waits for the other one.
//!
//! *IO: none* (requests go through the bucket port)

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tidewater_bucket::{Bucket, BucketError, ListPage, Purpose};
use tidewater_types::{BoxFuture, Env, mutant, sometimes};

use crate::config::ReadConfig;
use crate::counters::{Counters, add};

/// Latencies remembered.
const LATENCIES: usize = 128;
/// The delay is worked out anew after so many.
const LATENCIES_FRESH: u32 = 16;
/// A second request costs this much credit; a first one earns its percent.
const COST: u32 = 100;
/// Most credit that is saved up.
const CREDIT_MAX: u32 = 8 * COST;

/// The reads of late, and what they allow.
struct Late {
    latencies: VecDeque<Duration>,
    fresh: u32,
    delay: Duration,
    credit: u32,
}

/// A bucket whose reads are hedged.
pub(crate) struct Hedged {
    inner: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    percent: u32,
    delay_min: Duration,
    late: Arc<Mutex<Late>>,
    counters: Arc<Counters>,
}

impl Hedged {
    pub(crate) fn new(
        inner: Arc<dyn Bucket>,
        env: Arc<dyn Env>,
        config: &ReadConfig,
        counters: Arc<Counters>,
    ) -> Self {
        let late = Late {
            latencies: VecDeque::new(),
            fresh: 0,
            delay: config.hedge_delay_min,
            credit: 0,
        };
        Self {
            inner,
            env,
            percent: config.hedge_percent,
            delay_min: config.hedge_delay_min,
            late: Arc::new(Mutex::new(late)),
            counters,
        }
    }

    /// The same budget and latencies over another way to the same bucket.
    pub(crate) fn over(&self, inner: Arc<dyn Bucket>) -> Self {
        Self {
            inner,
            env: Arc::clone(&self.env),
            percent: self.percent,
            delay_min: self.delay_min,
            late: Arc::clone(&self.late),
            counters: Arc::clone(&self.counters),
        }
    }

    async fn race(
        &self,
        purpose: Purpose,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<Bytes, BucketError> {
        let delay = self.late.lock().earn(self.percent);
        let begun = self.env.now();
        let first = self.inner.get(purpose, key, range.clone());
        let outcome = match select(first, self.env.sleep(delay)).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(((), first)) if self.late.lock().spend() => {
                sometimes!("s3stream: read hedged");
                add(&self.counters.hedges, 1);
                let range = match range {
                    // The answer to another question.
                    Some(Range { start, end }) if mutant!(95) && start > 0 => {
                        Some(start - 1..end - 1)
                    }
                    range => range,
                };
                let second = self.inner.get(purpose, key, range);
                match select(first, second).await {
                    Either::Left((Ok(bytes), _)) | Either::Right((Ok(bytes), _)) => Ok(bytes),
                    Either::Left((Err(_), second)) => second.await,
                    Either::Right((Err(_), first)) => first.await,
                }
            }
            Either::Right(((), first)) => first.await,
        };
        if outcome.is_ok() {
            let latency = self.env.now().since(begun);
            self.late.lock().remember(latency, self.delay_min);
        }
        outcome
    }
}

impl Late {
    /// A first request begins; after how long it is slow.
    fn earn(&mut self, percent: u32) -> Duration {
        self.credit = (self.credit + percent).min(CREDIT_MAX);
        self.delay
    }

    /// Whether a second request may be sent.
    fn spend(&mut self) -> bool {
        let left = self.credit.checked_sub(COST);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }

    fn remember(&mut self, latency: Duration, delay_min: Duration) {
        self.latencies.push_back(latency);
        if self.latencies.len() > LATENCIES {
            self.latencies.pop_front();
        }
        self.fresh += 1;
        if self.fresh == LATENCIES_FRESH {
            self.fresh = 0;
            let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
            sorted.sort_unstable();
            self.delay = delay_min.max(sorted[sorted.len() * 95 / 100]);
        }
    }
}

impl Bucket for Hedged {
    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        if self.percent == 0 {
            return self.inner.get(purpose, key, range);
        }
        Box::pin(self.race(purpose, key, range))
    }

    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.inner.create(purpose, key, body)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEnv;

    const MS: Duration = Duration::from_millis(1);

    type Answer = (Duration, Result<&'static str, ()>);

    /// Answers reads after the given times, and counts those whose answer was not waited for.
    struct Slow {
        answers: Mutex<VecDeque<Answer>>,
        asked: Mutex<Vec<(String, Option<Range<u64>>)>>,
        given_up: Mutex<u32>,
    }

    struct GivenUp<'a>(&'a Slow, bool);

    impl Drop for GivenUp<'_> {
        fn drop(&mut self) {
            *self.0.given_up.lock() += u32::from(!self.1);
        }
    }

    impl Bucket for Slow {
        fn get<'a>(
            &'a self,
            _: Purpose,
            key: &'a str,
            range: Option<Range<u64>>,
        ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
            self.asked.lock().push((key.to_owned(), range));
            let (wait, answer) = self.answers.lock().pop_front().expect("a scripted answer");
            Box::pin(async move {
                let mut given_up = GivenUp(self, false);
                tokio::time::sleep(wait).await;
                given_up.1 = true;
                let (key, cause) = (key.to_owned(), "scripted".to_owned());
                let unknown = |()| BucketError::Unknown { key, cause };
                answer
                    .map(|text| Bytes::from_static(text.as_bytes()))
                    .map_err(unknown)
            })
        }

        fn create<'a>(
            &'a self,
            _: Purpose,
            _: &'a str,
            _: Vec<Bytes>,
        ) -> BoxFuture<'a, Result<(), BucketError>> {
            unreachable!("only reads are made")
        }

        fn size<'a>(&'a self, _: Purpose, _: &'a str) -> BoxFuture<'a, Result<u64, BucketError>> {
            unreachable!("only reads are made")
        }

        fn delete<'a>(&'a self, _: Purpose, _: &'a str) -> BoxFuture<'a, Result<(), BucketError>> {
            unreachable!("only reads are made")
        }

        fn list<'a>(
            &'a self,
            _: Purpose,
            _: &'a str,
            _: Option<&'a str>,
        ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
            unreachable!("only reads are made")
        }
    }

    fn hedged(percent: u32, answers: &[Answer]) -> (Hedged, Arc<Slow>, Arc<Counters>) {
        let slow = Arc::new(Slow {
            answers: Mutex::new(answers.iter().copied().collect()),
            asked: Mutex::default(),
            given_up: Mutex::new(0),
        });
        let config = ReadConfig {
            hedge_percent: percent,
            hedge_delay_min: 20 * MS,
            ..ReadConfig::default()
        };
        let counters = Arc::<Counters>::default();
        let hedged = Hedged::new(slow.clone(), TestEnv::shared(1), &config, counters.clone());
        (hedged, slow, counters)
    }

    /// The answer, when it came in milliseconds, how many requests there were and how many of them
    /// were given up.
    async fn race(percent: u32, answers: &[Answer]) -> (Option<Bytes>, u128, usize, u32) {
        let (hedged, slow, counters) = hedged(percent, answers);
        let begun = tokio::time::Instant::now();
        let answer = hedged.get(Purpose::Read, "data/1", Some(3..9)).await.ok();
        let asked = slow.asked.lock().clone();
        assert!(
            asked
                .iter()
                .all(|one| *one == ("data/1".to_owned(), Some(3..9)))
        );
        assert_eq!(
            counters.hedges.load(std::sync::atomic::Ordering::Relaxed) + 1,
            asked.len() as u64
        );
        let given_up = *slow.given_up.lock();
        (answer, begun.elapsed().as_millis(), asked.len(), given_up)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_bytes_win_and_the_loser_is_given_up() {
        let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let first = race(100, &[(30 * MS, Ok("a")), (50 * MS, Ok("b"))]).await;
        assert_eq!(first, (bytes("a"), 30, 2, 1));
        let second = race(100, &[(90 * MS, Ok("a")), (5 * MS, Ok("b"))]).await;
        assert_eq!(second, (bytes("b"), 25, 2, 1));
        let fast = race(100, &[(19 * MS, Ok("a"))]).await;
        assert_eq!(fast, (bytes("a"), 19, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_waits_for_the_other_request() {
        let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let first = race(100, &[(30 * MS, Err(())), (50 * MS, Ok("b"))]).await;
        assert_eq!(first, (bytes("b"), 70, 2, 0));
        let second = race(100, &[(60 * MS, Ok("a")), (5 * MS, Err(()))]).await;
        assert_eq!(second, (bytes("a"), 60, 2, 0));
        let both = race(100, &[(60 * MS, Err(())), (5 * MS, Err(()))]).await;
        assert_eq!(both, (None, 60, 2, 0));
        // One that fails fast is for those who try again.
        let fast = race(100, &[(1 * MS, Err(()))]).await;
        assert_eq!(fast, (None, 1, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn without_credit_the_slow_request_is_waited_for() {
        let bytes = Some(Bytes::from_static(b"a"));
        assert_eq!(
            race(5, &[(90 * MS, Ok("a"))]).await,
            (bytes.clone(), 90, 1, 0)
        );
        assert_eq!(race(0, &[(90 * MS, Ok("a"))]).await, (bytes, 90, 1, 0));
    }

    fn late(delay: Duration) -> Late {
        Late {
            latencies: VecDeque::new(),
            fresh: 0,
            delay,
            credit: 0,
        }
    }

    #[test]
    fn at_most_five_in_a_hundred_are_sent_twice() {
        let mut late = late(Duration::ZERO);
        let sent = (0..1_000).filter(|_| {
            late.earn(5);
            late.spend()
        });
        assert_eq!(sent.count(), 50);
        // What was not needed is not saved up for ever.
        (0..10_000).for_each(|_| _ = late.earn(5));
        assert_eq!((0..100).filter(|_| late.spend()).count(), 8);
    }

    #[test]
    fn slow_is_what_takes_longer_than_most_of_late() {
        let ms = Duration::from_millis;
        let mut late = late(ms(20));
        for latency in 1..=128 {
            late.remember(ms(latency), ms(20));
        }
        assert_eq!(late.delay, ms(122));
        for _ in 0..128 {
            late.remember(ms(3), ms(20));
        }
        assert_eq!(late.delay, ms(20));
    }
}
