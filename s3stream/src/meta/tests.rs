//! Tests of the metadata log over a bucket with faults.

use std::sync::Arc;

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, Purpose};
use tidewater_types::{Epoch, ErrorKind};

use crate::testing::{Fault, FaultyBucket, NODE, Op, TestEnv, open_new_stream, register};
use crate::{MetaConfig, MetaError, MetaOp, Metadata, Rejection};

use super::load::log_key;

mod deletion;
mod guards;
mod snapshots;
mod turns;
mod watching;

async fn open(bucket: &Arc<FaultyBucket>, seed: u64) -> Metadata {
    try_open(bucket, seed).await.unwrap()
}

async fn try_open(bucket: &Arc<FaultyBucket>, seed: u64) -> Result<Metadata, MetaError> {
    Metadata::open(
        bucket.clone(),
        TestEnv::shared(seed << 32),
        MetaConfig::default(),
    )
    .await
}

fn put(key: &str, value: &'static str) -> MetaOp {
    MetaOp::PutKey {
        key: key.to_owned(),
        value: Bytes::from(value),
        expected_version: None,
    }
}

fn version(metadata: &Metadata, key: &str) -> u64 {
    metadata.read(|state| state.key(key).map_or(0, |(_, version)| version))
}

#[tokio::test(start_paused = true)]
async fn an_empty_bucket_becomes_a_cluster_that_keeps_its_id() {
    let bucket = FaultyBucket::new();
    let first = open(&bucket, 1).await.read(|state| state.cluster_id());
    let second = open(&bucket, 2).await.read(|state| state.cluster_id());
    assert_eq!(first, second);
    assert_eq!(bucket.keys("").await, [log_key(1)]);
}

#[tokio::test(start_paused = true)]
async fn two_creators_of_a_cluster_agree_on_one_id() {
    let bucket = FaultyBucket::new();
    let (left, right) = tokio::join!(open(&bucket, 1), open(&bucket, 2));
    assert_eq!(
        left.read(|state| state.cluster_id()),
        right.read(|state| state.cluster_id())
    );
    assert_eq!(bucket.keys("").await, [log_key(1)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_is_there_after_a_reopen() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    let epoch = register(&metadata).await;
    let stream = open_new_stream(&metadata, epoch).await;
    metadata
        .propose(vec![
            put("a/1", "one"),
            put("a/2", "two"),
            put("b", "three"),
        ])
        .await
        .unwrap();
    let again = open(&bucket, 2).await;
    assert_eq!(metadata.read(Clone::clone), again.read(Clone::clone));
    again.read(|state| {
        assert_eq!(state.node(NODE).unwrap().epoch, Epoch(1));
        assert_eq!(state.stream(stream).unwrap().epoch, Epoch(1));
        let keys: Vec<_> = state
            .keys_with_prefix("a/")
            .map(|(key, value, _)| (key, value.clone()))
            .collect();
        assert_eq!(
            keys,
            [("a/1", Bytes::from("one")), ("a/2", Bytes::from("two"))]
        );
    });
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_resolved_and_applies_once() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    bucket.script(Op::Create, "meta/log/", &[Fault::LoseAnswer]);
    register(&metadata).await;
    // Applied twice, the second registration would have been rejected.
    assert_eq!(bucket.keys("meta/log/").await, [log_key(1), log_key(2)]);
    bucket.script(Op::Create, "meta/log/", &[Fault::LoseAnswer]);
    metadata.propose(vec![put("key", "value")]).await.unwrap();
    assert_eq!(version(&metadata, "key"), 1);
    assert_eq!(version(&open(&bucket, 2).await, "key"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_resolved_although_the_read_back_fails_for_long() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    bucket.script(Op::Create, "meta/log/", &[Fault::LoseAnswer]);
    bucket.script(Op::Get, "meta/log/", &[Fault::Vanish; 30]);
    metadata.propose(vec![put("key", "value")]).await.unwrap();
    assert_eq!(version(&metadata, "key"), 1);
    assert_eq!(bucket.keys("meta/log/").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_lands_late_changes_nothing() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    bucket.script(Op::Create, "meta/log/", &[Fault::Late]);
    metadata.propose(vec![put("key", "value")]).await.unwrap();
    let outcomes = bucket.deliver_late().await;
    assert!(matches!(outcomes[..], [Err(BucketError::Exists { .. })]));
    assert_eq!(
        open(&bucket, 2).await.read(Clone::clone),
        metadata.read(Clone::clone)
    );
}

#[tokio::test(start_paused = true)]
async fn a_late_create_that_wins_against_another_writer_is_applied_by_both() {
    let bucket = FaultyBucket::new();
    let (left, right) = (open(&bucket, 1).await, open(&bucket, 2).await);
    // The request of the left writer is under way while the right one sends the same number.
    bucket.script(Op::Create, "meta/log/", &[Fault::Late]);
    let pending = left.clone();
    let pending = tokio::spawn(async move { pending.propose(vec![put("left", "1")]).await });
    while bucket.count(Op::Create, "meta/log/") < 2 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(bucket.deliver_late().await[..], [Ok(())]));
    right.propose(vec![put("right", "1")]).await.unwrap();
    pending.await.unwrap().unwrap();
    left.refresh().await.unwrap();
    assert_eq!(left.read(Clone::clone), right.read(Clone::clone));
    assert_eq!((version(&left, "left"), version(&left, "right")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn two_writers_race_and_come_to_one_state() {
    let bucket = FaultyBucket::new();
    let (left, right) = (open(&bucket, 1).await, open(&bucket, 2).await);
    let write = |metadata: Metadata, name: &'static str| async move {
        for round in 0..20 {
            metadata
                .propose(vec![put(&format!("{name}/{round}"), name)])
                .await
                .unwrap();
        }
    };
    let faults = [
        Fault::Throttle,
        Fault::LoseAnswer,
        Fault::Vanish,
        Fault::Late,
        Fault::LoseAnswer,
    ];
    bucket.script(Op::Create, "meta/log/", &faults);
    tokio::join!(write(left.clone(), "left"), write(right.clone(), "right"));
    let _late = bucket.deliver_late().await;
    left.refresh().await.unwrap();
    right.refresh().await.unwrap();
    let state = left.read(Clone::clone);
    assert_eq!(state, right.read(Clone::clone));
    assert_eq!(state, open(&bucket, 3).await.read(Clone::clone));
    assert_eq!(state.keys_with_prefix("").count(), 40);
    // Every put gave one version: nothing was applied twice.
    assert_eq!(
        state
            .keys_with_prefix("")
            .map(|(_, _, version)| version)
            .max(),
        Some(40)
    );
}

#[tokio::test(start_paused = true)]
async fn compare_and_set_is_won_by_one() {
    let bucket = FaultyBucket::new();
    let (left, right) = (open(&bucket, 1).await, open(&bucket, 2).await);
    let claim = |value| {
        vec![MetaOp::PutKey {
            key: "lock".to_owned(),
            value: Bytes::from(value),
            expected_version: Some(0),
        }]
    };
    let (first, second) = tokio::join!(left.propose(claim("left")), right.propose(claim("right")));
    let errors: Vec<_> = [first, second]
        .into_iter()
        .filter_map(Result::err)
        .collect();
    let expected = Rejection::KeyVersion {
        key: "lock".to_owned(),
        current: 1,
    };
    assert_eq!(
        errors,
        [MetaError::Rejected {
            index: 0,
            reason: expected
        }]
    );
}

#[tokio::test(start_paused = true)]
async fn concurrent_proposals_share_entries_and_keep_their_order() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    let proposals = (0..50).map(|_| metadata.propose(vec![put("key", "value")]));
    let verdicts = futures_util::future::join_all(proposals).await;
    assert!(verdicts.iter().all(Result::is_ok));
    assert_eq!(version(&metadata, "key"), 50);
    let num_entries = bucket.keys("meta/log/").await.len();
    assert!(num_entries <= 3, "{num_entries} entries");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_proposer_does_not_stop_the_others() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    bucket.script(Op::Create, "meta/log/", &[Fault::Throttle; 5]);
    {
        let dropped = std::pin::pin!(metadata.propose(vec![put("dropped", "1")]));
        assert!(futures_util::poll!(dropped).is_pending());
    }
    metadata.propose(vec![put("kept", "1")]).await.unwrap();
    assert!(version(&metadata, "dropped") > 0 && version(&metadata, "kept") > 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_reported_and_the_log_goes_on() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    bucket.script(Op::Create, "meta/log/", &[Fault::NoSpace]);
    let err = metadata.propose(vec![put("key", "1")]).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Full);
    assert_eq!(version(&metadata, "key"), 0);
    metadata.propose(vec![put("key", "1")]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_unknown_outcome_is_not_taken_for_a_failure() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    bucket.script(
        Op::Create,
        "meta/log/",
        &[Fault::LoseAnswer, Fault::Refuse, Fault::Refuse],
    );
    metadata.propose(vec![put("key", "1")]).await.unwrap();
    assert_eq!(version(&open(&bucket, 2).await, "key"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_transaction_names_its_operation_and_changes_nothing() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    let before = metadata.read(|state| (state.next_stream_id(), state.streams().count()));
    let stream = before.0;
    let open_it = MetaOp::OpenStream {
        stream,
        node: NODE,
        node_epoch: Epoch(7),
        epoch: Epoch(1),
    };
    let err = metadata
        .propose(vec![
            MetaOp::CreateStream { stream },
            put("key", "1"),
            open_it,
        ])
        .await
        .unwrap_err();
    assert_eq!(
        err,
        MetaError::Rejected {
            index: 2,
            reason: Rejection::NodeUnknown { node: NODE }
        }
    );
    assert_eq!(
        metadata.read(|state| (state.next_stream_id(), state.streams().count())),
        before
    );
    assert_eq!(version(&metadata, "key"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_larger_than_an_entry_is_refused_at_once() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    let value = Bytes::from(vec![0; 5 << 20]);
    let op = MetaOp::PutKey {
        key: "key".to_owned(),
        value,
        expected_version: None,
    };
    assert!(matches!(
        metadata.propose(vec![op]).await,
        Err(MetaError::TooLarge { .. })
    ));
    let op = MetaOp::DeleteKey {
        key: "k".repeat(70_000),
        expected_version: None,
    };
    assert!(matches!(
        metadata.propose(vec![op]).await,
        Err(MetaError::TooLarge { .. })
    ));
    assert_eq!(bucket.keys("meta/log/").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_log_makes_no_request() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    register(&metadata).await;
    let before = bucket.requests().len();
    tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
    assert_eq!(bucket.requests().len(), before);
}

pub(super) async fn filled(
    bucket: &Arc<FaultyBucket>,
    num_entries: usize,
    snapshot_entries: u64,
) -> Metadata {
    let config = MetaConfig {
        snapshot_entries,
        ..MetaConfig::default()
    };
    let metadata = Metadata::open(bucket.clone(), TestEnv::shared(1 << 32), config)
        .await
        .unwrap();
    for _ in 0..num_entries {
        metadata.propose(vec![put("key", "value")]).await.unwrap();
    }
    // Snapshots are written behind the commits.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    metadata
}

#[tokio::test(start_paused = true)]
async fn a_damaged_or_missing_log_entry_stops_the_open() {
    let bucket = FaultyBucket::new();
    filled(&bucket, 5, 1_000).await;
    bucket.flip(&log_key(3), 100).await;
    let err = try_open(&bucket, 2).await.err().unwrap();
    assert!(matches!(&err, MetaError::Corrupt { key, what: "checksum", .. } if *key == log_key(3)));
    assert_eq!(err.kind(), ErrorKind::Corrupt);
    bucket.tamper(&log_key(3), None).await;
    let err = try_open(&bucket, 3).await.err().unwrap();
    assert_eq!(err, MetaError::MissingEntry { key: log_key(3) });
}

#[tokio::test(start_paused = true)]
async fn an_entry_at_another_entrys_place_is_damage() {
    let bucket = FaultyBucket::new();
    filled(&bucket, 5, 1_000).await;
    let bytes = bucket.bytes(&log_key(4)).await;
    bucket.tamper(&log_key(3), Some(bytes)).await;
    let err = try_open(&bucket, 2).await.err().unwrap();
    assert!(matches!(
        err,
        MetaError::Corrupt {
            what: "sequence number",
            expected: 3,
            found: 4,
            ..
        }
    ));
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_another_cluster_is_damage() {
    let (bucket, other) = (FaultyBucket::new(), FaultyBucket::new());
    filled(&bucket, 2, 1_000).await;
    let foreign = Metadata::open(other.clone(), TestEnv::shared(77), MetaConfig::default())
        .await
        .unwrap();
    foreign.propose(vec![put("key", "value")]).await.unwrap();
    bucket
        .tamper(&log_key(2), Some(other.bytes(&log_key(2)).await))
        .await;
    let err = try_open(&bucket, 2).await.err().unwrap();
    assert!(matches!(
        err,
        MetaError::Corrupt {
            what: "cluster id",
            ..
        }
    ));
}

#[tokio::test(start_paused = true)]
async fn an_answer_cut_short_is_read_again() {
    let bucket = FaultyBucket::new();
    filled(&bucket, 2, 1_000).await;
    bucket.script(Op::Get, "meta/log/", &[Fault::Truncate]);
    open(&bucket, 2).await;
}

#[tokio::test(start_paused = true)]
async fn opening_outlasts_throttling_and_names_what_does_not_end() {
    let bucket = FaultyBucket::new();
    filled(&bucket, 5, 1_000).await;
    bucket.script(Op::List, "meta/", &[Fault::Throttle, Fault::Vanish]);
    bucket.script(Op::Get, "meta/", &[Fault::Throttle, Fault::Vanish]);
    open(&bucket, 2).await;
    bucket.script(Op::List, "meta/", &[Fault::Refuse]);
    let err = try_open(&bucket, 3).await.err().unwrap();
    assert!(matches!(
        err,
        MetaError::Unavailable(BucketError::Refused { .. })
    ));
    bucket.script(Op::List, "meta/", &[Fault::Throttle; 100]);
    assert_eq!(
        try_open(&bucket, 4).await.err().unwrap().kind(),
        ErrorKind::Retry
    );
}

#[tokio::test(start_paused = true)]
async fn a_damaged_foreign_entry_fails_the_log_for_good() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    let bytes = Bytes::from_static(b"no entry at all");
    bucket
        .create(Purpose::Meta, &log_key(2), vec![bytes])
        .await
        .unwrap();
    let err = metadata.propose(vec![put("key", "1")]).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Corrupt);
    assert_eq!(
        metadata.propose(vec![put("key", "1")]).await.unwrap_err(),
        err
    );
}
