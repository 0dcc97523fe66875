//! The ring of segments: which are in use, which are free, where the head stands.
//!
//! *Owns*: the order in which segments are used, recycling, growth.
//! *Does not own*: what is written, and when a trim is durable.
//!
//! Invariants
//! 1. A segment is in the chain (from the oldest wanted group to the head), chosen as the
//!    successor, or free; never two of these.
//! 2. Data never takes the last two blocks of a segment: one is for a mark, one closes it. So the
//!    end can be marked even when the ring is full.
//! 3. A segment is given out only once it was zeroed and that is durable, or was used before.
//!
//! *IO: none*

use std::collections::VecDeque;

use tidewater_types::mutant;

use crate::format::superblock::RING_POSITION;

/// Sizes that never change while the WAL is open, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) block_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_count: u32,
    pub(crate) window_bytes: u64,
}

impl Geometry {
    /// Byte position of a segment.
    pub(crate) fn start(&self, segment: u32) -> u64 {
        RING_POSITION + u64::from(segment) * self.segment_bytes
    }

    /// The segment that holds `position`.
    pub(crate) fn segment(&self, position: u64) -> u32 {
        u32::try_from((position - RING_POSITION) / self.segment_bytes)
            .expect("a position inside the ring")
    }

    /// Byte position behind the segment that holds `position`.
    pub(crate) fn segment_end(&self, position: u64) -> u64 {
        self.start(self.segment(position)) + self.segment_bytes
    }

    /// Segments wholly inside a file of `num_bytes`.
    pub(crate) fn segments_in(&self, num_bytes: u64) -> u32 {
        let segments = num_bytes.saturating_sub(RING_POSITION) / self.segment_bytes;
        u32::try_from(segments)
            .unwrap_or(u32::MAX)
            .min(self.segment_count)
    }

    /// Bytes at the end of a segment that no data takes.
    fn kept_bytes(&self) -> u64 {
        2 * self.block_bytes
    }

    /// Largest padded group in bytes: it leaves what is kept at the end of a segment, and
    /// closing a segment for it stays inside the window.
    pub(crate) fn group_bytes_max(&self) -> u64 {
        (self.window_bytes.min(self.segment_bytes)).saturating_sub(self.kept_bytes())
    }
}

/// The segments and the head.
#[derive(Debug)]
pub(crate) struct Ring {
    geometry: Geometry,
    chain: VecDeque<u32>,
    free: VecDeque<u32>,
    successor: Option<u32>,
    existing: u32,
    quarantined: Option<u32>,
    head: u64,
}

impl Ring {
    /// A ring whose `chain` (oldest first, never empty) is in use, with the head at `head` in
    /// its last segment, `existing` segments being there. `quarantine`: an earlier life may
    /// still be zeroing the next new segment, so this life does not use it.
    pub(crate) fn new(
        geometry: Geometry,
        chain: VecDeque<u32>,
        head: u64,
        existing: u32,
        quarantine: bool,
    ) -> Self {
        assert!(!chain.is_empty(), "the head is in a segment");
        let last = chain[chain.len() - 1];
        let free = (last..existing)
            .chain(0..last.min(existing))
            .filter(|s| !chain.contains(s))
            .collect();
        let quarantined = (quarantine && existing > 0).then_some(existing);
        let ring = Self {
            geometry,
            chain,
            free,
            successor: None,
            existing,
            quarantined,
            head,
        };
        assert_eq!(
            geometry.segment(head),
            last,
            "the head is in the last segment"
        );
        ring
    }

    /// Byte position of the next group.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Whether the head's segment can be written to.
    pub(crate) fn is_ready(&self) -> bool {
        self.geometry.segment(self.head) < self.existing
    }

    /// Bytes from the head to the end of its segment.
    pub(crate) fn rest(&self) -> u64 {
        self.geometry.segment_end(self.head) - self.head
    }

    /// Bytes a group of data may take in the head's segment.
    pub(crate) fn room(&self) -> u64 {
        self.rest().saturating_sub(self.geometry.kept_bytes())
    }

    /// Whether a mark fits in the head's segment.
    pub(crate) fn has_room_for_mark(&self) -> bool {
        self.rest() >= self.geometry.kept_bytes()
    }

    /// Takes `num_bytes` at the head; answers their position.
    pub(crate) fn advance(&mut self, num_bytes: u64) -> u64 {
        let most = self.rest() - self.geometry.block_bytes;
        assert!(num_bytes <= most, "{num_bytes} bytes into room for {most}");
        let position = self.head;
        self.head += num_bytes;
        position
    }

    /// Start of the segment after the head's, if one can be had.
    pub(crate) fn successor(&mut self) -> Option<u64> {
        if self.successor.is_none() {
            self.successor = self.free.pop_front();
        }
        self.successor.map(|segment| self.geometry.start(segment))
    }

    /// Moves the head to its successor.
    ///
    /// # Panics
    /// If none was chosen.
    pub(crate) fn enter_successor(&mut self) {
        let segment = self.successor.take().expect("a successor was chosen");
        self.chain.push_back(segment);
        self.head = self.geometry.start(segment);
    }

    /// Whether a durable trim to `position` would free a segment.
    pub(crate) fn would_free(&self, position: u64) -> bool {
        self.freed_by(position).next().is_some()
    }

    /// The segments that a durable trim to `position` would free.
    pub(crate) fn freed_by(&self, position: u64) -> impl Iterator<Item = u32> {
        let keep = self.geometry.segment(position);
        self.chain
            .iter()
            .copied()
            .take_while(move |segment| *segment != keep)
    }

    /// Frees the segments in front of `position`, now that no superblock points there.
    pub(crate) fn free_before(&mut self, position: u64) {
        let keep = self.geometry.segment(position);
        assert!(
            self.chain.contains(&keep),
            "trimmed to a segment that is in use"
        );
        while self.chain.front() != Some(&keep) {
            self.free.extend(self.chain.pop_front());
        }
        if mutant!(11) && self.chain.len() > 1 {
            self.free.extend(self.chain.front());
        }
    }

    /// The segment to zero next, if fewer than `ahead` are ready in front of the head.
    pub(crate) fn wants_growth(&self, ahead: usize) -> Option<u32> {
        let ready = self.free.len() + usize::from(self.successor.is_some());
        let short = ready < ahead || !self.is_ready();
        (short && self.existing < self.geometry.segment_count).then_some(self.existing)
    }

    /// Adds the segment that was zeroed.
    pub(crate) fn grow(&mut self) {
        let segment = self.existing;
        self.existing += 1;
        if self.quarantined == Some(segment) {
            self.quarantined = None;
        } else if !self.chain.contains(&segment) {
            self.free.push_back(segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Geometry, Ring};
    use crate::format::superblock::RING_POSITION;

    const SEGMENT: u64 = 64 * 1024;

    fn geometry() -> Geometry {
        Geometry {
            block_bytes: 4096,
            segment_bytes: SEGMENT,
            segment_count: 3,
            window_bytes: 32 * 1024,
        }
    }

    #[test]
    fn a_fresh_ring_grows_before_it_is_written() {
        let mut ring = Ring::new(geometry(), [0].into(), RING_POSITION, 0, false);
        assert!(!ring.is_ready());
        assert_eq!(ring.wants_growth(1), Some(0));
        ring.grow();
        assert!(ring.is_ready());
        assert_eq!(ring.successor(), None);
        assert_eq!(ring.wants_growth(1), Some(1));
        ring.grow();
        assert_eq!(ring.wants_growth(1), None);
        assert_eq!(ring.successor(), Some(RING_POSITION + SEGMENT));
    }

    #[test]
    fn a_trimmed_segment_is_used_before_the_file_grows() {
        let mut ring = Ring::new(geometry(), [0].into(), RING_POSITION, 2, false);
        ring.successor();
        ring.enter_successor();
        assert!(ring.would_free(ring.head()));
        ring.free_before(ring.head());
        assert_eq!(ring.wants_growth(1), None);
        assert_eq!(ring.successor(), Some(RING_POSITION));
    }

    #[test]
    fn a_segment_an_earlier_life_may_be_zeroing_is_not_used() {
        let mut ring = Ring::new(geometry(), [0].into(), RING_POSITION, 1, true);
        assert_eq!(ring.wants_growth(1), Some(1));
        ring.grow();
        assert_eq!(ring.successor(), None);
        ring.grow();
        assert_eq!(ring.successor(), Some(RING_POSITION + 2 * SEGMENT));
    }

    #[test]
    #[should_panic(expected = "into room for")]
    fn the_closing_block_is_never_given_away() {
        let mut ring = Ring::new(geometry(), [0].into(), RING_POSITION, 1, false);
        ring.advance(SEGMENT);
    }
}
