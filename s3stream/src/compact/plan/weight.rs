//! What a step of compaction may take, and what an object adds to one.
//!
//! *Owns*: these numbers. *Does not own*: the choices (`plan`, `split`).
//!
//! *IO: none*

use crate::meta::state::ObjectState;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) objects_min: usize,
    /// What is joined becomes so many times as large as the largest of it, at least.
    pub(crate) growth_min: u64,
    /// Bytes of an object that is written.
    pub(crate) object_bytes: u64,
    /// Bytes of the indices of a step, which are in memory.
    pub(crate) index_bytes: u64,
    /// Sets of a step: each is read beside the others.
    pub(crate) sets_max: usize,
    /// Sources of a run: they must fit a log entry.
    pub(crate) sources_max: usize,
    pub(crate) split: SplitLimits,
}

/// What the sets of a split may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SplitLimits {
    /// Bytes of all; 0: no set is split.
    pub(crate) window_bytes: u64,
    /// Bytes of their indices.
    pub(crate) index_bytes: u64,
    pub(crate) sets_max: usize,
    /// Bytes of one; larger ones were joined before.
    pub(crate) set_bytes_max: u64,
    /// Bytes that a stream must have in them.
    pub(crate) stream_bytes: u64,
}

/// What an object adds to a step, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub(super) size: u64,
    pub(super) index: u64,
    pub(super) num_references: u64,
}

impl From<&ObjectState> for Weight {
    fn from(object: &ObjectState) -> Self {
        Self {
            size: object.size,
            index: object.size.saturating_sub(object.index_position),
            num_references: object.num_references,
        }
    }
}
