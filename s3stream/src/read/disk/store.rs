//! Blocks on a disk of this machine: looked for before the bucket is asked.
//!
//! *Owns*: reading and writing slots, the scan for what an earlier life left, giving up on a disk
//! that fails.
//! *Does not own*: what is kept and where (`ring.rs`), that the block is the right one for the
//! object's index; who asked checks that.
//!
//! Invariants
//! 1. Bytes are handed out only if their header names the block, the place and a checksum that
//!    holds. Anything else is as if the block were not there.
//! 2. No caller waits for a write, and none longer than the limit for a read.
//! 3. A write is believed only once it ended well, and checked again at each read.
//!
//! *IO: none* (through the port of the disk)

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tidewater_types::{Env, crc32c, mutant, sometimes};
use tracing::warn;

use super::port::CacheDisk;
use super::ring::{Place, Ring, Slot};
use crate::config::ReadConfig;
use crate::counters::{Counters, add};
use crate::format::slot::{self, HEADER_SIZE, SlotHeader};
use crate::read::cache::Key;

/// A disk that failed so often in a row is left alone until the next start.
const FAILURES_MAX: u32 = 16;
/// Segments that are scanned at a time.
const SCAN_PARALLEL: usize = 16;

/// Clones share it.
#[derive(Clone)]
pub(crate) struct DiskCache {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn CacheDisk>,
    env: Arc<dyn Env>,
    ring: Mutex<Ring>,
    counters: Arc<Counters>,
    waiting_bytes: AtomicU64,
    waiting_bytes_max: u64,
    wait_max: Duration,
    failures: AtomicU32,
}

impl DiskCache {
    /// The cache on `disk`. What an earlier life left there is found in the background.
    pub(crate) fn start(
        disk: Arc<dyn CacheDisk>,
        env: Arc<dyn Env>,
        config: &ReadConfig,
        counters: Arc<Counters>,
    ) -> Self {
        let ring = Ring::new(
            disk.num_bytes(),
            config.disk_segment_bytes,
            config.disk_keep_at,
        );
        let inner = Inner {
            disk,
            env: Arc::clone(&env),
            ring: Mutex::new(ring),
            counters,
            waiting_bytes: AtomicU64::new(0),
            waiting_bytes_max: config.disk_waiting_bytes_max,
            wait_max: config.disk_wait_max,
            failures: AtomicU32::new(0),
        };
        let cache = Self {
            inner: Arc::new(inner),
        };
        env.spawn("s3stream: cache scan", Box::pin(cache.clone().scan()));
        cache
    }

    /// Whether the block is likely there.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.inner.is_on() && self.inner.ring.lock().find(key).is_some()
    }

    /// The block, if it is there and whole.
    pub(crate) async fn read(&self, key: &Key) -> Option<Bytes> {
        let slot = self.inner.ring.lock().find(key)?;
        let num_bytes = HEADER_SIZE + slot.payload_size as usize;
        let bytes = self.inner.read(slot.position, num_bytes).await?;
        let payload = payload(bytes, key, slot);
        if payload.is_none() {
            self.forget_damaged(key);
        }
        payload
    }

    /// The block was there and is not what it should be.
    pub(crate) fn forget_damaged(&self, key: &Key) {
        sometimes!("s3stream: damaged block in the disk cache");
        add(&self.inner.counters.disk_blocks_damaged, 1);
        self.inner.ring.lock().forget(key);
    }

    /// A block was read from the bucket: it is written in the background, if it is worth it. One that
    /// shares its bytes with others is copied, so that what waits is what is counted.
    pub(crate) fn offer(&self, key: Key, block: &Bytes, is_shared: bool) {
        let inner = &self.inner;
        let Ok(payload_size) = u32::try_from(block.len()) else {
            return;
        };
        let num_bytes = u64::from(payload_size);
        let waiting_bytes = inner.waiting_bytes.load(Relaxed) + num_bytes;
        if !inner.is_on() || waiting_bytes > inner.waiting_bytes_max {
            return;
        }
        let place = inner.ring.lock().place(key, payload_size);
        let Some(place) = place else { return };
        inner.waiting_bytes.fetch_add(num_bytes, Relaxed);
        let block = if is_shared {
            Bytes::copy_from_slice(block)
        } else {
            block.clone()
        };
        let write = Arc::clone(inner).write(key, place, block);
        inner.env.spawn("s3stream: cache write", Box::pin(write));
    }

    async fn scan(self) {
        let inner = &self.inner;
        let num_segments = inner.ring.lock().num_segments();
        let segments = (0..num_segments).map(|segment| inner.scan_segment(segment));
        let segments = stream::iter(segments).buffer_unordered(SCAN_PARALLEL);
        segments.collect::<()>().await;
        inner.ring.lock().scanned();
    }
}

impl Inner {
    fn is_on(&self) -> bool {
        self.failures.load(Relaxed) < FAILURES_MAX
    }

    /// Counts what the disk failed.
    fn judged<T>(&self, outcome: Option<T>) -> Option<T> {
        if outcome.is_some() {
            self.failures.store(0, Relaxed);
            return outcome;
        }
        add(&self.counters.disk_errors, 1);
        if self.failures.fetch_add(1, Relaxed) + 1 == FAILURES_MAX {
            sometimes!("s3stream: disk cache given up");
            warn!("the disk of the block cache fails again and again; it is left alone");
        }
        None
    }

    async fn read(&self, position: u64, num_bytes: usize) -> Option<Bytes> {
        let read = self.disk.read(position, num_bytes);
        let outcome = match select(read, self.env.sleep(self.wait_max)).await {
            Either::Left((outcome, _)) => outcome.ok(),
            Either::Right(_) => None,
        };
        self.judged(outcome)
    }

    async fn write(self: Arc<Self>, key: Key, place: Place, block: Bytes) {
        let header = SlotHeader {
            object: key.object,
            block_position: key.position,
            payload_size: place.slot.payload_size,
            payload_crc: crc32c(&[&block]),
            slot_position: place.slot.position,
            sequence: place.sequence,
        };
        let num_bytes = block.len() as u64;
        let parts = vec![slot::encode(&header), block];
        let outcome = self.disk.write(place.slot.position, parts).await;
        let is_written = self.judged(outcome.ok()).is_some();
        if is_written {
            add(&self.counters.disk_blocks_written, 1);
        }
        self.ring.lock().written(key, &place, is_written);
        self.waiting_bytes.fetch_sub(num_bytes, Relaxed);
    }

    /// Slots follow each other from the start of a segment; the first thing that is none ends it.
    async fn scan_segment(&self, segment: usize) {
        let (mut position, end, slots_max) = {
            let ring = self.ring.lock();
            let (start, end) = ring.bounds(segment);
            (start, end, ring.slots_max())
        };
        for _ in 0..slots_max {
            if !self.is_on() || position + HEADER_SIZE as u64 > end {
                return;
            }
            let Some(bytes) = self.read(position, HEADER_SIZE).await else {
                return;
            };
            let Ok(header) = slot::decode(bytes, position) else {
                return;
            };
            let next = position + SlotHeader::slot_size(header.payload_size);
            if next > end {
                return;
            }
            self.ring.lock().found(&header);
            position = next;
        }
    }
}

/// The payload of the slot, if it is this block's and whole.
fn payload(bytes: Bytes, key: &Key, slot: Slot) -> Option<Bytes> {
    if mutant!(90) {
        return Some(bytes.slice(HEADER_SIZE..));
    }
    let header = slot::decode(bytes.clone(), slot.position).ok()?;
    let payload = bytes.slice_ref(bytes.get(HEADER_SIZE..)?);
    let is_it = (header.object, header.block_position) == (key.object, key.position)
        && header.payload_size as usize == payload.len()
        && header.payload_crc == crc32c(&[&payload]);
    is_it.then_some(payload)
}
