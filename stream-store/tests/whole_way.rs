//! The whole way of data through the object tier: uploads in parts, compaction, copies by the store,
//! compaction by key, trim, deletion, a restart, fsck.
//!
//! Runs in memory, in a local directory, and (ignored, `cargo xtask test` runs it) on the S3 store
//! that `TIDEWATER_TEST_S3_ENDPOINT`, `…_BUCKET`, `…_ACCESS_KEY_ID` and `…_SECRET_ACCESS_KEY` name.
//! The simulator does the same with faults (scenarios `tier` and `store`).
//!
//! *Owns*: behaviour a caller relies on. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketOptions, LocalBucket, MemoryBucket, Purpose, S3Bucket};
use tidewater_stream_store::keyed::{KeyOwner, KeyPolicy, KeyedRecord, NotKeyed};
use tidewater_stream_store::{
    AppendRequest, Entry, Fsck, FsckReport, ObjectWalConfig, ObjectWalOpener, StoreConfig, Stream,
    StreamStore, TierConfig, TokioEnv,
};
use tidewater_types::{Offset, StreamId};

const ROUNDS: u64 = 4;
/// Of each round: what the large stream gets, in entries of 64 KiB. What is read in front of a copy
/// and the copy itself have at least 5 MiB each, S3's least part.
const LARGE_ENTRIES: u64 = 12 * 16;
const LARGE_ENTRY_BYTES: usize = 64 << 10;
const SMALL_STREAMS: usize = 5;
const KEYS: u64 = 3;
/// A store that is busy takes its time; more than this is a hang.
const WITHIN: Duration = Duration::from_secs(120);

/// Uploads on request, objects in parts, everything that may be joined is, and nothing stays long.
fn config() -> StoreConfig {
    let mut tier = TierConfig {
        upload_age: Duration::from_secs(3_600),
        stream_object_bytes: 1 << 20,
        block_bytes: 64 << 10,
        delete_delay: Duration::from_millis(500),
        ..TierConfig::default()
    };
    tier.meta.snapshot_entries = 3;
    tier.upload.multipart_bytes = 6 << 20;
    tier.upload.part_bytes = 8 << 20;
    tier.compact.objects_min = 2;
    tier.compact.growth_min = 2;
    tier.compact.pause = Duration::from_millis(50);
    tier.compact.key_records_min = 1;
    tier.compact.copy_bytes = 5 << 20;
    tier.compact.read_bytes = 6 << 20;
    StoreConfig {
        tier,
        tail_cache_bytes_max: 0,
        ..StoreConfig::default()
    }
}

async fn open(bucket: &Arc<dyn Bucket>, compacts: bool) -> StreamStore {
    let mut config = config();
    config.tier.compact.background = compacts;
    let env = Arc::new(TokioEnv::current());
    let wal = ObjectWalOpener {
        bucket: Arc::clone(bucket),
        node: config.node,
        config: ObjectWalConfig::default(),
        env: env.clone(),
    };
    let opened = StreamStore::open(env, Arc::clone(bucket), Box::new(wal), config);
    opened.await.unwrap()
}

/// One record an entry, whose key is the first byte.
struct FirstByte;

impl KeyOwner for FirstByte {
    fn policy(&self) -> KeyPolicy {
        KeyPolicy {
            lag_ms_min: 0,
            lag_ms_max: i64::MAX,
            dirty_permille: 500,
            few_ms_max: i64::MAX,
            delete_retention_ms: 0,
        }
    }

    fn bound(&self) -> Offset {
        Offset(u64::MAX)
    }

    fn replays(&self) -> bool {
        false
    }

    fn records(
        &self,
        _stream: StreamId,
        entry: &Entry,
        each: &mut dyn FnMut(KeyedRecord<'_>),
    ) -> Result<Option<i64>, NotKeyed> {
        each(KeyedRecord {
            offset: entry.base_offset,
            key: entry.payload.get(..1),
            is_tombstone: false,
        });
        Ok(None)
    }

    fn rewrite(
        &self,
        _stream: StreamId,
        entry: &Entry,
        keep: &[bool],
        _delete_horizon_ms: Option<i64>,
    ) -> Result<Option<Entry>, NotKeyed> {
        Ok(keep[0].then(|| entry.clone()))
    }
}

async fn append(stream: &Stream, payload: Bytes) {
    let request = AppendRequest {
        record_count: 1,
        timestamp_ms_max: 0,
        num_bytes: payload.len(),
    };
    stream.append(request, |_| payload).await.unwrap();
}

/// The entry of the large stream at `offset`.
fn large(offset: u64) -> Bytes {
    let mut body = vec![u8::try_from(offset % 251).unwrap(); LARGE_ENTRY_BYTES];
    body[..8].copy_from_slice(&offset.to_le_bytes());
    Bytes::from(body)
}

fn keyed(number: u64) -> Bytes {
    Bytes::from(format!("{}={number}", number % KEYS))
}

struct Streams {
    large: Stream,
    keyed: Stream,
    small: Vec<Stream>,
}

impl Streams {
    async fn of(store: &StreamStore, ids: &[StreamId]) -> Self {
        let mut all = store.open_streams(ids).await.unwrap();
        let (large, keyed) = (all.remove(0), all.remove(0));
        keyed.set_key_owner(Some(Arc::new(FirstByte)));
        let small = all;
        Self {
            large,
            keyed,
            small,
        }
    }

    async fn fill(&self, store: &StreamStore) {
        for round in 0..ROUNDS {
            for number in 0..LARGE_ENTRIES {
                append(&self.large, large(round * LARGE_ENTRIES + number)).await;
            }
            for number in 0..10 {
                append(&self.keyed, keyed(round * 10 + number)).await;
            }
            for stream in &self.small {
                append(stream, Bytes::from(format!("{} {round}", stream.id()))).await;
            }
            // What is not durable yet is not uploaded.
            for stream in [&self.large, &self.keyed].into_iter().chain(&self.small) {
                stream.wait_durable(stream.end()).await.unwrap();
            }
            store.flush().await.unwrap();
        }
    }

    /// Everything is there, but what was trimmed and what a later record of its key replaced.
    async fn check(&self) {
        let start = self.large.start().0;
        let entries = read_all(&self.large).await;
        let offsets: Vec<_> = entries.iter().map(|entry| entry.base_offset.0).collect();
        assert_eq!(offsets, (start..ROUNDS * LARGE_ENTRIES).collect::<Vec<_>>());
        for entry in entries {
            assert!(entry.payload == large(entry.base_offset.0), "{entry:?}");
        }
        for stream in &self.small {
            let texts: Vec<_> = read_all(stream).await;
            let texts: Vec<_> = texts.into_iter().map(|entry| entry.payload).collect();
            let expected = (0..ROUNDS).map(|round| format!("{} {round}", stream.id()));
            assert_eq!(texts, expected.map(Bytes::from).collect::<Vec<_>>());
        }
        let (kept, last) = (read_all(&self.keyed).await, ROUNDS * 10);
        for entry in &kept {
            assert_eq!(entry.payload, keyed(entry.base_offset.0));
        }
        let newest: Vec<_> = (last - KEYS..last).map(keyed).collect();
        let tail = &kept[kept.len() - newest.len()..];
        assert!(
            tail.iter().map(|entry| &entry.payload).eq(&newest),
            "{kept:?}"
        );
    }
}

async fn read_all(stream: &Stream) -> Vec<Entry> {
    let (mut all, mut offset) = (Vec::new(), stream.start());
    while offset < stream.high_watermark() {
        let entries = stream.fetch(offset, 1 << 20).await.unwrap().entries;
        offset = entries
            .last()
            .expect("below the high watermark")
            .end_offset();
        all.extend(entries);
    }
    all
}

async fn data_keys(bucket: &Arc<dyn Bucket>) -> BTreeSet<String> {
    let page = bucket.list(Purpose::Fsck, "data/", None).await.unwrap();
    assert!(!page.more);
    page.entries.into_iter().map(|entry| entry.key).collect()
}

/// The keys of all objects that somebody references.
fn live_keys(store: &StreamStore) -> BTreeSet<String> {
    store.metadata().read(|state| {
        let objects = state.objects();
        let live = objects.filter(|(_, object)| object.died_seq.is_none());
        live.map(|(id, _)| id.key()).collect()
    })
}

async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_true().await {
        assert!(begun.elapsed() < WITHIN, "{what}: not after {WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn fsck(bucket: &Arc<dyn Bucket>) -> FsckReport {
    let env = Arc::new(TokioEnv::current());
    let fsck = Fsck::new(env, Arc::clone(bucket)).with_checksums(true);
    fsck.run().await.unwrap()
}

/// At most there is an object of a compaction that the end of its life cut short.
async fn assert_sound(bucket: &Arc<dyn Bucket>) {
    let report = fsck(bucket).await;
    let worst = report.severity().map(|severity| severity.name());
    assert!(matches!(worst, None | Some("info")), "{report:?}");
}

async fn goes_the_whole_way(bucket: Arc<dyn Bucket>) {
    let store = open(&bucket, true).await;
    let mut ids = Vec::new();
    for _ in 0..2 + SMALL_STREAMS {
        ids.push(store.create().await.unwrap());
    }
    let streams = Streams::of(&store, &ids).await;
    streams.fill(&store).await;

    until("compaction", async || {
        let tier = store.counters().tier;
        tier.compaction_steps > 0 && tier.key_records_dropped > 0
    })
    .await;
    if bucket.multipart().is_some() {
        until("copies", async || {
            store.counters().tier.compaction_bytes_copied > 0
        })
        .await;
    }
    streams.check().await;
    let keep = 2 * LARGE_ENTRIES * LARGE_ENTRY_BYTES as u64;
    let point = streams.large.trim_point(None, Some(keep)).await.unwrap();
    assert!(
        point > Offset(0) && point <= Offset(2 * LARGE_ENTRIES),
        "{point}"
    );
    streams.large.trim(point).await.unwrap();
    until("deletion of what is dead", async || {
        data_keys(&bucket).await == live_keys(&store)
    })
    .await;
    streams.check().await;
    store.close().await.unwrap();
    drop((store, streams));

    let store = open(&bucket, false).await;
    let streams = Streams::of(&store, &ids).await;
    streams.check().await;
    let live = live_keys(&store);
    store.close().await.unwrap();
    drop((store, streams));

    assert_sound(&bucket).await;
    for key in live {
        let body = bucket.get(Purpose::Fsck, &key, None).await.unwrap();
        bucket.delete(Purpose::Gc, &key).await.unwrap();
        let findings = fsck(&bucket).await.findings;
        let named = findings
            .iter()
            .any(|found| found.object.as_ref() == Some(&key));
        assert!(named, "{key} is gone: {findings:?}");
        let mut damaged = body.to_vec();
        damaged[body.len() / 2] ^= 1;
        let damaged = vec![Bytes::from(damaged)];
        bucket.create(Purpose::Upload, &key, damaged).await.unwrap();
        let findings = fsck(&bucket).await.findings;
        let named = findings
            .iter()
            .any(|found| found.object.as_ref() == Some(&key));
        assert!(named, "{key} is damaged: {findings:?}");
        bucket.delete(Purpose::Gc, &key).await.unwrap();
        bucket
            .create(Purpose::Upload, &key, vec![body])
            .await
            .unwrap();
    }
    assert_sound(&bucket).await;
}

#[tokio::test]
async fn in_memory() {
    goes_the_whole_way(Arc::new(MemoryBucket::new())).await;
}

#[tokio::test]
async fn in_a_local_directory() {
    let folder = tempfile::tempdir().unwrap();
    goes_the_whole_way(Arc::new(LocalBucket::open(folder.path()).unwrap())).await;
}

#[tokio::test]
#[ignore = "needs an S3 server; cargo xtask test runs it"]
async fn on_an_s3_store() {
    let var = |name: &str| {
        let name = format!("TIDEWATER_TEST_S3_{name}");
        std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set"))
    };
    let mut options = BucketOptions::default();
    options.endpoint = Some(var("ENDPOINT"));
    options.access_key_id = Some(var("ACCESS_KEY_ID"));
    options.secret_access_key = Some(var("SECRET_ACCESS_KEY"));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let prefix = format!("store-tests/whole-way-{}", since.as_nanos());
    let bucket = S3Bucket::open(&var("BUCKET"), &prefix, &options).unwrap();
    goes_the_whole_way(Arc::new(bucket)).await;
}
