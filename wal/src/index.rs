//! Where each group lies that is still wanted.
//!
//! *Owns*: the map from LSN to position, oldest first.
//! *Does not own*: when a group is no longer wanted.
//!
//! Invariants
//! 1. Entries follow each other in LSN order and in the order they were written.
//!
//! *IO: none*

use std::collections::VecDeque;

use tidewater_types::{Epoch, Lsn};

/// One group on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupEntry {
    /// LSN of its first frame.
    pub(crate) lsn: Lsn,
    /// LSN behind its last frame; the same for marks and skips.
    pub(crate) end: Lsn,
    /// Byte position.
    pub(crate) position: u64,
    /// Length with padding, in bytes.
    pub(crate) num_bytes: u64,
    /// Epoch of the writer.
    pub(crate) epoch: Epoch,
}

/// The groups from the trim point to the head.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: VecDeque<GroupEntry>,
}

impl Index {
    /// Adds the newest group.
    pub(crate) fn push(&mut self, entry: GroupEntry) {
        assert!(
            self.entries.back().is_none_or(|last| last.end <= entry.lsn),
            "groups in LSN order"
        );
        self.entries.push_back(entry);
    }

    /// Forgets the groups that end at or below `lsn`; answers the first that is left.
    pub(crate) fn trim(&mut self, lsn: Lsn) -> Option<GroupEntry> {
        while self.entries.front().is_some_and(|first| first.end <= lsn) {
            self.entries.pop_front();
        }
        self.entries.front().copied()
    }

    /// The group that holds the frame at `lsn`.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<GroupEntry> {
        let after = self.entries.partition_point(|entry| entry.end <= lsn);
        self.entries
            .get(after)
            .filter(|entry| entry.lsn <= lsn)
            .copied()
    }

    /// The groups at the end that are not proven durable when everything below `durable` is.
    pub(crate) fn unproven(&self, durable: Lsn) -> Vec<GroupEntry> {
        let unproven = |entry: &&GroupEntry| entry.end > durable || entry.lsn == durable;
        let mut tail: Vec<_> = self
            .entries
            .iter()
            .rev()
            .take_while(unproven)
            .copied()
            .collect();
        tail.reverse();
        tail
    }

    /// Byte position of the group that lies furthest into the ring.
    pub(crate) fn highest_position(&self) -> Option<u64> {
        self.entries.iter().map(|entry| entry.position).max()
    }
}

#[cfg(test)]
mod tests {
    use super::{GroupEntry, Index};
    use tidewater_types::{Epoch, Lsn};

    fn entry(lsn: u64, end: u64) -> GroupEntry {
        GroupEntry {
            lsn: Lsn(lsn),
            end: Lsn(end),
            position: lsn * 10,
            num_bytes: 4096,
            epoch: Epoch(1),
        }
    }

    fn index() -> Index {
        let mut index = Index::default();
        [(0, 10), (10, 10), (10, 30), (30, 30)]
            .into_iter()
            .for_each(|(lsn, end)| index.push(entry(lsn, end)));
        index
    }

    #[test]
    fn a_frame_is_found_in_its_group_past_empty_ones() {
        let index = index();
        assert_eq!(index.find(Lsn(9)), Some(entry(0, 10)));
        assert_eq!(index.find(Lsn(10)), Some(entry(10, 30)));
        assert_eq!(index.find(Lsn(30)), None);
    }

    #[test]
    fn trimming_keeps_the_group_that_is_wanted_in_part() {
        let mut index = index();
        assert_eq!(index.trim(Lsn(5)), Some(entry(0, 10)));
        assert_eq!(index.trim(Lsn(10)), Some(entry(10, 30)));
        assert_eq!(index.trim(Lsn(30)), None);
        assert_eq!(index.highest_position(), None);
    }

    #[test]
    fn the_unproven_tail_includes_the_empty_group_in_front_of_it() {
        let index = index();
        assert_eq!(
            index.unproven(Lsn(10)),
            vec![entry(10, 10), entry(10, 30), entry(30, 30)]
        );
        assert_eq!(index.unproven(Lsn(30)), vec![entry(30, 30)]);
        assert_eq!(index.unproven(Lsn(5)).len(), 4);
    }
}
