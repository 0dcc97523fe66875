//! The bucket as the object WAL asks it: attempts with a time-out, and what is repeated.
//!
//! *Owns*: the time-out of an attempt; the bound on what is read; repeating reads and listings; settling one object when
//! nothing else is under way.
//! *Does not own*: what is asked (the cores).
//!
//! *IO: through the bucket port*

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, ListPage, Purpose};
use tidewater_types::{BoxFuture, Env, Instant, mutant};

use super::format::entry::ENTRY_BYTES_MAX;
use super::owner::is_same;
use super::put::{Pace, Put, Settled, Step};
use super::settings::ObjectWalConfig;
use crate::error::WalError;
use crate::race::race;

/// Requests under way, each with a tag.
pub(crate) struct Flights<T> {
    flying: Vec<(u64, BoxFuture<'static, T>)>,
}

impl<T> Flights<T> {
    pub(crate) fn new() -> Self {
        Self { flying: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.flying.len()
    }

    pub(crate) fn push(&mut self, tag: u64, request: BoxFuture<'static, T>) {
        self.flying.push((tag, request));
    }

    /// Nobody waits for these any more; what was sent may still be applied.
    pub(crate) fn forget(&mut self, tag: u64) {
        self.flying.retain(|(of, _)| *of != tag);
    }

    /// A request that has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Option<(u64, T)> {
        for at in 0..self.flying.len() {
            if let Poll::Ready(answer) = self.flying[at].1.as_mut().poll(cx) {
                let (tag, _) = self.flying.swap_remove(at);
                return Some((tag, answer));
            }
        }
        None
    }
}

/// One sleep at a time.
#[derive(Default)]
pub(crate) struct Alarm(Option<(Instant, BoxFuture<'static, ()>)>);

impl Alarm {
    /// Whether `at` is past; if not, the task is woken then.
    pub(crate) fn poll(
        &mut self,
        env: &dyn Env,
        at: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> bool {
        let (Some(at), now) = (at, env.now()) else {
            self.0 = None;
            return false;
        };
        if at <= now {
            self.0 = None;
            return true;
        }
        if self.0.as_ref().is_none_or(|(armed, _)| *armed != at) {
            self.0 = Some((at, env.sleep(at.since(now))));
        }
        let fired = self
            .0
            .as_mut()
            .is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
        if fired {
            self.0 = None;
        }
        fired
    }
}

/// The store of one WAL.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) env: Arc<dyn Env>,
    attempt: Duration,
    pace: Pace,
}

type Attempt<T> = BoxFuture<'static, Result<T, BucketError>>;

enum Event {
    Created(Result<(), BucketError>),
    Read(Result<Bytes, BucketError>),
}

impl Store {
    pub(crate) fn new(
        bucket: Arc<dyn Bucket>,
        env: Arc<dyn Env>,
        config: &ObjectWalConfig,
    ) -> Self {
        Self {
            bucket,
            env,
            attempt: Duration::from_millis(config.attempt_ms_max),
            pace: config.pace(),
        }
    }

    /// Waits until one more object may begin. No attempt's time runs meanwhile.
    pub(crate) fn turn(&self) -> BoxFuture<'static, ()> {
        let bucket = Arc::clone(&self.bucket);
        Box::pin(async move { bucket.turn(Purpose::Wal).await })
    }

    // --- single attempts ---

    /// Creates the object if it is absent. `again`: it was sent before.
    pub(crate) fn create(&self, key: String, body: Vec<Bytes>, again: bool) -> Attempt<()> {
        let store = self.clone();
        Box::pin(async move {
            if mutant!(21) && again {
                // Seeded bug 21: a retry replaces what is there.
                store.bucket.delete(Purpose::Wal, &key).await.ok();
            }
            let num_bytes = body.iter().map(|part| part.len() as u64).sum();
            let attempt = store.bucket.create(Purpose::Wal, &key, body);
            store.in_time(&key, num_bytes, attempt).await
        })
    }

    /// Reads the object, whose size is asked for unless it is known: whatever lies there may be
    /// larger than memory.
    pub(crate) fn read(&self, key: String, size: Option<u64>) -> Attempt<Bytes> {
        let store = self.clone();
        Box::pin(async move {
            let size = match size {
                Some(size) => size,
                None => {
                    let attempt = store.bucket.size(Purpose::Wal, &key);
                    store.in_time(&key, 0, attempt).await?
                }
            };
            if size > ENTRY_BYTES_MAX {
                let cause = format!("{size} bytes, an entry has {ENTRY_BYTES_MAX} at most");
                return Err(BucketError::Refused { key, cause });
            }
            let attempt = store.bucket.get(Purpose::Wal, &key, None);
            store.in_time(&key, size, attempt).await
        })
    }

    pub(crate) fn delete(&self, key: String) -> Attempt<()> {
        let store = self.clone();
        Box::pin(async move {
            let attempt = store.bucket.delete(Purpose::Wal, &key);
            store.in_time(&key, 0, attempt).await
        })
    }

    async fn in_time<T>(
        &self,
        key: &str,
        num_bytes: u64,
        attempt: BoxFuture<'_, Result<T, BucketError>>,
    ) -> Result<T, BucketError> {
        let patience = self.attempt + self.pace.way(num_bytes);
        let answer = race(attempt, self.env.sleep(patience)).await;
        answer.unwrap_or_else(|| {
            let (key, cause) = (key.to_owned(), "no answer in time".to_owned());
            Err(BucketError::Unknown { key, cause })
        })
    }

    // --- repeated until answered ---

    /// The object, or `None` if it is absent; of `size` bytes, if that is known.
    pub(crate) async fn get(
        &self,
        key: &str,
        size: Option<u64>,
    ) -> Result<Option<Bytes>, WalError> {
        let begun = self.env.now();
        let mut wait = self.pace.retry_min;
        loop {
            match self.read(key.to_owned(), size).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(BucketError::Absent { .. }) => return Ok(None),
                Err(cause) => self.pause(key, begun, &mut wait, cause).await?,
            }
        }
    }

    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<ListPage, WalError> {
        let begun = self.env.now();
        let mut wait = self.pace.retry_min;
        loop {
            let attempt = self.bucket.list(Purpose::Wal, prefix, after);
            match self.in_time(prefix, 0, attempt).await {
                Ok(page) => return Ok(page),
                Err(cause) => self.pause(prefix, begun, &mut wait, cause).await?,
            }
        }
    }

    async fn pause(
        &self,
        key: &str,
        begun: Instant,
        wait: &mut Duration,
        cause: BucketError,
    ) -> Result<(), WalError> {
        let over = self.env.now() >= begun.after(self.pace.give_up);
        if over || matches!(cause, BucketError::Refused { .. }) {
            let key = key.to_owned();
            return Err(WalError::Bucket { key, cause });
        }
        let half = u64::try_from(wait.as_nanos() / 2).unwrap_or(u64::MAX);
        let cut = self.env.random("wal: pause") % (half + 1);
        self.env.sleep(*wait - Duration::from_nanos(cut)).await;
        *wait = (*wait * 2).min(self.pace.retry_max);
        Ok(())
    }

    /// Creates the object and finds out whose it is then.
    pub(crate) async fn settle(&self, key: &str, body: Bytes) -> Result<Option<Bytes>, WalError> {
        let num_bytes = body.len() as u64;
        let mut put = Put::new(self.env.now(), num_bytes, self.env.random("wal: pause"));
        let mut flights = Flights::new();
        let mut alarm = Alarm::default();
        let body = [body];
        let settled = poll_fn(|cx| {
            loop {
                let now = self.env.now();
                if let Some(step) = put.poll(now, &self.pace) {
                    let again = put.attempts() > 1;
                    flights.push(0, self.event(step, key, &body, again));
                    continue;
                }
                if let Some(settled) = put.settled() {
                    return Poll::Ready(settled.clone());
                }
                match flights.poll(cx) {
                    Some((_, Event::Created(answer))) => {
                        put.handle_created(now, &self.pace, answer);
                    }
                    Some((_, Event::Read(answer))) => {
                        put.handle_read(now, &self.pace, answer, |found| is_same(&body, found));
                    }
                    None if alarm.poll(&*self.env, put.timer(&self.pace), cx) => {}
                    None => return Poll::Pending,
                }
            }
        });
        match settled.await {
            Settled::Ours => Ok(None),
            Settled::Foreign(found) => Ok(Some(found)),
            Settled::Failed(cause) => Err(WalError::Bucket {
                key: key.to_owned(),
                cause,
            }),
        }
    }

    fn event(
        &self,
        step: Step,
        key: &str,
        body: &[Bytes],
        again: bool,
    ) -> BoxFuture<'static, Event> {
        match step {
            Step::Create => {
                let attempt = self.create(key.to_owned(), body.to_vec(), again);
                Box::pin(async move { Event::Created(attempt.await) })
            }
            Step::Read => {
                let attempt = self.read(key.to_owned(), None);
                Box::pin(async move { Event::Read(attempt.await) })
            }
        }
    }
}
