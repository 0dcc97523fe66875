//! The simulated object store: it outlives every node and does what the network did to
//! the request.
//!
//! *Owns*: the objects; for each attempt, whether the request arrives, when it is
//! applied, and whether and when its answer comes.
//! *Does not own*: retries; they are the callers', as with every bucket.
//!
//! Invariants
//! 1. A request is applied at one moment, or never; `create` never replaces.
//! 2. A client that gave up or died takes nothing back: a late request is applied all the same.
//! 3. An object that was created is durable at once.
//! 4. The pages of a listing are read at different times.
//!
//! *IO: none*

mod conflict;
mod faults;
mod hands;
mod parts;
mod reads;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::{
    Bucket, BucketError, ListEntry, ListPage, MultipartId, MultipartLimits, Part, PartTag, Purpose,
    check_key, check_prefix,
};
use tidewater_types::BoxFuture;
use tokio::sync::oneshot;

use conflict::Writing;
pub use faults::BucketFaults;
use faults::Fate;
use parts::held;

use crate::exec::Handle;
use crate::rng::{Rng, label_hash};
use crate::trace::Event;

type Objects = BTreeMap<String, Bytes>;

/// The store; clones name the same one. It is a [`Bucket`] itself.
#[derive(Clone)]
pub struct SimBucket {
    handle: Handle,
    state: Arc<Mutex<State>>,
}

struct State {
    objects: Objects,
    uploads: parts::Uploads,
    faults: BucketFaults,
    rng: Rng,
    throttled_until_ns: u64,
    counts: BTreeMap<Fate, u64>,
    writing: Writing,
    garbled: BTreeSet<String>,
}

impl SimBucket {
    /// An empty store whose faults and latencies follow from `seed`.
    #[must_use]
    pub fn new(handle: Handle, seed: u64, faults: BucketFaults) -> Self {
        Self::with_objects(handle, seed, faults, Objects::new())
    }

    fn with_objects(handle: Handle, seed: u64, faults: BucketFaults, objects: Objects) -> Self {
        let rng = Rng::new(seed, "bucket");
        let counts = BTreeMap::new();
        let state = State {
            objects,
            uploads: parts::Uploads::default(),
            faults,
            rng,
            throttled_until_ns: 0,
            counts,
            writing: Writing::default(),
            garbled: BTreeSet::new(),
        };
        Self {
            handle,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Changes what goes wrong from now on; requests under way keep their fate.
    pub fn set_faults(&self, faults: BucketFaults) {
        let mut state = self.state.lock();
        state.faults = faults;
        state.throttled_until_ns = 0;
    }

    /// A copy of what is stored now, on another executor, without faults.
    #[must_use]
    pub fn fork(&self, handle: Handle, seed: u64) -> Self {
        let objects = self.state.lock().objects.clone();
        Self::with_objects(handle, seed, BucketFaults::default(), objects)
    }

    /// The object's bytes, as the store has them.
    #[must_use]
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.state.lock().objects.get(key).cloned()
    }

    /// All keys, ascending.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.state.lock().objects.keys().cloned().collect()
    }

    /// How often each fate struck, by name.
    #[must_use]
    pub fn fault_counts(&self) -> Vec<(&'static str, u64)> {
        self.state
            .lock()
            .counts
            .iter()
            .filter(|(fate, _)| **fate != Fate::Fine)
            .map(|(fate, count)| (fate.name(), *count))
            .collect()
    }

    /// Sends one request whose effect is `apply`.
    async fn request<T: Send + 'static>(
        &self,
        what: &'static str,
        key: &str,
        reads: bool,
        apply: impl FnOnce(&mut State) -> Result<T, BucketError> + Send + 'static,
    ) -> Result<T, BucketError> {
        let problem = if what == "list" {
            check_prefix(key)
        } else {
            check_key(key)
        };
        if let Err(problem) = problem {
            return Err(BucketError::Refused {
                key: key.to_owned(),
                cause: problem.to_string(),
            });
        }
        let (fate, times) = self.state.lock().draw(self.handle.now().0, reads);
        let [there, back, timeout, late] = times;
        self.handle
            .note(Event::Bucket, label_hash(key), fate as u64);
        self.handle
            .line(|| format!("bucket {what} {key} {}", fate.name()));
        let (answer, answered) = oneshot::channel();
        let unknown = |cause: &str| BucketError::Unknown {
            key: key.to_owned(),
            cause: cause.to_owned(),
        };
        let way = self.state.lock().sends(what, key, fate);
        match fate {
            Fate::Fine => {
                let store = self.clone();
                self.handle.call_after(there, move || {
                    let result = store.apply(what, way, apply);
                    store.deliver(back, answer, result);
                });
            }
            Fate::Throttled => {
                let key = key.to_owned();
                self.deliver(there, answer, Err(BucketError::Throttled { key }));
            }
            Fate::NeverArrives => self.deliver(timeout, answer, Err(unknown("no answer"))),
            Fate::ServerError => self.deliver(there, answer, Err(unknown("server error"))),
            Fate::Truncated => self.deliver(there + back, answer, Err(unknown("answer broke off"))),
            Fate::LostAnswer | Fate::Late => {
                let store = self.clone();
                let at = if fate == Fate::Late {
                    timeout + late
                } else {
                    there
                };
                self.handle
                    .call_after(at, move || drop(store.apply(what, way, apply)));
                self.deliver(timeout, answer, Err(unknown("answer lost")));
            }
            Fate::Conflict
            | Fate::Garbled
            | Fate::UploadForgotten
            | Fate::PartsUnequal
            | Fate::ShortPage => {
                unreachable!("drawn on arrival")
            }
        }
        let closed = Err(unknown("the run is over"));
        answered.await.unwrap_or(closed)
    }

    fn apply<T>(
        &self,
        what: &'static str,
        way: Option<String>,
        apply: impl FnOnce(&mut State) -> Result<T, BucketError>,
    ) -> Result<T, BucketError> {
        let result = {
            let mut state = self.state.lock();
            match way.filter(|key| state.refuses(what, key)) {
                Some(key) => Err(BucketError::Throttled { key }),
                None => apply(&mut state),
            }
        };
        self.handle
            .note(Event::Bucket, label_hash(what), u64::from(result.is_ok()));
        result
    }

    fn deliver<T: Send + 'static>(&self, wait_ns: u64, answer: oneshot::Sender<T>, result: T) {
        // The client may be gone: then nobody hears the answer.
        self.handle
            .call_after(wait_ns, move || drop(answer.send(result)));
    }
}

impl State {
    /// A request is sent; answers the key if it writes and will arrive.
    fn sends(&mut self, what: &str, key: &str, fate: Fate) -> Option<String> {
        let arrives = matches!(fate, Fate::Fine | Fate::LostAnswer | Fate::Late);
        let writes = matches!(what, "create" | "delete" | "complete");
        (arrives && writes).then(|| {
            self.writing.sent(key);
            key.to_owned()
        })
    }

    /// A write of `key` arrives: whether it is refused because of another that is under way.
    fn refuses(&mut self, what: &str, key: &str) -> bool {
        let meets = self.writing.arrives(key) && what == "create";
        let refuses = meets && self.rng.chance(self.faults.conflict);
        if refuses {
            *self.counts.entry(Fate::Conflict).or_default() += 1;
        }
        refuses
    }

    /// The fate of a request and its four times: there, back, time-out, and how late.
    fn draw(&mut self, now_ns: u64, reads: bool) -> (Fate, [u64; 4]) {
        let faults = self.faults;
        let rng = &mut self.rng;
        let times = [
            rng.latency(faults.way_ns),
            rng.latency(faults.way_ns),
            faults.timeout_ns,
            rng.below(faults.timeout_ns * 4),
        ];
        let mut at = u32::try_from(rng.below(1000)).expect("small");
        let mut strikes = |per_mille: u32| {
            let struck = at < per_mille;
            at = at.saturating_sub(per_mille);
            if struck {
                at = u32::MAX;
            }
            struck
        };
        let fate = if strikes(faults.throttled) {
            self.throttled_until_ns = now_ns + rng.below(faults.way_ns * 20);
            Fate::Throttled
        } else if strikes(faults.never_arrives) {
            Fate::NeverArrives
        } else if strikes(faults.server_error) {
            Fate::ServerError
        } else if strikes(faults.lost_answer) {
            Fate::LostAnswer
        } else if strikes(faults.late) {
            Fate::Late
        } else if reads && strikes(faults.truncated) {
            Fate::Truncated
        } else if now_ns < self.throttled_until_ns && rng.chance(700) {
            Fate::Throttled
        } else {
            Fate::Fine
        };
        *self.counts.entry(fate).or_default() += 1;
        (fate, times)
    }

    fn find(&self, key: &str) -> Result<&Bytes, BucketError> {
        self.objects.get(key).ok_or_else(|| BucketError::Absent {
            key: key.to_owned(),
        })
    }

    fn page(&mut self, prefix: &str, after: Option<&str>) -> ListPage {
        let full = self.faults.page_keys.max(1);
        let most = if full > 100 {
            full
        } else {
            u32::try_from(self.rng.between(1, full.into())).expect("small")
        };
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut found = self
            .objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let entries = found
            .by_ref()
            .take(most as usize)
            .map(|(key, bytes)| ListEntry {
                key: key.clone(),
                size: bytes.len() as u64,
            })
            .collect();
        let more = found.next().is_some();
        if more {
            *self.counts.entry(Fate::ShortPage).or_default() += 1;
        }
        ListPage { entries, more }
    }
}

impl Bucket for SimBucket {
    fn create<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let owned = key.to_owned();
        let handle = self.handle.clone();
        Box::pin(self.request("create", key, false, move |state| {
            if state.objects.contains_key(&owned) {
                return Err(BucketError::Exists { key: owned });
            }
            let whole = match <[Bytes; 1]>::try_from(body) {
                Ok([one]) => one,
                Err(parts) => Bytes::from(parts.concat()),
            };
            handle.line(|| format!("bucket applied create {owned} {}", held(&whole)));
            state.objects.insert(owned, whole);
            Ok(())
        }))
    }

    fn get<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        let owned = key.to_owned();
        Box::pin(async move {
            let apply = move |state: &mut State| state.read(&owned, range);
            let got = self.request("get", key, true, apply).await;
            if let Ok(bytes) = &got {
                self.handle
                    .line(|| format!("bucket got {key} {}", held(bytes)));
            }
            got
        })
    }

    fn size<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        let owned = key.to_owned();
        let apply = move |state: &mut State| state.find(&owned).map(|object| object.len() as u64);
        Box::pin(self.request("size", key, true, apply))
    }

    fn delete<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let owned = key.to_owned();
        Box::pin(self.request("delete", key, false, move |state| {
            state
                .objects
                .remove(&owned)
                .map(drop)
                .ok_or(BucketError::Absent { key: owned })
        }))
    }

    fn list<'a>(
        &'a self,
        _purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        let (owned, after) = (prefix.to_owned(), after.map(ToOwned::to_owned));
        let apply = move |state: &mut State| Ok(state.page(&owned, after.as_deref()));
        Box::pin(self.request("list", prefix, true, apply))
    }

    fn multipart(&self) -> Option<MultipartLimits> {
        Some(parts::LIMITS)
    }

    fn create_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<MultipartId, BucketError>> {
        let owned = key.to_owned();
        Box::pin(self.request("start", key, false, move |state| {
            let again = state.rng.below(3);
            Ok(MultipartId(state.uploads.start(&owned, again)))
        }))
    }

    fn put_part<'a>(
        &'a self,
        _purpose: Purpose,
        part: Part<'a>,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        let (key, id, number) = (part.key.to_owned(), part.upload.0.clone(), part.number);
        Box::pin(self.request("part", part.key, false, move |state| {
            let (body, nonce) = (Bytes::from(body.concat()), state.rng.next_u64());
            state.uploads.put_part(&key, &id, number, body, nonce)
        }))
    }

    fn copy_part<'a>(
        &'a self,
        _purpose: Purpose,
        part: Part<'a>,
        source: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        let (key, id, number) = (part.key.to_owned(), part.upload.0.clone(), part.number);
        let source = source.to_owned();
        Box::pin(self.request("copy", part.key, false, move |state| {
            let (body, nonce) = (state.get(&source, Some(range))?, state.rng.next_u64());
            state.uploads.put_part(&key, &id, number, body, nonce)
        }))
    }

    fn complete_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
        parts: &'a [PartTag],
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let (owned, id, parts) = (key.to_owned(), upload.0.clone(), parts.to_vec());
        let handle = self.handle.clone();
        Box::pin(self.request("complete", key, false, move |state| {
            let replaces = state.faults.completion_replaces;
            let rate = state.faults.upload_forgotten;
            if state.uploads.forgets(&owned, &id, rate, &mut state.rng) {
                *state.counts.entry(Fate::UploadForgotten).or_default() += 1;
            }
            if state.faults.parts_equal && state.uploads.are_unequal(&id, &parts) {
                *state.counts.entry(Fate::PartsUnequal).or_default() += 1;
                return Err(parts::refused(&owned, "parts must have one size"));
            }
            let (objects, uploads) = (&mut state.objects, &mut state.uploads);
            uploads.complete(objects, replaces, &owned, &id, &parts)?;
            let whole = objects.get(&owned);
            handle.line(|| {
                let held = whole.map(held).unwrap_or_default();
                format!("bucket applied create {owned} of parts {held}")
            });
            Ok(())
        }))
    }

    fn abort_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let (owned, id) = (key.to_owned(), upload.0.clone());
        Box::pin(self.request("abort", key, false, move |state| {
            state.uploads.abort(&owned, &id)
        }))
    }
}

#[cfg(test)]
mod tests;
