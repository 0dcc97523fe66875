//! A bucket in memory whose creates and reads go wrong as a test wants it.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::ops::Range;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::{Bucket, BucketError, ListPage, MemoryBucket, Purpose};
use tidewater_types::BoxFuture;

/// What becomes of one create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// As it should.
    Fine,
    /// Applied; the answer is lost.
    LostAnswer,
    /// Not applied, answered as unknown; lands when the test says so.
    Late,
    /// Not applied, no answer ever; lands when the test says so.
    Silent,
    /// Not applied: 503, 429 or 409.
    Throttled,
    /// Not applied: 403.
    Refused,
}

#[derive(Default)]
struct State {
    fates: VecDeque<Fate>,
    held: Vec<(String, Vec<Bytes>)>,
    creates: Vec<String>,
    deletes: Vec<String>,
    num_requests: u64,
    hidden: Option<String>,
    claimed: Option<(String, u64)>,
    /// Turns that are left; as many as anybody likes if nothing is said.
    turns: Option<u64>,
    waiting: Option<Waker>,
}

/// The bucket; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Fickle {
    inner: MemoryBucket,
    state: Arc<Mutex<State>>,
}

impl Fickle {
    /// The fates of the next creates.
    pub(crate) fn plan(&self, fates: &[Fate]) {
        self.state.lock().fates = fates.to_vec().into();
    }

    /// Everything that was held back arrives now; answers how many creates took effect.
    pub(crate) async fn land(&self) -> usize {
        let held = std::mem::take(&mut self.state.lock().held);
        let mut landed = 0;
        for (key, body) in held {
            landed += usize::from(self.inner.create(Purpose::Wal, &key, body).await.is_ok());
        }
        landed
    }

    pub(crate) fn num_held(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Keys of the creates asked for since the last call.
    pub(crate) fn take_creates(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().creates)
    }

    pub(crate) fn take_deletes(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().deletes)
    }

    pub(crate) fn num_requests(&self) -> u64 {
        self.state.lock().num_requests
    }

    /// So many turns from now on; no end of them for `None`.
    pub(crate) fn limit_turns(&self, turns: Option<u64>) {
        let mut state = self.state.lock();
        state.turns = turns;
        state.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// The next read of `key` finds nothing.
    pub(crate) fn hide(&self, key: String) {
        self.state.lock().hidden = Some(key);
    }

    /// The object at `key` is told to have this many bytes.
    pub(crate) fn claim_size(&self, key: String, size: u64) {
        self.state.lock().claimed = Some((key, size));
    }

    fn claimed(&self, key: &str) -> Option<u64> {
        let state = self.state.lock();
        let claimed = state.claimed.as_ref().filter(|(of, _)| of == key);
        claimed.map(|(_, size)| *size)
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        let page = self.inner.list(Purpose::Wal, "", None).await.unwrap();
        page.entries.into_iter().map(|entry| entry.key).collect()
    }

    pub(crate) async fn object(&self, key: &str) -> Bytes {
        self.inner.get(Purpose::Wal, key, None).await.unwrap()
    }

    /// Puts `bytes` in the place of what is there.
    pub(crate) async fn replace(&self, key: &str, bytes: Option<Bytes>) {
        self.inner.delete(Purpose::Wal, key).await.ok();
        if let Some(bytes) = bytes {
            self.inner
                .create(Purpose::Wal, key, vec![bytes])
                .await
                .unwrap();
        }
    }
}

/// A request takes a round of the executor, so that a test can stop between any two.
async fn one_round() {
    let mut is_over = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Bucket for Fickle {
    fn turn(&self, _: Purpose) -> BoxFuture<'_, ()> {
        Box::pin(poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.turns == Some(0) {
                state.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.turns = state.turns.map(|left| left - 1);
            Poll::Ready(())
        }))
    }

    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let fate = {
            let mut state = self.state.lock();
            state.num_requests += 1;
            state.creates.push(key.to_owned());
            let fate = state.fates.pop_front().unwrap_or(Fate::Fine);
            if matches!(fate, Fate::Late | Fate::Silent) {
                state.held.push((key.to_owned(), body.clone()));
            }
            fate
        };
        let unknown = || BucketError::Unknown {
            key: key.to_owned(),
            cause: "planned".to_owned(),
        };
        Box::pin(async move {
            one_round().await;
            match fate {
                Fate::Fine => self.inner.create(purpose, key, body).await,
                Fate::LostAnswer => {
                    self.inner.create(purpose, key, body).await.ok();
                    Err(unknown())
                }
                Fate::Late => Err(unknown()),
                Fate::Silent => pending().await,
                Fate::Refused => Err(BucketError::Refused {
                    key: key.to_owned(),
                    cause: "denied".to_owned(),
                }),
                Fate::Throttled => Err(BucketError::Throttled {
                    key: key.to_owned(),
                }),
            }
        })
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        let is_hidden = {
            let mut state = self.state.lock();
            state.num_requests += 1;
            state.hidden.take_if(|hidden| *hidden == key).is_some()
        };
        Box::pin(async move {
            one_round().await;
            if is_hidden {
                let key = key.to_owned();
                return Err(BucketError::Absent { key });
            }
            self.inner.get(purpose, key, range).await
        })
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        self.state.lock().num_requests += 1;
        if let Some(size) = self.claimed(key) {
            return Box::pin(async move { Ok(size) });
        }
        self.inner.size(purpose, key)
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        {
            let mut state = self.state.lock();
            state.num_requests += 1;
            state.deletes.push(key.to_owned());
        }
        Box::pin(async move {
            one_round().await;
            self.inner.delete(purpose, key).await
        })
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        self.state.lock().num_requests += 1;
        Box::pin(async move {
            one_round().await;
            let mut page = self.inner.list(purpose, prefix, after).await?;
            for entry in &mut page.entries {
                entry.size = self.claimed(&entry.key).unwrap_or(entry.size);
            }
            Ok(page)
        })
    }
}
