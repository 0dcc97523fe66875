//! What the callers of a device WAL and its engine share.
//!
//! *Owns*: accepted frames until they are durable, the room they take, waiting callers,
//! the index, the watermarks.
//! *Does not own*: the engine's decisions.
//!
//! Invariants
//! 1. The lock is never held during I/O, nor while a caller is woken.
//! 2. LSNs are given out under the lock, in the order of the appends.
//! 3. trimmed ≤ durable ≤ submitted ≤ accepted.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tidewater_types::{Env, Lsn, WalId};
use tokio::sync::{Semaphore, oneshot};

use crate::core::framed_bytes;
use crate::error::WalError;
use crate::format::group::PREFIX_BYTES;
use crate::index::Index;
use crate::port::{Append, Frame, Permit, WalCounters, Watermarks};

/// A read handed to the engine.
pub(crate) type ReadRequest = (Lsn, oneshot::Sender<Result<Bytes, WalError>>);
type Done = oneshot::Sender<Result<(), WalError>>;

/// An accepted frame that is not durable.
struct Unsynced {
    lsn: Lsn,
    end: Lsn,
    frame: Frame,
    room: usize,
    done: Done,
}

/// What callers leave for the engine.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) frames: Vec<Frame>,
    pub(crate) reads: Vec<ReadRequest>,
}

/// What the engine reports.
pub(crate) struct Progress {
    pub(crate) durable: Lsn,
    pub(crate) submitted: Lsn,
    pub(crate) syncs: u64,
    pub(crate) out_of_space: bool,
    pub(crate) blocked: bool,
    pub(crate) failure: Option<WalError>,
}

pub(crate) struct State {
    inbox: Inbox,
    unsynced: VecDeque<Unsynced>,
    pub(crate) index: Index,
    pub(crate) trim_requested: Lsn,
    watermarks: Watermarks,
    counters: WalCounters,
    out_of_space: bool,
    blocked: bool,
    closing: bool,
    abandoned: bool,
    failure: Option<WalError>,
    ended: bool,
    closers: Vec<Done>,
    waker: Option<Waker>,
}

/// The meeting point.
pub(crate) struct Shared {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) wal: WalId,
    pub(crate) description: String,
    pub(crate) frame_bytes_max: usize,
    pub(crate) patience: Duration,
    room: Arc<Semaphore>,
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn new(
        env: Arc<dyn Env>,
        wal: WalId,
        description: String,
        limits: (usize, usize, Duration),
        (trimmed, end): (Lsn, Lsn),
        index: Index,
    ) -> Self {
        let (frame_bytes_max, pool_bytes, patience) = limits;
        let state = State {
            inbox: Inbox::default(),
            unsynced: VecDeque::new(),
            index,
            trim_requested: trimmed,
            watermarks: Watermarks {
                trimmed,
                durable: end,
                submitted: end,
                accepted: end,
            },
            counters: WalCounters::default(),
            out_of_space: false,
            blocked: false,
            closing: false,
            abandoned: false,
            failure: None,
            ended: false,
            closers: Vec::new(),
            waker: None,
        };
        let room = Arc::new(Semaphore::new(pool_bytes));
        Self {
            env,
            wal,
            description,
            frame_bytes_max,
            patience,
            room,
            state: Mutex::new(state),
        }
    }

    // --- callers ---

    pub(crate) fn try_reserve(&self, num_bytes: usize) -> Result<Permit, WalError> {
        let room = self.room_for(num_bytes)?;
        match self.room.try_acquire_many(room) {
            Ok(taken) => {
                taken.forget();
                Ok(self.permit(num_bytes))
            }
            Err(_) => Err(self.refusal().unwrap_or(WalError::Full)),
        }
    }

    pub(crate) async fn reserve(self: Arc<Self>, num_bytes: usize) -> Result<Permit, WalError> {
        let room = self.room_for(num_bytes)?;
        if let Ok(taken) = self.room.try_acquire_many(room) {
            taken.forget();
            return Ok(self.permit(num_bytes));
        }
        let wait = self.env.sleep(self.patience);
        let taken = crate::race::race(self.room.acquire_many(room), wait).await;
        match taken {
            Some(Ok(taken)) => {
                taken.forget();
                Ok(self.permit(num_bytes))
            }
            Some(Err(_)) => Err(self.refusal().unwrap_or(WalError::Closed)),
            None => Err(WalError::Full),
        }
    }

    fn room_for(&self, num_bytes: usize) -> Result<u32, WalError> {
        let max = self.frame_bytes_max;
        if num_bytes > max {
            return Err(WalError::FrameTooLarge { num_bytes, max });
        }
        match self.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok(u32::try_from(num_bytes + PREFIX_BYTES).expect("bounded by the pool")),
        }
    }

    /// Why nothing is accepted now.
    fn refusal(&self) -> Option<WalError> {
        let state = self.state.lock();
        let closed = (state.closing || state.ended).then_some(WalError::Closed);
        state
            .failure
            .clone()
            .or(closed)
            .or(state.out_of_space.then_some(WalError::Full))
    }

    fn permit(&self, num_bytes: usize) -> Permit {
        let room = self.room.clone();
        Permit::new(num_bytes, move |num_bytes| {
            room.add_permits(num_bytes + PREFIX_BYTES)
        })
    }

    pub(crate) fn append(&self, permit: Permit, frame: Frame) -> Result<Append, WalError> {
        assert!(
            frame.num_bytes() <= permit.num_bytes(),
            "a frame larger than its permit"
        );
        let (done, answer) = oneshot::channel();
        let room = permit.num_bytes() + PREFIX_BYTES;
        let mut state = self.state.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.closing || state.ended {
            return Err(WalError::Closed);
        }
        permit.consume();
        let lsn = state.watermarks.accepted;
        let end = lsn
            .checked_add(framed_bytes(&frame))
            .expect("2^64 bytes are never written");
        state.watermarks.accepted = end;
        state.inbox.frames.push(frame.clone());
        state.unsynced.push_back(Unsynced {
            lsn,
            end,
            frame,
            room,
            done,
        });
        wake(state);
        Ok(Append::new(lsn, end, answer))
    }

    pub(crate) fn trim(&self, up_to: Lsn) {
        let mut state = self.state.lock();
        if up_to > state.trim_requested {
            state.trim_requested = up_to
                .min(state.watermarks.accepted)
                .max(state.trim_requested);
            state.watermarks.trimmed = state.trim_requested.min(state.watermarks.durable);
            wake(state);
        }
    }

    /// Reads from memory what is there; the rest is asked of the engine.
    pub(crate) fn read(&self, lsn: Lsn) -> oneshot::Receiver<Result<Bytes, WalError>> {
        let (done, answer) = oneshot::channel();
        let mut state = self.state.lock();
        if lsn < state.watermarks.trimmed {
            done.send(Err(WalError::Trimmed { lsn })).ok();
        } else if lsn >= state.watermarks.accepted {
            done.send(Err(WalError::NoFrame { lsn })).ok();
        } else if let Ok(place) = state.unsynced.binary_search_by_key(&lsn, |frame| frame.lsn) {
            done.send(Ok(join(&state.unsynced[place].frame))).ok();
        } else if state.ended {
            let failure = state.failure.clone().unwrap_or(WalError::Closed);
            done.send(Err(failure)).ok();
        } else {
            state.inbox.reads.push((lsn, done));
            wake(state);
        }
        answer
    }

    pub(crate) fn locate(&self, lsn: Lsn) -> Option<std::ops::Range<u64>> {
        let group = self.state.lock().index.find(lsn)?;
        Some(group.position..group.position + group.num_bytes)
    }

    pub(crate) fn watermarks(&self) -> Watermarks {
        self.state.lock().watermarks
    }

    pub(crate) fn counters(&self) -> WalCounters {
        self.state.lock().counters
    }

    /// Refuses further appends; the answer comes when everything accepted is durable and the
    /// disk was given back.
    pub(crate) async fn close(self: Arc<Self>) -> Result<(), WalError> {
        let (done, mut answer) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.ended {
                return state.failure.clone().map_or(Ok(()), Err);
            }
            state.closing = true;
            state.closers.push(done);
            self.room.close();
            wake(state);
        }
        loop {
            let patience = self.patience.max(Duration::from_millis(10));
            match crate::race::race(&mut answer, self.env.sleep(patience)).await {
                Some(answer) => return answer.unwrap_or(Err(WalError::Closed)),
                None if self.is_blocked() => self.abandon(),
                None => {}
            }
        }
    }

    /// Stops without waiting for what is not durable.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.abandoned = true;
        wake(state);
    }

    fn is_blocked(&self) -> bool {
        self.state.lock().blocked
    }

    // --- the engine ---

    /// Takes what callers left and remembers whom to wake for more. Answers also whether the
    /// WAL is to be closed, and whether it is to be left as it is.
    pub(crate) fn take_inbox(&self, waker: &Waker) -> (Inbox, bool, bool) {
        let mut state = self.state.lock();
        if !state
            .waker
            .as_ref()
            .is_some_and(|held| held.will_wake(waker))
        {
            state.waker = Some(waker.clone());
        }
        (
            std::mem::take(&mut state.inbox),
            state.closing,
            state.abandoned,
        )
    }

    /// How far callers want to trim.
    pub(crate) fn trim_requested(&self) -> Lsn {
        self.state.lock().trim_requested
    }

    /// The group that holds the frame at `lsn`.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<crate::index::GroupEntry> {
        self.state.lock().index.find(lsn)
    }

    /// Records the engine's progress and answers the callers it concerns; `look` sees the
    /// state under the lock, after the watermarks moved.
    pub(crate) fn publish(&self, progress: Progress, look: impl FnOnce(&mut State)) {
        let mut durable = Vec::new();
        let mut failed = Vec::new();
        let mut room = 0;
        {
            let mut state = self.state.lock();
            state.watermarks.durable = progress.durable;
            state.watermarks.submitted = progress.submitted;
            state.watermarks.trimmed = state.trim_requested.min(progress.durable);
            while state
                .unsynced
                .front()
                .is_some_and(|frame| frame.end <= progress.durable)
            {
                let frame = state.unsynced.pop_front().expect("a first frame");
                state.counters.appends += 1;
                state.counters.bytes += frame.frame.num_bytes() as u64;
                room += frame.room;
                durable.push(frame.done);
            }
            state.counters.syncs = progress.syncs;
            state.out_of_space = progress.out_of_space;
            state.blocked = progress.blocked;
            if let Some(failure) = progress.failure
                && state.failure.is_none()
            {
                state.failure = Some(failure);
                failed.extend(state.unsynced.drain(..).map(|frame| frame.done));
                self.room.close();
            }
            look(&mut state);
            let marks = state.watermarks;
            assert!(
                marks.trimmed <= marks.durable
                    && marks.durable <= marks.submitted
                    && marks.submitted <= marks.accepted,
                "watermarks out of order: {marks:?}"
            );
        }
        self.room.add_permits(room);
        durable.into_iter().for_each(|done| drop(done.send(Ok(()))));
        if !failed.is_empty() {
            let failure = self
                .state
                .lock()
                .failure
                .clone()
                .unwrap_or(WalError::Closed);
            failed
                .into_iter()
                .for_each(|done| drop(done.send(Err(failure.clone()))));
        }
    }

    /// The engine has stopped and given the disk back.
    pub(crate) fn end(&self, outcome: Result<(), WalError>) {
        let (unsynced, reads, closers, failure) = {
            let mut state = self.state.lock();
            state.ended = true;
            if let Err(error) = &outcome {
                state.failure.get_or_insert_with(|| error.clone());
            }
            let inbox = std::mem::take(&mut state.inbox);
            let unsynced: Vec<_> = state.unsynced.drain(..).map(|frame| frame.done).collect();
            let failure = state.failure.clone().unwrap_or(WalError::Closed);
            (
                unsynced,
                inbox.reads,
                std::mem::take(&mut state.closers),
                failure,
            )
        };
        self.room.close();
        unsynced
            .into_iter()
            .for_each(|done| drop(done.send(Err(failure.clone()))));
        reads
            .into_iter()
            .for_each(|(_, done)| drop(done.send(Err(failure.clone()))));
        closers
            .into_iter()
            .for_each(|done| drop(done.send(outcome.clone())));
    }
}

/// Wakes the engine after the lock is released: once until it looks again.
fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The frame in one piece.
pub(crate) fn join(frame: &Frame) -> Bytes {
    let [head, body] = frame.parts();
    if head.is_empty() {
        return frame.body();
    }
    let mut whole = BytesMut::with_capacity(head.len() + body.len());
    whole.extend_from_slice(head);
    whole.extend_from_slice(body);
    whole.freeze()
}
