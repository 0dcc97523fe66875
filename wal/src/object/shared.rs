//! What the callers of an object WAL and its engine share.
//!
//! *Owns*: accepted frames until they are durable, waiting readers, the watermarks.
//! *Does not own*: the engine's decisions.
//!
//! Invariants
//! 1. The lock is never held while a caller is woken.
//! 2. LSNs are given out under the lock, in the order of the appends.
//! 3. trimmed ≤ durable ≤ submitted ≤ accepted.
//! 4. A frame that is not durable is not served: its reader waits.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tidewater_types::{Env, Lsn};
use tokio::sync::oneshot;

use crate::acks::{Acks, Append};
use crate::error::WalError;
use crate::format::group::PREFIX_BYTES;
use crate::port::{Frame, WalCounters, Watermarks};
use crate::room::{Permit, Room};

/// Bytes of memory of a frame until it is durable, beside its own: it stands among those that are not
/// durable, and among those that no object holds yet or, copied, in one; both with as much again for room
/// that is not filled.
const FRAME_BYTES: usize = 2 * (size_of::<Unsynced>() + size_of::<Frame>());

/// Who waits for a frame's bytes.
pub(crate) type Reader = oneshot::Sender<Result<Bytes, WalError>>;
type Done = oneshot::Sender<Result<(), WalError>>;

/// An accepted frame that is not durable.
struct Unsynced {
    lsn: Lsn,
    end: Lsn,
    frame: Frame,
    room: usize,
    readers: Vec<Reader>,
}

/// What callers leave for the engine.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) frames: Vec<Frame>,
    pub(crate) reads: Vec<(Lsn, Reader)>,
    pub(crate) trim: Lsn,
    pub(crate) closing: bool,
    pub(crate) abandoned: bool,
}

#[derive(Default)]
struct State {
    inbox: Inbox,
    unsynced: VecDeque<Unsynced>,
    watermarks: Watermarks,
    counters: WalCounters,
    failure: Option<WalError>,
    ended: bool,
    closers: Vec<Done>,
    waker: Option<Waker>,
}

/// The meeting point.
pub(crate) struct Shared {
    pub(crate) room: Arc<Room>,
    acks: Arc<Acks>,
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn new(
        env: Arc<dyn Env>,
        pool_bytes: usize,
        patience: Duration,
        (trimmed, end): (Lsn, Lsn),
    ) -> Self {
        let mut state = State {
            watermarks: Watermarks {
                trimmed,
                durable: end,
                submitted: end,
                accepted: end,
            },
            ..State::default()
        };
        state.inbox.trim = trimmed;
        let room = Room::new(env, pool_bytes, pool_bytes - PREFIX_BYTES, patience)
            .with_frame_cost(FRAME_BYTES);
        Self {
            room: Arc::new(room),
            acks: Arc::new(Acks::new(end)),
            state: Mutex::new(state),
        }
    }

    // --- callers ---

    pub(crate) fn append(&self, permit: Permit, frame: Frame) -> Result<Append, WalError> {
        assert!(
            frame.num_bytes() <= permit.num_bytes(),
            "a frame larger than its permit"
        );
        let mut state = self.state.lock();
        if let Some(refusal) = refusal(&state) {
            return Err(refusal);
        }
        let room = permit.consume();
        let lsn = state.watermarks.accepted;
        let end = lsn
            .checked_add((PREFIX_BYTES + frame.num_bytes()) as u64)
            .expect("2^64 bytes are never written");
        state.watermarks.accepted = end;
        state.inbox.frames.push(frame.clone());
        let readers = Vec::new();
        state.unsynced.push_back(Unsynced {
            lsn,
            end,
            frame,
            room,
            readers,
        });
        let append = self.acks.issue(lsn, end);
        wake(state);
        Ok(append)
    }

    pub(crate) fn trim(&self, up_to: Lsn) {
        let mut state = self.state.lock();
        let up_to = up_to.min(state.watermarks.accepted);
        if up_to > state.inbox.trim {
            state.inbox.trim = up_to;
            state.watermarks.trimmed = up_to.min(state.watermarks.durable);
            wake(state);
        }
    }

    /// A frame that is not durable is answered once it is; the rest is asked of the engine.
    pub(crate) fn read(&self, lsn: Lsn) -> oneshot::Receiver<Result<Bytes, WalError>> {
        let (done, answer) = oneshot::channel();
        let mut state = self.state.lock();
        let unsynced = state.unsynced.binary_search_by_key(&lsn, |frame| frame.lsn);
        if lsn < state.watermarks.trimmed {
            done.send(Err(WalError::Trimmed { lsn })).ok();
        } else if state.ended {
            let failure = state.failure.clone().unwrap_or(WalError::Closed);
            done.send(Err(failure)).ok();
        } else if let Ok(at) = unsynced {
            state.unsynced[at].readers.push(done);
        } else if lsn >= state.watermarks.durable {
            done.send(Err(WalError::NoFrame { lsn })).ok();
        } else {
            state.inbox.reads.push((lsn, done));
            wake(state);
        }
        answer
    }

    pub(crate) fn watermarks(&self) -> Watermarks {
        self.state.lock().watermarks
    }

    pub(crate) fn counters(&self) -> WalCounters {
        WalCounters {
            full_pool: self.room.num_full(),
            ..self.state.lock().counters
        }
    }

    /// Refuses further appends; the answer comes when everything accepted is durable.
    pub(crate) async fn close(self: Arc<Self>) -> Result<(), WalError> {
        let (done, answer) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.ended {
                return state.failure.clone().map_or(Ok(()), Err);
            }
            state.inbox.closing = true;
            state.closers.push(done);
            wake(state);
            self.room.close(WalError::Closed);
        }
        answer.await.unwrap_or(Err(WalError::Closed))
    }

    /// Stops without waiting for what is not durable.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.inbox.closing = true;
        state.inbox.abandoned = true;
        wake(state);
    }

    // --- the engine ---

    /// Takes what callers left and remembers whom to wake for more.
    pub(crate) fn take_inbox(&self, waker: &Waker) -> Inbox {
        let mut state = self.state.lock();
        if !state
            .waker
            .as_ref()
            .is_some_and(|held| held.will_wake(waker))
        {
            state.waker = Some(waker.clone());
        }
        Inbox {
            frames: std::mem::take(&mut state.inbox.frames),
            reads: std::mem::take(&mut state.inbox.reads),
            ..state.inbox
        }
    }

    /// Records how far the engine has come and answers the callers it concerns.
    pub(crate) fn publish(&self, durable: Lsn, submitted: Lsn, num_created: u64) {
        let mut durables = Vec::new();
        let mut room = 0;
        {
            let mut state = self.state.lock();
            state.watermarks.durable = durable;
            state.watermarks.submitted = submitted;
            state.watermarks.trimmed = state.inbox.trim.min(durable);
            state.counters.syncs = num_created;
            while state
                .unsynced
                .front()
                .is_some_and(|frame| frame.end <= durable)
            {
                let Some(frame) = state.unsynced.pop_front() else {
                    break;
                };
                state.counters.appends += 1;
                state.counters.bytes += frame.frame.num_bytes() as u64;
                room += frame.room;
                durables.push(frame);
            }
            let marks = state.watermarks;
            assert!(
                marks.trimmed <= marks.durable
                    && marks.durable <= marks.submitted
                    && marks.submitted <= marks.accepted,
                "watermarks out of order: {marks:?}"
            );
        }
        self.room.give_back(room);
        self.acks.advance(durable);
        for Unsynced { readers, frame, .. } in durables {
            readers
                .into_iter()
                .for_each(|reader| drop(reader.send(Ok(frame.join()))));
        }
    }

    /// The engine has stopped.
    pub(crate) fn end(&self, outcome: Result<(), WalError>) {
        let (unsynced, reads, closers, failure) = {
            let mut state = self.state.lock();
            state.ended = true;
            if let Err(error) = &outcome {
                state.failure.get_or_insert_with(|| error.clone());
            }
            state.inbox.frames.clear();
            (
                std::mem::take(&mut state.unsynced),
                std::mem::take(&mut state.inbox.reads),
                std::mem::take(&mut state.closers),
                state.failure.clone().unwrap_or(WalError::Closed),
            )
        };
        self.room.close(failure.clone());
        self.acks.fail(failure.clone());
        let waiting = reads.into_iter().map(|(_, reader)| reader);
        let mut readers: Vec<_> = waiting.collect();
        for frame in unsynced {
            readers.extend(frame.readers);
        }
        for reader in readers {
            reader.send(Err(failure.clone())).ok();
        }
        for closer in closers {
            closer.send(outcome.clone()).ok();
        }
    }
}

fn refusal(state: &State) -> Option<WalError> {
    let closed = (state.inbox.closing || state.ended).then_some(WalError::Closed);
    state.failure.clone().or(closed)
}

/// Wakes the engine after the lock is released: once until it looks again.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}
