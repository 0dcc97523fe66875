//! The window of each producer's last five batches.
//!
//! *Owns*: the decision about a batch, and how an append changes the state.
//! *Does not own*: history; `ledger` keeps what a snapshot needs.
//!
//! The rules are those of KIP-98 as Apache Kafka applies them.
//!
//! Invariants
//! 1. A window holds one epoch's batches: an epoch change empties it.
//! 2. Batches in a window follow each other in sequence, save the first.
//! 3. There are never more producers than the limit; the idlest goes first.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};

use tidewater_types::mutant;

use crate::records::{BatchHeader, increment_sequence};

/// Batches a window remembers (Kafka's own number; clients keep five in flight).
pub(crate) const WINDOW_BATCHES_MAX: usize = 5;

const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;

/// Bounds on what a partition remembers of its producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerLimits {
    /// Most producers remembered; beyond, the one idle for longest is forgotten.
    pub(crate) num_producers_max: usize,
    /// A producer idle for so many milliseconds is forgotten.
    pub(crate) idle_ms_max: i64,
}

impl Default for ProducerLimits {
    /// 20,000 producers, 7 days.
    fn default() -> Self {
        Self {
            num_producers_max: 20_000,
            idle_ms_max: 7 * 24 * 3_600_000,
        }
    }
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is new: append it.
    Append,
    /// It is in the log: answer with where, once `last_offset` is durable.
    Duplicate {
        base_offset: i64,
        last_offset: i64,
        /// The stored batch's maximum timestamp, which is its append time on a
        /// topic with log append time.
        max_timestamp: i64,
    },
    /// It may not be appended.
    Fault(SequenceFault),
}

/// Why a producer's batch may not be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SequenceFault {
    /// Older than the window, or a gap.
    #[error("out of order sequence of producer {producer_id}: found {found}, expected {expected}")]
    OutOfOrder {
        producer_id: i64,
        found: i32,
        expected: i32,
    },
    /// A newer instance of the producer wrote already.
    #[error("epoch {found} of producer {producer_id} is older than {current}")]
    StaleEpoch {
        producer_id: i64,
        found: i16,
        current: i16,
    },
}

impl SequenceFault {
    /// The Kafka error code.
    pub(crate) fn code(self) -> i16 {
        match self {
            Self::OutOfOrder { .. } => OUT_OF_ORDER_SEQUENCE_NUMBER,
            Self::StaleEpoch { .. } => INVALID_PRODUCER_EPOCH,
        }
    }
}

/// One batch of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchMark {
    pub(crate) first_sequence: i32,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_offset: i64,
    pub(crate) max_timestamp: i64,
}

impl BatchMark {
    pub(crate) fn last_sequence(&self) -> i32 {
        increment_sequence(self.first_sequence, self.last_offset_delta)
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    /// When it last appended, ms since the Unix epoch, by the broker's clock.
    pub(crate) last_append_ms: i64,
    /// Oldest first.
    pub(crate) window: Vec<BatchMark>,
}

/// An append that changes the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Append {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    /// `None` for a control batch, which has an epoch and no sequence.
    pub(crate) mark: Option<BatchMark>,
    pub(crate) now_ms: i64,
}

/// All producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: BTreeMap<i64, Producer>,
    by_idleness: BTreeSet<(i64, i64)>,
}

impl Producers {
    /// The last batch of the producer, if it is remembered.
    pub(crate) fn last_batch(&self, producer_id: i64) -> Option<&BatchMark> {
        self.by_id.get(&producer_id)?.window.last()
    }

    /// Whether anything of the producer is remembered.
    pub(crate) fn knows(&self, producer_id: i64) -> bool {
        self.by_id.contains_key(&producer_id)
    }

    /// Decides about a batch that passed validation.
    pub(crate) fn check(&self, header: &BatchHeader) -> Decision {
        let Some(last_sequence) = header.last_sequence().filter(|_| header.has_producer_id())
        else {
            return Decision::Append;
        };
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            // Kafka forgets producers too; their next batch may have any sequence.
            return Decision::Append;
        };
        let (found, epoch) = (header.base_sequence, header.producer_epoch);
        let duplicate = producer.window.iter().find(|mark| {
            epoch == producer.epoch
                && mark.first_sequence == found
                && mark.last_sequence() == last_sequence
        });
        if let Some(mark) = duplicate {
            return Decision::Duplicate {
                base_offset: mark.base_offset,
                last_offset: mark.last_offset(),
                max_timestamp: mark.max_timestamp,
            };
        }
        let producer_id = header.producer_id;
        if epoch < producer.epoch {
            return Decision::Fault(SequenceFault::StaleEpoch {
                producer_id,
                found: epoch,
                current: producer.epoch,
            });
        }
        let expected = match producer.window.last() {
            Some(mark) if epoch == producer.epoch => increment_sequence(mark.last_sequence(), 1),
            _ => 0,
        };
        if found == expected || mutant!(41) {
            Decision::Append
        } else {
            Decision::Fault(SequenceFault::OutOfOrder {
                producer_id,
                found,
                expected,
            })
        }
    }

    /// Remembers an append, forgetting the idlest producer if there is no room.
    pub(crate) fn append(&mut self, append: &Append, limits: &ProducerLimits) {
        let full = self.by_id.len() >= limits.num_producers_max
            && !self.by_id.contains_key(&append.producer_id);
        if full && let Some((_, idlest)) = self.by_idleness.pop_first() {
            self.by_id.remove(&idlest);
        }
        let producer = self
            .by_id
            .entry(append.producer_id)
            .or_insert_with(|| Producer {
                epoch: append.epoch,
                last_append_ms: append.now_ms,
                window: Vec::new(),
            });
        self.by_idleness
            .remove(&(producer.last_append_ms, append.producer_id));
        producer.last_append_ms = producer.last_append_ms.max(append.now_ms);
        self.by_idleness
            .insert((producer.last_append_ms, append.producer_id));
        if producer.epoch != append.epoch {
            producer.epoch = append.epoch;
            producer.window.clear();
        }
        if let Some(mark) = append.mark {
            if producer.window.len() == WINDOW_BATCHES_MAX {
                producer.window.remove(0);
            }
            producer.window.push(mark);
        }
    }

    /// Forgets producers that last appended before `horizon_ms`.
    pub(crate) fn expire(&mut self, horizon_ms: i64) {
        while let Some(&(last_append_ms, producer_id)) = self.by_idleness.first() {
            if last_append_ms >= horizon_ms {
                break;
            }
            self.by_idleness.pop_first();
            self.by_id.remove(&producer_id);
        }
    }

    /// When the idlest producer last appended.
    pub(crate) fn idlest_append_ms(&self) -> Option<i64> {
        self.by_idleness
            .first()
            .map(|(last_append_ms, _)| *last_append_ms)
    }

    /// Adds a producer as a snapshot tells it.
    pub(crate) fn insert(&mut self, producer_id: i64, producer: Producer) {
        self.by_idleness
            .insert((producer.last_append_ms, producer_id));
        self.by_id.insert(producer_id, producer);
    }

    /// All producers by ascending id.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (i64, &Producer)> {
        self.by_id.iter().map(|(id, producer)| (*id, producer))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}
