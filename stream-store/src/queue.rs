//! The upload queue: every durable entry that no object holds yet, in WAL order.
//!
//! *Owns*: which entries are sealed into the batch under way, and the WAL's trim point.
//! *Does not own*: the entries' bytes (the streams' tails), the upload (the tier).
//!
//! Invariants
//! 1. Items ascend by LSN.
//! 2. The trim point never passes an item that is not committed.
//! 3. At most one batch is sealed at a time.
//!
//! *IO: none*

use std::collections::{BTreeMap, VecDeque};

use tidewater_types::{Epoch, Instant, Lsn, Offset, StreamId};

/// One durable entry waiting for its upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) stream: StreamId,
    /// The epoch it was appended under.
    pub(crate) stream_epoch: Epoch,
    pub(crate) lsn: Lsn,
    /// One past its frame in the WAL.
    pub(crate) lsn_end: Lsn,
    pub(crate) base_offset: Offset,
    pub(crate) end_offset: Offset,
    pub(crate) num_bytes: u64,
    pub(crate) durable_since: Instant,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct UploadQueue {
    items: VecDeque<Item>,
    num_sealed: usize,
    num_bytes: u64,
    /// Items of each stream that has any.
    streams: BTreeMap<StreamId, usize>,
    /// One past the frame of the last item ever pushed: everything below was pushed.
    pushed_end: Lsn,
}

impl UploadQueue {
    /// Adds the entry that became durable last.
    pub(crate) fn push(&mut self, item: Item) {
        assert!(
            item.lsn >= self.pushed_end,
            "lsn {} pushed after {}",
            item.lsn,
            self.pushed_end
        );
        self.pushed_end = item.lsn_end;
        self.num_bytes += item.num_bytes;
        *self.streams.entry(item.stream).or_default() += 1;
        self.items.push_back(item);
    }

    /// Bytes and age of the items that are not committed, and of how many streams they are.
    pub(crate) fn pending(&self) -> (u64, Option<Instant>, usize) {
        (
            self.num_bytes,
            self.items.front().map(|item| item.durable_since),
            self.streams.len(),
        )
    }

    /// Notes that recovery found nothing else below `end`: what is not in the queue is committed or
    /// belongs to a stream that is gone.
    pub(crate) fn recovered_up_to(&mut self, end: Lsn) {
        self.pushed_end = self.pushed_end.max(end);
    }

    /// All bytes waiting, sealed or not.
    pub(crate) fn num_bytes(&self) -> u64 {
        self.num_bytes
    }

    /// Seals the oldest items, at least one, up to `bytes_max`. The last seal's items come again
    /// if it was never committed.
    pub(crate) fn seal(&mut self, bytes_max: u64) -> Vec<Item> {
        let mut num_bytes = 0;
        self.num_sealed = 0;
        for item in &self.items {
            if self.num_sealed > 0 && num_bytes + item.num_bytes > bytes_max {
                break;
            }
            num_bytes += item.num_bytes;
            self.num_sealed += 1;
        }
        self.items.iter().take(self.num_sealed).copied().collect()
    }

    /// The sealed items are committed (or given up): removes them.
    pub(crate) fn commit_sealed(&mut self) -> Vec<Item> {
        let done: Vec<Item> = self.items.drain(..self.num_sealed).collect();
        self.num_sealed = 0;
        for item in &done {
            self.num_bytes -= item.num_bytes;
            let left = self
                .streams
                .get_mut(&item.stream)
                .expect("a stream with items");
            *left -= 1;
            if *left == 0 {
                self.streams.remove(&item.stream);
            }
        }
        done
    }

    /// Everything below may leave the WAL.
    pub(crate) fn trim_point(&self) -> Lsn {
        self.items.front().map_or(self.pushed_end, |item| item.lsn)
    }

    /// One past the last sealed item.
    pub(crate) fn sealed_end(&self) -> Lsn {
        self.items
            .get(self.num_sealed)
            .map_or(self.pushed_end, |item| item.lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(lsn: u64, num_bytes: u64) -> Item {
        Item {
            stream: StreamId(1),
            stream_epoch: Epoch(1),
            lsn: Lsn(lsn),
            lsn_end: Lsn(lsn + 7),
            base_offset: Offset(lsn),
            end_offset: Offset(lsn + 1),
            num_bytes,
            durable_since: Instant(lsn),
        }
    }

    #[test]
    fn trim_point_waits_for_the_commit() {
        let mut queue = UploadQueue::default();
        queue.push(item(10, 5));
        queue.push(item(20, 5));
        queue.push(item(30, 5));
        assert_eq!(queue.seal(10).len(), 2);
        assert_eq!(queue.trim_point(), Lsn(10));
        assert_eq!(queue.sealed_end(), Lsn(30));
        assert_eq!(queue.pending(), (15, Some(Instant(10)), 1));
        assert_eq!(queue.commit_sealed().len(), 2);
        assert_eq!(queue.trim_point(), Lsn(30));
        assert_eq!(queue.seal(1).len(), 1);
        queue.commit_sealed();
        assert_eq!(queue.trim_point(), Lsn(37), "the last frame goes too");
        assert_eq!(queue.pending(), (0, None, 0));
    }

    #[test]
    fn what_recovery_passed_may_be_trimmed_unless_it_waits() {
        let mut queue = UploadQueue::default();
        queue.push(item(10, 5));
        queue.recovered_up_to(Lsn(90));
        assert_eq!(queue.trim_point(), Lsn(10));
        queue.seal(100);
        queue.commit_sealed();
        assert_eq!(queue.trim_point(), Lsn(90));
    }

    #[test]
    fn an_uncommitted_seal_comes_again() {
        let mut queue = UploadQueue::default();
        queue.push(item(1, 5));
        assert_eq!(queue.seal(100), queue.seal(100));
        assert_eq!(queue.pending(), (5, Some(Instant(1)), 1));
    }

    #[test]
    #[should_panic(expected = "pushed after")]
    fn items_out_of_wal_order_stop() {
        let mut queue = UploadQueue::default();
        queue.push(item(2, 1));
        queue.push(item(1, 1));
    }
}
