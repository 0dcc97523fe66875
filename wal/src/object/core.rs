//! The writer of the object WAL: frames in, numbered objects out, acknowledged in order.
//!
//! *Owns*: what is durable, what is deleted, what is asked for and when.
//! *Does not own*: what goes into which object (sealing.rs), the requests, the clock, the callers
//! waiting for an answer.
//!
//! Invariants
//! 1. An object's content never changes and never moves to another number.
//! 2. The durable LSN passes an object only when it and all before it are settled as ours.
//! 3. No object is sent more than `window` numbers past the last durable one.
//! 4. An object is deleted only after an entry that states a trim point above it is durable;
//!    starts, fences and barriers are never among them.
//! 5. A close states a trim that is not stated yet, and does not mind if that fails.
//! 6. An object with a number of its own begins on a turn; a close waits for none. Repeats and reads wait
//!    for none either: they come at paces of their own. Deletions wait in the bucket.
//! 7. After a foreign object or a failure nothing is sent and nothing becomes durable any more.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tidewater_bucket::BucketError;
use tidewater_types::{Instant, Lsn, mutant, sometimes};

use super::deletes::Deletes;
use super::format::Place;
use super::format::entry::{Header, TrimPoint};
use super::hedge::Hedge;
use super::owner::{Owner, framed_bytes, is_same};
use super::put::{Pace, Put, Settled, Step};
use crate::error::WalError;
use crate::port::Frame;

mod sealing;
#[cfg(test)]
mod tests;

/// What the core asks for.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Create the object of this number; `again` says whether it was sent before.
    Create {
        seq: u64,
        body: Vec<Bytes>,
        again: bool,
    },
    /// Read the object of this number back.
    Read { seq: u64 },
    /// Requests on this number are of no interest any more.
    Forget { seq: u64 },
    /// Delete the object there.
    Delete { place: Place },
}

/// How the core behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) linger: Duration,
    pub(crate) object_bytes_max: u64,
    pub(crate) depth: usize,
    pub(crate) window: u64,
    pub(crate) pace: Pace,
    pub(crate) trim_idle: Duration,
    /// How long a close waits for the trim to be stated.
    pub(crate) close_patience: Duration,
    pub(crate) delete_delay: Duration,
}

/// A durable entry that is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) place: Place,
    pub(crate) lsn: Lsn,
    pub(crate) end: Lsn,
}

/// Where a life begins.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) owner: Owner,
    /// Entries from the trim point on, the state at number 1 last.
    pub(crate) items: Vec<Item>,
    pub(crate) trim: TrimPoint,
    pub(crate) lsn: Lsn,
    /// Objects of earlier lives below the trim point.
    pub(crate) sweep: Vec<Place>,
}

#[derive(Debug)]
struct Flight {
    header: Header,
    body: Vec<Bytes>,
    put: Put,
    is_ours: bool,
}

/// The writer.
#[derive(Debug)]
pub(crate) struct Core {
    owner: Owner,
    tuning: Tuning,
    next_seq: u64,
    batch: VecDeque<Frame>,
    batch_bytes: u64,
    batch_since: Instant,
    accepted: Lsn,
    submitted: Lsn,
    durable: Lsn,
    durable_seq: u64,
    flights: VecDeque<Flight>,
    items: VecDeque<Item>,
    trim_wanted: Lsn,
    /// When a frame or a trim last came.
    quiet_since: Instant,
    deletes: Deletes,
    forget: Vec<u64>,
    hedge: Hedge,
    num_created: u64,
    /// Whether one more object may begin.
    has_turn: bool,
    closing: bool,
    /// The state that a close sends; the last entry.
    last_state: Option<u64>,
    failure: Option<WalError>,
}

impl Core {
    pub(crate) fn new(now: Instant, start: Start, tuning: Tuning) -> Self {
        Self {
            owner: start.owner,
            tuning,
            next_seq: 2,
            batch: VecDeque::new(),
            batch_bytes: 0,
            batch_since: now,
            accepted: start.lsn,
            submitted: start.lsn,
            durable: start.lsn,
            durable_seq: 1,
            flights: VecDeque::new(),
            items: start.items.into(),
            trim_wanted: start.trim.lsn,
            quiet_since: now,
            deletes: Deletes::new(now, tuning.delete_delay, start.sweep),
            forget: Vec::new(),
            hedge: Hedge::new(tuning.pace.hedge),
            num_created: 0,
            has_turn: false,
            closing: false,
            last_state: None,
            failure: None,
        }
    }

    // --- getters ---

    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    pub(crate) fn submitted(&self) -> Lsn {
        self.submitted
    }

    pub(crate) fn num_created(&self) -> u64 {
        self.num_created
    }

    pub(crate) fn failure(&self) -> Option<&WalError> {
        self.failure.as_ref()
    }

    /// Whether an object that is begun would have no turn.
    pub(crate) fn wants_turn(&self) -> bool {
        !self.has_turn
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Everything accepted is durable.
    pub(crate) fn is_drained(&self) -> bool {
        self.flights.is_empty() && self.batch.is_empty()
    }

    /// The durable entry that holds `lsn`.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<Item> {
        let behind = self.items.partition_point(|item| item.end <= lsn);
        self.items
            .get(behind)
            .copied()
            .filter(|item| item.lsn <= lsn)
    }

    // --- events ---

    pub(crate) fn handle_frame(&mut self, now: Instant, frame: Frame) {
        let num_bytes = framed_bytes(&frame);
        self.accepted = Lsn(self.accepted.0 + num_bytes);
        if self.batch.is_empty() {
            self.batch_since = now;
        }
        self.batch_bytes += num_bytes;
        self.batch.push_back(frame);
        self.quiet_since = now;
    }

    pub(crate) fn handle_trim(&mut self, now: Instant, up_to: Lsn) {
        if up_to > self.trim_wanted {
            self.trim_wanted = up_to;
            self.quiet_since = now;
        }
    }

    /// One more object may begin.
    pub(crate) fn handle_turn(&mut self) {
        self.has_turn = true;
    }

    /// Send what is left without waiting for more.
    pub(crate) fn handle_close(&mut self) {
        self.closing = true;
    }

    pub(crate) fn handle_created(
        &mut self,
        now: Instant,
        seq: u64,
        answer: Result<(), BucketError>,
    ) {
        if mutant!(17) && matches!(answer, Err(BucketError::Unknown { .. })) {
            return self.renumber(now, seq);
        }
        let pace = self.pace();
        if let Some(flight) = self.flight(seq) {
            flight.put.handle_created(now, &pace, answer);
        }
        self.settle(now, seq);
    }

    pub(crate) fn handle_read(
        &mut self,
        now: Instant,
        seq: u64,
        answer: Result<Bytes, BucketError>,
    ) {
        let pace = self.pace();
        if let Some(Flight { put, body, .. }) = self.flight(seq) {
            put.handle_read(now, &pace, answer, |found| is_same(body, found));
        }
        self.settle(now, seq);
    }

    pub(crate) fn handle_deleted(&mut self, now: Instant, answer: Result<(), BucketError>) {
        self.deletes.handle_deleted(now, answer);
    }

    // --- effects ---

    pub(crate) fn poll_effect(&mut self, now: Instant) -> Option<Effect> {
        if let Some(seq) = self.forget.pop() {
            return Some(Effect::Forget { seq });
        }
        if self.failure.is_some() {
            return None;
        }
        self.seal(now);
        let pace = self.pace();
        for at in 0..self.flights.len() {
            let flight = &mut self.flights[at];
            let seq = flight.header.place.seq;
            let step = flight.put.poll(now, &pace);
            if flight.put.settled().is_some() && !flight.is_ours {
                self.settle(now, seq);
                return self.poll_effect(now);
            }
            match step {
                Some(Step::Create) => {
                    let (body, again) = (flight.body.clone(), flight.put.attempts() > 1);
                    return Some(Effect::Create { seq, body, again });
                }
                Some(Step::Read) => return Some(Effect::Read { seq }),
                None => {}
            }
        }
        if self.closing {
            return None;
        }
        self.deletes.poll(now).map(|place| Effect::Delete { place })
    }

    /// When to look again if nothing happens before.
    pub(crate) fn timer(&self) -> Option<Instant> {
        if self.failure.is_some() {
            return None;
        }
        let pace = self.pace();
        let puts = self
            .flights
            .iter()
            .filter_map(|flight| flight.put.timer(&pace));
        let may_send = self.may_send();
        let linger = (may_send && !self.batch.is_empty())
            .then(|| self.batch_since.after(self.tuning.linger));
        let state = self.state_is_wanted().then(|| self.state_at());
        let delete = self.deletes.timer().filter(|_| !self.closing);
        puts.chain(linger).chain(state).chain(delete).min()
    }

    // --- settling ---

    fn flight(&mut self, seq: u64) -> Option<&mut Flight> {
        self.flights
            .iter_mut()
            .find(|flight| flight.header.place.seq == seq)
    }

    fn settle(&mut self, now: Instant, seq: u64) {
        if self.failure.is_some() {
            return;
        }
        let owner = self.owner;
        let Some(flight) = self.flight(seq) else {
            return;
        };
        let place = flight.header.place;
        let failed = !matches!(flight.put.settled(), None | Some(Settled::Ours));
        if failed && self.last_state == Some(seq) {
            // Everything accepted is durable; the trim is stated by whoever opens next, or never.
            self.flights.pop_back();
            return self.forget.push(seq);
        }
        let Some(flight) = self.flight(seq) else {
            return;
        };
        let failure = match flight.put.settled() {
            None => return,
            Some(Settled::Ours) if flight.is_ours => return,
            Some(Settled::Ours) => None,
            Some(Settled::Foreign(found)) => Some(owner.foreign(place, found)),
            Some(Settled::Failed(cause)) => Some(WalError::Bucket {
                key: owner.key(place),
                cause: cause.clone(),
            }),
        };
        let (begun, attempts) = (flight.put.begun(), flight.put.attempts());
        flight.is_ours = failure.is_none();
        self.forget.push(seq);
        if let Some(failure) = failure {
            return self.fail(failure);
        }
        self.num_created += 1;
        if attempts <= 2 {
            self.hedge.remember(now.since(begun));
        }
        self.advance(now);
    }

    fn advance(&mut self, now: Instant) {
        if mutant!(22)
            && let Some(last) = self.flights.iter().rev().find(|flight| flight.is_ours)
        {
            self.durable = self.durable.max(last.header.end());
        }
        while self.flights.front().is_some_and(|flight| flight.is_ours) {
            let Some(Flight { header, .. }) = self.flights.pop_front() else {
                break;
            };
            self.durable = self.durable.max(header.end());
            self.durable_seq = header.place.seq;
            self.items.push_back(Item {
                place: header.place,
                lsn: header.lsn,
                end: header.end(),
            });
            while self
                .items
                .front()
                .is_some_and(|item| item.place < header.trim.place)
            {
                let gone = self.items.pop_front().map(|item| item.place);
                gone.into_iter()
                    .for_each(|place| self.deletes.push(now, place));
            }
        }
    }

    fn fail(&mut self, failure: WalError) {
        self.failure = Some(match failure {
            fenced @ WalError::Fenced { .. } => {
                sometimes!("object wal: fenced while writing");
                fenced
            }
            other => WalError::Poisoned {
                cause: std::sync::Arc::new(other),
            },
        });
        self.forget
            .extend(self.flights.iter().map(|flight| flight.header.place.seq));
    }

    /// The pace with the hedge of now.
    fn pace(&self) -> Pace {
        let patience = match self.last_state {
            Some(_) => self.tuning.close_patience,
            None => self.tuning.pace.give_up,
        };
        Pace {
            hedge: self.hedge.delay(),
            give_up: self.tuning.pace.give_up.min(patience),
            bears_refusals: true,
            ..self.tuning.pace
        }
    }

    /// Seeded bug 17: the content goes to another number.
    fn renumber(&mut self, now: Instant, seq: u64) {
        let next = self.next_seq;
        if let Some(flight) = self.flight(seq) {
            flight.header.place.seq = next;
            flight.body[0] = flight.header.encode(&flight.body[1..]);
            flight.put = Put::new(now, 0, next);
            self.next_seq += 1;
            self.forget.push(seq);
        }
    }
}
