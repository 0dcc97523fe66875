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
use crate::cost::{BLOCK_BYTES, RANGE_BYTES, ROW_BYTES};

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
    /// Bytes of memory that all items and batches take.
    waiting_bytes: u64,
    /// What is not sealed.
    unsealed: Size,
    /// Items of each stream that are not sealed.
    streams: BTreeMap<StreamId, usize>,
    /// One past the frame of the last item ever pushed: everything below was pushed.
    pushed_end: Lsn,
}

/// How much some items are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Bytes that they are in an object: payloads and their rows in the tables of blocks; of a batch also
    /// a block of each stream.
    pub(crate) object_bytes: u64,
    /// Bytes of memory.
    pub(crate) memory_bytes: u64,
}

impl Size {
    fn of(item: &Item) -> Self {
        Self {
            object_bytes: item.num_bytes + ROW_BYTES,
            memory_bytes: item.waiting_bytes,
        }
    }

    /// What a batch of so many streams is beside its items; of memory one stream takes nothing.
    fn beside(streams: usize) -> Self {
        let streams = streams as u64;
        Self {
            object_bytes: streams * BLOCK_BYTES,
            memory_bytes: streams.saturating_sub(1) * RANGE_BYTES,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            object_bytes: self.object_bytes + other.object_bytes,
            memory_bytes: self.memory_bytes + other.memory_bytes,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            object_bytes: self.object_bytes - other.object_bytes,
            memory_bytes: self.memory_bytes - other.memory_bytes,
        }
    }

    /// Whether it is more than `most` in either.
    fn passes(&self, most: &Self) -> bool {
        self.object_bytes > most.object_bytes || self.memory_bytes > most.memory_bytes
    }
}

/// What is not sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unsealed {
    /// With the memory that a batch of all of it would take.
    pub(crate) size: Size,
    /// Since when the oldest item is durable.
    pub(crate) oldest: Option<Instant>,
    pub(crate) streams: usize,
}

/// Items that left the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) items: Vec<Item>,
    /// Bytes of memory that they and their batches took.
    pub(crate) memory_bytes: u64,
}

/// A sealed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    num_items: usize,
    /// Bytes of memory that it takes beside its items.
    beside_bytes: u64,
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
        self.unsealed = self.unsealed.plus(Size::of(&item));
        *self.streams.entry(item.stream).or_default() += 1;
        self.items.push_back(item);
    }

    /// What is not sealed.
    pub(crate) fn pending(&self) -> Unsealed {
        let oldest = self.items.get(self.num_sealed);
        Unsealed {
            size: self.unsealed.plus(Size::beside(self.streams.len())),
            oldest: oldest.map(|item| item.durable_since),
            streams: self.streams.len(),
        }
    }

    /// Notes that recovery found nothing else below `end`: what is not in the queue is committed or
    /// belongs to a stream that is gone.
    pub(crate) fn recovered_up_to(&mut self, end: Lsn) {
        self.pushed_end = self.pushed_end.max(end);
    }

    /// Bytes of memory that all items take, sealed or not, and the sealed batches beside them.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// What was sealed and not let go is unsealed again. The bytes of memory that the batches took.
    pub(crate) fn unseal(&mut self) -> u64 {
        for item in self.items.iter().take(self.num_sealed) {
            self.unsealed = self.unsealed.plus(Size::of(item));
            *self.streams.entry(item.stream).or_default() += 1;
        }
        self.num_sealed = 0;
        let beside = self.batches.drain(..).map(|batch| batch.beside_bytes).sum();
        self.waiting_bytes -= beside;
        beside
    }

    /// Seals the oldest unsealed items as the next batch, at least one, and no more than `most`. The
    /// batch, and the bytes of memory that it takes beside its items.
    pub(crate) fn seal(&mut self, most: &Size) -> (Vec<Item>, u64) {
        let (mut size, mut beside, mut batch) = (Size::default(), 0, Vec::new());
        let mut ranges = BTreeSet::new();
        for item in self.items.iter_from(self.num_sealed) {
            let num_ranges = ranges.len() + usize::from(!ranges.contains(&item.stream));
            let with_it = size.plus(Size::of(item));
            let with_range = Size::beside(num_ranges);
            if !batch.is_empty() && with_it.plus(with_range).passes(most) {
                break;
            }
            (size, beside) = (with_it, with_range.memory_bytes);
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
            self.unsealed = self.unsealed.minus(size);
            self.waiting_bytes += beside;
            self.num_sealed += batch.len();
            self.batches.push_back(Batch {
                num_items: batch.len(),
                beside_bytes: beside,
                is_void: false,
            });
        }
        (batch, beside)
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
    pub(crate) fn commit_sealed(&mut self) -> Done {
        let mut gone: Vec<Batch> = self.batches.pop_front().into_iter().collect();
        gone.extend(self.pop_void());
        self.let_go(&gone)
    }

    /// Removes the void batches that nothing under way is in front of.
    pub(crate) fn let_go_void(&mut self) -> Done {
        let gone = self.pop_void();
        self.let_go(&gone)
    }

    fn pop_void(&mut self) -> Vec<Batch> {
        let mut gone = Vec::new();
        while let Some(batch) = self.batches.front().copied().filter(|batch| batch.is_void) {
            gone.push(batch);
            self.batches.pop_front();
        }
        gone
    }

    fn let_go(&mut self, gone: &[Batch]) -> Done {
        let num_items = gone.iter().map(|batch| batch.num_items).sum();
        let mut items = Vec::with_capacity(num_items);
        items.extend((0..num_items).map_while(|_| self.items.pop_front()));
        let beside: u64 = gone.iter().map(|batch| batch.beside_bytes).sum();
        let memory_bytes = items.iter().map(|item| item.waiting_bytes).sum::<u64>() + beside;
        self.num_sealed -= num_items;
        self.waiting_bytes -= memory_bytes;
        Done {
            items,
            memory_bytes,
        }
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

    /// Seals a batch of up to so many bytes of memory.
    fn seal(queue: &mut UploadQueue, memory_bytes: u64) -> Vec<Item> {
        let most = Size {
            object_bytes: u64::MAX,
            memory_bytes,
        };
        queue.seal(&most).0
    }

    #[test]
    fn trim_point_waits_for_the_commit() {
        let mut queue = UploadQueue::default();
        queue.push(item(10, 5));
        queue.push(item(20, 5));
        queue.push(item(30, 5));
        assert_eq!(seal(&mut queue, 10).len(), 2);
        assert_eq!(queue.trim_point(), Lsn(10));
        assert_eq!(queue.sealed_end(), Lsn(30));
        let pending = queue.pending();
        assert_eq!((pending.oldest, pending.streams), (Some(Instant(30)), 1));
        assert_eq!(pending.size.memory_bytes, 5);
        assert_eq!(pending.size.object_bytes, 1 + ROW_BYTES + BLOCK_BYTES);
        assert_eq!(queue.waiting_bytes(), 15);
        assert_eq!(seal(&mut queue, 1).len(), 1);
        assert_eq!(queue.pending(), Unsealed::default());
        assert!(seal(&mut queue, 1).is_empty());
        assert_eq!(queue.commit_sealed().items.len(), 2);
        assert_eq!(queue.trim_point(), Lsn(30), "one batch at a time");
        assert_eq!(queue.oldest_batch().count(), 1);
        assert_eq!(queue.commit_sealed().items.len(), 1);
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
        assert_eq!(seal(&mut queue, room).len(), 4);
        assert_eq!(queue.waiting_bytes(), 20 * 5 + 3 * RANGE_BYTES);
        let room = 16 * 5 + 9 * RANGE_BYTES;
        assert_eq!(queue.pending().size.memory_bytes, room);
        assert_eq!(seal(&mut queue, room - 1).len(), 15);
        assert_eq!(queue.pending().size.memory_bytes, 5);
        let all = 20 * 5 + (3 + 9) * RANGE_BYTES;
        assert_eq!(queue.waiting_bytes(), all);
        let done = queue.commit_sealed();
        assert_eq!(done.memory_bytes, 4 * 5 + 3 * RANGE_BYTES);
        assert_eq!(queue.unseal(), 9 * RANGE_BYTES);
        assert_eq!(queue.waiting_bytes(), 16 * 5);
    }

    #[test]
    fn a_batch_is_as_large_as_its_object_may_be() {
        let mut queue = UploadQueue::default();
        for lsn in 0..20 {
            queue.push(item(10 * lsn, 500));
        }
        let most = Size {
            object_bytes: 4 * (1 + ROW_BYTES) + BLOCK_BYTES,
            memory_bytes: u64::MAX,
        };
        let (batch, beside) = queue.seal(&most);
        assert_eq!((batch.len(), beside), (4, 0));
        let most = Size {
            object_bytes: 0,
            memory_bytes: 0,
        };
        assert_eq!(queue.seal(&most).0.len(), 1, "one at least");
    }

    #[test]
    fn a_void_batch_waits_for_those_before_it() {
        let mut queue = UploadQueue::default();
        for lsn in [10, 20, 30, 40] {
            queue.push(item(lsn, 5));
        }
        seal(&mut queue, 5);
        seal(&mut queue, 5);
        queue.last_is_void();
        assert!(queue.let_go_void().items.is_empty());
        seal(&mut queue, 5);
        assert_eq!(queue.commit_sealed().items.len(), 2);
        assert_eq!(queue.trim_point(), Lsn(30));
        queue.commit_sealed();
        seal(&mut queue, 5);
        queue.last_is_void();
        assert_eq!(queue.let_go_void().items.len(), 1);
        assert_eq!(queue.trim_point(), Lsn(47));
    }

    #[test]
    fn what_recovery_passed_may_be_trimmed_unless_it_waits() {
        let mut queue = UploadQueue::default();
        queue.push(item(10, 5));
        queue.recovered_up_to(Lsn(90));
        assert_eq!(queue.trim_point(), Lsn(10));
        seal(&mut queue, 100);
        queue.commit_sealed();
        assert_eq!(queue.trim_point(), Lsn(90));
    }

    #[test]
    fn what_was_never_committed_comes_again() {
        let mut queue = UploadQueue::default();
        queue.push(item(1, 5));
        queue.push(item(10, 5));
        let (first, second) = (seal(&mut queue, 5), seal(&mut queue, 5));
        queue.unseal();
        assert_eq!(queue.pending().size.memory_bytes, 10);
        assert_eq!(queue.pending().oldest, Some(Instant(1)));
        assert_eq!(seal(&mut queue, 5), first);
        queue.commit_sealed();
        assert_eq!(seal(&mut queue, 5), second);
    }

    #[test]
    #[should_panic(expected = "pushed after")]
    fn items_out_of_wal_order_stop() {
        let mut queue = UploadQueue::default();
        queue.push(item(2, 1));
        queue.push(item(1, 1));
    }
}
