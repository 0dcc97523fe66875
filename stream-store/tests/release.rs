//! Streams that move between nodes, and those that do not.
//!
//! *Owns*: behaviour a caller relies on. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Gate, append, life, placed, quiet, read_all};
use tidewater_s3stream::Severity;
use tidewater_stream_store::{
    AppendRequest, Fsck, ObjectWalConfig, ObjectWalOpener, StoreConfig, StoreError, StreamStore,
    TokioEnv,
};
use tidewater_types::{ErrorKind, NodeId};

fn node(number: u32) -> StoreConfig {
    StoreConfig {
        node: NodeId(number),
        ..quiet()
    }
}

async fn open(gate: &Gate, config: StoreConfig) -> StreamStore {
    let env = Arc::new(TokioEnv::current());
    let wal = ObjectWalOpener {
        bucket: Arc::new(gate.clone()),
        node: config.node,
        config: ObjectWalConfig::default(),
        env: env.clone(),
    };
    StreamStore::open(env, Arc::new(gate.clone()), Box::new(wal), config)
        .await
        .unwrap()
}

#[test]
fn a_stream_that_was_released_moves_with_everything_in_it() {
    let gate = Gate::default();
    life(async || {
        let (first, second) = (open(&gate, node(1)).await, open(&gate, node(2)).await);
        let id = first.create().await.unwrap();
        let stream = first.open_stream(id).await.unwrap();
        append(&stream, "abc", 0).await;
        first.release(id).await.unwrap();
        let request = AppendRequest {
            record_count: 1,
            timestamp_ms_max: 0,
            num_bytes: 1,
        };
        let refused = stream.append(request, |_| Bytes::from_static(b"x")).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Fenced);
        second.metadata().refresh().await.unwrap();
        let moved = second.open_stream(id).await.unwrap();
        assert_eq!(read_all(&moved).await, placed(&["abc"]));
        append(&moved, "de", 0).await;
        first.metadata().refresh().await.unwrap();
        let refused = first.open_stream(id).await.unwrap_err();
        let owner = NodeId(2);
        assert!(matches!(refused, StoreError::Owned { owner: found, .. } if found == owner));
        second.release(id).await.unwrap();
        first.metadata().refresh().await.unwrap();
        let back = first.open_stream(id).await.unwrap();
        assert_eq!(read_all(&back).await, placed(&["abc", "de"]));
    });
}

#[test]
fn another_node_takes_no_stream_and_loses_nothing() {
    let gate = Gate::default();
    let id = life(async || {
        let store = open(&gate, node(1)).await;
        let id = store.create().await.unwrap();
        append(&store.open_stream(id).await.unwrap(), "abc", 0).await;
        id
    });
    life(async || {
        let other = open(&gate, node(2)).await;
        let refused = other.open_stream(id).await.unwrap_err();
        assert!(refused.is_foreign(), "{refused}");
        assert!(
            refused.to_string().contains("belongs to node 1"),
            "{refused}"
        );
    });
    life(async || {
        let store = open(&gate, node(1)).await;
        let stream = store.open_stream(id).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["abc"]));
    });
}

#[test]
fn whoever_accepts_the_loss_takes_a_stream_and_the_owner_opens_without_it() {
    let gate = Gate::default();
    let (id, kept) = life(async || {
        let store = open(&gate, node(1)).await;
        let (id, kept) = (store.create().await.unwrap(), store.create().await.unwrap());
        let stream = store.open_stream(id).await.unwrap();
        append(&stream, "abc", 0).await;
        store.flush().await.unwrap();
        append(&stream, "de", 0).await;
        append(&store.open_stream(kept).await.unwrap(), "f", 0).await;
        (id, kept)
    });
    life(async || {
        let lossy = StoreConfig {
            accept_data_loss: true,
            ..node(2)
        };
        let store = open(&gate, lossy).await;
        let stream = store.open_stream(id).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["abc"]));
        append(&stream, "g", 0).await;
        store.flush().await.unwrap();
    });
    life(async || {
        let store = open(&gate, node(1)).await;
        let stream = store.open_stream(kept).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["f"]));
        let refused = store.open_stream(id).await.unwrap_err();
        assert!(matches!(refused, StoreError::Owned { .. }), "{refused}");
    });
}

#[test]
fn what_was_lost_with_consent_stays_lost_when_the_stream_comes_back() {
    let gate = Gate::default();
    let (id, kept) = life(async || {
        let store = open(&gate, node(1)).await;
        let (id, kept) = (store.create().await.unwrap(), store.create().await.unwrap());
        append(&store.open_stream(kept).await.unwrap(), "f", 0).await;
        let stream = store.open_stream(id).await.unwrap();
        append(&stream, "abcde", 0).await;
        (id, kept)
    });
    life(async || {
        let lossy = StoreConfig {
            accept_data_loss: true,
            ..node(2)
        };
        let store = open(&gate, lossy).await;
        let stream = store.open_stream(id).await.unwrap();
        append(&stream, "gh", 0).await;
        store.release(id).await.unwrap();
    });
    // What node 1 cannot trim keeps its log as it is.
    for texts in [&["gh"][..], &["gh", "i"]] {
        life(async || {
            let store = open(&gate, node(1)).await;
            let stream = store.open_stream(id).await.unwrap();
            assert_eq!(read_all(&stream).await, placed(texts));
            append(&stream, "i", 0).await;
            let stream = store.open_stream(kept).await.unwrap();
            assert_eq!(read_all(&stream).await, placed(&["f"]));
            assert_sound(&gate).await;
        });
    }
}

async fn assert_sound(gate: &Gate) {
    let env = Arc::new(TokioEnv::current());
    let report = Fsck::new(env, Arc::new(gate.clone())).run().await.unwrap();
    let wrong = report.findings.iter();
    let mut wrong = wrong.filter(|finding| finding.severity == Severity::Error);
    assert_eq!(wrong.next(), None);
}
