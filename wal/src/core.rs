//! The engine of the device WAL: group commit without a timer.
//!
//! *Owns*: which bytes go where and when, which flush covers which writes, what is durable.
//! *Does not own*: the operations themselves, the clock, the callers waiting for an answer.
//!
//! Invariants
//! 1. The durable LSN passes a group only after a flush *submitted after the group's write had
//!    completed* has completed (or after the write, if writes are durable), and only as a prefix.
//! 2. At most `window_bytes` of ring are written and not durable: the distance recovery looks.
//! 3. A group fills whole blocks; the head never returns to a block before its trim is in
//!    both superblock slots.
//! 4. After a failed flush, or a failed write other than for lack of space, nothing is
//!    submitted and nothing becomes durable any more.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidewater_types::{Epoch, Instant, Lsn, mutant, sometimes};

use crate::buffer::AlignedBuf;
use crate::disk::{DiskOp, is_cancelled};
use crate::error::WalError;
use crate::format::superblock::{Superblock, TrimPoint};
use crate::index::GroupEntry;
use crate::inlet::Batch;
use crate::port::WalCounters;
use crate::ring::{Geometry, Ring};
use crate::slots::{Slots, Stage};

mod counts;
mod plan;
#[cfg(test)]
mod tests;

/// A device that makes no progress this often in a row has failed.
const SHORT_WRITES_MAX: u32 = 16;

/// What the engine asks for.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Submit this to the disk.
    Submit { id: u64, op: DiskOp },
    /// A group was given its place.
    Group(GroupEntry),
}

/// How the engine behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) durable_writes: bool,
    /// The disk writes while it flushes.
    pub(crate) overlaps: bool,
    pub(crate) depth: usize,
    pub(crate) mark_idle: Duration,
    pub(crate) retry: Duration,
    pub(crate) zero_ahead: usize,
    /// An operation that takes this long is slow.
    pub(crate) slow_op: Duration,
}

/// Where a life begins.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) path: String,
    pub(crate) superblock: Superblock,
    pub(crate) newest_slot: usize,
    pub(crate) geometry: Geometry,
    pub(crate) ring: Ring,
    pub(crate) epoch: Epoch,
    pub(crate) lsn: Lsn,
}

/// What an operation under way is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Group(u64),
    Slot,
    Zero,
    Flush,
}

#[derive(Debug)]
struct Flight {
    id: u64,
    purpose: Purpose,
    position: u64,
    num_bytes: usize,
    attempts: u32,
    begun: Instant,
}

/// A group that is not durable.
#[derive(Debug)]
struct Group {
    number: u64,
    end: Lsn,
    ring_bytes: u64,
    /// Room its frames take from the callers' budget, given back with the buffer.
    room: usize,
    written: bool,
    covering: bool,
    flushed: bool,
}

#[derive(Debug)]
struct Zeroing {
    next: u64,
    end: u64,
    stage: Stage,
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Core {
    path: String,
    tuning: Tuning,
    geometry: Geometry,
    epoch: Epoch,
    ring: Ring,
    slots: Slots,
    pending: VecDeque<Batch>,
    accepted: Lsn,
    submitted: Lsn,
    durable: Lsn,
    /// Durable LSN that a group on the device states.
    recorded: Lsn,
    groups: VecDeque<Group>,
    groups_begun: u64,
    unsynced_bytes: u64,
    flights: Vec<Flight>,
    flights_begun: u64,
    parked: Vec<(Flight, AlignedBuf)>,
    retry_at: Option<Instant>,
    no_space: bool,
    ring_full: bool,
    /// The file system had no space for the next segment.
    growth_refused: bool,
    zeroing: Option<Zeroing>,
    zero_at: Option<Instant>,
    mark_at: Option<Instant>,
    trim_wanted: TrimPoint,
    closing: bool,
    closed: bool,
    abandoned: bool,
    counters: WalCounters,
    failure: Option<WalError>,
    effects: VecDeque<Effect>,
    /// Buffers of batches that were written, with the room to give back.
    written: Vec<(AlignedBuf, usize)>,
    /// Buffers of one block, for marks and skips.
    spare: Vec<AlignedBuf>,
}

impl Core {
    pub(crate) fn new(start: Start, tuning: Tuning) -> Self {
        let trim_wanted = start.superblock.trim;
        Self {
            path: start.path,
            tuning,
            geometry: start.geometry,
            epoch: start.epoch,
            ring: start.ring,
            slots: Slots::new(start.superblock, start.newest_slot),
            pending: VecDeque::new(),
            accepted: start.lsn,
            submitted: start.lsn,
            durable: start.lsn,
            recorded: start.lsn,
            groups: VecDeque::new(),
            groups_begun: 0,
            unsynced_bytes: 0,
            flights: Vec::new(),
            flights_begun: 0,
            parked: Vec::new(),
            retry_at: None,
            no_space: false,
            ring_full: false,
            growth_refused: false,
            zeroing: None,
            zero_at: None,
            mark_at: None,
            trim_wanted,
            closing: false,
            closed: false,
            abandoned: false,
            counters: WalCounters::default(),
            failure: None,
            effects: VecDeque::new(),
            written: Vec::new(),
            spare: Vec::new(),
        }
    }

    // --- what is known ---

    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    pub(crate) fn submitted(&self) -> Lsn {
        self.submitted
    }

    /// The buffers of batches written since the last call, and the room their frames took.
    pub(crate) fn take_written(&mut self) -> Vec<(AlignedBuf, usize)> {
        std::mem::take(&mut self.written)
    }

    /// What was counted here; frames and the pool are counted where callers are.
    pub(crate) fn counters(&self) -> WalCounters {
        self.counters
    }

    /// The disk refuses writes for lack of space.
    pub(crate) fn is_out_of_space(&self) -> bool {
        self.no_space
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn failure(&self) -> Option<&WalError> {
        self.failure.as_ref()
    }

    /// Operations handed out and not completed.
    pub(crate) fn num_flights(&self) -> usize {
        self.flights.len()
    }

    /// When each of them was handed out.
    pub(crate) fn begun(&self) -> impl Iterator<Item = Instant> {
        self.flights.iter().map(|flight| flight.begun)
    }

    /// When `poll_effect` is to be asked again though nothing happened.
    ///
    /// What is due already had its turn: it waits for something else, and hides no later time.
    pub(crate) fn timer(&self, now: Instant) -> Option<Instant> {
        [self.retry_at, self.zero_at, self.mark_at]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    /// The trim point for `lsn`, given the first group that is still wanted.
    pub(crate) fn trim_point(&self, lsn: Lsn, first: Option<GroupEntry>) -> TrimPoint {
        match first {
            Some(group) => TrimPoint {
                lsn,
                group_lsn: group.lsn,
                position: group.position,
                epoch: group.epoch,
            },
            None => {
                assert_eq!(lsn, self.submitted, "no group is wanted");
                TrimPoint {
                    lsn,
                    group_lsn: lsn,
                    position: self.ring.head(),
                    epoch: self.epoch,
                }
            }
        }
    }

    // --- what happens ---

    /// Frames were accepted.
    pub(crate) fn handle_batch(&mut self, batch: Batch) {
        assert!(!self.closing, "no frame after close");
        assert_eq!(batch.lsn, self.accepted, "batches follow each other");
        self.accepted = batch.end;
        self.pending.push_back(batch);
        self.mark_at = None;
    }

    /// Everything below `point` is no longer wanted.
    pub(crate) fn handle_trim(&mut self, point: TrimPoint) {
        assert!(point.lsn <= self.durable, "trimmed ≤ durable");
        if point.lsn >= self.trim_wanted.lsn {
            self.trim_wanted = point;
        }
    }

    /// No frame will follow.
    pub(crate) fn handle_close(&mut self) {
        self.closing = true;
        self.mark_at = None;
    }

    /// Nothing is done any more, and nobody waits for what is under way.
    pub(crate) fn handle_abandon(&mut self) {
        self.abandoned = true;
        self.forget_queued();
    }

    /// An operation ended.
    pub(crate) fn handle_completion(
        &mut self,
        now: Instant,
        id: u64,
        result: Result<usize, io::Error>,
        buf: Option<AlignedBuf>,
    ) {
        let place = self
            .flights
            .iter()
            .position(|flight| flight.id == id)
            .expect("an operation under way");
        let flight = self.flights.swap_remove(place);
        let is_slow = self.count(now, &flight, &result);
        if self.failure.is_some() || self.abandoned || (is_slow && mutant!(103)) {
            return;
        }
        match (flight.purpose, result) {
            (Purpose::Flush, Ok(_)) => self.flushed(now),
            (Purpose::Flush, Err(cause)) => {
                if mutant!(3) || (mutant!(5) && is_cancelled(&cause)) {
                    return self.flushed(now);
                }
                sometimes!("wal: a flush failed");
                self.poison("flush", &flight, cause);
            }
            (_, Ok(num_bytes)) if num_bytes == flight.num_bytes || mutant!(4) => {
                self.landed(now, flight.purpose, buf);
            }
            (_, Ok(num_bytes)) => self.continue_short(now, flight, num_bytes, buf),
            (purpose, Err(cause)) if mutant!(5) && is_cancelled(&cause) => {
                self.landed(now, purpose, buf);
            }
            (purpose, Err(cause)) if is_no_space(&cause) => match buf {
                _ if mutant!(15) => self.landed(now, purpose, buf),
                Some(_) if purpose == Purpose::Zero => self.zero_refused(now),
                Some(buf) => self.park(now, flight, buf),
                None => self.poison("write", &flight, cause),
            },
            (purpose, Err(_)) if mutant!(101) => self.landed(now, purpose, buf),
            (_, Err(cause)) => self.poison("write", &flight, cause),
        }
    }

    /// The next thing to do, if there is one.
    pub(crate) fn poll_effect(&mut self, now: Instant) -> Option<Effect> {
        if self.effects.is_empty() && self.failure.is_none() && !self.closed {
            self.decide(now);
        }
        self.effects.pop_front()
    }

    // --- completions ---

    fn landed(&mut self, now: Instant, purpose: Purpose, buf: Option<AlignedBuf>) {
        match purpose {
            Purpose::Group(number) => {
                let durable = self.tuning.durable_writes;
                let group = self.groups.iter_mut().find(|group| group.number == number);
                let group = group.expect("a group under way");
                group.written = true;
                group.flushed |= durable;
                self.counters.syncs += u64::from(durable);
                if self.no_space && self.parked.is_empty() {
                    sometimes!("wal: space came back");
                    self.no_space = false;
                }
                let room = std::mem::take(&mut group.room);
                match buf {
                    Some(buf) if room > 0 => self.written.push((buf, room)),
                    other => self.spare.extend(other),
                }
                self.advance(now);
            }
            Purpose::Slot => {
                self.no_space &= !self.parked.is_empty();
                self.slots.written();
            }
            Purpose::Zero => {
                self.growth_refused = false;
                let zeroing = self.zeroing.as_mut().expect("zeroing under way");
                zeroing.stage = if zeroing.next < zeroing.end {
                    Stage::Due
                } else {
                    Stage::Written
                };
            }
            Purpose::Flush => unreachable!("a flush has an arm of its own"),
        }
    }

    fn flushed(&mut self, now: Instant) {
        self.counters.syncs += 1;
        for group in &mut self.groups {
            group.flushed |= group.covering || (mutant!(14) && group.written);
            group.covering = false;
        }
        if self.slots.stage() == Some(Stage::Covering)
            && let Some((trim, seal)) = self.slots.durable()
        {
            self.ring.free_before(trim.position);
            self.closed = seal.is_some();
        }
        if self
            .zeroing
            .as_ref()
            .is_some_and(|zeroing| zeroing.stage == Stage::Covering)
        {
            self.zeroing = None;
            self.ring.grow();
        }
        self.advance(now);
    }

    /// Moves the durable LSN over the groups that are durable without a gap.
    fn advance(&mut self, now: Instant) {
        while let Some(first) = self.groups.front() {
            if !(first.written && (first.flushed || mutant!(1))) {
                break;
            }
            self.unsynced_bytes -= first.ring_bytes;
            self.durable = first.end;
            self.groups.pop_front();
        }
        if self.is_drained() && self.recorded < self.durable && !self.closing {
            self.mark_at = Some(now.after(self.tuning.mark_idle));
        }
    }

    fn is_drained(&self) -> bool {
        self.pending.is_empty() && self.groups.is_empty()
    }

    /// The device took a part of the write: give it the rest, from the last whole block.
    fn continue_short(
        &mut self,
        now: Instant,
        flight: Flight,
        num_bytes: usize,
        buf: Option<AlignedBuf>,
    ) {
        let block = usize::try_from(self.geometry.block_bytes).expect("a block");
        let done = num_bytes / block * block;
        let attempts = if done > 0 { 0 } else { flight.attempts + 1 };
        match buf {
            Some(mut buf) if attempts < SHORT_WRITES_MAX && num_bytes < buf.len() => {
                sometimes!("wal: a short write was continued");
                buf.drop_front(done);
                let position = flight.position + done as u64;
                self.submit_write(now, flight.purpose, position, buf, attempts);
            }
            _ => self.poison("write", &flight, io::ErrorKind::WriteZero.into()),
        }
    }

    fn park(&mut self, now: Instant, flight: Flight, buf: AlignedBuf) {
        sometimes!("wal: a write found no space");
        self.no_space = true;
        self.retry_at = Some(now.after(self.tuning.retry));
        self.parked.push((flight, buf));
    }

    fn zero_refused(&mut self, now: Instant) {
        sometimes!("wal: the ring could not grow");
        self.growth_refused = true;
        self.zero_at = Some(now.after(self.tuning.retry));
        self.zeroing = None;
    }

    fn poison(&mut self, operation: &'static str, flight: &Flight, cause: io::Error) {
        sometimes!("wal: poisoned");
        let cause = WalError::io(operation, &self.path, flight.position, cause);
        self.failure = Some(WalError::Poisoned {
            cause: Arc::new(cause),
        });
        self.forget_queued();
    }

    /// What was not handed to the disk never completes: nobody may wait for it.
    fn forget_queued(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            if let Effect::Submit { id, .. } = effect {
                self.flights.retain(|flight| flight.id != id);
            }
        }
    }
}

fn is_no_space(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
