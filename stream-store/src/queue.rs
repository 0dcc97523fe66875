//! The upload queue: every durable entry that no object holds yet, in WAL order.
//!
//! *Owns*: which entries are sealed into the batches under way, and the WAL's trim point.
//! *Does not own*: the entries' bytes (the streams' tails), the upload (the tier).
//!
//! Invariants
//! 1. Items ascend by LSN.
//! 2. The trim point never passes an item that is not committed.
//! 3. Batches are sealed, and let go, in the order of the items.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidewater_types::{Epoch, Instant, Lsn, Offset, StreamId};

use crate::chunks::Chunks;
use crate::cost::RANGE_BYTES;

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
    /// Bytes of its payload.
    pub(crate) num_bytes: u64,
    /// Bytes of memory that it takes until its upload is committed.
    pub(crate) waiting_bytes: u64,
    pub(crate) durable_since: Instant,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct UploadQueue {
    items: Chunks<Item>,
    /// The batches that are sealed and not let go, oldest first.
    batches: VecDeque<Batch>,
    /// Items in them.
    num_sealed: usize,
    /// Bytes of memory that all items take.
    waiting_bytes: u64,
    /// Bytes of memory that those take that are not sealed.
    unsealed_bytes: u64,
    /// Items of each stream that are not sealed.
    streams: BTreeMap<StreamId, usize>,
    /// One past the frame of the last item ever pushed: everything below was pushed.
    pushed_end: Lsn,
}

/// A sealed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    num_items: usize,
    /// Nothing of it goes up: nobody will report it committed.
    is_void: bool,
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
        self.waiting_bytes += item.waiting_bytes;
        self.unsealed_bytes += item.waiting_bytes;
        *self.streams.entry(item.stream).or_default() += 1;
        self.items.push_back(item);
    }

    /// Bytes of memory and age of the items that are not sealed, and of how many streams they are.
    pub(crate) fn pending(&self) -> (u64, Option<Instant>, usize) {
        let oldest = self.items.get(self.num_sealed);
        (
            self.unsealed_bytes,
            oldest.map(|item| item.durable_since),
            self.streams.len(),
        )
    }

    /// Notes that recovery found nothing else below `end`: what is not in the queue is committed or
    /// belongs to a stream that is gone.
    pub(crate) fn recovered_up_to(&mut self, end: Lsn) {
        self.pushed_end = self.pushed_end.max(end);
    }

    /// Bytes of memory that all items take, sealed or not.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// What was sealed and not let go is unsealed again.
    pub(crate) fn unseal(&mut self) {
        for item in self.items.iter().take(self.num_sealed) {
            self.unsealed_bytes += item.waiting_bytes;
            *self.streams.entry(item.stream).or_default() += 1;
        }
        self.num_sealed = 0;
        self.batches.clear();
    }

    /// Seals the oldest unsealed items as the next batch, at least one, up to `bytes_max` of memory:
    /// what the items take, and what the batch takes for each stream in it but the first.
    pub(crate) fn seal(&mut self, bytes_max: u64) -> Vec<Item> {
        let (mut num_bytes, mut batch) = (0, Vec::new());
        let mut ranges = BTreeSet::new();
        for item in self.items.iter_from(self.num_sealed) {
            let num_ranges = ranges.len() as u64 + u64::from(!ranges.contains(&item.stream));
            let beside = (num_ranges - 1) * RANGE_BYTES;
            if !batch.is_empty() && num_bytes + item.waiting_bytes + beside > bytes_max {
                break;
            }
            num_bytes += item.waiting_bytes;
            batch.push(*item);
            ranges.insert(item.stream);
            let left = self
                .streams
                .get_mut(&item.stream)
                .expect("a stream with unsealed items");
            *left -= 1;
            if *left == 0 {
                self.streams.remove(&item.stream);
            }
        }
        if !batch.is_empty() {
            self.unsealed_bytes -= num_bytes;
            self.num_sealed += batch.len();
            self.batches.push_back(Batch {
                num_items: batch.len(),
                is_void: false,
            });
        }
        batch
    }

    /// Nothing of the batch sealed last goes up; it goes with the ones before it.
    pub(crate) fn last_is_void(&mut self) {
        self.batches.back_mut().expect("a sealed batch").is_void = true;
    }

    /// The items of the oldest sealed batch, which is to be committed next.
    pub(crate) fn oldest_batch(&self) -> impl Iterator<Item = &Item> {
        let num_items = self.batches.front().map_or(0, |batch| batch.num_items);
        self.items.iter().take(num_items)
    }

    /// The oldest sealed batch is committed: removes it, and the void ones behind it.
    pub(crate) fn commit_sealed(&mut self) -> Vec<Item> {
        let mut num_items = self.batches.pop_front().map_or(0, |batch| batch.num_items);
        num_items += self.pop_void();
        self.let_go(num_items)
    }

    /// Removes the void batches that nothing under way is in front of.
    pub(crate) fn let_go_void(&mut self) -> Vec<Item> {
        let num_items = self.pop_void();
        self.let_go(num_items)
    }

    fn pop_void(&mut self) -> usize {
        let mut num_items = 0;
        while let Some(batch) = self.batches.front().copied().filter(|batch| batch.is_void) {
            num_items += batch.num_items;
            self.batches.pop_front();
        }
        num_items
    }

    fn let_go(&mut self, num_items: usize) -> Vec<Item> {
        let mut done = Vec::with_capacity(num_items);
        done.extend((0..num_items).map_while(|_| self.items.pop_front()));
        self.num_sealed -= num_items;
        self.waiting_bytes -= done.iter().map(|item| item.waiting_bytes).sum::<u64>();
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
            num_bytes: 1,
            waiting_bytes: num_bytes,
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
        assert_eq!(queue.pending(), (5, Some(Instant(30)), 1));
        assert_eq!(queue.waiting_bytes(), 15);
        assert_eq!(queue.seal(1).len(), 1);
        assert_eq!(queue.pending(), (0, None, 0));
        assert!(queue.seal(1).is_empty());
        assert_eq!(queue.commit_sealed().len(), 2);
        assert_eq!(queue.trim_point(), Lsn(30), "one batch at a time");
        assert_eq!(queue.oldest_batch().count(), 1);
        assert_eq!(queue.commit_sealed().len(), 1);
        assert_eq!(queue.trim_point(), Lsn(37), "the last frame goes too");
        assert_eq!(queue.waiting_bytes(), 0);
    }

    #[test]
    fn a_batch_of_many_streams_holds_fewer_items() {
        let mut queue = UploadQueue::default();
        for lsn in 0..20 {
            let stream = StreamId(lsn % 10);
            let item = item(10 * lsn, 5);
            queue.push(Item { stream, ..item });
        }
        let room = 20 * 5 + 3 * RANGE_BYTES;
        assert_eq!(queue.seal(room).len(), 4);
        assert_eq!(queue.pending().0, 16 * 5, "of the items alone");
        let room = 16 * 5 + 9 * RANGE_BYTES;
        assert_eq!(queue.seal(room - 1).len(), 15);
    }

    #[test]
    fn a_void_batch_waits_for_those_before_it() {
        let mut queue = UploadQueue::default();
        for lsn in [10, 20, 30, 40] {
            queue.push(item(lsn, 5));
        }
        queue.seal(5);
        queue.seal(5);
        queue.last_is_void();
        assert!(queue.let_go_void().is_empty());
        queue.seal(5);
        assert_eq!(queue.commit_sealed().len(), 2);
        assert_eq!(queue.trim_point(), Lsn(30));
        queue.commit_sealed();
        queue.seal(5);
        queue.last_is_void();
        assert_eq!(queue.let_go_void().len(), 1);
        assert_eq!(queue.trim_point(), Lsn(47));
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
    fn what_was_never_committed_comes_again() {
        let mut queue = UploadQueue::default();
        queue.push(item(1, 5));
        queue.push(item(10, 5));
        let (first, second) = (queue.seal(5), queue.seal(5));
        queue.unseal();
        assert_eq!(queue.pending(), (10, Some(Instant(1)), 1));
        assert_eq!(queue.seal(5), first);
        queue.commit_sealed();
        assert_eq!(queue.seal(5), second);
    }

    #[test]
    #[should_panic(expected = "pushed after")]
    fn items_out_of_wal_order_stop() {
        let mut queue = UploadQueue::default();
        queue.push(item(2, 1));
        queue.push(item(1, 1));
    }
}
