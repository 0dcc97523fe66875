//! Trimming by age and by size, over objects and the tail.
//!
//! *Owns*: behaviour a caller relies on. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod common;

use std::sync::Arc;

use common::{Gate, append, open_with, quiet};
use tidewater_stream_store::{ObjectWalConfig, ObjectWalOpener, StreamStore, TokioEnv};
use tidewater_types::Offset;

#[tokio::test]
async fn the_point_of_a_trim_goes_from_objects_on_into_the_tail() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(folder.path(), &Gate::default(), quiet()).await;
    let store = store.unwrap();
    let stream = store.create().await.unwrap();
    let stream = store.open_stream(stream).await.unwrap();
    let point = async |age, size| stream.trim_point(age, size).await.unwrap().0;
    assert_eq!(point(Some(i64::MAX), Some(0)).await, 0, "nothing is there");
    append(&stream, "abc", 100).await;
    store.flush().await.unwrap();
    append(&stream, "de", 200).await;
    store.flush().await.unwrap();
    append(&stream, "fgh", 300).await;
    append(&stream, "ij", 400).await;
    for (age, expected) in [(100, 0), (101, 3), (201, 5), (301, 8), (401, 10)] {
        assert_eq!(point(Some(age), None).await, expected, "older than {age}");
    }
    for (size, expected) in [(0, 10), (1, 8), (2, 8), (3, 5), (5, 5), (6, 3), (9_999, 0)] {
        assert_eq!(point(None, Some(size)).await, expected, "{size} bytes");
    }
    assert_eq!(point(Some(101), Some(1)).await, 8, "the greater");
    assert_eq!(point(None, None).await, 0, "nothing was asked for");

    stream
        .trim(Offset(point(Some(301), None).await))
        .await
        .unwrap();
    assert_eq!(stream.start(), Offset(8));
    let left = stream.fetch(Offset(8), 100).await.unwrap().entries;
    assert_eq!(left.len(), 1);
    assert_eq!(point(Some(0), Some(9_999)).await, 8, "it never goes back");
}

async fn open_in_bucket(gate: &Gate) -> StreamStore {
    let env = Arc::new(TokioEnv::current());
    let wal = ObjectWalOpener {
        bucket: Arc::new(gate.clone()),
        node: quiet().node,
        config: ObjectWalConfig::default(),
        env: env.clone(),
    };
    let opened = StreamStore::open(env, Arc::new(gate.clone()), Box::new(wal), quiet());
    opened.await.unwrap()
}

/// Metadata know of a commit before the tail does; here for long, as a later life made it.
#[tokio::test]
async fn bytes_that_are_in_objects_already_do_not_count_twice() {
    let gate = Gate::default();
    let first = open_in_bucket(&gate).await;
    let id = first.create().await.unwrap();
    let stream = first.open_stream(id).await.unwrap();
    let text = "x".repeat(1_000);
    append(&stream, &text, 0).await;
    first.flush().await.unwrap();
    append(&stream, &text, 0).await;
    append(&stream, &text, 0).await;
    let point = async |size| stream.trim_point(None, Some(size)).await.unwrap().0;
    assert_eq!(point(2_000).await, 1_000);
    assert_eq!(point(2_500).await, 0);
    let second = open_in_bucket(&gate).await;
    second.open_stream(id).await.unwrap();
    second.flush().await.unwrap();
    first.metadata().refresh().await.unwrap();
    assert_eq!(point(2_500).await, 0);
}
