//! Tests of compaction: what it makes, what it costs, what disturbs it.

use std::time::Duration;

use bytes::Bytes;
use tidewater_types::{Epoch, Offset, StreamId};

use crate::config::CompactConfig;
use crate::format::block;
use crate::format::index::{self, IndexRow, ObjectIndex};
use crate::format::object::FOOTER_SIZE;
use crate::testing::{Fault, FaultyBucket, NODE, Op, Rig, TestEnv, entries, small_config};
use crate::upload::encode::ObjectBuilder;
use crate::{
    Entry, FsckOptions, MetaOp, ObjectId, ObjectKind, StateSnapshot, Tier, TierConfig, TierError,
    fsck,
};

use super::merge::{Merge, holds};
use super::sum::sum;

mod large;
mod split;

fn config() -> TierConfig {
    TierConfig {
        compact: CompactConfig {
            background: false,
            objects_min: 4,
            growth_min: 2,
            copy_bytes: 0,
            object_bytes: 16 << 10,
            read_bytes: 4 << 10,
            ..small_config().compact
        },
        ..small_config()
    }
}

async fn compact(rig: &Rig) -> u64 {
    let done = rig.tier.compact_until_done(NODE, rig.node_epoch).await;
    done.unwrap()
}

async fn assert_sound(rig: &Rig) {
    let options = FsckOptions {
        verify_checksums: true,
        ..FsckOptions::default()
    };
    let report = fsck(rig.bucket.clone(), rig.env.clone(), options);
    let findings = report.await.unwrap().findings;
    let errors: Vec<_> = findings
        .iter()
        .filter(|finding| finding.severity == crate::Severity::Error)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

async fn read(tier: &Tier, stream: StreamId) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    let end = tier
        .metadata()
        .read(|state| state.stream(stream).unwrap().end);
    loop {
        let next = all.last().map_or(Offset(0), Entry::end_offset);
        if next == end {
            return all;
        }
        let fetched = tier.fetch(stream, next, 10_000).await.unwrap();
        assert!(!fetched.entries.is_empty(), "stuck at {next}");
        all.extend(fetched.entries);
    }
}

/// Uploads `rounds` times three entries of each of two streams.
async fn two_streams(rig: &Rig, rounds: u64, num_bytes: usize) -> [StreamId; 2] {
    let streams = [rig.stream().await, rig.stream().await];
    for round in 0..rounds {
        for stream in streams {
            let part = entries(round * 6, 3, 2, num_bytes);
            rig.tail.append(stream, Epoch(1), part);
        }
        rig.uploader.flush().await.unwrap();
    }
    streams
}

fn kinds(rig: &Rig, stream: StreamId) -> Vec<ObjectKind> {
    rig.tier.metadata().read(|state| {
        let ranges = state.stream(stream).unwrap().ranges();
        let objects = ranges.map(|(_, range)| state.object(range.object).unwrap().kind);
        objects.collect()
    })
}

#[tokio::test(start_paused = true)]
async fn small_sets_become_one_and_read_the_same() {
    let rig = Rig::new(config()).await;
    let streams = two_streams(&rig, 5, 40).await;
    assert_eq!(compact(&rig).await, 1);
    for stream in streams {
        assert_eq!(kinds(&rig, stream), [ObjectKind::StreamSet]);
        assert_eq!(read(&rig.tier, stream).await, entries(0, 15, 2, 40));
        let found = rig.tier.find_timestamp(stream, Offset(0), 1_100).await;
        assert_eq!(found.unwrap().unwrap().base_offset, Offset(10));
    }
    assert_sound(&rig).await;
    assert_eq!(compact(&rig).await, 0, "it ends");
    let counters = rig.tier.counters();
    assert_eq!((counters.stream_set_live, counters.stream_set_dead), (1, 5));
    assert_eq!(
        (counters.ranges_replaced, counters.replacements_dropped),
        (2, 0)
    );
    assert_eq!(counters.compaction_objects, 1);
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(
        rig.bucket.keys("data/").await.len(),
        1,
        "the sources go, late"
    );
}

#[tokio::test(start_paused = true)]
async fn one_stream_grows_through_objects_of_its_own() {
    let rig = Rig::new(config()).await;
    let stream = rig.stream().await;
    for round in 0..40 {
        rig.upload(stream, entries(round * 3, 3, 1, 300)).await;
    }
    compact(&rig).await;
    let all = kinds(&rig, stream);
    assert!(all.len() <= 6, "{all:?}");
    assert_eq!(all[0], ObjectKind::Stream);
    assert_eq!(read(&rig.tier, stream).await, entries(0, 120, 1, 300));
    assert_sound(&rig).await;
    let largest = rig.tier.metadata().read(|state| {
        let live = state
            .objects()
            .filter(|(_, object)| object.died_seq.is_none());
        live.map(|(_, object)| object.size).max().unwrap()
    });
    assert!((10_000..17_000).contains(&largest), "{largest}");
}

#[tokio::test(start_paused = true)]
async fn a_large_block_moves_and_small_ones_are_joined() {
    let rig = Rig::new(config()).await;
    let stream = rig.stream().await;
    for (start, num_bytes) in [(0, 400), (1, 20), (2, 20), (3, 20)] {
        rig.upload(stream, entries(start, 1, 1, num_bytes)).await;
    }
    // Half as large as all of them together: a large one would wait for its like.
    rig.upload(stream, entries(4, 1, 1, 400)).await;
    assert_eq!(compact(&rig).await, 1);
    let object = rig.tier.metadata().read(|state| {
        let (_, range) = state.stream(stream).unwrap().ranges().next().unwrap();
        (range.object, *state.object(range.object).unwrap())
    });
    let index = rig.tier.source().index(object.0, &object.1).await.unwrap();
    let counts: Vec<_> = index.rows.iter().map(|row| row.entry_count).collect();
    assert_eq!(counts, [1, 3, 1]);
    assert_eq!(read(&rig.tier, stream).await.len(), 5);
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_state_snapshot_moves_along_and_frees_its_object() {
    let rig = Rig::new(config()).await;
    let stream = rig.stream().await;
    let state = StateSnapshot {
        as_of: Offset(3),
        bytes: Bytes::from_static(b"the owner's state"),
    };
    rig.tail.attach(stream, state.clone());
    for round in 0..4 {
        rig.upload(stream, entries(round * 3, 3, 1, 50)).await;
    }
    compact(&rig).await;
    assert_eq!(rig.tier.snapshot(stream).await.unwrap(), Some(state));
    let counters = rig.tier.counters();
    assert_eq!((counters.stream_set_live, counters.stream_live), (0, 1));
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_to_do_costs_no_request_and_work_is_done_in_the_background() {
    let mut config = config();
    config.compact.background = true;
    let rig = Rig::new(config).await;
    let streams = two_streams(&rig, 3, 40).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = rig.bucket.requests().len();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(rig.bucket.requests().len(), before, "idle is free");
    rig.upload(streams[0], entries(18, 3, 2, 40)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(kinds(&rig, streams[0]).len(), 1);
    assert_eq!(read(&rig.tier, streams[0]).await, entries(0, 12, 2, 40));
    // The deletion of what died is the last thing that happens.
    tokio::time::sleep(Duration::from_secs(700)).await;
    let before = rig.bucket.requests().len();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(rig.bucket.requests().len(), before, "idle is free again");
}

#[tokio::test(start_paused = true)]
async fn two_compactors_of_one_epoch_do_no_harm() {
    let rig = Rig::new(config()).await;
    let streams = two_streams(&rig, 5, 40).await;
    // Another process that believes to be the node, and planned before the first one committed.
    let open = Tier::open(rig.bucket.clone(), TestEnv::shared(77), config());
    let other = open.await.unwrap();
    compact(&rig).await;
    let epoch = rig.node_epoch;
    assert_eq!(other.compact_until_done(NODE, epoch).await.unwrap(), 1);
    let counters = other.counters();
    assert_eq!(counters.ranges_replaced, 0);
    for stream in streams {
        assert_eq!(read(&other, stream).await, entries(0, 15, 2, 40));
    }
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_fenced_compactor_stops() {
    let rig = Rig::new(config()).await;
    two_streams(&rig, 5, 40).await;
    let next = rig.node_epoch.next().unwrap();
    let open = Tier::open(rig.bucket.clone(), TestEnv::shared(77), config());
    let other = open.await.unwrap();
    let register = MetaOp::RegisterNode {
        node: NODE,
        epoch: next,
    };
    other.metadata().propose(vec![register]).await.unwrap();
    let err = rig.tier.compact_until_done(NODE, rig.node_epoch).await;
    assert!(matches!(err, Err(TierError::Fenced { .. })), "{err:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_cuts_short_is_an_orphan_and_is_done_again() {
    let bucket = FaultyBucket::new();
    let rig = Rig::on(bucket.clone(), 1, config()).await;
    let streams = two_streams(&rig, 5, 40).await;
    bucket.script(Op::Create, "meta/log/", &[Fault::Throttle; 100_000]);
    let cut = rig.tier.compact_until_done(NODE, rig.node_epoch);
    let cut = tokio::time::timeout(Duration::from_secs(5), cut).await;
    assert!(cut.is_err());
    assert_eq!(bucket.keys("data/").await.len(), 6);
    drop(rig);
    let healed = FaultyBucket::new();
    for key in bucket.keys("").await {
        let bytes = bucket.bytes(&key).await;
        healed.tamper(&key, Some(bytes)).await;
    }
    let rig = Rig::on(healed, 2, config()).await;
    assert_eq!(rig.tier.sweep_orphans().await.unwrap(), 1);
    assert_eq!(rig.bucket.keys("data/").await.len(), 5);
    assert_eq!(compact(&rig).await, 1);
    assert_eq!(read(&rig.tier, streams[1]).await, entries(0, 15, 2, 40));
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn damage_stops_what_it_is_in_and_is_not_copied() {
    let rig = Rig::new(config()).await;
    let (sick, sound) = (rig.stream().await, rig.stream().await);
    for stream in [sick, sound] {
        for round in 0..5 {
            rig.upload(stream, entries(round * 40, 40, 1, 100)).await;
        }
    }
    let key = rig.tier.metadata().read(|state| {
        let (_, range) = state.stream(sick).unwrap().ranges().nth(1).unwrap();
        range.object.key()
    });
    rig.bucket.flip(&key, 300).await;
    let mut failed = 0;
    loop {
        match rig.tier.compact_until_done(NODE, rig.node_epoch).await {
            Ok(_) => break,
            Err(TierError::Corrupt { object, .. }) => {
                assert_eq!(object, key);
                failed += 1;
            }
            Err(err) => panic!("{err}"),
        }
    }
    assert_eq!(failed, 1, "the damaged object is asked for once");
    assert!(kinds(&rig, sound).len() < 5);
    assert_eq!(read(&rig.tier, sound).await, entries(0, 200, 1, 100));
}

#[test]
fn an_object_that_lacks_a_record_is_no_proof() {
    let id = ObjectId {
        node: NODE,
        epoch: Epoch(1),
        counter: 9,
        nonce: 9,
    };
    let mut merge = Merge::new(ObjectBuilder::new(id, ObjectKind::Stream), 64);
    let mut rows = Vec::new();
    for (start, count) in [(0, 3), (3, 4)] {
        let block = block::encode_data(StreamId(1), 5, 48, &entries(start, count, 1, 10));
        let bytes = Bytes::from(block.parts.concat());
        let decoded = block::decode_data(bytes, &block.row).unwrap();
        merge.push(&block.row, &decoded);
        rows.push(block.row);
    }
    let expected = sum(rows.iter()).unwrap();
    let encoded = merge.finish(1);
    let body = Bytes::from(encoded.body.concat());
    let index = body.slice(encoded.object.index_position as usize..);
    let index = index.slice(..index.len() - FOOTER_SIZE);
    let right = index::decode(index, encoded.object.index_position, 9, 0).unwrap();
    let holds = |index: &ObjectIndex| holds(index, StreamId(1), &expected);
    assert!(holds(&right));
    let wrong: [fn(&mut IndexRow); 5] = [
        |row| row.record_count -= 1,
        |row| row.entry_count -= 1,
        |row| row.timestamp_ms_max += 1,
        |row| row.offset_delta -= 1,
        |row| row.base_offset = Offset(row.base_offset.0 + 1),
    ];
    for change in wrong {
        for row in 0..right.rows.len() {
            let mut index = right.clone();
            change(&mut index.rows[row]);
            let is_greatest =
                row + 1 < right.rows.len() && index.rows[row].base_offset == Offset(0);
            // Only the greatest timestamp of all is kept for the range.
            let is_hidden = is_greatest
                && index.rows[row].record_count == right.rows[row].record_count
                && index.rows[row].timestamp_ms_max != right.rows[row].timestamp_ms_max;
            assert!(is_hidden || !holds(&index), "row {row}");
        }
    }
    assert!(!holds(&index_of(&right.rows[..1])));
    assert!(!holds(&index_of(&[])));
}

fn index_of(rows: &[IndexRow]) -> ObjectIndex {
    ObjectIndex {
        rows: rows.to_vec(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_trim_under_a_compaction_wins() {
    let rig = Rig::new(config()).await;
    let streams = two_streams(&rig, 5, 40).await;
    let trim = MetaOp::TrimStream {
        stream: streams[0],
        epoch: Epoch(1),
        start: Offset(7),
    };
    let metadata = rig.tier.metadata();
    let (steps, trimmed) = tokio::join!(
        rig.tier.compact_until_done(NODE, rig.node_epoch),
        metadata.propose(vec![trim])
    );
    trimmed.unwrap();
    steps.unwrap();
    let fetched = rig.tier.fetch(streams[0], Offset(7), 10_000).await.unwrap();
    assert_eq!(fetched.entries.first().unwrap().base_offset, Offset(6));
    let counters = rig.tier.counters();
    assert_eq!(
        (counters.ranges_replaced, counters.replacements_dropped),
        (2, 1)
    );
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept() {
    let mut config = config();
    (config.compact.rate, config.compact.rate_floor) = (64 << 10, 64 << 10);
    config.compact.object_bytes = 1 << 20;
    let rig = Rig::new(config).await;
    let stream = rig.stream().await;
    for round in 0..4 {
        rig.upload(stream, entries(round * 10, 10, 1, 8_000)).await;
    }
    let start = tokio::time::Instant::now();
    assert_eq!(compact(&rig).await, 1);
    let counters = rig.tier.counters();
    let moved = counters.compaction_bytes_read + counters.compaction_bytes_written;
    assert!(moved > 640_000, "{moved}");
    let seconds = start.elapsed().as_secs_f64();
    let expected = moved as f64 / 65_536.0;
    assert!(
        (seconds / expected - 1.0).abs() < 0.05,
        "{seconds} s, {expected} s"
    );
}

#[tokio::test(start_paused = true)]
async fn many_streams_and_small_log_entries_are_divided_and_end() {
    let mut config = config();
    config.meta.entry_bytes_max = 4 << 10;
    config.compact.object_bytes = 64 << 10;
    let rig = Rig::new(config).await;
    let mut streams = Vec::new();
    for _ in 0..30 {
        streams.push(rig.stream().await);
    }
    for round in 0..9 {
        for stream in &streams {
            rig.tail
                .append(*stream, Epoch(1), entries(round * 2, 2, 1, 10));
        }
        rig.uploader.flush().await.unwrap();
    }
    let before = rig.tier.counters().stream_set_live;
    compact(&rig).await;
    let after = rig.tier.counters();
    assert!(after.stream_set_live + after.stream_live < before);
    for stream in streams {
        assert_eq!(read(&rig.tier, stream).await, entries(0, 18, 1, 10));
    }
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn requests_are_few() {
    let rig = Rig::new(config()).await;
    two_streams(&rig, 4, 40).await;
    let before = rig.bucket.requests().len();
    compact(&rig).await;
    let requests = rig.bucket.requests().split_off(before);
    let count = |op, prefix: &str| {
        let matching = requests.iter();
        let matching = matching.filter(|(done, key)| *done == op && key.starts_with(prefix));
        matching.count()
    };
    // One read a small source, one write, its proof, one commit.
    assert_eq!(
        (count(Op::Get, "data/"), count(Op::Create, "data/")),
        (5, 1)
    );
    assert_eq!(count(Op::Create, "meta/log/"), 1);
    assert_eq!(requests.len(), 7);
}

/// Sets that many streams share are read in order of position, not stream by stream.
#[tokio::test(start_paused = true)]
async fn requests_do_not_grow_with_the_streams_of_an_object() {
    let mut config = config();
    config.compact.read_bytes = 4 << 10;
    let rig = Rig::new(config).await;
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(rig.stream().await);
    }
    for round in 0..4 {
        for stream in &streams {
            rig.tail
                .append(*stream, Epoch(1), entries(round * 2, 2, 1, 40));
            let bytes = Bytes::from_static(b"state");
            let as_of = Offset(round * 2 + 2);
            rig.tail.attach(*stream, StateSnapshot { as_of, bytes });
        }
        rig.uploader.flush().await.unwrap();
    }
    let before = rig.bucket.count(Op::Get, "data/");
    compact(&rig).await;
    let gets = rig.bucket.count(Op::Get, "data/") - before;
    let num_bytes = rig.tier.counters().compaction_bytes_read;
    // Each of four sets: its index, and a request for each 4 KiB; then the proof.
    let most = 4 * (1 + 2) + 1 + usize::try_from(num_bytes).unwrap() / (4 << 10);
    assert!(gets <= most && most < 40, "{gets} of {most}");
    for stream in &streams {
        assert_eq!(read(&rig.tier, *stream).await, entries(0, 8, 1, 40));
        let state = rig.tier.snapshot(*stream).await.unwrap().unwrap();
        assert_eq!(state.bytes, "state");
    }
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn the_point_of_a_trim_follows_age_and_size() {
    let rig = Rig::new(config()).await;
    let stream = rig.stream().await;
    let tier = &rig.tier;
    let point = |age, size| async move { tier.trim_point(stream, age, size).await.unwrap().0 };
    assert_eq!(point(Some(i64::MAX), Some(0)).await, 0, "nothing is there");
    // Blocks of four entries: 4 x (24 + 80) and a header of 64 bytes are 480.
    for round in 0..4 {
        rig.upload(stream, entries(round * 8, 8, 1, 80)).await;
    }
    // The timestamp of offset n is 1,000 + 10 n.
    for (age, expected) in [
        (0, 0),
        (1_000, 0),
        (1_031, 4),
        (1_100, 8),
        (1_300, 28),
        (1_311, 32),
    ] {
        assert_eq!(point(Some(age), None).await, expected, "older than {age}");
    }
    let of_block = 64 + 4 * (24 + 80);
    for (size, expected) in [
        (1, 28),
        (of_block, 28),
        (of_block + 1, 24),
        (8 * of_block, 0),
    ] {
        assert_eq!(point(None, Some(size)).await, expected, "{size} bytes");
    }
    assert_eq!(point(Some(1_031), Some(of_block)).await, 28, "the greater");
    assert_eq!(point(None, Some(0)).await, 32);
    compact(&rig).await;
    assert_eq!(
        point(Some(1_031), None).await,
        4,
        "compaction changes nothing"
    );
    let trim = MetaOp::TrimStream {
        stream,
        epoch: Epoch(1),
        start: Offset(6),
    };
    tier.metadata().propose(vec![trim]).await.unwrap();
    assert_eq!(
        point(Some(1_031), Some(u64::MAX)).await,
        6,
        "not below the start"
    );
}
