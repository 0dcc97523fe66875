//! Batches as the segments of an answer.
//!
//! *Owns*: which are copied together and which are shared.
//! *Does not own*: which batches an answer has.
//!
//! Invariants
//! 1. No two small segments are neighbours, and a small one keeps nothing else in memory: what an
//!    answer is counted with is about what it takes.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_stream_store::Entry;

/// Payloads below this size are copied; they are read from a tail or a block, which they would keep.
const COPIED_BELOW: usize = 1_024;

/// The payloads in their order: neighbours that are small are one segment.
pub(super) fn segments(entries: &[Entry]) -> Vec<Bytes> {
    let is_small = |entry: &Entry| entry.payload.len() < COPIED_BELOW;
    let runs = entries.chunk_by(|one, next| is_small(one) && is_small(next));
    let segment = |run: &[Entry]| match run {
        [large] if !is_small(large) => large.payload.clone(),
        small => {
            let num_bytes = small.iter().map(|entry| entry.payload.len()).sum();
            let mut joined = Vec::with_capacity(num_bytes);
            for entry in small {
                joined.extend_from_slice(&entry.payload);
            }
            joined.into()
        }
    };
    runs.map(segment).collect()
}

#[cfg(test)]
mod tests {
    use tidewater_types::Offset;

    use super::*;

    #[test]
    fn small_neighbours_are_joined_and_large_ones_shared() {
        let entry = |num_bytes: usize| Entry {
            base_offset: Offset(0),
            record_count: 1,
            timestamp_ms_max: 0,
            payload: vec![num_bytes as u8; num_bytes].into(),
        };
        let sizes = [70, 3, COPIED_BELOW, 2_000, 90, 5_000, 1, 2];
        let entries = sizes.map(entry);
        let found = segments(&entries);
        let lengths: Vec<_> = found.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [73, COPIED_BELOW, 2_000, 90, 5_000, 3]);
        assert_eq!(found[1].as_ptr(), entries[2].payload.as_ptr());
        assert_ne!(found[3].as_ptr(), entries[4].payload.as_ptr());
        let all = entries.map(|entry| entry.payload).concat();
        assert_eq!(found.concat(), all);
        assert!(segments(&[]).is_empty());
    }
}
