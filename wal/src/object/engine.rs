//! The engine of the object WAL: executes what the core asks for.
//!
//! *Owns*: the requests under way, the timer, reading durable frames back.
//! *Does not own*: any decision.
//!
//! *IO: through the bucket port*

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidewater_bucket::BucketError;
use tidewater_types::{BoxFuture, Lsn};

use super::core::{Core, Effect, Item};
use super::format::Place;
use super::format::entry::{HEADER_BYTES, decode, frames};
use super::owner::Owner;
use super::shared::{Inbox, Reader, Shared};
use super::store::{Alarm, Flights, Store};
use crate::error::WalError;

const READS_MAX: usize = 4;
/// The tag of deletions; numbers of entries begin at 2.
const DELETION: u64 = 0;

enum Event {
    Created(Result<(), BucketError>),
    Read(Result<Bytes, BucketError>),
    Deleted(Result<(), BucketError>),
}

/// Runs one life of the WAL.
pub(crate) struct Engine {
    core: Core,
    store: Store,
    shared: Arc<Shared>,
    flights: Flights<Event>,
    reads: Flights<()>,
    reads_waiting: VecDeque<(Lsn, Reader)>,
    alarm: Alarm,
    /// A turn that is waited for.
    turn: Option<BoxFuture<'static, ()>>,
    ending: Ending,
}

impl Engine {
    pub(crate) fn new(core: Core, store: Store, shared: Arc<Shared>) -> Self {
        Self {
            core,
            store,
            ending: Ending(Some(shared.clone())),
            shared,
            flights: Flights::new(),
            reads: Flights::new(),
            reads_waiting: VecDeque::new(),
            alarm: Alarm::default(),
            turn: None,
        }
    }

    /// Runs until the WAL is closed, dropped, fenced or has failed.
    pub(crate) async fn run(mut self) {
        let outcome = poll_fn(|cx| self.poll(cx)).await;
        self.ending.0 = None;
        self.shared.end(outcome);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WalError>> {
        loop {
            let inbox = self.shared.take_inbox(cx.waker());
            let (closing, abandoned) = (inbox.closing, inbox.abandoned);
            self.feed(inbox);
            // Requests first: what was begun on the last turn counts before the next is asked for.
            let moved =
                self.requests(cx) | self.take_turn(cx) | self.effects() | self.read_back(cx);
            self.shared.publish(
                self.core.durable(),
                self.core.submitted(),
                self.core.num_created(),
            );
            if let Some(failure) = self.core.failure() {
                tracing::error!(%failure, "the object write-ahead log stops");
                return Poll::Ready(Err(failure.clone()));
            }
            if abandoned {
                return Poll::Ready(Err(WalError::Closed));
            }
            if closing && self.core.is_drained() {
                return Poll::Ready(Ok(()));
            }
            let timer = self.core.timer();
            if !moved && !self.alarm.poll(&*self.store.env, timer, cx) {
                return Poll::Pending;
            }
        }
    }

    fn feed(&mut self, inbox: Inbox) {
        let now = self.store.env.now();
        for frame in inbox.frames {
            self.core.handle_frame(now, frame);
        }
        self.core.handle_trim(now, inbox.trim);
        if inbox.closing && !inbox.abandoned {
            self.core.handle_close();
        }
        self.reads_waiting.extend(inbox.reads);
    }

    fn requests(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some((seq, event)) = self.flights.poll(cx) {
            let now = self.store.env.now();
            match event {
                Event::Created(answer) => self.core.handle_created(now, seq, answer),
                Event::Read(answer) => self.core.handle_read(now, seq, answer),
                Event::Deleted(answer) => self.core.handle_deleted(now, answer),
            }
            moved = true;
        }
        moved
    }

    fn take_turn(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.core.wants_turn() {
            return false;
        }
        let store = &self.store;
        let turn = self.turn.get_or_insert_with(|| store.turn());
        if turn.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.turn = None;
        self.core.handle_turn();
        true
    }

    fn effects(&mut self) -> bool {
        let mut moved = false;
        while let Some(effect) = self.core.poll_effect(self.store.env.now()) {
            self.execute(effect);
            moved = true;
        }
        moved
    }

    fn execute(&mut self, effect: Effect) {
        let owner = *self.core.owner();
        let key = |seq| owner.key(Place::new(owner.epoch, seq));
        match effect {
            Effect::Create { seq, body, again } => {
                let attempt = self.store.create(key(seq), body, again);
                let request = Box::pin(async move { Event::Created(attempt.await) });
                self.flights.push(seq, request);
            }
            Effect::Read { seq } => {
                let attempt = self.store.read(key(seq), None);
                let request = Box::pin(async move { Event::Read(attempt.await) });
                self.flights.push(seq, request);
            }
            Effect::Forget { seq } => self.flights.forget(seq),
            Effect::Delete { place } => {
                let attempt = self.store.delete(owner.key(place));
                let request = Box::pin(async move { Event::Deleted(attempt.await) });
                self.flights.push(DELETION, request);
            }
        }
    }

    fn read_back(&mut self, cx: &mut Context<'_>) -> bool {
        while self.reads.len() < READS_MAX
            && let Some((lsn, reader)) = self.reads_waiting.pop_front()
        {
            let (item, shared) = (self.core.find(lsn), Arc::clone(&self.shared));
            let request = read(self.store.clone(), *self.core.owner(), item, lsn, shared);
            let answered = async move { drop(reader.send(request.await)) };
            self.reads.push(0, Box::pin(answered));
        }
        let mut moved = false;
        while self.reads.poll(cx).is_some() {
            moved = true;
        }
        moved
    }
}

/// Nobody waits for an engine that is gone: it panicked, its task was dropped, or never ran.
struct Ending(Option<Arc<Shared>>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.end(Err(WalError::Closed));
        }
    }
}

/// Reads the frame at `lsn` out of its entry.
fn read(
    store: Store,
    owner: Owner,
    item: Option<Item>,
    lsn: Lsn,
    shared: Arc<Shared>,
) -> BoxFuture<'static, Result<Bytes, WalError>> {
    Box::pin(async move {
        let is_trimmed = || lsn < shared.watermarks().trimmed;
        let Some(item) = item else {
            return Err(if is_trimmed() {
                WalError::Trimmed { lsn }
            } else {
                WalError::NoFrame { lsn }
            });
        };
        // What frames there are say how long the entry is.
        let size = HEADER_BYTES as u64 + (item.end.0 - item.lsn.0);
        let Some(bytes) = store.get(&owner.key(item.place), Some(size)).await? else {
            if is_trimmed() {
                return Err(WalError::Trimmed { lsn });
            }
            let (expected, found) = ("an entry".to_owned(), "no object".to_owned());
            return Err(owner.corrupt(item.place, lsn, expected, found));
        };
        decode(&bytes, item.place).map_err(|flaw| owner.flawed(item.place, lsn, flaw))?;
        let payload = bytes.slice(HEADER_BYTES..);
        let distance = lsn.0 - item.lsn.0;
        let place = frames(&payload).find(|(at, _)| *at == distance);
        match place {
            Some((_, place)) => Ok(payload.slice(place)),
            None => Err(WalError::NoFrame { lsn }),
        }
    })
}
