//! What a store does when streams are deleted, tasks die and calls meet, over memory ports.
//!
//! *IO: driver* (tests)
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests run on tokio"
)]

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_stream_store::bucket::{Bucket, BucketError, ListPage, MemoryBucket, Purpose};
use tidewater_stream_store::{
    AppendRequest, MemoryWalOpener, StoreConfig, StoreError, Stream, StreamStore, TierConfig,
    TokioEnv,
};
use tidewater_types::{BoxFuture, Offset};

/// Uploads only what is asked for.
fn quiet() -> StoreConfig {
    StoreConfig {
        tier: TierConfig {
            upload_age: Duration::from_secs(600),
            ..TierConfig::default()
        },
        waiting_bytes_max: 64 << 10,
        append_bytes_max: 32 << 10,
        append_wait_ms_max: 50,
        ..StoreConfig::default()
    }
}

async fn open(bucket: Arc<dyn Bucket>, config: StoreConfig) -> StreamStore {
    let env = Arc::new(TokioEnv::current());
    let wal = MemoryWalOpener {
        capacity_bytes: 1 << 20,
        reserve_ms_max: 50,
        env: env.clone(),
    };
    StreamStore::open(env, bucket, Box::new(wal), config)
        .await
        .unwrap()
}

async fn create(store: &StreamStore) -> Stream {
    let id = store.create().await.unwrap();
    store.open_stream(id).await.unwrap()
}

async fn append(
    stream: &Stream,
    timestamp_ms_max: i64,
    num_bytes: usize,
) -> Result<(), StoreError> {
    let request = AppendRequest {
        record_count: 1,
        timestamp_ms_max,
        num_bytes,
    };
    let appended = stream
        .append(request, |_| Bytes::from(vec![7; num_bytes]))
        .await?;
    stream.wait_durable(appended.end_offset).await
}

#[tokio::test]
async fn what_deleted_streams_left_does_not_block_the_others() {
    let store = open(Arc::new(MemoryBucket::new()), quiet()).await;
    let gone = create(&store).await;
    // Together less than a third of the room: only the flush asks for them.
    append(&gone, 0, 9 << 10).await.unwrap();
    append(&gone, 0, 9 << 10).await.unwrap();
    let stays = create(&store).await;
    store.delete(gone.id()).await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(store.counters().waiting_bytes, 0);
    append(&stays, 0, 100).await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(store.counters().waiting_bytes, 0);
    assert_eq!(
        store.counters().watermarks.trimmed,
        store.counters().watermarks.accepted
    );
}

#[tokio::test]
async fn a_reader_at_the_end_of_a_deleted_stream_is_told() {
    let store = open(Arc::new(MemoryBucket::new()), quiet()).await;
    let stream = create(&store).await;
    assert!(stream.fetch(Offset(0), 1).await.unwrap().entries.is_empty());
    store.delete(stream.id()).await.unwrap();
    // Else it would be told to wait, and its wait be over at once, for ever.
    stream.wait_readable(Offset(0)).await;
    let refused = stream.fetch(Offset(0), 1).await.unwrap_err();
    assert!(matches!(refused, StoreError::NoStream { .. }), "{refused}");
}

#[tokio::test]
async fn openings_of_one_stream_at_a_time_share_a_handle() {
    let store = open(Arc::new(MemoryBucket::new()), quiet()).await;
    let id = store.create().await.unwrap();
    let openings = (0..8).map(|_| store.open_stream(id));
    let opened = futures_util::future::join_all(openings).await;
    let first = opened[0].as_ref().unwrap();
    assert!(
        opened
            .iter()
            .all(|other| other.as_ref().unwrap().is_same(first))
    );
    let known = store
        .metadata()
        .read(|state| state.stream(id).unwrap().epoch);
    assert_eq!(first.epoch(), known);
}

#[tokio::test]
async fn more_streams_than_one_log_entry_holds_are_opened() {
    let mut config = quiet();
    config.tier.meta.entry_bytes_max = 4 << 10;
    let store = open(Arc::new(MemoryBucket::new()), config).await;
    let mut ids = Vec::new();
    for _ in 0..300 {
        ids.push(store.create().await.unwrap());
    }
    let opened = store.open_streams(&ids).await.unwrap();
    assert_eq!(opened.iter().map(Stream::id).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn a_time_is_found_in_objects_and_in_the_tail() {
    let mut config = quiet();
    config.tail_cache_bytes_max = 0;
    let store = open(Arc::new(MemoryBucket::new()), config).await;
    let stream = create(&store).await;
    append(&stream, 10, 10).await.unwrap();
    append(&stream, 20, 10).await.unwrap();
    store.flush().await.unwrap();
    append(&stream, 15, 10).await.unwrap();
    append(&stream, 30, 10).await.unwrap();
    for (time, base) in [
        (0, Some(0)),
        (11, Some(1)),
        (20, Some(1)),
        (21, Some(3)),
        (31, None),
    ] {
        let found = stream.find_timestamp(time).await.unwrap();
        assert_eq!(found.map(|entry| entry.base_offset.0), base, "at {time}");
    }
    assert_eq!(stream.timestamp_ms_max(), Some(30));
}

/// Panics at uploads, as a bug of an adapter or of the uploader might.
struct Broken(MemoryBucket);

impl Bucket for Broken {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        assert!(purpose != Purpose::Upload, "the bug that was asked for");
        self.0.create(purpose, key, body)
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        self.0.get(purpose, key, range)
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        self.0.size(purpose, key)
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.0.delete(purpose, key)
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        self.0.list(purpose, prefix, after)
    }
}

#[tokio::test]
async fn a_store_whose_uploader_dies_says_so() {
    let store = open(Arc::new(Broken(MemoryBucket::new())), quiet()).await;
    let stream = create(&store).await;
    append(&stream, 0, 10).await.unwrap();
    let asked = store.clone();
    let flush = tokio::spawn(async move { asked.flush().await });
    let failure = tokio::time::timeout(Duration::from_secs(10), store.failed())
        .await
        .expect("the store noticed");
    assert!(failure.to_string().contains("upload"), "{failure}");
    assert!(flush.await.unwrap().is_err());
    assert!(append(&stream, 0, 10).await.is_err());
}

#[tokio::test]
async fn an_append_keeps_the_room_of_what_it_became_and_a_failed_one_keeps_none() {
    let store = open(Arc::new(MemoryBucket::new()), quiet()).await;
    let stream = create(&store).await;
    let request = AppendRequest {
        record_count: 1,
        timestamp_ms_max: 0,
        num_bytes: 0,
    };
    let reserved = async |room: usize, payload: usize| {
        let reservation = stream.reserve(room).await.unwrap();
        let fill = |_| Bytes::from(vec![7; payload]);
        let before = store.counters().accepted_bytes;
        let appended = stream.append_reserved(reservation, request, fill);
        let kept = store.counters().accepted_bytes;
        (appended.is_ok(), before, kept)
    };
    let mut expected = 0;
    // Copied ones are dearer than shared ones that are a little larger.
    for (room, payload) in [(9_000, 100), (1_100, 1_023), (1_023, 1_023), (1_024, 1_024)] {
        let (is_taken, before, kept) = reserved(room, payload).await;
        assert!(is_taken && before >= kept, "{before}, then {kept}");
        let own = kept - expected;
        expected = kept;
        let (_, before, kept) = reserved(payload, payload).await;
        assert_eq!(kept - expected, own, "{room} for {payload}");
        assert!(before - expected >= own);
        expected = kept;
    }
    let (is_taken, before, kept) = reserved(10, 11).await;
    assert!(!is_taken && before > kept);
    assert_eq!(kept, expected, "what was too large took nothing");
    drop(stream.reserve(5_000).await.unwrap());
    assert_eq!(store.counters().accepted_bytes, expected);
    stream.wait_durable(stream.end()).await.unwrap();
    assert_eq!(store.counters().waiting_bytes, expected);
    store.flush().await.unwrap();
    assert_eq!(store.counters().accepted_bytes, 0);
}
