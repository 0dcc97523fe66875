//! The store's side of the upload: what the tier pulls, and what a commit releases.
//!
//! *Owns*: sealing batches out of the tails, upload → commit → WAL trim in that order,
//! giving room back.
//! *Does not own*: when to upload and how (the tier's uploader).
//!
//! Invariants
//! 1. The WAL is trimmed only after the metadata commit of what it gives up.
//! 2. A sealed range starts where the one of its stream that was sealed before ends, or at the
//!    committed end.
//! 3. A stream that nobody can commit any more stands in nobody's way: its items are let go with
//!    the batches around them.
//!
//! *IO: none* (through ports)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use tidewater_s3stream::{CommitReport, Pending, SealedBatch, SealedRange, Tail as TailPort};
use tidewater_types::{BoxFuture, Epoch, StreamId, mutant, sometimes};
use tracing::warn;

use crate::cost;
use crate::error::StoreError;
use crate::queue::{Done, Item, Size};
use crate::shared::{Shared, StreamInner};

/// So many batches fill what may wait, if their entries are small: a batch of a few small entries of
/// many streams is an object of a few MiB, and takes many times that while it waits. Fewer would be larger
/// objects, and producers that wait while one is on its way.
const BATCHES: u64 = 3;

/// What the tier's uploader pulls from.
pub(crate) struct Uplink {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Uplink {
    /// The upload loop lets go of it when it ends: by a fence, damage or a panic, unless the store
    /// is closed. Appends would fill the WAL and then wait for ever; better to say why now.
    fn drop(&mut self) {
        if self.shared.closing.load(Ordering::Acquire) {
            return;
        }
        let uploader = self.shared.uploader.lock().clone();
        let reason = uploader.and_then(|uploader| uploader.ended().now_or_never());
        match reason {
            Some(reason) => self.shared.fail(&format!("uploads ended: {reason}")),
            None => self.shared.fail("uploads ended"),
        }
    }
}

impl TailPort for Uplink {
    fn pending(&self) -> Pending {
        let pending = self.shared.queue.lock().pending();
        Pending {
            num_bytes: pending.size.object_bytes,
            oldest: pending.oldest,
            streams: pending.streams,
            is_full: pending.size.memory_bytes >= self.memory_bytes_max(),
            is_short: self.shared.is_room_short(),
        }
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.queue_grew.notified())
    }

    fn start_over(&self) {
        let beside = self.shared.queue.lock().unseal();
        self.shared.give_room_back(beside);
    }

    fn seal(&self, bytes_max: u64) -> SealedBatch {
        loop {
            let most = Size {
                object_bytes: bytes_max,
                memory_bytes: self.memory_bytes_max(),
            };
            let (items, beside) = self.shared.queue.lock().seal(&most);
            self.shared.take_room(beside);
            if mutant!(28) {
                let sealed_end = self.shared.queue.lock().sealed_end();
                self.shared.wal.trim(sealed_end);
            }
            let is_empty = items.is_empty();
            let ranges = self.ranges(items);
            if is_empty || !ranges.is_empty() {
                return SealedBatch { ranges };
            }
            // Nothing of it will ever be committed: it must not stand in the way of the rest.
            sometimes!("store: a whole batch was of deleted streams");
            let done = {
                let mut queue = self.shared.queue.lock();
                queue.last_is_void();
                queue.let_go_void()
            };
            self.let_go(&done);
        }
    }

    fn committed(&self, report: &CommitReport) {
        let shared = &self.shared;
        let epochs = self.epochs_of_oldest();
        for (id, range) in &report.committed {
            let stream = shared.streams.lock().get(id).cloned();
            if let Some(stream) = stream {
                stream.tail.lock().mark_committed(range.end());
                let source = stream.state_source.lock().clone();
                if let Some(source) = source {
                    source.committed(range.end());
                }
            }
        }
        for (id, range) in &report.dropped {
            warn!(stream = id.0, %range, "the stream was deleted or moved on; its range was dropped");
            self.close(*id, epochs.get(id).copied());
        }
        let done = shared.queue.lock().commit_sealed();
        self.let_go(&done);
        self.cache(&done.items);
        shared.queue_grew.notify_waiters();
    }
}

impl Uplink {
    /// Bytes of memory of a batch: while it is on its way, another fills.
    fn memory_bytes_max(&self) -> u64 {
        self.shared.config.waiting_bytes_max / BATCHES
    }

    /// The sealed items as ranges, without those of streams that are gone.
    fn ranges(&self, items: Vec<Item>) -> Vec<SealedRange> {
        let mut by_stream: BTreeMap<StreamId, Vec<Item>> = BTreeMap::new();
        for item in items {
            by_stream.entry(item.stream).or_default().push(item);
        }
        let range = |(id, mut items): (StreamId, Vec<Item>)| {
            let stream = self.shared.streams.lock().get(&id).cloned()?;
            // A stream that came back under a new epoch does not hold what an older one took.
            items.retain(|item| item.stream_epoch == stream.epoch);
            (!items.is_empty()).then(|| seal_range(&stream, &items))
        };
        by_stream.into_iter().filter_map(range).collect()
    }

    /// The epochs under which the items of the oldest batch were appended.
    fn epochs_of_oldest(&self) -> BTreeMap<StreamId, Epoch> {
        let queue = self.shared.queue.lock();
        let epochs = queue.oldest_batch();
        epochs
            .map(|item| (item.stream, item.stream_epoch))
            .collect()
    }

    /// What was appended under `epoch` will never be in an object. A handle that was opened since
    /// is another one, and stays.
    fn close(&self, id: StreamId, epoch: Option<Epoch>) {
        let mut streams = self.shared.streams.lock();
        let is_it = |stream: &&Arc<StreamInner>| Some(stream.epoch) == epoch;
        if streams.get(&id).filter(is_it).is_none() {
            return;
        }
        let stream = streams.remove(&id).expect("looked at above");
        drop(streams);
        *stream.closed.lock() = Some(StoreError::NoStream { stream: id });
        stream.changed.notify_waiters();
    }

    /// The items are in objects or will never be, and left the queue: the WAL and the room let go
    /// of them.
    fn let_go(&self, done: &Done) {
        let shared = &self.shared;
        shared.trim_wal();
        let of_items = || done.items.iter().map(|item| item.waiting_bytes).sum();
        shared.give_room_back(if mutant!(119) {
            of_items()
        } else {
            done.memory_bytes
        });
    }

    /// Keeps the committed entries for readers at the tail, within the budget.
    fn cache(&self, done: &[Item]) {
        let shared = &self.shared;
        let bytes_max = shared.config.tail_cache_bytes_max;
        let mut release = Vec::new();
        {
            let mut cached = shared.cached.lock();
            for item in done {
                let run = (item.stream, item.end_offset, cost::cached(item.num_bytes));
                release.extend(cached.add(run, bytes_max));
            }
        }
        for (id, end) in release {
            // Not under the lock of the map: a failing append holds its tail and asks for the map.
            let stream = shared.streams.lock().get(&id).cloned();
            if let Some(stream) = stream {
                stream.tail.lock().release(end);
            }
        }
    }
}

/// The range of one stream's items: contiguous from its committed end.
fn seal_range(stream: &StreamInner, items: &[Item]) -> SealedRange {
    let entries: Vec<_> = {
        let tail = stream.tail.lock();
        let held = |item: &Item| tail.held_at(item.base_offset).cloned();
        items
            .iter()
            .map(|item| held(item).expect("an uncommitted entry is held"))
            .collect()
    };
    let end = entries.last().expect("a stream with items").end_offset();
    let source = stream.state_source.lock().clone();
    let snapshot = source.and_then(|source| source.snapshot_at(end));
    SealedRange {
        stream: stream.id,
        stream_epoch: stream.epoch,
        entries,
        snapshot,
    }
}

/// Uploads everything that is durable now and returns when it is committed.
pub(crate) async fn flush(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let uploader = shared.uploader.lock().clone();
    let Some(uploader) = uploader else {
        let closed = || StoreError::Closed {
            cause: Arc::from("shut down"),
        };
        return Err(shared.failure().unwrap_or_else(closed));
    };
    let flushed = std::pin::pin!(uploader.flush());
    let failed = std::pin::pin!(shared.failed());
    match select(flushed, failed).await {
        Either::Left((flushed, _)) => flushed.map_err(StoreError::from),
        Either::Right((failure, _)) => Err(failure),
    }
}

/// Somebody waits for room: uploads what is there now, whatever the uploader's triggers say.
pub(crate) fn make_room(shared: &Arc<Shared>) {
    if shared.making_room.swap(true, Ordering::AcqRel) {
        return;
    }
    let task = Arc::clone(shared);
    let upload = async move {
        let flushed = flush(&task).await;
        // A store that is closed stops its uploads in the middle.
        if let Err(error) = flushed
            && !task.closing.load(Ordering::Acquire)
        {
            warn!(%error, "no room could be made");
        }
        task.making_room.store(false, Ordering::Release);
    };
    shared.env.spawn("store: make room", Box::pin(upload));
}
