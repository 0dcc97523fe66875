//! When what waits is uploaded, and how many objects it becomes.
//!
//! *Owns*: behaviour a caller relies on. *IO: driver*

mod common;

use std::pin::pin;
use std::time::Duration;

use common::{Gate, life, open_with, quiet};
use futures_util::future::{Either, select};
use tidewater_stream_store::{
    AppendRequest, MetaOp, StoreConfig, Stream, StreamStore, TierConfig, TokioEnv,
};
use tidewater_types::{Env, Offset, StreamId};

const MIB: u64 = 1 << 20;
/// One small record with what a producer puts around it.
const PAYLOAD: usize = 70;
/// Bytes of memory that such an entry takes while it waits.
const COUNTED: u64 = 452;

async fn streams(store: &StreamStore, count: u64) -> Vec<Stream> {
    let first = store.metadata().read(|state| state.next_stream_id()).0;
    let ids: Vec<_> = (first..first + count).map(StreamId).collect();
    for ids in ids.chunks(2_000) {
        let create = ids.iter().map(|id| MetaOp::CreateStream { stream: *id });
        store.metadata().propose(create.collect()).await.unwrap();
    }
    store.open_streams(&ids).await.unwrap()
}

async fn append(stream: &Stream) -> Offset {
    append_bytes(stream, PAYLOAD).await
}

async fn append_bytes(stream: &Stream, num_bytes: usize) -> Offset {
    let request = AppendRequest {
        record_count: 1,
        timestamp_ms_max: 0,
        num_bytes,
    };
    let fill = |offset: Offset| vec![u8::try_from(offset.0 % 251).unwrap(); num_bytes].into();
    stream.append(request, fill).await.unwrap().end_offset
}

/// With the shares of a broker that has 512 MiB.
#[test]
fn a_few_small_entries_of_each_of_twenty_thousand_streams_are_one_object() {
    const STREAMS: u64 = 20_000;
    const EACH: u64 = 3;
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    life(async || {
        let config = StoreConfig {
            tier: TierConfig {
                upload_bytes: 15 * MIB,
                ..quiet().tier
            },
            waiting_bytes_max: 122 * MIB,
            ..quiet()
        };
        let store = open_with(folder.path(), &gate, config).await.unwrap();
        let streams = streams(&store, STREAMS).await;
        for _ in 0..EACH {
            for stream in &streams {
                append(stream).await;
            }
        }
        for stream in &streams {
            stream.wait_durable(Offset(EACH)).await.unwrap();
        }
        assert_eq!(store.counters().tier.uploads, 0, "nobody asked for it");
        store.flush().await.unwrap();
        let tier = store.counters().tier;
        assert_eq!((tier.uploads, tier.commits), (1, 1));
        assert_eq!(store.counters().accepted_bytes, 0);
        store.close().await.unwrap();
    });
}

/// Their payloads would be far from it.
#[test]
fn small_entries_are_uploaded_when_they_take_a_third_of_the_memory_for_what_waits() {
    const WAITING: u64 = 6 * MIB;
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    life(async || {
        let config = StoreConfig {
            waiting_bytes_max: WAITING,
            append_bytes_max: MIB,
            ..quiet()
        };
        assert!(config.tier.upload_bytes > WAITING);
        let store = open_with(folder.path(), &gate, config).await.unwrap();
        let streams = streams(&store, 1).await;
        let full = WAITING / 3 / COUNTED;
        let mut end = Offset(0);
        for _ in 0..full {
            end = append(&streams[0]).await;
        }
        streams[0].wait_durable(end).await.unwrap();
        assert_eq!(store.counters().tier.uploads, 0);
        append(&streams[0]).await;
        // Nothing else asks for an upload: no age, no flush.
        let commit = pin!(async {
            while store.counters().tier.commits == 0 {
                TokioEnv::current().sleep(Duration::from_millis(5)).await;
            }
        });
        let env = TokioEnv::current();
        let patience = env.sleep(Duration::from_secs(60));
        let first = select(commit, patience).await;
        assert!(matches!(first, Either::Left(_)), "nothing was uploaded");
        assert_eq!(store.counters().tier.uploads, 1);
        let left = store.counters().accepted_bytes;
        assert!(left <= 2 * COUNTED, "{left}");
        store.close().await.unwrap();
    });
}

#[test]
fn who_waits_for_room_asks_for_an_upload() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    life(async || {
        let config = StoreConfig {
            waiting_bytes_max: 64 << 10,
            append_bytes_max: 32 << 10,
            append_wait_ms_max: 60_000,
            ..quiet()
        };
        let store = open_with(folder.path(), &gate, config).await.unwrap();
        let stream = streams(&store, 1).await.remove(0);
        // What is durable is less than a third of the room, and half of it is held by who does not
        // append.
        let held = stream.reserve(30 << 10).await.unwrap();
        let first = append_bytes(&stream, 20 << 10).await;
        stream.wait_durable(first).await.unwrap();
        assert_eq!(store.counters().tier.uploads, 0);
        append_bytes(&stream, 30 << 10).await;
        assert_eq!(store.counters().tier.uploads, 1);
        drop(held);
        store.close().await.unwrap();
    });
}
