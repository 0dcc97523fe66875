//! The tail of one stream: what was accepted, what is durable, what is still held in memory.
//!
//! *Owns*: the stream's watermarks and the entries above the point where the cache
//! released them.
//! *Does not own*: durability (the WAL), objects (the tier), waiting and waking.
//!
//! Invariants
//! 1. start ≤ committed ≤ high watermark ≤ end, except that a start may pass `committed`
//!    only after everything below it was committed.
//! 2. The held entries tile `[held_start, end)` without gap; `held_start ≤ committed`:
//!    nothing leaves memory before it is in an object.
//! 3. Nothing at or above the high watermark is ever handed to a reader.
//! 4. No watermark goes back.
//!
//! *IO: none*

use tidewater_s3stream::Entry;
use tidewater_types::{Offset, mutant};

use crate::chunks::Chunks;

/// The tail of one stream.
#[derive(Debug)]
pub(crate) struct Tail {
    start: Offset,
    committed: Offset,
    high_watermark: Offset,
    end: Offset,
    held: Chunks<Entry>,
}

/// Where the entries that hold an offset are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Below the log start or above the end.
    OutOfRange,
    /// In memory; empty when the offset is at or above the high watermark.
    Held(Vec<Entry>),
    /// In committed objects.
    InObjects,
}

impl Tail {
    /// The tail of a stream whose objects hold everything up to `committed`.
    pub(crate) fn new(start: Offset, committed: Offset) -> Self {
        let committed = committed.max(start);
        Self {
            start,
            committed,
            high_watermark: committed,
            end: committed,
            held: Chunks::default(),
        }
    }

    pub(crate) fn start(&self) -> Offset {
        self.start
    }

    pub(crate) fn committed(&self) -> Offset {
        self.committed
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// The end after `record_count` more records, unless offsets run out.
    /// Offsets stay within i64, the wire type of every client.
    pub(crate) fn end_after(&self, record_count: u32) -> Option<Offset> {
        self.end
            .checked_add(record_count.into())
            .filter(|end| i64::try_from(end.0).is_ok())
    }

    /// Takes the next entry. Its base offset is the end.
    pub(crate) fn accept(&mut self, entry: Entry) {
        assert_eq!(
            entry.base_offset, self.end,
            "an entry leaves a gap or overlaps"
        );
        self.end = entry.end_offset();
        self.held.push_back(entry);
    }

    /// Everything below `end` is durable and visible from now on.
    pub(crate) fn mark_durable(&mut self, end: Offset) {
        assert!(end <= self.end, "durable {end} beyond the end {}", self.end);
        self.high_watermark = self.high_watermark.max(end);
    }

    /// Everything below `end` is in committed objects.
    pub(crate) fn mark_committed(&mut self, end: Offset) {
        assert!(
            end <= self.high_watermark,
            "committed {end} beyond {}",
            self.high_watermark
        );
        self.committed = self.committed.max(end);
    }

    /// Moves the log start up. Entries wholly below it that are committed are let go.
    pub(crate) fn trim(&mut self, start: Offset) {
        assert!(
            start <= self.high_watermark,
            "start {start} beyond {}",
            self.high_watermark
        );
        self.start = self.start.max(start);
        self.release(self.start.min(self.committed));
    }

    /// Lets go of held entries that end at or below `up_to`; only committed ones.
    pub(crate) fn release(&mut self, up_to: Offset) {
        let up_to = up_to.min(self.committed);
        while self
            .held
            .front()
            .is_some_and(|entry| entry.end_offset() <= up_to)
        {
            self.held.pop_front();
        }
    }

    /// Finds the entries from the one that holds `offset`, at least one, up to about `bytes_max`.
    pub(crate) fn find(&self, offset: Offset, bytes_max: usize) -> Found {
        if offset < self.start || offset > self.end {
            return Found::OutOfRange;
        }
        let visible = if mutant!(59) {
            self.end
        } else {
            self.high_watermark
        };
        if offset >= visible {
            return Found::Held(Vec::new());
        }
        let held_start = self
            .held
            .front()
            .map_or(self.end, |entry| entry.base_offset);
        let seam = held_start.0.saturating_sub(u64::from(mutant!(35)));
        if offset.0 < seam {
            return Found::InObjects;
        }
        let first = self
            .held
            .partition_point(|entry| entry.end_offset() <= offset);
        let mut found = Vec::new();
        let mut num_bytes = 0;
        for entry in self.held.iter_from(first) {
            if entry.end_offset() > visible {
                break;
            }
            if !found.is_empty() && num_bytes + entry.payload.len() > bytes_max {
                break;
            }
            num_bytes += entry.payload.len();
            found.push(entry.clone());
        }
        Found::Held(found)
    }

    /// The held entry that begins at `base_offset`.
    pub(crate) fn held_at(&self, base_offset: Offset) -> Option<&Entry> {
        let index = self
            .held
            .partition_point(|entry| entry.base_offset < base_offset);
        self.held
            .get(index)
            .filter(|entry| entry.base_offset == base_offset)
    }

    /// The visible held entries, oldest first.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &Entry> {
        let high_watermark = self.high_watermark;
        self.held
            .iter()
            .take_while(move |entry| entry.end_offset() <= high_watermark)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn entry(base: u64, count: u32, num_bytes: usize) -> Entry {
        Entry {
            base_offset: Offset(base),
            record_count: count,
            timestamp_ms_max: 0,
            payload: Bytes::from(vec![7; num_bytes]),
        }
    }

    fn bases(found: Found) -> Vec<u64> {
        match found {
            Found::Held(entries) => entries.iter().map(|e| e.base_offset.0).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn undurable_entries_are_not_visible() {
        let mut tail = Tail::new(Offset(0), Offset(0));
        tail.accept(entry(0, 3, 10));
        assert_eq!(bases(tail.find(Offset(0), 100)), [0u64; 0]);
        tail.mark_durable(Offset(3));
        assert_eq!(bases(tail.find(Offset(0), 100)), [0]);
        assert_eq!(tail.find(Offset(4), 100), Found::OutOfRange);
    }

    #[test]
    fn an_offset_inside_an_entry_finds_the_whole_entry() {
        let mut tail = Tail::new(Offset(10), Offset(10));
        tail.accept(entry(10, 5, 10));
        tail.accept(entry(15, 5, 10));
        tail.mark_durable(Offset(20));
        assert_eq!(bases(tail.find(Offset(12), 1)), [10]);
        assert_eq!(bases(tail.find(Offset(12), 20)), [10, 15]);
        assert_eq!(bases(tail.find(Offset(15), 0)), [15]);
        assert_eq!(tail.find(Offset(9), 1), Found::OutOfRange);
    }

    #[test]
    fn uncommitted_entries_are_never_released() {
        let mut tail = Tail::new(Offset(0), Offset(0));
        tail.accept(entry(0, 1, 1));
        tail.accept(entry(1, 1, 1));
        tail.mark_durable(Offset(2));
        tail.release(Offset(2));
        assert_eq!(bases(tail.find(Offset(0), 10)), [0, 1]);
        tail.mark_committed(Offset(1));
        tail.release(Offset(2));
        assert_eq!(tail.find(Offset(0), 10), Found::InObjects);
        assert_eq!(bases(tail.find(Offset(1), 10)), [1]);
    }

    #[test]
    #[should_panic(expected = "gap")]
    fn a_gap_is_our_own_bug_and_stops() {
        Tail::new(Offset(0), Offset(0)).accept(entry(1, 1, 1));
    }

    proptest! {
        #[test]
        fn watermarks_keep_their_order(steps in proptest::collection::vec((0u8..5, 0u64..20), 0..200)) {
            let mut tail = Tail::new(Offset(0), Offset(0));
            for (step, amount) in steps {
                let before = (tail.start(), tail.committed(), tail.high_watermark(), tail.end());
                match step {
                    0 => tail.accept(entry(tail.end().0, u32::try_from(amount).unwrap() + 1, 1)),
                    1 => tail.mark_durable(Offset(tail.end().0.min(amount * 3))),
                    2 => tail.mark_committed(Offset(tail.high_watermark().0.min(amount * 3))),
                    3 => tail.trim(Offset(tail.committed().0.min(amount * 2))),
                    _ => tail.release(Offset(amount * 3)),
                }
                let after = (tail.start(), tail.committed(), tail.high_watermark(), tail.end());
                prop_assert!(before.0 <= after.0 && before.1 <= after.1 && before.2 <= after.2 && before.3 <= after.3);
                prop_assert!(after.0 <= after.1 && after.1 <= after.2 && after.2 <= after.3);
            }
        }
    }
}
