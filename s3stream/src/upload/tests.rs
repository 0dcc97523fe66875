//! Tests of uploads: triggers, retries, fences, late deletion.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_types::{Epoch, Offset, OffsetRange, StreamId};

use crate::testing::{
    Fault, FaultyBucket, NODE, Op, Rig, entries, entry, open_new_stream, register, small_config,
};
use crate::{
    FsckOptions, MetaConfig, MetaOp, ObjectKind, StateSnapshot, Tier, TierConfig, TierError, fsck,
};

use super::plan::{Limits, split};

mod parts;

const HOUR: Duration = Duration::from_secs(3_600);

async fn assert_sound(rig: &Rig) {
    let report = fsck(
        rig.bucket.clone(),
        rig.env.clone(),
        FsckOptions {
            verify_checksums: true,
            ..FsckOptions::default()
        },
    )
    .await
    .unwrap();
    assert_eq!(report.findings, []);
}

fn end(tier: &Tier, stream: StreamId) -> Offset {
    tier.metadata()
        .read(|state| state.stream(stream).unwrap().end)
}

fn range(start: u64, end: u64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_flush_uploads_commits_and_tells_the_tail() {
    let rig = Rig::new(small_config()).await;
    let (small, large) = (rig.stream().await, rig.stream().await);
    rig.tail.append(small, Epoch(1), entries(0, 3, 2, 100));
    rig.upload(large, entries(0, 50, 1, 100)).await;
    assert_eq!(
        (end(&rig.tier, small), end(&rig.tier, large)),
        (Offset(6), Offset(50))
    );
    let counters = rig.tier.counters();
    assert_eq!(
        (
            counters.uploads,
            counters.stream_set_live,
            counters.stream_live,
            counters.commits
        ),
        (2, 1, 1, 1)
    );
    let reports = rig.tail.reports.lock().clone();
    assert_eq!(reports.len(), 1);
    assert_eq!(
        reports[0].committed,
        [(small, range(0, 6)), (large, range(0, 50))]
    );
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn size_and_age_and_streams_trigger_an_upload() {
    let config = TierConfig {
        upload_bytes: 1_024,
        upload_age: HOUR,
        ..small_config()
    };
    let rig = Rig::new(config).await;
    let stream = rig.stream().await;
    rig.tail.append(stream, Epoch(1), entries(0, 5, 1, 200));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(end(&rig.tier, stream), Offset(0));
    rig.tail.append(stream, Epoch(1), entries(5, 1, 1, 200));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        end(&rig.tier, stream),
        Offset(5),
        "as much as one upload holds"
    );
    tokio::time::sleep(HOUR).await;
    assert_eq!(end(&rig.tier, stream), Offset(6), "the rest by its age");

    let rig = Rig::new(TierConfig {
        upload_streams: 2,
        ..small_config()
    })
    .await;
    let (first, second) = (rig.stream().await, rig.stream().await);
    rig.tail.append(first, Epoch(1), entries(0, 1, 1, 10));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(end(&rig.tier, first), Offset(0));
    rig.tail.append(second, Epoch(1), entries(0, 1, 1, 10));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        (end(&rig.tier, first), end(&rig.tier, second)),
        (Offset(1), Offset(1))
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_uploader_makes_no_request() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    rig.upload(stream, entries(0, 3, 1, 10)).await;
    let before = rig.bucket.requests().len();
    tokio::time::sleep(24 * HOUR).await;
    assert_eq!(rig.bucket.requests().len(), before);
    // A flush without anything to upload asks for nothing either.
    rig.uploader.flush().await.unwrap();
    assert_eq!(rig.bucket.requests().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_flush_uploads_more_than_one_batch() {
    let rig = Rig::new(TierConfig {
        upload_bytes: 1_024,
        ..small_config()
    })
    .await;
    let stream = rig.stream().await;
    rig.upload(stream, entries(0, 40, 1, 100)).await;
    assert_eq!(end(&rig.tier, stream), Offset(40));
    assert_eq!(rig.tail.reports.lock().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_outage_delays_the_upload_and_loses_nothing() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    let faults = [
        Fault::Throttle,
        Fault::Refuse,
        Fault::NoSpace,
        Fault::Vanish,
        Fault::Late,
        Fault::LoseAnswer,
    ];
    rig.bucket.script(Op::Create, "data/", &faults);
    rig.bucket.script(
        Op::Create,
        "meta/log/",
        &[Fault::Refuse, Fault::NoSpace, Fault::LoseAnswer],
    );
    rig.bucket.script(Op::Size, "data/", &[Fault::Vanish]);
    rig.upload(stream, entries(0, 10, 1, 100)).await;
    rig.bucket.deliver_late().await;
    assert_eq!(end(&rig.tier, stream), Offset(10));
    // One object in spite of all the attempts.
    assert_eq!(rig.bucket.keys("data/").await.len(), 1);
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_before_the_upload_is_confirmed() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    rig.bucket.script(Op::Create, "data/", &[Fault::Late; 20]);
    rig.upload(stream, entries(0, 10, 1, 100)).await;
    let requests = rig.bucket.requests();
    let last_upload = requests
        .iter()
        .rposition(|(op, key)| *op == Op::Create && key.starts_with("data/"))
        .unwrap();
    let commit = requests
        .iter()
        .rposition(|(op, key)| *op == Op::Create && key.starts_with("meta/log/"))
        .unwrap();
    assert!(last_upload < commit);
    let log_creates = rig.bucket.count(Op::Create, "meta/log/");
    assert_eq!(log_creates, 4, "cluster, node, stream and one commit");
}

#[tokio::test(start_paused = true)]
async fn ranges_of_a_deleted_stream_are_dropped_and_the_rest_commits() {
    let rig = Rig::new(small_config()).await;
    let (kept, deleted) = (rig.stream().await, rig.stream().await);
    rig.tail.append(deleted, Epoch(1), entries(0, 5, 1, 10));
    rig.tier
        .metadata()
        .propose(vec![MetaOp::DeleteStream { stream: deleted }])
        .await
        .unwrap();
    rig.upload(kept, entries(0, 5, 1, 10)).await;
    let reports = rig.tail.reports.lock().clone();
    assert_eq!(reports[0].committed, [(kept, range(0, 5))]);
    assert_eq!(reports[0].dropped, [(deleted, range(0, 5))]);
    assert_eq!(rig.tier.counters().ranges_dropped, 1);
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_fenced_uploader_stops_and_says_so() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    let successor = Rig::on(rig.bucket.clone(), 2, small_config()).await;
    rig.tail.append(stream, Epoch(1), entries(0, 5, 1, 10));
    let fenced = TierError::Fenced {
        node: NODE,
        epoch: Epoch(1),
    };
    assert_eq!(rig.uploader.flush().await, Err(fenced.clone()));
    assert_eq!(rig.uploader.ended().await, fenced);
    assert_eq!(rig.uploader.flush().await, Err(fenced));
    assert_eq!(rig.tail.reports.lock().len(), 0);
    successor.tier.metadata().refresh().await.unwrap();
    assert_eq!(end(&successor.tier, stream), Offset(0));
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_upload_and_commit_leaves_an_orphan_and_no_hole() {
    let bucket = FaultyBucket::new();
    let rig = Rig::on(bucket.clone(), 1, small_config()).await;
    let stream = rig.stream().await;
    // The commit never arrives while the process lives.
    bucket.script(Op::Create, "meta/log/", &[Fault::Vanish; 1_000]);
    rig.tail.append(stream, Epoch(1), entries(0, 5, 1, 10));
    let flush = tokio::time::timeout(Duration::from_secs(5), rig.uploader.flush()).await;
    assert!(flush.is_err());
    rig.uploader.stop().await;
    assert_eq!(bucket.keys("data/").await.len(), 1);

    let healed = FaultyBucket::new();
    for key in bucket.keys("").await {
        let bytes = bucket.bytes(&key).await;
        tidewater_bucket::Bucket::create(
            &*healed,
            tidewater_bucket::Purpose::Fsck,
            &key,
            vec![bytes],
        )
        .await
        .unwrap();
    }
    let again = Rig::on(healed.clone(), 2, small_config()).await;
    assert_eq!(end(&again.tier, stream), Offset(0));
    let open = MetaOp::OpenStream {
        stream,
        node: NODE,
        node_epoch: again.node_epoch,
        epoch: Epoch(2),
    };
    again.tier.metadata().propose(vec![open]).await.unwrap();
    again.tail.append(stream, Epoch(2), entries(0, 5, 1, 10));
    again.uploader.flush().await.unwrap();
    assert_eq!(end(&again.tier, stream), Offset(5));
    let report = fsck(
        healed,
        again.env.clone(),
        FsckOptions {
            verify_checksums: true,
            ..FsckOptions::default()
        },
    )
    .await
    .unwrap();
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|finding| (finding.severity.name(), finding.what.name()))
        .collect();
    assert_eq!(found, [("info", "orphan")]);
}

#[tokio::test(start_paused = true)]
async fn stop_ends_an_upload_that_cannot_finish() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    rig.bucket
        .script(Op::Create, "data/", &[Fault::Throttle; 10_000]);
    rig.tail.append(stream, Epoch(1), entries(0, 5, 1, 10));
    let flush = tokio::time::timeout(Duration::from_secs(60), rig.uploader.flush()).await;
    assert!(flush.is_err());
    rig.uploader.stop().await;
    let before = rig.bucket.requests().len();
    tokio::time::sleep(HOUR).await;
    assert_eq!(rig.bucket.requests().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_object_under_the_key_is_never_taken_for_the_upload() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    // The store says `exists`; what is there is shorter than what was sent.
    rig.bucket.script(Op::Create, "data/", &[Fault::LoseAnswer]);
    rig.tail.append(stream, Epoch(1), entries(0, 5, 1, 100));
    let uploading = async {
        while rig.bucket.keys("data/").await.is_empty() {
            tokio::task::yield_now().await;
        }
        let key = rig.bucket.keys("data/").await.remove(0);
        rig.bucket
            .tamper(&key, Some(Bytes::from_static(b"foreign")))
            .await;
    };
    let (flushed, ()) = tokio::join!(rig.uploader.flush(), uploading);
    flushed.unwrap();
    assert_eq!(rig.bucket.keys("data/").await.len(), 2);
    assert_eq!(
        rig.tier
            .fetch(stream, Offset(0), 1_000)
            .await
            .unwrap()
            .entries,
        entries(0, 5, 1, 100)
    );
}

#[tokio::test(start_paused = true)]
async fn an_upload_of_many_streams_is_divided_into_entries_that_fit() {
    let meta = MetaConfig {
        entry_bytes_max: 4_096,
        ..MetaConfig::default()
    };
    let rig = Rig::new(TierConfig {
        meta,
        ..small_config()
    })
    .await;
    let mut streams = Vec::new();
    for _ in 0..120 {
        streams.push(rig.stream().await);
    }
    for stream in &streams {
        rig.tail.append(*stream, Epoch(1), entries(0, 2, 1, 10));
        rig.tail.attach(
            *stream,
            StateSnapshot {
                as_of: Offset(2),
                bytes: Bytes::from_static(b"state"),
            },
        );
    }
    rig.uploader.flush().await.unwrap();
    assert!(
        streams
            .iter()
            .all(|stream| end(&rig.tier, *stream) == Offset(2))
    );
    assert!(rig.tier.counters().commits > 1);
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn dead_objects_are_deleted_late_and_then_forgotten() {
    let delay = Duration::from_secs(600);
    let rig = Rig::new(TierConfig {
        delete_delay: delay,
        ..small_config()
    })
    .await;
    let stream = rig.stream().await;
    rig.upload(stream, entries(0, 5, 1, 10)).await;
    rig.upload(stream, entries(5, 5, 1, 10)).await;
    let metadata = rig.tier.metadata();
    metadata
        .propose(vec![MetaOp::TrimStream {
            stream,
            epoch: Epoch(1),
            start: Offset(5),
        }])
        .await
        .unwrap();
    tokio::time::sleep(delay - Duration::from_secs(1)).await;
    assert_eq!(rig.bucket.keys("data/").await.len(), 2);
    assert_eq!(
        (
            rig.tier.counters().stream_set_live,
            rig.tier.counters().stream_set_dead
        ),
        (1, 1)
    );
    assert_sound(&rig).await;
    rig.bucket
        .script(Op::Delete, "data/", &[Fault::Throttle, Fault::Vanish]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.bucket.keys("data/").await.len(), 1);
    assert_eq!(
        (
            rig.tier.counters().stream_set_dead,
            rig.tier.counters().objects_deleted
        ),
        (0, 1)
    );
    let before = rig.bucket.requests().len();
    tokio::time::sleep(24 * HOUR).await;
    assert_eq!(
        rig.bucket.requests().len(),
        before,
        "nothing is dead, nothing is asked"
    );
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_life_of_a_node_deletes_what_died_before() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    rig.upload(stream, entries(0, 5, 1, 10)).await;
    rig.tier
        .metadata()
        .propose(vec![MetaOp::DeleteStream { stream }])
        .await
        .unwrap();
    rig.uploader.stop().await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(
        rig.bucket.keys("data/").await.len(),
        1,
        "the sweeper stopped with the uploader"
    );
    let _next = Rig::on(rig.bucket.clone(), 2, small_config()).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(rig.bucket.keys("data/").await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_uploader_of_the_same_epoch_goes_on_counting() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    rig.upload(stream, entries(0, 5, 1, 10)).await;
    rig.uploader.stop().await;
    let tail = Arc::new(crate::testing::MemoryTail::default());
    let uploader = rig.tier.start_uploader(NODE, rig.node_epoch, tail.clone());
    tail.append(stream, Epoch(1), entries(5, 5, 1, 10));
    uploader.flush().await.unwrap();
    assert_eq!(end(&rig.tier, stream), Offset(10));
}

#[tokio::test(start_paused = true)]
async fn snapshots_travel_with_the_ranges() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    assert_eq!(rig.tier.snapshot(stream).await.unwrap(), None);
    let snapshot = StateSnapshot {
        as_of: Offset(3),
        bytes: Bytes::from_static(b"three"),
    };
    rig.tail.attach(stream, snapshot.clone());
    rig.upload(stream, entries(0, 5, 1, 10)).await;
    assert_eq!(rig.tier.snapshot(stream).await.unwrap(), Some(snapshot));
    // The object stays as long as the snapshot is the newest, although its range is trimmed.
    let metadata = rig.tier.metadata();
    metadata
        .propose(vec![MetaOp::TrimStream {
            stream,
            epoch: Epoch(1),
            start: Offset(5),
        }])
        .await
        .unwrap();
    assert_eq!(rig.tier.counters().stream_set_dead, 0);
    let newer = StateSnapshot {
        as_of: Offset(8),
        bytes: Bytes::new(),
    };
    rig.tail.attach(stream, newer.clone());
    rig.upload(stream, entries(5, 5, 1, 10)).await;
    assert_eq!(rig.tier.counters().stream_set_dead, 1);
    assert_eq!(rig.tier.snapshot(stream).await.unwrap(), Some(newer));
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn metadata_of_another_process_is_taken_in_at_the_commit() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    let other = Tier::open(rig.bucket.clone(), rig.env.clone(), small_config())
        .await
        .unwrap();
    let put = |value| {
        let key = "key".to_owned();
        vec![MetaOp::PutKey {
            key,
            value: Bytes::from_static(value),
            expected_version: None,
        }]
    };
    other.metadata().propose(put(b"other")).await.unwrap();
    rig.upload(stream, vec![entry(0, 1, 10)]).await;
    assert!(rig.tier.metadata().read(|state| state.key("key").is_some()));
    // And the other way: two tiers, one log.
    let epoch = register(other.metadata()).await;
    open_new_stream(other.metadata(), epoch).await;
    assert_eq!(end(&other, stream), Offset(1));
}

#[test]
fn a_batch_is_divided_by_size() {
    let ranges = [(3, 10), (1, 300), (2, 10), (4, 10)].map(|(stream, size)| crate::SealedRange {
        stream: StreamId(stream),
        stream_epoch: Epoch(1),
        entries: vec![entry(0, 1, size)],
        snapshot: None,
    });
    let mut batch = crate::SealedBatch {
        ranges: ranges.to_vec(),
    };
    batch.ranges[3].entries.clear();
    let limits = Limits {
        stream_object_bytes: 256,
        stream_set_streams: 1,
        entry_bytes_max: 4_096,
    };
    let plans: Vec<_> = split(batch, &limits)
        .into_iter()
        .map(|plan| {
            (
                plan.kind,
                plan.ranges
                    .iter()
                    .map(|range| range.stream.0)
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    let set = ObjectKind::StreamSet;
    assert_eq!(
        plans,
        [
            (set, vec![2]),
            (set, vec![3]),
            (ObjectKind::Stream, vec![1])
        ]
    );
}

/// A tail that says something is pending and seals nothing.
struct StuckTail(std::sync::atomic::AtomicU64);

impl crate::Tail for StuckTail {
    fn pending(&self) -> crate::Pending {
        crate::Pending {
            num_bytes: 1 << 30,
            oldest: Some(tidewater_types::Instant(0)),
            streams: 1,
            ..crate::Pending::default()
        }
    }

    fn start_over(&self) {}

    fn changed(&self) -> tidewater_types::BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn seal(&self, _bytes_max: u64) -> crate::SealedBatch {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        crate::SealedBatch::default()
    }

    fn committed(&self, _report: &crate::CommitReport) {
        panic!("nothing was sealed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_seals_nothing_is_not_asked_in_a_busy_loop() {
    let rig = Rig::new(small_config()).await;
    rig.uploader.stop().await;
    let tail = Arc::new(StuckTail(std::sync::atomic::AtomicU64::new(0)));
    let _uploader = rig.tier.start_uploader(NODE, rig.node_epoch, tail.clone());
    tokio::time::sleep(10 * HOUR + HOUR / 2).await;
    assert_eq!(
        tail.0.load(std::sync::atomic::Ordering::Relaxed),
        11,
        "at once and after each upload age"
    );
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_small_streams_make_one_object_and_one_commit() {
    let rig = Rig::new(TierConfig {
        upload_age: HOUR,
        ..TierConfig::default()
    })
    .await;
    let metadata = rig.tier.metadata();
    let first = metadata.read(|state| state.next_stream_id()).0;
    let streams: Vec<StreamId> = (first..first + 20_000).map(StreamId).collect();
    let (node, node_epoch, epoch) = (NODE, rig.node_epoch, Epoch(1));
    for some in streams.chunks(2_000) {
        let open = |stream| {
            let create = MetaOp::CreateStream { stream };
            let open = MetaOp::OpenStream {
                stream,
                node,
                node_epoch,
                epoch,
            };
            [create, open]
        };
        let txn = some.iter().copied().flat_map(open).collect();
        metadata.propose(txn).await.unwrap();
    }
    let logged = rig.bucket.count(Op::Create, "meta/log/");
    for stream in &streams {
        rig.tail.append(*stream, epoch, entries(0, 2, 1, 10));
        let bytes = Bytes::from_static(b"state");
        let as_of = Offset(2);
        rig.tail.attach(*stream, StateSnapshot { as_of, bytes });
    }
    rig.uploader.flush().await.unwrap();
    let counters = rig.tier.counters();
    assert_eq!((counters.uploads, counters.commits), (1, 1));
    assert_eq!(rig.bucket.count(Op::Create, "meta/log/"), logged + 1);
    assert!(streams.iter().all(|s| end(&rig.tier, *s) == Offset(2)));
    let last = rig.tier.snapshot(streams[19_999]).await.unwrap().unwrap();
    assert_eq!(last.bytes, "state");
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_holds_no_later_one_up_and_commits_keep_their_order() {
    let rig = Rig::new(TierConfig {
        upload_bytes: 1_024,
        ..small_config()
    })
    .await;
    let stream = rig.stream().await;
    // The first requests are lost; the others are there at once.
    rig.bucket.script(Op::Create, "data/", &[Fault::Vanish; 8]);
    rig.tail.append(stream, Epoch(1), entries(0, 40, 1, 100));
    let flushed = rig.uploader.flush();
    let watched = async {
        while rig.bucket.keys("data/").await.len() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        end(&rig.tier, stream)
    };
    let (flushed, reached) = tokio::join!(flushed, watched);
    flushed.unwrap();
    assert_eq!(
        reached,
        Offset(0),
        "three objects are there, none is committed"
    );
    assert_eq!(end(&rig.tier, stream), Offset(40));
    assert_eq!(rig.tier.counters().ranges_dropped, 0);
    let ends: Vec<_> = rig
        .tail
        .reports
        .lock()
        .iter()
        .map(|r| r.committed[0].1.end())
        .collect();
    assert!(ends.is_sorted() && ends.len() == 4, "{ends:?}");
    assert_sound(&rig).await;
}

/// A batch that has to be sent again takes ids above those of the batches behind it. Were more sealed
/// meanwhile, each would be refused in turn.
#[tokio::test(start_paused = true)]
async fn condemned_ids_make_no_batch_go_twice_for_ever() {
    let rig = Rig::new(TierConfig {
        upload_bytes: 1_024,
        ..small_config()
    })
    .await;
    let stream = rig.stream().await;
    let condemn = MetaOp::CondemnObjects {
        node: NODE,
        epoch: rig.node_epoch,
        counter: 2,
    };
    let metadata = rig.tier.metadata();
    metadata.propose(vec![condemn]).await.unwrap();
    rig.upload(stream, entries(0, 400, 1, 100)).await;
    let counters = rig.tier.counters();
    let batches = counters.commits;
    assert!(batches >= 30, "{batches}");
    // The batches that were under way, each once more.
    let again = counters.uploads - batches;
    assert!((1..=8).contains(&again), "{again} of {batches}");
    assert_eq!(end(&rig.tier, stream), Offset(400));
}

/// Drops the upload loop before it is polled once, as the end of a runtime does.
struct DropsUploads(Arc<dyn tidewater_types::Env>);

impl tidewater_types::Env for DropsUploads {
    fn now(&self) -> tidewater_types::Instant {
        self.0.now()
    }

    fn wall_ms(&self) -> i64 {
        self.0.wall_ms()
    }

    fn sleep(&self, wait: Duration) -> tidewater_types::BoxFuture<'static, ()> {
        self.0.sleep(wait)
    }

    fn spawn(&self, label: &'static str, task: tidewater_types::BoxFuture<'static, ()>) {
        if label != "s3stream: uploader" {
            self.0.spawn(label, task);
        }
    }

    fn random(&self, label: &'static str) -> u64 {
        self.0.random(label)
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_never_began_ends_with_a_reason() {
    let env = Arc::new(DropsUploads(crate::testing::TestEnv::shared(1)));
    let tier = Tier::open(crate::testing::FaultyBucket::new(), env, small_config());
    let tier = tier.await.unwrap();
    let epoch = register(tier.metadata()).await;
    let uploader = tier.start_uploader(NODE, epoch, Arc::new(BrokenTail));
    assert_eq!(uploader.flush().await, Err(TierError::Died));
    assert_eq!(uploader.ended().await, TierError::Died);
    uploader.stop().await;
}

/// A tail that panics when it is asked for the next batch.
struct BrokenTail;

impl crate::Tail for BrokenTail {
    fn pending(&self) -> crate::Pending {
        crate::Pending {
            num_bytes: 1,
            ..crate::Pending::default()
        }
    }

    fn changed(&self) -> tidewater_types::BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn start_over(&self) {}

    fn seal(&self, _bytes_max: u64) -> crate::SealedBatch {
        panic!("a bug in the tail");
    }

    fn committed(&self, _report: &crate::CommitReport) {}
}

#[tokio::test(start_paused = true)]
async fn an_uploader_that_panics_says_so_to_everybody() {
    let rig = Rig::new(small_config()).await;
    rig.uploader.stop().await;
    let uploader = rig
        .tier
        .start_uploader(NODE, rig.node_epoch, Arc::new(BrokenTail));
    assert_eq!(uploader.flush().await, Err(TierError::Died));
    assert_eq!(uploader.flush().await, Err(TierError::Died));
    assert_eq!(uploader.ended().await, TierError::Died);
    uploader.stop().await;
}

/// A batch that holds what cannot be encoded: the task that sends it dies, not the loop.
#[tokio::test(start_paused = true)]
async fn an_upload_that_panics_ends_the_loop_with_a_reason() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    let torn = vec![entry(0, 1, 10), entry(5, 1, 10)];
    rig.tail.append(stream, Epoch(1), torn);
    assert_eq!(rig.uploader.flush().await, Err(TierError::Died));
    assert_eq!(rig.tail.reports.lock().len(), 0);
}
