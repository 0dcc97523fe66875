//! What an entry takes of the budget of memory: its payload, and what is allocated beside it.
//!
//! *Owns*: the figures. `tests/memory.rs` holds them against what is really allocated.
//! *Does not own*: who waits when there is no room (stream.rs), what the WAL keeps of a frame.
//!
//! Invariants
//! 1. What is reserved for a payload is enough for every payload that is no larger.
//!
//! *IO: none*

/// Allocated for a payload beside its bytes: the count of those who share them.
const SHARED_BYTES: u64 = 48;
/// An entry in its stream's tail: 56 bytes, and as much again for room that is not filled, of which
/// streams with few entries have most.
const HELD_BYTES: u64 = 112;
/// An entry in the queue of those that wait for their upload; what the pump and the WAL's
/// acknowledgements hold of it before that is no more.
const QUEUED_BYTES: u64 = 72;
/// An entry in a batch that is being uploaded: 56 bytes in its range, 24 in the table of its block.
const SEALED_BYTES: u64 = 80;
/// A payload below this size is copied into the block that is sent. A larger one is shared,
const SHARED_FROM: u64 = 1_024;
/// and is a part of its own in the body of a request: 32 bytes, and as much again for room.
const PART_BYTES: u64 = 64;
/// An entry in the order in which committed entries leave memory: 24 bytes, in chunks.
const CACHED_BYTES: u64 = 24;

/// A stream in a batch that is being uploaded, whose entries are few: its range, the header of its
/// block, its row of the index, what is to be committed. No entry is charged with it, as it is not known
/// before how many share it; a batch is, when it is sealed.
pub(crate) const RANGE_BYTES: u64 = 560;

/// What an entry is in an object beside its payload: its row in the table of its block.
pub(crate) const ROW_BYTES: u64 = 24;

/// What a stream is in an object beside its entries: the header of its block, and the block's row in the
/// index.
pub(crate) const BLOCK_BYTES: u64 = 128;

/// What entries may take of the room for what waits: a thirty-second of it is kept for batches that are
/// sealed when entries have taken all of theirs.
pub(crate) fn entries_max(waiting_bytes_max: u64) -> u64 {
    waiting_bytes_max - waiting_bytes_max / 32
}

/// Bytes of memory of an entry from when it is accepted until its upload is committed.
pub(crate) fn waiting(payload_bytes: usize) -> u64 {
    let payload_bytes = payload_bytes as u64;
    let sent = match payload_bytes {
        ..SHARED_FROM => payload_bytes,
        _ => PART_BYTES,
    };
    payload_bytes + sent + SHARED_BYTES + HELD_BYTES + QUEUED_BYTES + SEALED_BYTES
}

/// The most that an entry takes whose payload has up to so many bytes.
pub(crate) fn waiting_most(payload_bytes: usize) -> u64 {
    let small = payload_bytes.min(SHARED_FROM as usize - 1);
    waiting(payload_bytes).max(waiting(small))
}

/// Bytes of memory of a committed entry that is kept for readers at the tail.
pub(crate) fn cached(payload_bytes: u64) -> u64 {
    payload_bytes + SHARED_BYTES + HELD_BYTES + CACHED_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_enough_for_less() {
        let mut most = 0;
        for payload_bytes in 0..5_000 {
            most = most.max(waiting(payload_bytes));
            assert_eq!(waiting_most(payload_bytes), most, "{payload_bytes}");
        }
    }
}
