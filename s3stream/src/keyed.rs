//! The port key compaction asks a stream's owner through: what its entries hold.
//!
//! *Owns*: the trait and what travels over it.
//! *Does not own*: which records stay; the engine decides that and never looks into a payload.
//!
//! Invariants
//! 1. An entry is rewritten in its place: the offsets it covers stay the same, whatever is left of
//!    its records.
//! 2. What an owner does not tell the records of is left to it whole, and no deletion counts for it: it
//!    may hold keyed records only if no deletion in its stream may go.
//!
//! *IO: none*

use tidewater_types::{Offset, StreamId};

use crate::entry::Entry;
pub use crate::error::NotKeyed;

/// When a stream is compacted by key, and how long deletions stay. Times are milliseconds and are
/// compared with the greatest timestamps of entries and with this host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPolicy {
    /// Entries younger than this are left alone (`min.compaction.lag.ms`).
    pub lag_ms_min: i64,
    /// Once records that were never compacted are this old, it is due (`max.compaction.lag.ms`).
    pub lag_ms_max: i64,
    /// Share of records that were never compacted, in a thousand of all, from which on it is worth
    /// a pass (`min.cleanable.dirty.ratio`); 0 to 1,000.
    pub dirty_permille: u32,
    /// Few records (`CompactConfig::key_records_min`) are worth a pass once the oldest of them is
    /// this old, as a segment of Kafka's is closed by its age (`segment.ms`).
    pub few_ms_max: i64,
    /// How long a deletion stays after it was compacted for the first time
    /// (`delete.retention.ms`).
    pub delete_retention_ms: i64,
}

/// One record of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedRecord<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its key. A record without one is dropped: nobody could ask for it.
    pub key: Option<&'a [u8]>,
    /// Whether it deletes its key.
    pub is_tombstone: bool,
}

/// The owner of a stream whose records have keys.
pub trait KeyOwner: Send + Sync + 'static {
    /// When, and for how long. Asked again at every look.
    fn policy(&self) -> KeyPolicy;

    /// Nothing at or above this offset is compacted: it is not decided yet what counts there (a
    /// last stable offset). What is not committed to objects never is, nor is the last entry that
    /// is, nor what lies above the owner's last state snapshot.
    fn bound(&self) -> Offset;

    /// Whether the owner rebuilds its state by reading entries: then nothing is compacted before its
    /// first state snapshot either.
    fn replays(&self) -> bool {
        true
    }

    /// Tells each record, ascending; of an entry that must be left whole it tells none. Returns the
    /// delete horizon that a rewrite of this entry was given, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// The entry cannot be read.
    fn records(
        &self,
        stream: StreamId,
        entry: &Entry,
        each: &mut dyn FnMut(KeyedRecord<'_>),
    ) -> Result<Option<i64>, NotKeyed>;

    /// What stays of the entry: the records told for which `keep` is set, in that order. `None` if
    /// the entry may go. It is asked of entries without records, too, and answers with what came
    /// in if these must stay. `delete_horizon_ms` is to be kept with the entry.
    ///
    /// # Errors
    /// The entry cannot be read.
    fn rewrite(
        &self,
        stream: StreamId,
        entry: &Entry,
        keep: &[bool],
        delete_horizon_ms: Option<i64>,
    ) -> Result<Option<Entry>, NotKeyed>;
}
