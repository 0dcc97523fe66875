//! Tests of fsck: every kind of damage is found and named.

use bytes::Bytes;
use tidewater_bucket::{Bucket, Purpose};
use tidewater_types::{Epoch, Offset, OffsetRange, StreamId};

use crate::meta::load::log_key;
use crate::meta::state::{RangeState, StreamState};
use crate::testing::{FaultyBucket, Rig, TestEnv, entries, small_config};
use crate::{FsckOptions, FsckReport, ObjectId, Severity, StateSnapshot};

use super::{fsck, tiles};

async fn filled() -> (Rig, StreamId, ObjectId) {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    rig.tail.attach(
        stream,
        StateSnapshot {
            as_of: Offset(10),
            bytes: Bytes::from_static(b"state of the owner"),
        },
    );
    rig.upload(stream, entries(0, 20, 1, 100)).await;
    let metadata = rig.tier.metadata();
    let object = metadata.read(|state| {
        state
            .stream(stream)
            .unwrap()
            .ranges()
            .next()
            .unwrap()
            .1
            .object
    });
    (rig, stream, object)
}

async fn check(rig: &Rig, verify_checksums: bool) -> FsckReport {
    fsck(
        rig.bucket.clone(),
        rig.env.clone(),
        FsckOptions {
            verify_checksums,
            ..FsckOptions::default()
        },
    )
    .await
    .unwrap()
}

fn found(report: &FsckReport) -> Vec<(&'static str, &'static str, Option<&str>)> {
    let findings = report.findings.iter();
    findings
        .map(|finding| {
            (
                finding.severity.name(),
                finding.what.name(),
                finding.object.as_deref(),
            )
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_sound_bucket_has_no_finding_and_nothing_is_changed() {
    let (rig, _, object) = filled().await;
    let keys = rig.bucket.keys("").await;
    let report = check(&rig, true).await;
    assert_eq!(
        (report.streams, report.objects, report.severity()),
        (1, 1, None)
    );
    assert_eq!(
        report.bytes_checked,
        rig.bucket.bytes(&object.key()).await.len() as u64
    );
    assert_eq!(rig.bucket.keys("").await, keys);
    let empty = FaultyBucket::new();
    let report = fsck(empty.clone(), TestEnv::shared(0), FsckOptions::default())
        .await
        .unwrap();
    assert_eq!(report, FsckReport::default());
    assert_eq!(empty.keys("").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn every_damaged_byte_of_an_object_is_found() {
    let (rig, _, object) = filled().await;
    let key = object.key();
    let sound = rig.bucket.bytes(&key).await;
    for position in 0..sound.len() {
        rig.bucket.flip(&key, position).await;
        let report = check(&rig, true).await;
        assert_eq!(
            report.severity(),
            Some(Severity::Error),
            "byte {position} of {}",
            sound.len()
        );
        assert!(
            report
                .findings
                .iter()
                .all(|finding| finding.object.as_ref() == Some(&key))
        );
        rig.bucket.tamper(&key, Some(sound.clone())).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_object_names_the_range_it_held() {
    let (rig, stream, object) = filled().await;
    rig.bucket.tamper(&object.key(), None).await;
    let report = check(&rig, false).await;
    let key = object.key();
    assert_eq!(
        found(&report),
        [
            ("error", "missing", Some(&*key)),
            ("error", "missing", Some(&*key))
        ]
    );
    assert_eq!(report.findings[0].stream, Some(stream));
    assert_eq!(
        report.findings[0].range,
        OffsetRange::new(Offset(0), Offset(20))
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_of_another_size_is_found_without_reading_it() {
    let (rig, _, object) = filled().await;
    let key = object.key();
    let bytes = rig.bucket.bytes(&key).await;
    rig.bucket
        .tamper(&key, Some(bytes.slice(..bytes.len() - 1)))
        .await;
    assert_eq!(
        found(&check(&rig, false).await),
        [("error", "format", Some(&*key))]
    );
}

#[tokio::test(start_paused = true)]
async fn an_orphan_is_named_and_is_no_error() {
    let (rig, _, _) = filled().await;
    let orphan = ObjectId {
        node: crate::testing::NODE,
        epoch: Epoch(1),
        counter: 99,
        nonce: 1,
    }
    .key();
    for key in [&*orphan, "data/foreign"] {
        rig.bucket
            .create(Purpose::Fsck, key, vec![Bytes::from_static(b"x")])
            .await
            .unwrap();
    }
    let report = check(&rig, true).await;
    let mut names = found(&report);
    names.sort_unstable();
    let mut expected = [
        ("info", "orphan", Some(&*orphan)),
        ("info", "orphan", Some("data/foreign")),
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[tokio::test(start_paused = true)]
async fn damage_to_the_metadata_is_a_finding() {
    let (rig, _, _) = filled().await;
    rig.tier.metadata().write_snapshot().await.unwrap();
    let snapshot = rig.bucket.keys("meta/snap/").await.remove(0);
    // In front of the snapshot: nothing is lost, a thorough check still tells.
    let sound = rig.bucket.bytes(&log_key(2)).await;
    rig.bucket.flip(&log_key(2), 90).await;
    assert_eq!(found(&check(&rig, false).await), []);
    assert_eq!(
        found(&check(&rig, true).await),
        [("error", "checksum", Some(&*log_key(2)))]
    );
    rig.bucket.tamper(&log_key(2), Some(sound)).await;
    rig.bucket.flip(&snapshot, 70).await;
    assert_eq!(
        found(&check(&rig, true).await),
        [("warning", "checksum", Some(&*snapshot))]
    );
    rig.bucket.tamper(&log_key(2), None).await;
    let report = check(&rig, false).await;
    let expected = [("error", "missing", Some(&*log_key(2)))];
    assert_eq!(found(&report), expected);
}

#[tokio::test(start_paused = true)]
async fn objects_without_metadata_are_an_error() {
    let bucket = FaultyBucket::new();
    bucket
        .create(Purpose::Fsck, "data/some", vec![Bytes::from_static(b"x")])
        .await
        .unwrap();
    let report = fsck(bucket, TestEnv::shared(0), FsckOptions::default())
        .await
        .unwrap();
    assert_eq!(found(&report), [("error", "missing", None)]);
}

#[test]
fn holes_and_overlaps_are_named_with_their_offsets() {
    let object = ObjectId {
        node: crate::testing::NODE,
        epoch: Epoch(1),
        counter: 1,
        nonce: 1,
    };
    let report = |start: u64, end: u64, ranges: &[(u64, u64)]| {
        let ranges = ranges.iter().map(|(start, end)| {
            (
                Offset(*start),
                RangeState {
                    end: Offset(*end),
                    object,
                    timestamp_ms_max: 0,
                },
            )
        });
        let mut stream = StreamState {
            start: Offset(start),
            end: Offset(end),
            ..StreamState::default()
        };
        stream.ranges = ranges.collect();
        let mut report = FsckReport::default();
        tiles(StreamId(1), &stream, &mut report);
        let name = |finding: &crate::Finding| {
            let range = finding.range.unwrap();
            (finding.what.name(), range.start().0, range.end().0)
        };
        report.findings.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(report(0, 0, &[]), []);
    assert_eq!(report(9, 5, &[]), []);
    assert_eq!(report(3, 10, &[(0, 5), (5, 10)]), []);
    assert_eq!(report(0, 10, &[]), [("hole", 0, 10)]);
    assert_eq!(report(0, 10, &[(2, 10)]), [("hole", 0, 2)]);
    assert_eq!(report(0, 10, &[(0, 4), (6, 10)]), [("hole", 4, 6)]);
    assert_eq!(report(0, 10, &[(0, 6), (4, 10)]), [("overlap", 4, 6)]);
    assert_eq!(report(0, 10, &[(0, 10), (4, 6)]), [("overlap", 4, 6)]);
    assert_eq!(report(0, 10, &[(0, 8)]), [("hole", 8, 10)]);
    assert_eq!(report(0, 10, &[(0, 12)]), [("overlap", 10, 12)]);
}
