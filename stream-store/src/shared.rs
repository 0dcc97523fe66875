//! What all parts of one store share: ports, streams, the upload queue, the durable pump.
//!
//! *Owns*: the order of submission to the WAL, the pump that turns durable frames into
//! visible offsets, admission, the store's failure.
//! *Does not own*: the watermarks' rules (tail.rs, queue.rs), uploading (uplink.rs).
//!
//! Invariants
//! 1. Frames enter the pump in LSN order: the submission lock covers the WAL's `append`
//!    and the pump's queue together.
//! 2. An entry becomes visible and waits for its upload in one step, after its frame is durable.
//! 3. After the WAL has failed nothing becomes visible any more.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tidewater_s3stream::{Entry, StateSnapshot, Tier, Uploader};
use tidewater_types::{Env, Epoch, Offset, StreamId};
use tidewater_wal::{Append, Frame, Permit, Wal, WalError};
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::chunks::Chunks;
use crate::config::StoreConfig;
use crate::cost;
use crate::error::StoreError;
use crate::format::frame::FrameHead;
use crate::queue::{Item, UploadQueue};
use crate::tail::Tail;

/// Gives the state of a stream's owner as of an offset, for the upload that ends there.
pub trait StateSource: Send + Sync + 'static {
    /// The state that follows from all entries below `offset`; `None` if there is none to keep.
    fn snapshot_at(&self, offset: Offset) -> Option<StateSnapshot>;

    /// The upload that ends at `offset` is committed with its snapshot: no earlier state will be
    /// asked for again.
    fn committed(&self, offset: Offset) {
        let _ = offset;
    }
}

/// One stream of this process.
pub(crate) struct StreamInner {
    pub(crate) id: StreamId,
    pub(crate) epoch: Epoch,
    pub(crate) tail: Mutex<Tail>,
    pub(crate) changed: Notify,
    pub(crate) state_source: Mutex<Option<Arc<dyn StateSource>>>,
    /// Why the stream takes no more calls, once it does not.
    pub(crate) closed: Mutex<Option<StoreError>>,
}

/// An append on its way through the WAL.
pub(crate) struct Pumped {
    pub(crate) append: Append,
    pub(crate) stream: Arc<StreamInner>,
    pub(crate) base_offset: Offset,
    pub(crate) end_offset: Offset,
    pub(crate) payload_bytes: usize,
}

/// Counts of reads by where they were answered from.
#[derive(Debug, Default)]
pub(crate) struct ReadCounts {
    pub(crate) tail: AtomicU64,
    pub(crate) memory: AtomicU64,
    pub(crate) disk: AtomicU64,
    pub(crate) bucket: AtomicU64,
}

impl ReadCounts {
    /// Adds the blocks of one fetch.
    pub(crate) fn count(&self, memory: u32, disk: u32, bucket: u32) {
        Shared::count(&self.memory, memory.into());
        Shared::count(&self.disk, disk.into());
        Shared::count(&self.bucket, bucket.into());
    }
}

/// The store's inside.
pub(crate) struct Shared {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) wal: Arc<dyn Wal>,
    /// What the WAL takes for a frame until it is trimmed. Asked once: an entry gives back what it took.
    frame_bytes: u64,
    pub(crate) tier: Tier,
    pub(crate) config: StoreConfig,
    pub(crate) node_epoch: Epoch,
    pub(crate) streams: Mutex<BTreeMap<StreamId, Arc<StreamInner>>>,
    pub(crate) queue: Mutex<UploadQueue>,
    pub(crate) queue_grew: Notify,
    pub(crate) room: Semaphore,
    /// Bytes that recovery found and that batches take beyond the room there is: given back to nobody.
    room_owed: AtomicU64,
    /// Held while streams are opened: two openings of one stream would take two epochs, and the
    /// handle on the first be dropped with what was appended through it.
    pub(crate) opening: tokio::sync::Mutex<()>,
    /// Committed entries still in memory, oldest first: (stream, end offset, bytes of memory).
    pub(crate) cached: Mutex<Cached>,
    pub(crate) reads: ReadCounts,
    pub(crate) failed: Mutex<Option<Arc<str>>>,
    pub(crate) failed_notify: Notify,
    /// The uploader is asked to stop: its end is no failure.
    pub(crate) closing: AtomicBool,
    /// An upload is under way because an append waits for room.
    pub(crate) making_room: AtomicBool,
    pub(crate) uploader: Mutex<Option<Arc<Uploader>>>,
    /// Held over the WAL's append and the pump's queue together.
    submission: Mutex<mpsc::UnboundedSender<Pumped>>,
}

/// The committed entries that memory still holds, oldest commit first.
#[derive(Debug, Default)]
pub(crate) struct Cached {
    runs: Chunks<(StreamId, Offset, u64)>,
    num_bytes: u64,
}

impl Cached {
    /// Bytes of memory that all of them take.
    pub(crate) fn num_bytes(&self) -> u64 {
        self.num_bytes
    }

    /// Adds a committed run and answers which runs must go to stay within `bytes_max`.
    pub(crate) fn add(
        &mut self,
        run: (StreamId, Offset, u64),
        bytes_max: u64,
    ) -> Vec<(StreamId, Offset)> {
        self.num_bytes += run.2;
        self.runs.push_back(run);
        let mut release = Vec::new();
        while self.num_bytes > bytes_max {
            let Some((stream, end, num_bytes)) = self.runs.pop_front() else {
                break;
            };
            self.num_bytes -= num_bytes;
            release.push((stream, end));
        }
        release
    }
}

/// Dropped with the pump: without it nothing becomes durable for anybody any more, so if it ends
/// by a panic, that is the store's end and must not pass unnoticed.
struct PumpEnd {
    shared: Arc<Shared>,
}

impl Drop for PumpEnd {
    fn drop(&mut self) {
        self.shared.fail("the task that acknowledges appends ended");
    }
}

/// The ports and facts a store is built from.
pub(crate) struct Parts {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) wal: Arc<dyn Wal>,
    pub(crate) tier: Tier,
    pub(crate) config: StoreConfig,
    pub(crate) node_epoch: Epoch,
}

impl Shared {
    /// The store's inside, and the receiving end that `pump` drains.
    pub(crate) fn new(parts: Parts) -> (Arc<Self>, mpsc::UnboundedReceiver<Pumped>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let room = cost::entries_max(parts.config.waiting_bytes_max);
        let shared = Self {
            env: parts.env,
            frame_bytes: parts.wal.frame_bytes_held() as u64,
            wal: parts.wal,
            tier: parts.tier,
            config: parts.config,
            node_epoch: parts.node_epoch,
            streams: Mutex::default(),
            queue: Mutex::default(),
            queue_grew: Notify::new(),
            room: Semaphore::new(usize::try_from(room).unwrap_or(Semaphore::MAX_PERMITS)),
            room_owed: AtomicU64::new(0),
            opening: tokio::sync::Mutex::default(),
            cached: Mutex::default(),
            reads: ReadCounts::default(),
            failed: Mutex::default(),
            failed_notify: Notify::new(),
            closing: AtomicBool::new(false),
            making_room: AtomicBool::new(false),
            uploader: Mutex::default(),
            submission: Mutex::new(sender),
        };
        (Arc::new(shared), receiver)
    }

    /// Appends `entry` at the stream's end. The caller holds the stream's tail.
    pub(crate) fn submit(
        &self,
        stream: &Arc<StreamInner>,
        tail: &mut Tail,
        permit: Permit,
        entry: Entry,
    ) -> Result<tidewater_types::Lsn, StoreError> {
        let head = FrameHead {
            stream: stream.id,
            stream_epoch: stream.epoch,
            base_offset: entry.base_offset,
            record_count: entry.record_count,
            timestamp_ms_max: entry.timestamp_ms_max,
        };
        let frame = Frame::new(&head.encode(), entry.payload.clone());
        let submission = self.submission.lock();
        let append = self
            .wal
            .append(permit, frame)
            .map_err(|error| self.wal_failed(error))?;
        let lsn = append.lsn();
        let pumped = Pumped {
            append,
            stream: Arc::clone(stream),
            base_offset: entry.base_offset,
            end_offset: entry.end_offset(),
            payload_bytes: entry.payload.len(),
        };
        tail.accept(entry);
        // The pump ends only after the store has failed; then nobody waits for this entry.
        let _ = submission.send(pumped);
        Ok(lsn)
    }

    /// Makes durable entries visible, in LSN order, until the WAL fails or the store is dropped.
    pub(crate) async fn pump(self: Arc<Self>, mut durable: mpsc::UnboundedReceiver<Pumped>) {
        let _end = PumpEnd {
            shared: Arc::clone(&self),
        };
        while let Some(pumped) = durable.recv().await {
            let lsn_end = pumped.append.end();
            match pumped.append.await {
                Ok(lsn) => {
                    let payload_bytes = pumped.payload_bytes;
                    let item = Item {
                        stream: pumped.stream.id,
                        stream_epoch: pumped.stream.epoch,
                        lsn,
                        lsn_end,
                        base_offset: pumped.base_offset,
                        end_offset: pumped.end_offset,
                        num_bytes: payload_bytes as u64,
                        waiting_bytes: self.waiting_cost(payload_bytes),
                        durable_since: self.env.now(),
                    };
                    self.became_durable(&pumped.stream, item);
                }
                Err(error) => {
                    self.wal_failed(error);
                    return;
                }
            }
        }
    }

    /// One entry is durable: it becomes visible and waits for its upload.
    pub(crate) fn became_durable(&self, stream: &StreamInner, item: Item) {
        {
            // Both under the tail's lock: whoever sees the entry and asks for a flush gets it.
            let mut tail = stream.tail.lock();
            tail.mark_durable(item.end_offset);
            self.queue.lock().push(item);
        }
        stream.changed.notify_waiters();
        self.queue_grew.notify_waiters();
    }

    /// Lets the WAL forget what is in committed objects.
    pub(crate) fn trim_wal(&self) {
        let trim_point = self.queue.lock().trim_point();
        self.wal.trim(trim_point);
    }

    /// Bytes of memory that an entry takes until its upload is committed.
    pub(crate) fn waiting_cost(&self, payload_bytes: usize) -> u64 {
        cost::waiting(payload_bytes) + self.frame_bytes
    }

    /// The most that an entry takes whose payload has up to so many bytes.
    pub(crate) fn waiting_cost_most(&self, payload_bytes: usize) -> u64 {
        cost::waiting_most(payload_bytes) + self.frame_bytes
    }

    /// What took `num_bytes` is in objects, or will never be: others may have the room.
    pub(crate) fn give_room_back(&self, num_bytes: u64) {
        if num_bytes == 0 {
            return;
        }
        let owed = |owed: u64| Some(owed - owed.min(num_bytes));
        let owed = self
            .room_owed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, owed)
            .unwrap_or_default();
        let free = usize::try_from(num_bytes.saturating_sub(owed)).expect("room fits usize");
        self.room.add_permits(free);
    }

    /// Bytes of memory of what was accepted and is not in committed objects.
    pub(crate) fn room_taken(&self) -> u64 {
        let free = self.room.available_permits() as u64;
        let owed = self.room_owed.load(Ordering::Relaxed);
        let room = cost::entries_max(self.config.waiting_bytes_max);
        room.saturating_sub(free) + owed
    }

    /// Whether half of the room for what waits for its upload is taken. An append that waits for
    /// room finds it so: the payload of none is larger than the other half.
    pub(crate) fn is_room_short(&self) -> bool {
        let free = self.room.available_permits() as u64;
        let beside = self.waiting_cost_most(1 << 10);
        free <= self.config.waiting_bytes_max / 2 + beside
    }

    /// What recovery found takes its room, and what there is not is owed.
    pub(crate) fn take_recovered_room(&self) {
        let recovered = self.queue.lock().waiting_bytes();
        self.take_room(recovered);
    }

    /// What is there whatever the room takes so much of it, and what there is not is owed.
    pub(crate) fn take_room(&self, num_bytes: u64) {
        let free = usize::try_from(num_bytes).unwrap_or(usize::MAX);
        let taken = self.room.forget_permits(free);
        let taken = u64::try_from(taken).expect("no more than was asked for");
        self.room_owed
            .fetch_add(num_bytes - taken, Ordering::Relaxed);
    }

    /// Notes that the WAL has failed for good and wakes everybody who waits.
    pub(crate) fn wal_failed(&self, error: WalError) -> StoreError {
        self.fail(&error.to_string());
        StoreError::Wal(error)
    }

    /// Closes the store for a reason.
    pub(crate) fn fail(&self, cause: &str) {
        self.failed.lock().get_or_insert_with(|| Arc::from(cause));
        self.room.close();
        self.failed_notify.notify_waiters();
        let streams: Vec<_> = self.streams.lock().values().cloned().collect();
        for stream in streams {
            stream.changed.notify_waiters();
        }
    }

    /// The store's failure, if it has failed.
    pub(crate) fn failure(&self) -> Option<StoreError> {
        self.failed.lock().as_ref().map(|cause| StoreError::Closed {
            cause: Arc::clone(cause),
        })
    }

    /// Completes when the store has failed for good, with the reason.
    pub(crate) async fn failed(&self) -> StoreError {
        loop {
            let mut notified = std::pin::pin!(self.failed_notify.notified());
            notified.as_mut().enable();
            if let Some(failure) = self.failure() {
                return failure;
            }
            notified.await;
        }
    }

    /// Adds to a counter.
    pub(crate) fn count(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}
