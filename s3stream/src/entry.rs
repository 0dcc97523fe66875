//! The vocabulary of stored streams: what goes up and what comes back.
//!
//! *Owns*: an entry (one appended batch), a state snapshot, the report on a commit.
//! *Does not own*: what a payload means; the engine never looks inside.
//!
//! Invariants
//! 1. An entry holds at least one record and its end offset does not overflow;
//!    the encoder asserts it, the decoder refuses anything else.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::{Offset, OffsetRange, StreamId};

/// One appended batch: an opaque payload that holds `record_count` records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Number of offsets the entry covers, at least 1.
    pub record_count: u32,
    /// Greatest record timestamp, in milliseconds since the Unix epoch.
    pub timestamp_ms_max: i64,
    /// The batch itself.
    pub payload: Bytes,
}

impl Entry {
    /// One past the offset of the last record.
    ///
    /// # Panics
    /// If the offset overflows 64 bits, which no log can reach.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.base_offset
            .checked_add(u64::from(self.record_count))
            .expect("offsets fit 64 bits")
    }
}

/// The state of a stream's owner as of an offset; opaque to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSnapshot {
    /// The state covers every record below this offset and none from it on.
    pub as_of: Offset,
    /// The owner's bytes.
    pub bytes: Bytes,
}

/// What became of the ranges of one upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// Ranges that are part of their stream now.
    pub committed: Vec<(StreamId, OffsetRange)>,
    /// Ranges whose stream was deleted, opened by somebody else, or already has them.
    pub dropped: Vec<(StreamId, OffsetRange)>,
}

impl CommitReport {
    /// Adds another report's ranges to this one.
    pub(crate) fn merge(&mut self, other: CommitReport) {
        self.committed.extend(other.committed);
        self.dropped.extend(other.dropped);
    }
}
