//! Each seeded bug of this crate breaks what it should, so that the simulator has something to find.
//!
//! *Owns*: one scenario a mutant. *Does not own*: the hunt for them; the simulator does that.
//!
//! *IO: none*

mod keys;

use bytes::Bytes;
use tidewater_types::{Epoch, Offset, StreamId, set_mutant};

use crate::testing::keyed::{TestOwner, hold_up, keyed_entry, pairs_of};
use crate::testing::{Fault, Op, Rig, entries, register, small_config};
use crate::{FsckOptions, MetaError, MetaOp, Metadata, NewRange, Severity, fsck};

/// Switched off again even if the test panics.
struct Active;

impl Active {
    fn new(id: u16) -> Self {
        set_mutant(id);
        Self
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        set_mutant(0);
    }
}

#[tokio::test(start_paused = true)]
async fn mutant_24_commits_an_object_that_is_not_there() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    let _mutant = Active::new(24);
    rig.bucket
        .script(Op::Create, "data/", &[Fault::Throttle; 10_000]);
    rig.tail.append(stream, Epoch(1), entries(0, 5, 1, 10));
    let flush = tokio::time::timeout(std::time::Duration::from_secs(5), rig.uploader.flush()).await;
    flush.expect("it waits for nothing").unwrap();
    let report = fsck(rig.bucket.clone(), rig.env.clone(), FsckOptions::default())
        .await
        .unwrap();
    assert_eq!(report.severity(), Some(Severity::Error));
}

#[tokio::test(start_paused = true)]
async fn mutant_25_stores_offsets_that_cannot_be_read() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    let _mutant = Active::new(25);
    rig.upload(stream, entries(0, 3, 16, 10)).await;
    assert!(rig.tier.fetch(stream, Offset(0), 1_000).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn mutant_26_moves_the_committed_end_back() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    rig.upload(stream, entries(0, 10, 1, 10)).await;
    let _mutant = Active::new(26);
    let metadata = rig.tier.metadata();
    register(metadata).await;
    let object = metadata.read(|state| {
        state
            .objects()
            .next()
            .map(|(id, object)| (id, *object))
            .unwrap()
    });
    let objects = vec![crate::NewObject {
        id: object.0,
        kind: object.1.kind,
        size: object.1.size,
        index_position: object.1.index_position,
        footer_crc: object.1.footer_crc,
    }];
    let range = NewRange {
        stream,
        epoch: Epoch(1),
        start: Offset(0),
        end: Offset(5),
        timestamp_ms_max: 0,
        object: 0,
    };
    let (node, node_epoch) = (crate::testing::NODE, rig.node_epoch);
    let stale = MetaOp::CommitUpload {
        node,
        node_epoch,
        objects,
        ranges: vec![range],
        snapshots: vec![],
    };
    metadata.propose(vec![stale]).await.unwrap();
    assert_eq!(
        metadata.read(|state| state.stream(stream).unwrap().end),
        Offset(5)
    );
}

#[tokio::test(start_paused = true)]
async fn mutant_27_applies_a_change_twice() {
    let rig = Rig::new(small_config()).await;
    let _mutant = Active::new(27);
    rig.bucket
        .script(Op::Create, "meta/log/", &[Fault::LoseAnswer]);
    let (key, value) = ("key".to_owned(), Bytes::from_static(b"value"));
    let put = MetaOp::PutKey {
        key,
        value,
        expected_version: Some(0),
    };
    let err = rig.tier.metadata().propose(vec![put]).await.unwrap_err();
    assert!(
        matches!(err, MetaError::Rejected { .. }),
        "its own first try is in the way"
    );
}

#[tokio::test(start_paused = true)]
async fn mutant_107_applies_a_change_twice_that_it_read_beside() {
    let rig = Rig::new(small_config()).await;
    let metadata = rig.tier.metadata();
    let other = Metadata::open(rig.bucket.clone(), rig.env.clone(), small_config().meta).await;
    let other = other.unwrap();
    let put = |key: &str, expected_version| MetaOp::PutKey {
        key: key.to_owned(),
        value: Bytes::from_static(b"value"),
        expected_version,
    };
    other.propose(vec![put("other", None)]).await.unwrap();
    metadata.propose(vec![put("key", None)]).await.unwrap();
    let _mutant = Active::new(107);
    rig.bucket
        .script(Op::Create, "meta/log/", &[Fault::LoseAnswer]);
    let err = metadata.propose(vec![put("key", Some(1))]).await;
    let err = err.unwrap_err();
    assert!(matches!(err, MetaError::Rejected { .. }), "{err:?}");
}

fn compact_config() -> crate::TierConfig {
    let mut config = small_config();
    (config.compact.background, config.compact.objects_min) = (false, 2);
    config
}

/// Three uploads of three entries each.
async fn uploaded() -> (Rig, tidewater_types::StreamId) {
    let rig = Rig::new(compact_config()).await;
    let stream = rig.stream().await;
    for round in 0..3 {
        rig.upload(stream, entries(round * 3, 3, 1, 20)).await;
    }
    (rig, stream)
}

async fn num_read(rig: &Rig, stream: tidewater_types::StreamId, offset: u64) -> usize {
    let fetched = rig.tier.fetch(stream, Offset(offset), 100_000).await;
    fetched.map_or(0, |fetched| fetched.entries.len())
}

#[tokio::test(start_paused = true)]
async fn mutant_29_deletes_what_was_committed_while_it_swept() {
    let (rig, stream) = uploaded().await;
    let _mutant = Active::new(29);
    rig.bucket
        .script(Op::Create, "meta/log/", &[Fault::Throttle; 20]);
    rig.tail.append(stream, Epoch(1), entries(9, 3, 1, 50));
    let (swept, flushed) = tokio::join!(
        async {
            while rig.bucket.keys("data/").await.len() < 4 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            rig.tier.sweep_orphans().await.unwrap()
        },
        rig.uploader.flush()
    );
    flushed.unwrap();
    assert_eq!(swept, 1);
    assert_eq!(
        num_read(&rig, stream, 9).await,
        0,
        "it is committed and gone"
    );
}

#[tokio::test(start_paused = true)]
async fn mutant_30_deletes_sources_that_are_still_referenced() {
    let (rig, _) = uploaded().await;
    let _mutant = Active::new(30);
    rig.bucket
        .script(Op::Create, "meta/log/", &[Fault::Throttle; 10_000]);
    let compact = rig
        .tier
        .compact_until_done(crate::testing::NODE, rig.node_epoch);
    let cut = tokio::time::timeout(std::time::Duration::from_secs(5), compact).await;
    assert!(cut.is_err());
    let live = rig.tier.counters();
    assert_eq!(live.stream_set_live, 3);
    assert_eq!(rig.bucket.keys("data/").await.len(), 1, "only the output");
}

#[tokio::test(start_paused = true)]
async fn mutant_31_replaces_what_was_replaced_already() {
    let (rig, stream) = uploaded().await;
    let first = rig.tier.metadata().read(|state| {
        let (offsets, range) = state.stream(stream).unwrap().ranges().next().unwrap();
        (offsets, range.object)
    });
    let compact = rig
        .tier
        .compact_until_done(crate::testing::NODE, rig.node_epoch);
    assert_eq!(compact.await.unwrap(), 1);
    let _mutant = Active::new(31);
    let late = crate::ObjectId {
        counter: crate::object_id::COMPACTION_COUNTERS + 9,
        ..first.1
    };
    let (start, end) = (first.0.start(), first.0.end());
    let replacement = crate::meta::op::Replacement {
        stream,
        epoch: Epoch(1),
        sources: vec![crate::meta::op::SourceRange {
            start,
            end,
            object: first.1,
        }],
        targets: vec![crate::meta::op::TargetRange {
            start,
            end,
            timestamp_ms_max: 0,
            object: 0,
        }],
        snapshot: None,
    };
    let object = crate::NewObject {
        id: late,
        kind: crate::ObjectKind::Stream,
        size: 100,
        index_position: 48,
        footer_crc: 0,
    };
    let op = MetaOp::ReplaceRanges {
        node: crate::testing::NODE,
        node_epoch: rig.node_epoch,
        objects: vec![object],
        replacements: vec![replacement],
    };
    rig.tier.metadata().propose(vec![op]).await.unwrap();
    let report = fsck(rig.bucket.clone(), rig.env.clone(), FsckOptions::default());
    let holes = report.await.unwrap();
    let holes = holes.findings.iter();
    assert!(
        holes
            .into_iter()
            .any(|found| found.what == crate::FindingKind::Hole)
    );
}

#[tokio::test(start_paused = true)]
async fn mutant_32_loses_records_where_blocks_are_joined() {
    let (rig, stream) = uploaded().await;
    let _mutant = Active::new(32);
    let compact = rig
        .tier
        .compact_until_done(crate::testing::NODE, rig.node_epoch);
    assert_eq!(compact.await.unwrap(), 1);
    assert!((1..9).contains(&num_read(&rig, stream, 0).await));
}

#[tokio::test(start_paused = true)]
async fn mutant_33_deletes_at_once() {
    let (rig, _) = uploaded().await;
    let _mutant = Active::new(33);
    let compact = rig
        .tier
        .compact_until_done(crate::testing::NODE, rig.node_epoch);
    assert_eq!(compact.await.unwrap(), 1);
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    assert_eq!(rig.bucket.keys("data/").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn mutant_36_trims_the_range_that_holds_the_start() {
    let (rig, stream) = uploaded().await;
    let _mutant = Active::new(36);
    let trim = MetaOp::TrimStream {
        stream,
        epoch: Epoch(1),
        start: Offset(4),
    };
    rig.tier.metadata().propose(vec![trim]).await.unwrap();
    let read = num_read(&rig, stream, 4).await;
    assert_eq!(
        read, 0,
        "4 and 5 are gone, and what is behind a hole is not shown"
    );
}

#[tokio::test(start_paused = true)]
async fn mutant_57_deletes_what_may_yet_be_committed() {
    let (rig, _) = uploaded().await;
    let _mutant = Active::new(57);
    let id = rig.tier.metadata().read(|state| {
        let (id, _) = state.objects().last().unwrap();
        crate::ObjectId {
            counter: id.counter + 1,
            ..id
        }
    });
    let bytes = Bytes::from_static(b"an upload");
    rig.bucket.tamper(&id.key(), Some(bytes)).await;
    assert_eq!(rig.tier.sweep_orphans().await.unwrap(), 1);
    let commit = MetaOp::CommitUpload {
        node: crate::testing::NODE,
        node_epoch: rig.node_epoch,
        objects: vec![crate::NewObject {
            id,
            kind: crate::ObjectKind::Stream,
            size: 100,
            index_position: 48,
            footer_crc: 0,
        }],
        ranges: vec![],
        snapshots: vec![],
    };
    rig.tier.metadata().propose(vec![commit]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn mutant_58_lets_one_stale_stream_hold_everything_up() {
    let rig = Rig::new(small_config()).await;
    let (stale, good) = (rig.stream().await, rig.stream().await);
    let _mutant = Active::new(58);
    let delete = MetaOp::DeleteStream { stream: stale };
    rig.tier.metadata().propose(vec![delete]).await.unwrap();
    rig.tail.append(stale, Epoch(1), entries(0, 5, 1, 10));
    rig.tail.append(good, Epoch(1), entries(0, 5, 1, 10));
    let flush =
        tokio::time::timeout(std::time::Duration::from_secs(60), rig.uploader.flush()).await;
    assert!(flush.is_err());
    assert!(rig.tail.reports.lock().is_empty(), "the ring would fill");
}

#[tokio::test(start_paused = true)]
async fn mutant_80_commits_out_of_order_and_loses_what_came_later() {
    let config = crate::TierConfig {
        upload_bytes: 1_024,
        ..small_config()
    };
    let rig = Rig::new(config).await;
    let stream = rig.stream().await;
    let _mutant = Active::new(80);
    rig.upload(stream, entries(0, 40, 1, 100)).await;
    assert!(rig.tier.counters().ranges_dropped > 0);
}

#[tokio::test(start_paused = true)]
async fn mutant_81_believes_a_completion_that_the_store_forgot() {
    let mut config = small_config();
    (config.upload.multipart_bytes, config.upload.part_bytes) = (2_048, 700);
    let rig = Rig::new(config).await;
    let stream = rig.stream().await;
    let _mutant = Active::new(81);
    rig.bucket.script(Op::Complete, "data/", &[Fault::Forget]);
    rig.upload(stream, entries(0, 50, 1, 100)).await;
    assert!(rig.bucket.keys("data/").await.is_empty());
    assert!(rig.tier.fetch(stream, Offset(0), 1_000).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn mutant_34_takes_the_block_of_another_life_for_its_own() {
    let first = Rig::new(small_config()).await;
    let stream = first.stream().await;
    first.upload(stream, entries(0, 4, 1, 10)).await;
    first.uploader.stop().await;
    let second = Rig::on(first.bucket.clone(), 2, small_config()).await;
    let open = MetaOp::OpenStream {
        stream,
        node: crate::testing::NODE,
        node_epoch: second.node_epoch,
        epoch: Epoch(2),
    };
    second.tier.metadata().propose(vec![open]).await.unwrap();
    let more = entries(4, 4, 1, 10);
    second.tail.append(stream, Epoch(2), more);
    second.uploader.flush().await.unwrap();
    let _mutant = Active::new(34);
    let fetched = second.tier.fetch(stream, Offset(0), 1_000).await;
    let is_right = fetched.is_ok_and(|fetched| fetched.entries == entries(0, 8, 1, 10));
    assert!(!is_right, "the first object of each life is its object 1");
}

#[tokio::test(start_paused = true)]
async fn mutant_82_lets_a_replaced_node_change_what_names_no_epoch() {
    let rig = Rig::new(small_config()).await;
    let metadata = rig.tier.metadata();
    metadata.act_for(crate::testing::NODE, rig.node_epoch);
    let _mutant = Active::new(82);
    register(metadata).await;
    let put = MetaOp::PutKey {
        key: "key".to_owned(),
        value: Bytes::from_static(b"stale"),
        expected_version: None,
    };
    metadata.propose(vec![put]).await.unwrap();
}
