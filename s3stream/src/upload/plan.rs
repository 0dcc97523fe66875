//! Divides a sealed batch into objects.
//!
//! *Owns*: which stream goes to which object.
//! *Does not own*: encoding, sending, commits.
//!
//! Invariants
//! 1. A stream's range is in exactly one object of the batch.
//! 2. Within a plan streams ascend; within a batch plans ascend by kind and stream.
//! 3. The commit of one object fits a log entry.
//!
//! *IO: none*

use crate::entry::Entry;
use crate::object_id::ObjectKind;
use crate::tail::{SealedBatch, SealedRange};

/// Encoded size of a range and a snapshot in a commit, in bytes.
pub(crate) const STREAM_COMMIT_BYTES: usize = 84;
/// Encoded size of an object in a commit, in bytes.
pub(crate) const OBJECT_COMMIT_BYTES: usize = 49;
/// Room for everything else in the log entry, in bytes.
pub(crate) const COMMIT_OVERHEAD: usize = 256;

/// What one object will hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectPlan {
    pub(crate) kind: ObjectKind,
    pub(crate) ranges: Vec<SealedRange>,
}

/// The limits plans keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) stream_object_bytes: u64,
    pub(crate) stream_set_streams: usize,
    pub(crate) entry_bytes_max: usize,
}

/// Payload bytes of entries.
pub(crate) fn payload_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.payload.len() as u64).sum()
}

/// Divides the batch: large ranges get an object of their own, the rest shares.
pub(crate) fn split(batch: SealedBatch, limits: &Limits) -> Vec<ObjectPlan> {
    let mut ranges: Vec<_> = batch
        .ranges
        .into_iter()
        .filter(|range| !range.entries.is_empty() || range.snapshot.is_some())
        .collect();
    ranges.sort_by_key(|range| range.stream);
    let once = ranges
        .windows(2)
        .all(|pair| pair[0].stream < pair[1].stream);
    assert!(once, "the tail seals a stream once a batch");
    let is_large =
        |range: &SealedRange| payload_bytes(&range.entries) >= limits.stream_object_bytes;
    let (large, mut small): (Vec<_>, Vec<_>) = ranges.into_iter().partition(is_large);
    let room = limits.entry_bytes_max - COMMIT_OVERHEAD - OBJECT_COMMIT_BYTES;
    let streams = limits.stream_set_streams.min(room / STREAM_COMMIT_BYTES);
    let mut plans = Vec::new();
    while !small.is_empty() {
        let rest = small.split_off(streams.min(small.len()));
        plans.push(ObjectPlan {
            kind: ObjectKind::StreamSet,
            ranges: small,
        });
        small = rest;
    }
    plans.extend(large.into_iter().map(|range| ObjectPlan {
        kind: ObjectKind::Stream,
        ranges: vec![range],
    }));
    plans
}
