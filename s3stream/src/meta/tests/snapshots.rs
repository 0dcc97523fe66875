//! Snapshots of the metadata: which is taken, how large ones are stored, what damage does.
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_types::{Epoch, Offset, StreamId};

use crate::testing::{Fault, FaultyBucket, NODE, Op, TestEnv, open_new_stream, register};
use crate::{MetaConfig, MetaError, MetaOp, Metadata, NewObject, NewRange, ObjectId, ObjectKind};

use super::super::load::snapshot_key;
use super::{filled, open, put, try_open};

#[tokio::test(start_paused = true)]
async fn opening_takes_the_newest_snapshot_and_the_log_after_it() {
    let bucket = FaultyBucket::new();
    let metadata = filled(&bucket, 25, 10).await;
    assert_eq!(
        bucket.keys("meta/snap/").await,
        [snapshot_key(10), snapshot_key(20)]
    );
    let gets = bucket.count(Op::Get, "meta/log/");
    let again = open(&bucket, 2).await;
    assert_eq!(
        (
            again.open_report().snapshot_seq,
            again.open_report().entries_replayed
        ),
        (20, 6)
    );
    assert_eq!(bucket.count(Op::Get, "meta/log/") - gets, 6);
    assert_eq!(again.read(Clone::clone), metadata.read(Clone::clone));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_is_passed_over_and_reported() {
    let bucket = FaultyBucket::new();
    let metadata = filled(&bucket, 25, 10).await;
    bucket.flip(&snapshot_key(20), 60).await;
    let again = open(&bucket, 2).await;
    assert_eq!(again.open_report().snapshot_seq, 10);
    let damaged = &again.open_report().snapshots_damaged;
    assert!(matches!(&damaged[..], [MetaError::Corrupt { key, .. }] if *key == snapshot_key(20)));
    assert_eq!(again.read(Clone::clone), metadata.read(Clone::clone));
    // The log in front of the older one may be deleted: without both nothing can be vouched for.
    bucket.flip(&snapshot_key(10), 60).await;
    let err = try_open(&bucket, 3).await.err().unwrap();
    assert!(
        matches!(&err, MetaError::Corrupt { key, .. } if *key == snapshot_key(20)),
        "{err}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_only_snapshot_may_be_damaged() {
    let bucket = FaultyBucket::new();
    let metadata = filled(&bucket, 15, 10).await;
    bucket.flip(&snapshot_key(10), 60).await;
    let again = open(&bucket, 2).await;
    let report = again.open_report();
    assert_eq!((report.snapshot_seq, report.entries_replayed), (0, 16));
    assert_eq!(again.read(Clone::clone), metadata.read(Clone::clone));
}

/// A state of many parts: keys, and streams with ranges in objects.
async fn large(bucket: &Arc<FaultyBucket>) -> Metadata {
    let config = MetaConfig {
        snapshot_part_bytes: 256,
        ..MetaConfig::default()
    };
    let metadata = Metadata::open(bucket.clone(), TestEnv::shared(1 << 32), config)
        .await
        .unwrap();
    let node_epoch = register(&metadata).await;
    let stream = open_new_stream(&metadata, node_epoch).await;
    for counter in 1..=40 {
        metadata
            .propose(vec![
                upload(stream, node_epoch, counter),
                put(&format!("key/{counter}"), "v"),
            ])
            .await
            .unwrap();
    }
    metadata
}

fn upload(stream: StreamId, node_epoch: Epoch, counter: u64) -> MetaOp {
    let id = ObjectId {
        node: NODE,
        epoch: node_epoch,
        counter,
        nonce: counter * 7,
    };
    let object = NewObject {
        id,
        kind: ObjectKind::Stream,
        size: 1_000,
        index_position: 900,
        footer_crc: 5,
    };
    let range = NewRange {
        stream,
        epoch: Epoch(1),
        start: Offset(counter * 10 - 10),
        end: Offset(counter * 10),
        timestamp_ms_max: 1,
        object: 0,
    };
    MetaOp::CommitUpload {
        node: NODE,
        node_epoch,
        objects: vec![object],
        ranges: vec![range],
        snapshots: vec![],
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_state_is_stored_in_parts_the_head_last() {
    let bucket = FaultyBucket::new();
    let metadata = large(&bucket).await;
    bucket.script(
        Op::Create,
        "meta/",
        &[Fault::Throttle, Fault::LoseAnswer, Fault::Vanish],
    );
    metadata.write_snapshot().await.unwrap();
    let parts = bucket.keys("meta/part/").await;
    assert!(parts.len() > 10, "{} parts", parts.len());
    let head = bucket.keys("meta/snap/").await;
    let created = |key: &String| {
        let requests = bucket.requests();
        let first = |(op, done): &(Op, String)| *op == Op::Create && done == key;
        requests.iter().position(first).unwrap()
    };
    assert!(parts.iter().all(|part| created(part) < created(&head[0])));
    let again = open(&bucket, 2).await;
    assert_eq!(again.open_report().entries_replayed, 0);
    assert_eq!(again.read(Clone::clone), metadata.read(Clone::clone));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_or_missing_part_takes_its_snapshot_out() {
    let bucket = FaultyBucket::new();
    let metadata = large(&bucket).await;
    metadata.write_snapshot().await.unwrap();
    let parts = bucket.keys("meta/part/").await;
    bucket.flip(&parts[3], 40).await;
    let again = open(&bucket, 2).await;
    let damaged = &again.open_report().snapshots_damaged;
    assert!(matches!(&damaged[..], [MetaError::Corrupt { key, .. }] if *key == parts[3]));
    assert_eq!(again.read(Clone::clone), metadata.read(Clone::clone));
    bucket.tamper(&parts[3], None).await;
    let again = open(&bucket, 3).await;
    let damaged = &again.open_report().snapshots_damaged;
    assert!(matches!(&damaged[..], [MetaError::MissingEntry { key }] if *key == parts[3]));
    assert_eq!(again.read(Clone::clone), metadata.read(Clone::clone));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_of_the_entry_that_made_it_due_whatever_comes_while_it_is_written() {
    let bucket = FaultyBucket::new();
    let config = MetaConfig {
        snapshot_entries: 10,
        ..MetaConfig::default()
    };
    let metadata = Metadata::open(bucket.clone(), TestEnv::shared(1 << 32), config)
        .await
        .unwrap();
    bucket.script(Op::Create, "meta/snap/", &[Fault::Throttle; 3]);
    for _ in 0..19 {
        metadata.propose(vec![put("key", "value")]).await.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(bucket.keys("meta/snap/").await, [snapshot_key(10)]);
    metadata.propose(vec![put("key", "value")]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(bucket.keys("meta/snap/").await.len(), 2);
    let again = open(&bucket, 2).await;
    assert_eq!(again.read(Clone::clone), metadata.read(Clone::clone));
}

#[tokio::test(start_paused = true)]
async fn snapshots_of_two_writers_are_the_same_bytes() {
    let bucket = FaultyBucket::new();
    let left = filled(&bucket, 5, 1_000).await;
    let right = open(&bucket, 2).await;
    left.write_snapshot().await.unwrap();
    let bytes = bucket.bytes(&snapshot_key(6)).await;
    bucket.tamper(&snapshot_key(6), None).await;
    right.write_snapshot().await.unwrap();
    assert_eq!(bucket.bytes(&snapshot_key(6)).await, bytes);
    // A second one finds it there.
    left.write_snapshot().await.unwrap();
}
