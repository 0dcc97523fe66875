//! The store from outside: appends, reads across tail and objects, recovery, refusals.
//!
//! *Owns*: behaviour a caller relies on. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Gate, append, life, open, open_with, placed, quiet, read_all};
use parking_lot::Mutex;
use tidewater_bucket::{Bucket, Purpose};
use tidewater_stream_store::{
    AppendRequest, DeviceWalConfig, DeviceWalOpener, MemoryWalOpener, ReadSource, StateSnapshot,
    StateSource, StoreConfig, StoreError, StreamStore, TokioEnv, WalError,
};
use tidewater_types::{ErrorKind, Offset, StreamId};

#[test]
fn what_was_acknowledged_is_there_after_the_process_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let (id, epoch, cluster) = life(async || {
        let store = open(folder.path(), &gate).await;
        let stream = store
            .open_stream(store.create().await.unwrap())
            .await
            .unwrap();
        append(&stream, "abc", 10).await;
        append(&stream, "de", 20).await;
        (stream.id(), stream.epoch(), store.cluster_id())
    });
    life(async || {
        let store = open(folder.path(), &gate).await;
        assert_eq!(store.cluster_id(), cluster);
        let stream = store.open_stream(id).await.unwrap();
        assert!(
            stream.epoch() > epoch,
            "an open takes an epoch above all before"
        );
        assert_eq!(read_all(&stream).await, placed(&["abc", "de"]));
        append(&stream, "f", 30).await;
        assert_eq!(read_all(&stream).await, placed(&["abc", "de", "f"]));
    });
}

#[test]
fn objects_take_over_once_committed_and_the_wal_is_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let config = StoreConfig {
        tail_cache_bytes_max: 0,
        ..quiet()
    };
    let id = life(async || {
        let store = open_with(folder.path(), &gate, config.clone())
            .await
            .unwrap();
        let stream = store
            .open_stream(store.create().await.unwrap())
            .await
            .unwrap();
        for text in ["abc", "de", "fgh"] {
            append(&stream, text, 0).await;
        }
        assert_eq!(
            stream.fetch(Offset(0), 100).await.unwrap().source,
            ReadSource::Tail
        );
        store.flush().await.unwrap();
        let fetched = stream.fetch(Offset(0), 100).await.unwrap();
        assert_eq!(fetched.source, ReadSource::Objects);
        let marks = store.counters().watermarks;
        assert_eq!(
            marks.trimmed, marks.accepted,
            "the last frame is trimmed too"
        );
        append(&stream, "ijk", 0).await;
        // The read goes over the seam of objects and tail.
        assert_eq!(
            read_all(&stream).await,
            placed(&["abc", "de", "fgh", "ijk"])
        );
        let middle = stream.fetch(Offset(4), 1).await.unwrap().entries;
        assert_eq!(
            middle[0].base_offset,
            Offset(3),
            "the entry that holds the offset comes whole"
        );
        stream.id()
    });
    life(async || {
        let store = open_with(folder.path(), &gate, config).await.unwrap();
        let stream = store.open_stream(id).await.unwrap();
        assert_eq!(
            read_all(&stream).await,
            placed(&["abc", "de", "fgh", "ijk"])
        );
    });
}

#[tokio::test]
async fn a_time_is_found_in_objects_and_in_the_tail() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let store = open(folder.path(), &gate).await;
    let stream = store
        .open_stream(store.create().await.unwrap())
        .await
        .unwrap();
    append(&stream, "a", 100).await;
    append(&stream, "b", 300).await;
    store.flush().await.unwrap();
    append(&stream, "c", 200).await;
    append(&stream, "d", 400).await;
    let at = async |ms| {
        stream
            .find_timestamp(ms)
            .await
            .unwrap()
            .map(|e| e.base_offset.0)
    };
    assert_eq!(at(50).await, Some(0));
    assert_eq!(at(101).await, Some(1));
    assert_eq!(at(301).await, Some(3));
    assert_eq!(at(401).await, None);
    assert_eq!(stream.timestamp_ms_max(), Some(400));
}

#[tokio::test]
async fn offsets_outside_are_refused_and_the_end_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Gate::default()).await;
    let stream = store
        .open_stream(store.create().await.unwrap())
        .await
        .unwrap();
    append(&stream, "abc", 0).await;
    let fetched = stream.fetch(Offset(3), 100).await.unwrap();
    assert!(fetched.entries.is_empty() && fetched.source == ReadSource::Nothing);
    let refused = stream.fetch(Offset(4), 100).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::OutOfRange { end: Offset(3), .. }),
        "{refused}"
    );
    stream.trim(Offset(2)).await.unwrap();
    assert_eq!(stream.start(), Offset(2));
    let refused = stream.fetch(Offset(1), 100).await.unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::OutOfRange {
                start: Offset(2),
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(stream.fetch(Offset(2), 100).await.unwrap().entries.len(), 1);
    assert!(
        stream.trim(Offset(9)).await.is_err(),
        "beyond the high watermark"
    );
    assert!(store.open_stream(StreamId(99)).await.is_err());
}

#[tokio::test]
async fn appends_wait_for_room_and_then_say_full_and_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let config = StoreConfig {
        waiting_bytes_max: 64 << 10,
        append_bytes_max: 32 << 10,
        append_wait_ms_max: 50,
        ..quiet()
    };
    let store = open_with(folder.path(), &gate, config).await.unwrap();
    let stream = store
        .open_stream(store.create().await.unwrap())
        .await
        .unwrap();
    gate.close();
    let request = AppendRequest {
        record_count: 1,
        timestamp_ms_max: 0,
        num_bytes: 30 << 10,
    };
    // Two fit with what they take beside their payloads.
    let payload = Bytes::from(vec![7; 30 << 10]);
    for _ in 0..2 {
        stream.append(request, |_| payload.clone()).await.unwrap();
    }
    let refused = stream
        .append(request, |_| payload.clone())
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
    assert_eq!(
        stream.end(),
        Offset(2),
        "nothing of the refused append was taken"
    );
    let too_large = AppendRequest {
        num_bytes: (32 << 10) + 1,
        ..request
    };
    let refused = stream
        .append(too_large, |_| payload.clone())
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { .. }));
    gate.open();
    let waiting = async || stream.append(request, |_| payload.clone()).await;
    while waiting().await.is_err() {}
    assert_eq!(stream.end(), Offset(3));
    // A reservation that is dropped gives its room back.
    for _ in 0..20 {
        drop(stream.reserve(30 << 10).await.unwrap());
    }
}

/// Remembers every offset it was asked for.
#[derive(Default)]
struct Owner {
    asked: Mutex<Vec<u64>>,
    committed: Mutex<Vec<u64>>,
}

impl StateSource for Owner {
    fn snapshot_at(&self, offset: Offset) -> Option<StateSnapshot> {
        self.asked.lock().push(offset.0);
        let bytes = Bytes::from(format!("state at {offset}"));
        Some(StateSnapshot {
            as_of: offset,
            bytes,
        })
    }

    fn committed(&self, offset: Offset) {
        self.committed.lock().push(offset.0);
    }
}

#[test]
fn the_owners_state_comes_back_as_of_the_last_upload() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let id = life(async || {
        let store = open(folder.path(), &gate).await;
        let stream = store
            .open_stream(store.create().await.unwrap())
            .await
            .unwrap();
        let owner = Arc::new(Owner::default());
        stream.set_state_source(owner.clone());
        assert!(stream.snapshot().await.unwrap().is_none());
        append(&stream, "abc", 0).await;
        store.flush().await.unwrap();
        append(&stream, "de", 0).await;
        assert_eq!(*owner.asked.lock(), [3]);
        assert_eq!(*owner.committed.lock(), [3]);
        stream.id()
    });
    life(async || {
        let store = open(folder.path(), &gate).await;
        let stream = store.open_stream(id).await.unwrap();
        let snapshot = stream.snapshot().await.unwrap().unwrap();
        assert_eq!(
            (snapshot.as_of, &snapshot.bytes[..]),
            (Offset(3), &b"state at 3"[..])
        );
        assert_eq!(stream.high_watermark(), Offset(5));
    });
}

#[test]
fn a_deleted_stream_is_gone_and_its_waiting_data_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let id = life(async || {
        let store = open(folder.path(), &gate).await;
        let gone = store
            .open_stream(store.create().await.unwrap())
            .await
            .unwrap();
        let kept = store
            .open_stream(store.create().await.unwrap())
            .await
            .unwrap();
        append(&gone, "xyz", 0).await;
        append(&kept, "abc", 0).await;
        store.delete(gone.id()).await.unwrap();
        let request = AppendRequest {
            record_count: 1,
            timestamp_ms_max: 0,
            num_bytes: 1,
        };
        let refused = gone
            .append(request, |_| Bytes::from_static(b"x"))
            .await
            .unwrap_err();
        assert!(matches!(refused, StoreError::NoStream { .. }), "{refused}");
        store.flush().await.unwrap();
        assert_eq!(read_all(&kept).await, placed(&["abc"]));
        assert!(store.delete(gone.id()).await.is_err());
        kept.id()
    });
    life(async || {
        let store = open(folder.path(), &gate).await;
        assert_eq!(
            read_all(&store.open_stream(id).await.unwrap()).await,
            placed(&["abc"])
        );
    });
}

#[test]
fn a_missing_wal_is_refused_until_its_loss_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let id = life(async || {
        let store = open(folder.path(), &gate).await;
        let stream = store
            .open_stream(store.create().await.unwrap())
            .await
            .unwrap();
        append(&stream, "abc", 0).await;
        store.flush().await.unwrap();
        append(&stream, "lost", 0).await;
        stream.id()
    });
    std::fs::rename(folder.path().join("wal"), folder.path().join("elsewhere")).unwrap();
    life(async || {
        let before = gate.inner.list(Purpose::Fsck, "", None).await.unwrap();
        let refused = open_with(folder.path(), &gate, quiet()).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Wal(WalError::Missing { .. })),
            "{refused}"
        );
        assert!(refused.is_damage() && !refused.is_foreign());
        assert_eq!(
            gate.inner.list(Purpose::Fsck, "", None).await.unwrap(),
            before
        );

        let accepting = StoreConfig {
            accept_data_loss: true,
            ..quiet()
        };
        let store = open_with(folder.path(), &gate, accepting).await.unwrap();
        let stream = store.open_stream(id).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["abc"]));
    });
}

#[test]
fn a_wal_of_another_cluster_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    life(async || drop(open(folder.path(), &Gate::default()).await));
    let empty = Gate::default();
    life(async || {
        let refused = open_with(folder.path(), &empty, quiet()).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::ForeignWal { .. }),
            "{refused}"
        );
        assert!(
            empty
                .inner
                .list(Purpose::Fsck, "", None)
                .await
                .unwrap()
                .entries
                .is_empty()
        );
    });
    let other = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    life(async || drop(open(other.path(), &gate).await));
    life(async || {
        let refused = open_with(folder.path(), &gate, quiet()).await.unwrap_err();
        assert!(refused.is_foreign(), "{refused}");
    });
}

#[test]
fn a_memory_wal_does_not_take_the_place_of_a_named_one() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    life(async || drop(open(folder.path(), &gate).await));
    life(async || {
        let env = Arc::new(TokioEnv::current());
        let memory = MemoryWalOpener {
            capacity_bytes: 1 << 20,
            reserve_ms_max: 10,
            env: env.clone(),
        };
        let bucket: Arc<dyn Bucket> = Arc::new(gate);
        let refused = StreamStore::open(env, bucket, Box::new(memory), quiet())
            .await
            .unwrap_err();
        assert!(
            matches!(refused, StoreError::Wal(WalError::Missing { .. })),
            "{refused}"
        );
    });
}

#[tokio::test]
async fn a_closed_store_refuses_and_keeps_what_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let store = open(folder.path(), &gate).await;
    let stream = store
        .open_stream(store.create().await.unwrap())
        .await
        .unwrap();
    append(&stream, "abc", 0).await;
    store.close().await.unwrap();
    let request = AppendRequest {
        record_count: 1,
        timestamp_ms_max: 0,
        num_bytes: 1,
    };
    let refused = stream
        .append(request, |_| Bytes::from_static(b"x"))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed, "{refused}");
    let failed = tokio::time::timeout(Duration::from_secs(5), store.failed())
        .await
        .unwrap();
    assert!(matches!(failed, StoreError::Closed { .. }));
    let id = stream.id();
    let store = open(folder.path(), &gate).await;
    assert_eq!(
        read_all(&store.open_stream(id).await.unwrap()).await,
        placed(&["abc"])
    );
}

#[tokio::test]
async fn settings_out_of_range_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = StoreConfig {
        append_wait_ms_max: 0,
        ..quiet()
    };
    let refused = open_with(folder.path(), &Gate::default(), wrong)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("append_wait_ms_max"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_store_closed_while_its_ring_is_full_makes_room_for_what_it_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let open = || {
        let env = Arc::new(TokioEnv::current());
        let wal = DeviceWalOpener {
            path: folder.path().join("wal"),
            config: DeviceWalConfig {
                reserve_ms_max: 20_000,
                ..DeviceWalConfig::tiny()
            },
            env: env.clone(),
        };
        StreamStore::open(env, Arc::new(gate.clone()), Box::new(wal), quiet())
    };
    let store = open().await.unwrap();
    let id = store.create().await.unwrap();
    let stream = store.open_stream(id).await.unwrap();
    let text = "4".repeat(4096);
    // No upload is near, so the ring is never trimmed.
    while store.counters().wal.full_ring == 0 {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        let request = AppendRequest {
            record_count: 1,
            timestamp_ms_max: 0,
            num_bytes: payload.len(),
        };
        stream.append(request, |_| payload).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let end = stream.end();
    assert!(stream.high_watermark() < end, "something waits for room");
    store.close().await.unwrap();
    drop((stream, store));
    let store = open().await.unwrap();
    let stream = store.open_stream(id).await.unwrap();
    assert_eq!(stream.high_watermark(), end);
    assert_eq!(read_all(&stream).await.len() as u64, end.0);
}
