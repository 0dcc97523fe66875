//! The producers of one partition, now and as of any offset since the last snapshot.
//!
//! *Owns*: the live state, the state at the last snapshot's offset, and the
//! appends between them.
//! *Does not own*: when snapshots are taken or committed, the clock.
//!
//! Invariants
//! 1. Base state plus the appends since = live state.
//! 2. `snapshot_at(offset)` is the state of the appends that end at or below
//!    `offset`, whatever was appended since.
//! 3. Appends come in offset order, without overlap.
//! 4. While a producer is unknown, no batch of it overtakes one that was refused.
//!
//! *Format: docs/formats/producer-snapshot.md* · *IO: none*

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tidewater_types::ErrorKind;

use super::snapshot::{self, SnapshotError};
use super::state::{Append, BatchMark, Decision, ProducerLimits, Producers, SequenceFault};
use crate::records::BatchHeader;

/// Refused batches of unknown producers that are remembered; the lowest producer id goes first.
const REFUSED_MAX: usize = 1_000;

/// An offset the ledger knows no state for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LedgerError {
    /// Below the last released snapshot or beyond the last append.
    #[error("producer state is known from offset {first} to {last}, not at {offset}")]
    OutOfRange { offset: i64, first: i64, last: i64 },
}

impl LedgerError {
    #[allow(
        dead_code,
        reason = "the caller has one reaction to all of them so far"
    )]
    pub(crate) fn kind(self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Append(Append),
    Expire { horizon_ms: i64 },
}

/// Producer state with its recent past.
#[derive(Clone, Debug)]
pub(crate) struct ProducerLedger {
    limits: ProducerLimits,
    base_offset: i64,
    base: Producers,
    /// Changes above the base, each with the offset it brings the log to.
    later: VecDeque<(i64, Change)>,
    next_offset: i64,
    live: Producers,
    /// The first batch of an unknown producer that was refused: its epoch and sequence. It is kept
    /// in memory alone: after a restart clients send again what nobody acknowledged, in order.
    refused: BTreeMap<i64, (i16, i32)>,
}

impl ProducerLedger {
    /// No producers, in a log that continues at `next_offset`.
    pub(crate) fn new(limits: ProducerLimits, next_offset: i64) -> Self {
        Self {
            limits,
            base_offset: next_offset,
            base: Producers::default(),
            later: VecDeque::new(),
            next_offset,
            live: Producers::default(),
            refused: BTreeMap::new(),
        }
    }

    /// The state a snapshot holds; batches behind its offset are to be replayed.
    ///
    /// # Errors
    /// The snapshot is damaged or of another version.
    pub(crate) fn restore(limits: ProducerLimits, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (base_offset, base) = snapshot::decode(bytes)?;
        let live = base.clone();
        Ok(Self {
            limits,
            base_offset,
            base,
            later: VecDeque::new(),
            next_offset: base_offset,
            live,
            refused: BTreeMap::new(),
        })
    }

    /// What to do with a validated batch. Changes nothing: call `applied` when,
    /// and only when, the batch was given its offset.
    pub(crate) fn check(&self, header: &BatchHeader) -> Decision {
        let (producer_id, found) = (header.producer_id, header.base_sequence);
        match self.refused.get(&producer_id) {
            Some((epoch, expected)) if header.producer_epoch == *epoch && found != *expected => {
                Decision::Fault(SequenceFault::OutOfOrder {
                    producer_id,
                    found,
                    expected: *expected,
                })
            }
            _ => self.live.check(header),
        }
    }

    /// Remembers that a batch found no room. An unknown producer may begin with any sequence, so a
    /// batch sent behind this one would take its place, and this one never find it again.
    pub(crate) fn refused(&mut self, header: &BatchHeader) {
        let is_first = header.has_producer_id() && !self.live.knows(header.producer_id);
        if !is_first || header.base_sequence < 0 {
            return;
        }
        let batch = (header.producer_epoch, header.base_sequence);
        let first = self.refused.entry(header.producer_id).or_insert(batch);
        if first.0 < batch.0 {
            *first = batch;
        }
        if self.refused.len() > REFUSED_MAX {
            self.refused.pop_first();
        }
    }

    /// Remembers that a batch was appended at `base_offset`. It need not be
    /// durable yet. `max_timestamp` is the stored one.
    ///
    /// # Panics
    /// If `base_offset` lies below an earlier append: the partition broke its order.
    pub(crate) fn applied(
        &mut self,
        header: &BatchHeader,
        base_offset: i64,
        max_timestamp: i64,
        now_ms: i64,
    ) {
        assert!(
            base_offset >= self.next_offset,
            "append at {base_offset} below {}",
            self.next_offset
        );
        self.expire(now_ms);
        self.next_offset = base_offset + i64::from(header.last_offset_delta) + 1;
        if !header.has_producer_id() {
            return;
        }
        let mark = (!header.is_control() && header.base_sequence >= 0).then_some(BatchMark {
            first_sequence: header.base_sequence,
            last_offset_delta: header.last_offset_delta,
            base_offset,
            max_timestamp,
        });
        let append = Append {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            mark,
            now_ms,
        };
        self.refused.remove(&header.producer_id);
        self.live.append(&append, &self.limits);
        self.later
            .push_back((self.next_offset, Change::Append(append)));
    }

    /// Remembers a stored batch on recovery. `now_ms` stands for the unknown time
    /// of its append: late, so that no producer is forgotten too soon.
    ///
    /// # Panics
    /// As `applied`.
    pub(crate) fn replay(&mut self, stored: &BatchHeader, now_ms: i64) {
        self.applied(stored, stored.base_offset, stored.max_timestamp, now_ms);
    }

    /// Whether the stored batch is the last one of its producer.
    pub(crate) fn is_last(&self, stored: &BatchHeader) -> bool {
        let last = self.live.last_batch(stored.producer_id);
        last.is_some_and(|last| last.base_offset == stored.base_offset)
    }

    /// Forgets producers that have been idle for too long.
    fn expire(&mut self, now_ms: i64) {
        let horizon_ms = now_ms.saturating_sub(self.limits.idle_ms_max);
        if self
            .live
            .idlest_append_ms()
            .is_some_and(|idlest| idlest < horizon_ms)
        {
            self.live.expire(horizon_ms);
            self.later
                .push_back((self.next_offset, Change::Expire { horizon_ms }));
        }
    }

    /// The state as of `offset`, encoded.
    ///
    /// # Errors
    /// `OutOfRange` below the released offset or beyond the last append.
    pub(crate) fn snapshot_at(&self, offset: i64) -> Result<Bytes, LedgerError> {
        self.check_range(offset)?;
        let state = self.state_after(self.num_changes_below(offset));
        Ok(snapshot::encode(offset, &state))
    }

    /// The snapshot at `offset` is committed: nothing below is asked for again.
    ///
    /// # Errors
    /// `OutOfRange`.
    pub(crate) fn release(&mut self, offset: i64) -> Result<(), LedgerError> {
        self.check_range(offset)?;
        for (_, change) in self.later.drain(..self.num_changes_below(offset)) {
            apply(&mut self.base, &change, &self.limits);
        }
        self.base_offset = offset;
        Ok(())
    }

    /// The offset behind the last append.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    fn check_range(&self, offset: i64) -> Result<(), LedgerError> {
        let (first, last) = (self.base_offset, self.next_offset);
        if (first..=last).contains(&offset) {
            Ok(())
        } else {
            Err(LedgerError::OutOfRange {
                offset,
                first,
                last,
            })
        }
    }

    fn num_changes_below(&self, offset: i64) -> usize {
        self.later.partition_point(|(end, _)| *end <= offset)
    }

    fn state_after(&self, num_changes: usize) -> Producers {
        let mut state = self.base.clone();
        for (_, change) in self.later.iter().take(num_changes) {
            apply(&mut state, change, &self.limits);
        }
        state
    }
}

fn apply(state: &mut Producers, change: &Change, limits: &ProducerLimits) {
    match change {
        Change::Append(append) => state.append(append, limits),
        Change::Expire { horizon_ms } => state.expire(*horizon_ms),
    }
}

#[cfg(test)]
mod tests;
