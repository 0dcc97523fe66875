//! Which blocks the disk cache has, where they lie, and which one goes when there is no room.
//!
//! *Owns*: the ring of segments, the map of what is in them, admission.
//! *Does not own*: the disk, the bytes.
//!
//! Invariants
//! 1. A slot lies in one segment; a segment is let go of whole, before anything is written to it.
//! 2. Nothing is placed at or beyond the end of the disk.
//! 3. A block is admitted when it is asked for the second time, unless the first is enough: a
//!    single scan leaves no trace.
//! 4. A segment has at most one slot for each 64 KiB, or 64, and so has the map.
//!
//! *IO: none*

use rustc_hash::{FxHashMap, FxHashSet};
use tidewater_types::mutant;

use super::ghost::Ghost;
use crate::format::slot::{ALIGNMENT, SlotHeader};
use crate::read::cache::Key;

/// Slots of a segment, if one for each 64 KiB is less.
const SLOTS_PER_SEGMENT: u64 = 64;
/// Blocks that were asked for once and are remembered, for each slot there may be.
const GHOSTS_PER_SLOT: u64 = 2;
const GHOSTS_MAX: u64 = 1 << 20;

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) position: u64,
    pub(crate) payload_size: u32,
}

/// Room for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) slot: Slot,
    pub(crate) sequence: u64,
    /// Of the segment, when the room was given.
    lap: u64,
}

#[derive(Default)]
struct Segment {
    keys: Vec<Key>,
    lap: u64,
    newest: u64,
}

pub(crate) struct Ring {
    segment_bytes: u64,
    segments: Vec<Segment>,
    slots_max: u64,
    map: FxHashMap<Key, Slot>,
    /// Given a place, not written yet.
    pending: FxHashSet<Key>,
    ghost: Option<Ghost>,
    current: usize,
    used: u64,
    num_slots: u64,
    next_sequence: u64,
    /// What an earlier life left is known.
    is_scanned: bool,
}

impl Ring {
    /// A ring on a disk of `num_bytes`. Segments are smaller than asked for if there would be
    /// fewer than four. With `keep_at` 1 everything is admitted that is asked for.
    pub(crate) fn new(num_bytes: u64, segment_bytes: u64, keep_at: u32) -> Self {
        let quarter = num_bytes / 4 / ALIGNMENT * ALIGNMENT;
        let segment_bytes = segment_bytes.next_multiple_of(ALIGNMENT).min(quarter);
        let most = num_bytes.checked_div(segment_bytes).unwrap_or(0);
        let most = if mutant!(91) { most + 1 } else { most };
        let slots_max = (segment_bytes >> 16).max(SLOTS_PER_SEGMENT);
        let ghosts = (most * slots_max * GHOSTS_PER_SLOT).min(GHOSTS_MAX);
        let ghosts = usize::try_from(ghosts).expect("at most a million");
        Self {
            segment_bytes,
            segments: (0..most).map(|_| Segment::default()).collect(),
            slots_max,
            map: FxHashMap::default(),
            pending: FxHashSet::default(),
            ghost: (keep_at > 1).then(|| Ghost::new(ghosts)),
            current: 0,
            used: 0,
            num_slots: 0,
            next_sequence: 1,
            is_scanned: false,
        }
    }

    pub(crate) fn num_segments(&self) -> usize {
        self.segments.len()
    }

    pub(crate) fn slots_max(&self) -> u64 {
        self.slots_max
    }

    /// First byte of a segment, and one past its last.
    pub(crate) fn bounds(&self, segment: usize) -> (u64, u64) {
        let start = segment as u64 * self.segment_bytes;
        (start, start + self.segment_bytes)
    }

    pub(crate) fn find(&self, key: &Key) -> Option<Slot> {
        self.map.get(key).copied()
    }

    /// The slot did not hold what it should.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.map.remove(key);
    }

    /// A slot of an earlier life.
    pub(crate) fn found(&mut self, header: &SlotHeader) {
        let at = header.slot_position / self.segment_bytes;
        let segment = &mut self.segments[usize::try_from(at).expect("it was scanned")];
        let key = Key::new(header.object, header.block_position);
        segment.keys.push(key);
        segment.newest = segment.newest.max(header.sequence);
        let slot = Slot {
            position: header.slot_position,
            payload_size: header.payload_size,
        };
        self.map.insert(key, slot);
        self.next_sequence = self.next_sequence.max(header.sequence.saturating_add(1));
    }

    /// Everything of an earlier life was found: writing goes on behind the newest of it.
    pub(crate) fn scanned(&mut self) {
        let newest = self.segments.iter().enumerate();
        let newest = newest.max_by_key(|(_, segment)| segment.newest);
        if let Some((at, segment)) = newest
            && segment.newest > 0
        {
            self.current = at;
            self.recycle_next();
        }
        self.is_scanned = true;
    }

    /// Room for a block that was read from the bucket, if it is to be kept.
    pub(crate) fn place(&mut self, key: Key, payload_size: u32) -> Option<Place> {
        let size = SlotHeader::slot_size(payload_size);
        let is_known = self.map.contains_key(&key) || self.pending.contains(&key);
        if self.segments.is_empty() || is_known || size > self.segment_bytes || !self.is_scanned {
            return None;
        }
        let ghost = self.ghost.as_mut();
        if ghost.is_some_and(|ghost| !ghost.was_asked_for(&key)) {
            return None;
        }
        if self.used + size > self.segment_bytes || self.num_slots == self.slots_max {
            self.recycle_next();
        }
        let (start, _) = self.bounds(self.current);
        let slot = Slot {
            position: start + self.used,
            payload_size,
        };
        self.used += size;
        self.num_slots += 1;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.pending.insert(key);
        let lap = self.segments[self.current].lap;
        Some(Place {
            slot,
            sequence,
            lap,
        })
    }

    /// The write to a place ended.
    pub(crate) fn written(&mut self, key: Key, place: &Place, is_written: bool) {
        self.pending.remove(&key);
        let at = usize::try_from(place.slot.position / self.segment_bytes).expect("placed here");
        let segment = &mut self.segments[at];
        // The segment may have been let go of while a slow disk wrote.
        if is_written && segment.lap == place.lap {
            segment.keys.push(key);
            self.map.insert(key, place.slot);
        }
    }

    fn recycle_next(&mut self) {
        self.current = (self.current + 1) % self.segments.len();
        (self.used, self.num_slots) = (0, 0);
        let (start, end) = self.bounds(self.current);
        let segment = &mut self.segments[self.current];
        segment.lap += 1;
        for key in std::mem::take(&mut segment.keys) {
            // It may lie elsewhere by now: damaged here once, and written again.
            let is_here = |slot: &Slot| (start..end).contains(&slot.position);
            if self.map.get(&key).is_some_and(is_here) {
                self.map.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_id::ObjectId;
    use proptest::prelude::*;
    use tidewater_types::{Epoch, NodeId};

    fn key(number: u64) -> Key {
        let id = ObjectId {
            node: NodeId(1),
            epoch: Epoch(1),
            counter: number,
            nonce: number,
        };
        Key::new(id, 64)
    }

    fn ring() -> Ring {
        let mut ring = Ring::new(1 << 20, 64 << 10, 2);
        ring.scanned();
        ring
    }

    /// Asks for a block twice and writes it if it gets a place.
    fn keep(ring: &mut Ring, number: u64, size: u32) -> Option<Place> {
        assert_eq!(ring.place(key(number), size), None);
        let place = ring.place(key(number), size)?;
        ring.written(key(number), &place, true);
        Some(place)
    }

    #[test]
    fn a_scan_leaves_no_trace_and_a_second_request_does() {
        let mut ring = ring();
        for number in 0..100 {
            keep(&mut ring, number, 8_000).unwrap();
        }
        let before: Vec<_> = (0..100).map(|number| ring.find(&key(number))).collect();
        for number in 1_000..9_000 {
            assert_eq!(ring.place(key(number), 8_000), None);
        }
        let after: Vec<_> = (0..100).map(|number| ring.find(&key(number))).collect();
        assert_eq!(before, after);
        // The scan made it forget what else was asked for once, too.
        assert_eq!(ring.place(key(1_000), 8_000), None);
    }

    #[test]
    fn the_oldest_segment_goes_whole() {
        let mut ring = ring();
        for number in 0..128 {
            keep(&mut ring, number, 8_000).unwrap();
        }
        let gone = |ring: &Ring| {
            (0..129)
                .filter(|number| ring.find(&key(*number)).is_none())
                .collect::<Vec<_>>()
        };
        // 8 slots of 8 KiB in each of 16 segments.
        assert_eq!(gone(&ring), [128]);
        keep(&mut ring, 128, 8_000).unwrap();
        assert_eq!(gone(&ring), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn a_write_that_ends_after_its_segment_went_is_not_believed() {
        let mut ring = ring();
        ring.place(key(0), 8_000);
        let slow = ring.place(key(0), 8_000).unwrap();
        assert_eq!(ring.place(key(0), 8_000), None, "it is being written");
        for number in 1..200 {
            keep(&mut ring, number, 8_000).unwrap();
        }
        ring.written(key(0), &slow, true);
        assert_eq!(ring.find(&key(0)), None);
        assert!(ring.place(key(0), 8_000).is_some() || ring.place(key(0), 8_000).is_some());
    }

    #[test]
    fn small_blocks_do_not_make_a_large_map() {
        let mut ring = Ring::new(64 << 20, 16 << 20, 2);
        ring.scanned();
        for number in 0..2_000 {
            keep(&mut ring, number, 10).unwrap();
        }
        assert_eq!(ring.map.len(), 3 * 256 + 2_000 % 256);
    }

    #[test]
    fn a_disk_that_is_too_small_holds_nothing() {
        let mut ring = Ring::new(8_000, 64 << 10, 2);
        assert_eq!(ring.num_segments(), 0);
        ring.scanned();
        ring.place(key(1), 10);
        assert_eq!(ring.place(key(1), 10), None);
    }

    proptest! {
        #[test]
        fn slots_never_overlap_and_stay_on_the_disk(
            num_bytes in 16_384u64..400_000,
            segment_bytes in 4_096u64..100_000,
            sizes in proptest::collection::vec(1u32..30_000, 1..200),
        ) {
            let mut ring = Ring::new(num_bytes, segment_bytes, 2);
            ring.scanned();
            for (number, size) in sizes.iter().enumerate() {
                keep(&mut ring, number as u64, *size);
                let span = |slot: &Slot| {
                    (slot.position, slot.position + SlotHeader::slot_size(slot.payload_size))
                };
                let mut spans: Vec<(u64, u64)> = ring.map.values().map(span).collect();
                spans.sort_unstable();
                prop_assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0));
                prop_assert!(spans.last().is_none_or(|(_, end)| *end <= num_bytes));
            }
        }
    }
}
