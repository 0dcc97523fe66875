//! What entries really take in memory, by a counting allocator, against what is counted for them.
//!
//! *Owns*: that small entries beside a bucket that hangs stay within the room that waits, and that
//! producers are slowed there and lose nothing.
//!
//! *IO: driver* (tests)
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run on tokio"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tidewater_stream_store::bucket::{Bucket, BucketError, ListPage, LocalBucket, Purpose};
use tidewater_stream_store::{
    AppendRequest, DeviceWalConfig, DeviceWalOpener, MemoryWalOpener, MetaOp, ObjectWalConfig,
    ObjectWalOpener, StoreConfig, Stream, StreamStore, TierConfig, TokioEnv, WalOpener,
};
use tidewater_types::{BoxFuture, NodeId, Offset, StreamId};
use tokio::sync::watch;

const MIB: usize = 1 << 20;
/// What may wait.
const WAITING: usize = 16 * MIB;
/// What is kept for readers at the tail.
const CACHED: usize = 4 * MIB;
/// The pool of the log in the bucket.
const POOL: usize = 8 * MIB;
/// What is there beside entries: buffers of a small log, objects in the metadata, tasks.
const ELSE: usize = MIB;
/// The ranges of a stream in the metadata, after a few uploads.
const METADATA: usize = 1_000;
/// Payload of an entry: one record.
const PAYLOAD: usize = 70;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts what is allocated, each size rounded up as the broker's allocator does.
struct Counting;

/// Steps of 16 bytes to 128, then four to each power of two.
fn rounded(size: usize) -> usize {
    let step = (size.next_power_of_two() / 8).max(16);
    size.next_multiple_of(step)
}

// SAFETY: every call is passed on to the system allocator unchanged; the counters never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = rounded(layout.size());
        PEAK.fetch_max(LIVE.fetch_add(size, Relaxed) + size, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(rounded(layout.size()), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is allocated now, and the most since this was asked last.
fn allocated() -> (usize, usize) {
    let live = LIVE.load(Relaxed);
    (live, PEAK.swap(live, Relaxed))
}

/// A bucket on the disk whose requests for some purpose hang while it is closed.
struct Gate {
    inner: LocalBucket,
    hangs: Purpose,
    is_open: watch::Sender<bool>,
}

impl Gate {
    fn new(folder: &Path, hangs: Purpose) -> Arc<Self> {
        let folder = folder.join("bucket");
        std::fs::create_dir_all(&folder).unwrap();
        let inner = LocalBucket::open(&folder).unwrap();
        let is_open = watch::Sender::new(true);
        Arc::new(Self {
            inner,
            hangs,
            is_open,
        })
    }
}

impl Bucket for Gate {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let mut is_open = self.is_open.subscribe();
        Box::pin(async move {
            if purpose == self.hangs {
                let _open = is_open.wait_for(|is_open| *is_open).await;
            }
            self.inner.create(purpose, key, body).await
        })
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        self.inner.get(purpose, key, range)
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        self.inner.size(purpose, key)
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.inner.delete(purpose, key)
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        self.inner.list(purpose, prefix, after)
    }
}

fn config() -> StoreConfig {
    StoreConfig {
        tier: TierConfig {
            // Batches are due when they are full: all that waits is under way in the end.
            upload_age: Duration::from_secs(3_600),
            upload_bytes: WAITING as u64 / 4,
            block_cache_bytes: MIB as u64,
            index_cache_bytes: MIB as u64,
            ..TierConfig::default()
        },
        waiting_bytes_max: WAITING as u64,
        tail_cache_bytes_max: CACHED as u64,
        append_bytes_max: MIB as u64,
        append_wait_ms_max: 600_000,
        ..StoreConfig::default()
    }
}

fn device(folder: &Path) -> Box<dyn WalOpener> {
    let config = DeviceWalConfig {
        capacity_bytes: 64 * MIB as u64,
        segment_bytes: MIB as u64,
        reserve_ms_max: 600_000,
        ..DeviceWalConfig::tiny()
    };
    Box::new(DeviceWalOpener {
        path: folder.join("wal"),
        config,
        env: Arc::new(TokioEnv::current()),
    })
}

fn memory(_: &Path) -> Box<dyn WalOpener> {
    Box::new(MemoryWalOpener {
        capacity_bytes: WAITING,
        reserve_ms_max: 600_000,
        env: Arc::new(TokioEnv::current()),
    })
}

async fn open(bucket: &Arc<Gate>, wal: Box<dyn WalOpener>) -> StreamStore {
    open_with(bucket, wal, config()).await
}

async fn open_with(
    bucket: &Arc<Gate>,
    wal: Box<dyn WalOpener>,
    config: StoreConfig,
) -> StreamStore {
    let (env, bucket) = (Arc::new(TokioEnv::current()), Arc::clone(bucket));
    StreamStore::open(env, bucket, wal, config).await.unwrap()
}

async fn streams(store: &StreamStore, count: usize) -> Vec<Stream> {
    let first = store.metadata().read(|state| state.next_stream_id());
    let ids: Vec<_> = (first.0..).take(count).map(StreamId).collect();
    let create = ids.iter().map(|id| MetaOp::CreateStream { stream: *id });
    store.metadata().propose(create.collect()).await.unwrap();
    store.open_streams(&ids).await.unwrap()
}

/// The payload of the entry at `offset`, in a buffer of its own.
fn payload(offset: Offset, num_bytes: usize) -> Bytes {
    let mut payload = vec![b'.'; num_bytes];
    payload[..8].copy_from_slice(&offset.0.to_le_bytes());
    Bytes::from(payload)
}

async fn append(stream: &Stream, num_bytes: usize) {
    let request = AppendRequest {
        record_count: 1,
        timestamp_ms_max: 0,
        num_bytes,
    };
    let fill = |offset| payload(offset, num_bytes);
    stream.append(request, fill).await.unwrap();
}

/// Appends to the streams in turn until an append has waited for a second: how many were taken,
/// and the append that waits, which goes on.
async fn fill(streams: &[Stream], num_bytes: usize) -> (usize, tokio::task::JoinHandle<()>) {
    let patience = Duration::from_secs(1);
    for count in 0.. {
        let stream = streams[count % streams.len()].clone();
        let mut append = Box::pin(async move { append(&stream, num_bytes).await });
        if futures_util::poll!(&mut append).is_ready() {
            continue;
        }
        let mut append = tokio::spawn(append);
        if tokio::time::timeout(patience, &mut append).await.is_err() {
            return (count, append);
        }
    }
    unreachable!("room is not endless");
}

/// All entries of the streams, each what was appended there.
async fn read_back(streams: &[Stream], num_bytes: usize) -> usize {
    let mut count = 0;
    for stream in streams {
        let mut next = Offset(0);
        while next < stream.end() {
            let fetched = stream.fetch(next, MIB).await.unwrap();
            assert!(!fetched.entries.is_empty(), "{next} of {}", stream.end());
            for entry in fetched.entries {
                let expected = payload(next, num_bytes);
                assert_eq!((entry.base_offset, &entry.payload), (next, &expected));
                next = entry.end_offset();
                count += 1;
            }
        }
    }
    count
}

/// What is appended.
#[derive(Clone, Copy)]
struct Load {
    num_streams: usize,
    /// Payload of each entry.
    num_bytes: usize,
}

/// Small entries in some streams beside a bucket that hangs: they fill their room, the
/// producer waits, and what is allocated meanwhile is within what is counted; then all goes on.
async fn stalled(wal: fn(&Path) -> Box<dyn WalOpener>, load: Load) {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Gate::new(folder.path(), Purpose::Upload);
    let Load {
        num_streams,
        num_bytes,
    } = load;
    let store = open(&bucket, wal(folder.path())).await;
    let streams = streams(&store, num_streams).await;
    bucket.is_open.send_replace(false);
    let (before, _) = allocated();
    let (taken, waits) = fill(&streams, num_bytes).await;
    let (live, peak) = allocated();
    let waiting = store.counters().accepted_bytes as usize;
    println!(
        "{num_streams} streams, {num_bytes} bytes: {taken} entries, counted {} each, allocated {} each, {} at the peak",
        waiting / taken,
        (live - before) / taken,
        (peak - before) / taken
    );
    assert!(!waits.is_finished());
    // What a batch takes beside its entries that is sealed when they have all their room: there is some
    // for that, and beyond it is owed.
    let owed = if num_streams < 5_000 { 0 } else { WAITING / 3 };
    assert!(waiting <= WAITING + owed, "{waiting} of {WAITING}");
    assert!(waiting + MIB > WAITING, "{waiting} of {WAITING} is full");
    assert!(
        peak - before <= waiting + ELSE,
        "{peak} - {before} for {waiting}"
    );
    assert!(
        waiting <= (live - before) * 17 / 10,
        "{waiting} for {live} - {before} is far too much"
    );
    drain(&bucket, &store, &streams, waits).await;
    // The cache of the tail is full now, and nothing else is left but metadata.
    let beside = ELSE + num_streams * METADATA;
    let (live, peak) = allocated();
    let counters = store.counters();
    let cached = counters.tail_cache_bytes as usize;
    println!("  cached: counted {cached}, allocated {}", live - before);
    assert!(cached <= CACHED && cached + 2_000 > CACHED, "{cached}");
    assert!(
        peak - before <= waiting + cached + beside,
        "{peak} - {before} meanwhile"
    );
    assert_eq!(counters.accepted_bytes, 0);
    assert!(
        live - before <= cached + beside,
        "{live} - {before} for {cached}"
    );
    assert_eq!(read_back(&streams, num_bytes).await, taken + 1);
    store.close().await.unwrap();
}

/// The bucket takes everything, and the append that waits for room goes on.
async fn drain(
    bucket: &Gate,
    store: &StreamStore,
    streams: &[Stream],
    waits: tokio::task::JoinHandle<()>,
) {
    bucket.is_open.send_replace(true);
    waits.await.unwrap();
    for stream in streams {
        stream.wait_durable(stream.end()).await.unwrap();
    }
    store.flush().await.unwrap();
}

fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
}

/// One test, as the allocator counts for all of the process.
#[test]
fn small_entries_take_no_more_than_is_counted() {
    let small = |num_streams| Load {
        num_streams,
        num_bytes: PAYLOAD,
    };
    run(stalled(device, small(1)));
    run(stalled(device, small(100)));
    run(stalled(device, small(5_000)));
    run(stalled(device, small(20_000)));
    run(stalled(memory, small(1)));
    // The largest that is copied, and the smallest that is shared.
    for num_bytes in [1_023, 1_024] {
        let load = small(10);
        run(stalled(device, Load { num_bytes, ..load }));
    }
    run(object_log_hangs());
    run(recovered());
    run(small_blocks());
}

/// A log in the bucket that hangs: its pool fills, and is not passed.
async fn object_log_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Gate::new(folder.path(), Purpose::Wal);
    let wal = ObjectWalOpener {
        bucket: Arc::clone(&bucket) as Arc<dyn Bucket>,
        node: NodeId(1),
        config: ObjectWalConfig {
            pool_bytes: POOL as u64,
            reserve_ms_max: 600_000,
            give_up_ms: 600_000,
            ..ObjectWalConfig::default()
        },
        env: Arc::new(TokioEnv::current()),
    };
    let store = open(&bucket, Box::new(wal)).await;
    let streams = streams(&store, 1).await;
    bucket.is_open.send_replace(false);
    let (before, _) = allocated();
    let (taken, waits) = fill(&streams, PAYLOAD).await;
    let (_, peak) = allocated();
    let waiting = store.counters().accepted_bytes as usize;
    println!(
        "object log: {taken} entries, allocated {} each at the peak",
        (peak - before) / taken
    );
    assert!(waiting < WAITING, "the log is full before");
    assert!(
        peak - before <= waiting + POOL,
        "{peak} - {before} for {waiting}"
    );
    drain(&bucket, &store, &streams, waits).await;
    assert_eq!(read_back(&streams, PAYLOAD).await, taken + 1);
    store.close().await.unwrap();
}

/// What waited when the process ended, found again by one that has half the room.
async fn recovered() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Gate::new(folder.path(), Purpose::Upload);
    let store = open(&bucket, device(folder.path())).await;
    let streams = streams(&store, 1).await;
    let id = streams[0].id();
    bucket.is_open.send_replace(false);
    let (taken, waits) = fill(&streams, PAYLOAD).await;
    waits.abort();
    let _aborted = waits.await;
    store.close().await.unwrap();
    drop((streams, store));
    let (before, _) = allocated();
    let half = StoreConfig {
        waiting_bytes_max: WAITING as u64 / 2,
        ..config()
    };
    let store = open_with(&bucket, device(folder.path()), half).await;
    let (_, peak) = allocated();
    let stream = store.open_stream(id).await.unwrap();
    let waiting = store.counters().accepted_bytes as usize;
    println!(
        "recovered: {taken} entries, counted {} each, allocated {} each at the peak",
        waiting / taken,
        (peak - before) / taken
    );
    assert!(waiting + MIB > WAITING && waiting <= WAITING, "{waiting}");
    assert!(
        peak - before <= waiting + ELSE,
        "{peak} - {before} for {waiting}"
    );
    bucket.is_open.send_replace(true);
    store.flush().await.unwrap();
    assert_eq!(store.counters().accepted_bytes, 0);
    // There is as much room as was said, not more: what was owed was not given back.
    bucket.is_open.send_replace(false);
    let streams = [stream];
    let (more, waits) = fill(&streams, PAYLOAD).await;
    let each = waiting / taken;
    let entries_max = WAITING / 2 - WAITING / 2 / 32;
    assert_eq!(more, entries_max / each);
    drain(&bucket, &store, &streams, waits).await;
    assert_eq!(read_back(&streams, PAYLOAD).await, taken + more + 1);
    store.close().await.unwrap();
}

/// Streams with one small entry each: as many blocks, read from objects.
async fn small_blocks() {
    const STREAMS: usize = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let bucket = Gate::new(folder.path(), Purpose::Upload);
    let config = StoreConfig {
        tail_cache_bytes_max: 0,
        ..config()
    };
    let store = open_with(&bucket, device(folder.path()), config).await;
    let streams = streams(&store, STREAMS).await;
    for stream in &streams {
        append(stream, PAYLOAD).await;
        stream.wait_durable(Offset(1)).await.unwrap();
    }
    store.flush().await.unwrap();
    let (before, _) = allocated();
    let mut most = 0;
    for (number, stream) in streams.iter().enumerate() {
        read_back(std::slice::from_ref(stream), PAYLOAD).await;
        let tier = store.counters().tier;
        let counted = (tier.block_cache_bytes + tier.index_cache_bytes) as usize;
        let (live, _) = allocated();
        let found = live.saturating_sub(before);
        most = most.max(found.saturating_sub(counted));
        if number % 500 == 499 {
            println!(
                "{} blocks: counted {counted}, allocated {found}",
                number + 1
            );
        }
    }
    assert!(most <= MIB / 4, "{most} more than is counted");
    store.close().await.unwrap();
}
