//! What the callers of a device WAL and its engine share.
//!
//! *Owns*: the inlet, the room and the acknowledgements; reads, trims and closers on their way to
//! the engine; the index; what the engine reported last.
//! *Does not own*: the engine's decisions.
//!
//! Invariants
//! 1. No lock is held during I/O, nor while a caller is woken.
//! 2. Whoever changes something here wakes the engine afterwards, and the engine looks here after
//!    it said whom to wake: so nothing is overlooked.
//! 3. trimmed ≤ durable ≤ submitted ≤ accepted.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_types::{Env, Instant, Lsn, WalId};
use tokio::sync::oneshot;

use crate::acks::{Acks, Append};
use crate::buffer::AlignedBuf;
use crate::error::{Resource, WalError};
use crate::format::group::PREFIX_BYTES;
use crate::index::Index;
use crate::inlet::{Batch, Inlet, PoolShape};
use crate::port::{Frame, WalCounters, Watermarks};
use crate::room::{Permit, Room};

/// A read handed to the engine.
pub(crate) type ReadRequest = (Lsn, oneshot::Sender<Result<Bytes, WalError>>);
type Done = oneshot::Sender<Result<(), WalError>>;

/// What the engine reports.
pub(crate) struct Progress {
    pub(crate) durable: Lsn,
    pub(crate) submitted: Lsn,
    pub(crate) counters: WalCounters,
    pub(crate) out_of_space: bool,
    /// What frames wait for, if not for the device alone.
    pub(crate) blocked: Option<Resource>,
    pub(crate) failure: Option<WalError>,
    /// Buffers that were written, and the room their frames took.
    pub(crate) written: Vec<(AlignedBuf, usize)>,
}

/// What callers want of the engine beside appends.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) reads: Vec<ReadRequest>,
    pub(crate) trim: Lsn,
    pub(crate) closing: bool,
    pub(crate) abandoned: bool,
}

pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) trim_requested: Lsn,
    /// When each operation was begun that has not ended.
    pub(crate) under_way: Vec<Instant>,
    reads: Vec<ReadRequest>,
    trimmed: Lsn,
    submitted: Lsn,
    counters: WalCounters,
    blocked: bool,
    closing: bool,
    abandoned: bool,
    failure: Option<WalError>,
    ended: bool,
    closers: Vec<Done>,
}

/// The meeting point.
pub(crate) struct Shared {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) wal: WalId,
    pub(crate) description: String,
    pub(crate) room: Arc<Room>,
    pub(crate) acks: Arc<Acks>,
    begin: Lsn,
    slow_op: Duration,
    inlet: Inlet,
    state: Mutex<State>,
}

/// What a recovery hands over.
pub(crate) struct Beginning {
    pub(crate) wal: WalId,
    pub(crate) description: String,
    pub(crate) frame_bytes_max: usize,
    pub(crate) patience: Duration,
    /// An operation that takes this long is slow.
    pub(crate) slow_op: Duration,
    pub(crate) pool: PoolShape,
    pub(crate) trimmed: Lsn,
    pub(crate) end: Lsn,
    pub(crate) index: Index,
}

impl Shared {
    pub(crate) fn new(env: Arc<dyn Env>, begin: Beginning) -> Self {
        let state = State {
            index: begin.index,
            trim_requested: begin.trimmed,
            under_way: Vec::new(),
            reads: Vec::new(),
            trimmed: begin.trimmed,
            submitted: begin.end,
            counters: WalCounters::default(),
            blocked: false,
            closing: false,
            abandoned: false,
            failure: None,
            ended: false,
            closers: Vec::new(),
        };
        let room = Room::new(
            Arc::clone(&env),
            begin.pool.room_bytes(),
            begin.frame_bytes_max,
            begin.patience,
        );
        let acks = Arc::new(Acks::new(begin.end));
        Self {
            env,
            wal: begin.wal,
            description: begin.description,
            room: Arc::new(room),
            begin: begin.end,
            slow_op: begin.slow_op,
            inlet: Inlet::new(begin.pool, Arc::clone(&acks), begin.end),
            acks,
            state: Mutex::new(state),
        }
    }

    // --- callers ---

    pub(crate) fn append(&self, permit: Permit, frame: &Frame) -> Result<Append, WalError> {
        assert!(
            frame.num_bytes() <= permit.num_bytes(),
            "a frame larger than its permit"
        );
        assert!(permit.is_of(&self.room), "a permit of another log");
        let append = self
            .inlet
            .append(frame, permit.num_bytes() + PREFIX_BYTES)?;
        let _inlet_has_it = permit.consume();
        Ok(append)
    }

    pub(crate) fn trim(&self, up_to: Lsn) {
        {
            let mut state = self.state.lock();
            if up_to <= state.trim_requested {
                return;
            }
            let accepted = self.inlet.accepted();
            state.trim_requested = up_to.min(accepted).max(state.trim_requested);
            state.trimmed = state.trim_requested.min(self.acks.durable());
        }
        self.inlet.wake();
    }

    /// Asks the engine for a frame.
    pub(crate) fn read(&self, lsn: Lsn) -> oneshot::Receiver<Result<Bytes, WalError>> {
        let (done, answer) = oneshot::channel();
        let accepted = self.inlet.accepted();
        {
            let mut state = self.state.lock();
            if lsn < state.trimmed {
                done.send(Err(WalError::Trimmed { lsn })).ok();
            } else if lsn >= accepted {
                done.send(Err(WalError::NoFrame { lsn })).ok();
            } else if state.ended {
                let failure = state.failure.clone().unwrap_or(WalError::Closed);
                done.send(Err(failure)).ok();
            } else {
                state.reads.push((lsn, done));
            }
        }
        self.inlet.wake();
        answer
    }

    pub(crate) fn locate(&self, lsn: Lsn) -> Option<std::ops::Range<u64>> {
        let group = self.state.lock().index.find(lsn)?;
        Some(group.position..group.position + group.num_bytes)
    }

    pub(crate) fn watermarks(&self) -> Watermarks {
        let state = self.state.lock();
        let durable = self.acks.durable();
        Watermarks {
            trimmed: state.trimmed.min(durable),
            durable,
            submitted: state.submitted,
            accepted: self.inlet.accepted(),
        }
    }

    pub(crate) fn counters(&self) -> WalCounters {
        let appends = self.acks.num_durable();
        let lsns = self.acks.durable().0 - self.begin.0;
        let now = self.env.now();
        let state = self.state.lock();
        // One that hangs, and maybe the engine's thread with it, shows before it ends. It counts as
        // slow then too, so no count goes back.
        let is_slow = |begun: &&Instant| now.since(**begun) >= self.slow_op;
        let hanging = state.under_way.iter().filter(is_slow).count() as u64;
        WalCounters {
            appends,
            bytes: lsns.saturating_sub(appends * PREFIX_BYTES as u64),
            full_pool: self.room.num_full(),
            slow_ops: state.counters.slow_ops + hanging,
            ..state.counters
        }
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
            state.closers.push(done);
        }
        // Nothing is accepted any more before the engine hears of the end.
        self.refuse(WalError::Closed);
        self.state.lock().closing = true;
        self.inlet.wake();
        loop {
            let patience = self.room.patience().max(Duration::from_millis(10));
            match crate::race::race(&mut answer, self.env.sleep(patience)).await {
                Some(answer) => return answer.unwrap_or(Err(WalError::Closed)),
                None if self.is_blocked() => self.abandon(),
                None => {}
            }
        }
    }

    /// Stops without waiting for what is not durable.
    pub(crate) fn abandon(&self) {
        self.refuse(WalError::Closed);
        {
            let mut state = self.state.lock();
            state.closing = true;
            state.abandoned = true;
        }
        self.inlet.wake();
    }

    fn refuse(&self, why: WalError) {
        self.inlet.refuse(why.clone());
        self.room.close(why);
    }

    fn is_blocked(&self) -> bool {
        self.state.lock().blocked
    }

    // --- the engine ---

    /// Moves batches to `into` and remembers whom to wake for more; then answers what else is
    /// wanted. With `open`, a batch that is not full is taken too.
    pub(crate) fn take(&self, waker: &Waker, open: bool, into: &mut VecDeque<Batch>) -> Wishes {
        self.inlet.take(waker, open, into);
        let mut state = self.state.lock();
        Wishes {
            reads: std::mem::take(&mut state.reads),
            trim: state.trim_requested,
            closing: state.closing,
            abandoned: state.abandoned,
        }
    }

    /// The group that holds the frame at `lsn`.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<crate::index::GroupEntry> {
        self.state.lock().index.find(lsn)
    }

    /// Records the engine's progress and answers the callers it concerns; `look` sees the
    /// state under the lock, after the watermarks moved.
    pub(crate) fn publish(&self, progress: Progress, look: impl FnOnce(&mut State)) {
        {
            let mut state = self.state.lock();
            state.submitted = progress.submitted;
            state.trimmed = state.trim_requested.min(progress.durable);
            state.counters = progress.counters;
            state.blocked = progress.blocked.is_some();
            if let Some(failure) = &progress.failure {
                state.failure.get_or_insert_with(|| failure.clone());
            }
            look(&mut state);
            assert!(
                state.trimmed <= progress.durable && progress.durable <= progress.submitted,
                "watermarks out of order: {} ≤ {} ≤ {}",
                state.trimmed,
                progress.durable,
                progress.submitted
            );
        }
        if progress.durable > self.acks.durable() {
            self.acks.advance(progress.durable);
        }
        self.room
            .set_shortage(progress.blocked, progress.out_of_space);
        if !progress.written.is_empty() {
            let room = progress.written.iter().map(|(_, room)| room).sum();
            self.inlet
                .give_back(progress.written.into_iter().map(|(buf, _)| buf));
            self.room.give_back(room);
        }
        if let Some(failure) = progress.failure {
            self.refuse(failure.clone());
            self.acks.fail(failure);
        }
    }

    /// The engine has stopped and given the disk back.
    pub(crate) fn end(&self, outcome: Result<(), WalError>, reads_waiting: VecDeque<ReadRequest>) {
        let (reads, closers, failure) = {
            let mut state = self.state.lock();
            state.ended = true;
            state.under_way.clear();
            if let Err(error) = &outcome {
                state.failure.get_or_insert_with(|| error.clone());
            }
            let failure = state.failure.clone().unwrap_or(WalError::Closed);
            let reads = std::mem::take(&mut state.reads);
            (reads, std::mem::take(&mut state.closers), failure)
        };
        self.refuse(failure.clone());
        self.acks.fail(failure.clone());
        for (_, done) in reads_waiting.into_iter().chain(reads) {
            done.send(Err(failure.clone())).ok();
        }
        for done in closers {
            done.send(outcome.clone()).ok();
        }
    }
}
