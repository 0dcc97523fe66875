//! Tests of the orphan sweep: what is deleted, what is left, what an uploader meets.

use std::time::Duration;

use bytes::Bytes;
use tidewater_types::{Epoch, NodeId, Offset};

use crate::object_id::COMPACTION_COUNTERS;
use crate::testing::{Fault, FaultyBucket, NODE, Op, Rig, TestEnv, entries, small_config};
use crate::{FsckOptions, MetaOp, ObjectId, Tier, TierConfig, fsck};

fn config() -> TierConfig {
    let mut config = small_config();
    config.compact.background = false;
    config
}

fn id(node: u32, epoch: u64, counter: u64) -> ObjectId {
    ObjectId {
        node: NodeId(node),
        epoch: Epoch(epoch),
        counter,
        nonce: 7,
    }
}

async fn put(bucket: &FaultyBucket, id: ObjectId) {
    let bytes = Bytes::from_static(b"half an upload");
    bucket.tamper(&id.key(), Some(bytes)).await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_commit_goes_and_the_rest_stays() {
    let bucket = FaultyBucket::new();
    drop(Rig::on(bucket.clone(), 1, config()).await);
    let rig = Rig::on(bucket.clone(), 2, config()).await;
    let stream = rig.stream().await;
    rig.upload(stream, entries(0, 3, 1, 10)).await;
    let gone = [
        id(1, 1, 900),
        id(1, 2, 1),
        id(1, 2, 2),
        id(1, 2, COMPACTION_COUNTERS + 5),
    ];
    let foreign = [id(1, 3, 1), id(9, 1, 1), id(1, 2, 1 << 40)];
    for id in gone.into_iter().chain(foreign) {
        put(&bucket, id).await;
    }
    bucket
        .tamper("data/not-an-object", Some(Bytes::from_static(b"?")))
        .await;
    assert_eq!(rig.tier.sweep_orphans().await.unwrap(), 4);
    let left = bucket.keys("data/").await;
    assert_eq!(left.len(), 1 + foreign.len() + 1, "{left:?}");
    assert!(foreign.iter().all(|id| left.contains(&id.key())));
    assert_eq!(rig.tier.counters().orphans_deleted, 4);
    // The node goes on above what was condemned: the first number it gives is refused.
    rig.upload(stream, entries(3, 3, 1, 10)).await;
    assert_eq!(rig.tier.sweep_orphans().await.unwrap(), 1);
    let fetched = rig.tier.fetch(stream, Offset(0), 1_000).await.unwrap();
    assert_eq!(fetched.entries, entries(0, 6, 1, 10));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_condemned_is_sent_again() {
    let bucket = FaultyBucket::new();
    let rig = Rig::on(bucket.clone(), 1, config()).await;
    let stream = rig.stream().await;
    let open = Tier::open(bucket.clone(), TestEnv::shared(99), config());
    let other = open.await.unwrap();
    // The uploader's object is there, and its commit waits while another process condemns it.
    bucket.script(Op::Create, "meta/log/", &[Fault::Throttle; 3]);
    rig.tail.append(stream, Epoch(1), entries(0, 3, 1, 10));
    let condemn = async {
        while bucket.keys("data/").await.is_empty() {
            tokio::task::yield_now().await;
        }
        let counter = ObjectId::from_key(&bucket.keys("data/").await[0])
            .unwrap()
            .counter;
        let op = MetaOp::CondemnObjects {
            node: NODE,
            epoch: rig.node_epoch,
            counter,
        };
        // Not through the throttled request: the other process's entry comes first.
        while bucket.scripted() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        other.metadata().propose(vec![op]).await.unwrap();
    };
    let (flushed, ()) = tokio::join!(rig.uploader.flush(), condemn);
    flushed.unwrap();
    assert_eq!(bucket.keys("data/").await.len(), 2, "it was sent twice");
    assert_eq!(other.sweep_orphans().await.unwrap(), 1);
    let fetched = rig.tier.fetch(stream, Offset(0), 1_000).await.unwrap();
    assert_eq!(fetched.entries, entries(0, 3, 1, 10));
    let options = FsckOptions {
        verify_checksums: true,
        ..FsckOptions::default()
    };
    let report = fsck(bucket.clone(), rig.env.clone(), options)
        .await
        .unwrap();
    assert_eq!(report.findings, []);
}

#[tokio::test(start_paused = true)]
async fn a_late_landing_is_an_orphan_again() {
    let bucket = FaultyBucket::new();
    let rig = Rig::on(bucket.clone(), 1, config()).await;
    let late = id(1, 1, 5);
    put(&bucket, late).await;
    assert_eq!(rig.tier.sweep_orphans().await.unwrap(), 1);
    assert_eq!(bucket.keys("data/").await.len(), 0);
    put(&bucket, late).await;
    // Nobody remembers it, and it can be committed as little as before.
    assert_eq!(rig.tier.sweep_orphans().await.unwrap(), 1);
    assert_eq!(bucket.keys("data/").await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn orphans_are_swept_after_work_and_never_without() {
    let mut config = config();
    config.compact.background = true;
    config.compact.objects_min = 64;
    config.compact.orphan_objects = 3;
    let rig = Rig::new(config).await;
    let stream = rig.stream().await;
    put(&rig.bucket, id(NODE.0, 1, COMPACTION_COUNTERS + 1)).await;
    rig.upload(stream, entries(0, 3, 1, 10)).await;
    tokio::time::sleep(Duration::from_secs(24 * 3_600)).await;
    assert_eq!(rig.bucket.count(Op::List, "data/"), 0);
    rig.upload(stream, entries(3, 3, 1, 10)).await;
    rig.upload(stream, entries(6, 3, 1, 10)).await;
    tokio::time::sleep(Duration::from_secs(24 * 3_600)).await;
    assert_eq!(rig.tier.counters().orphans_deleted, 1);
    assert_eq!(rig.bucket.keys("data/").await.len(), 3);
    let requests = rig.bucket.requests().len();
    tokio::time::sleep(Duration::from_secs(24 * 3_600)).await;
    assert_eq!(rig.bucket.requests().len(), requests);
}
