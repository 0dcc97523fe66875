//! Tests of splits: sets become objects of their streams, and what disturbs that.
//!
//! *IO: driver (a runtime)*

use super::*;

/// Each stream has a block of about 1.5 KiB in an upload: of 4 uploads sets are split, a few streams
/// at a time.
const ENTRY_BYTES: usize = 1_400;

fn splitting() -> TierConfig {
    let mut config = config();
    config.compact.split_window_bytes = 1 << 20;
    config.compact.split_read_bytes_min = 256;
    config.compact.split_commit_bytes = 1;
    config.compact.step_bytes = 17 << 10;
    config
}

async fn streams(rig: &Rig, count: usize) -> Vec<StreamId> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(rig.stream().await);
    }
    streams
}

/// Uploads an entry of each of the streams.
async fn upload(rig: &Rig, round: u64, streams: &[StreamId]) {
    for stream in streams {
        let part = entries(round, 1, 1, ENTRY_BYTES);
        rig.tail.append(*stream, Epoch(1), part);
    }
    rig.uploader.flush().await.unwrap();
}

async fn uploaded(config: TierConfig, rounds: u64) -> (Rig, Vec<StreamId>) {
    let rig = Rig::new(config).await;
    let streams = streams(&rig, 12).await;
    for round in 0..rounds {
        upload(&rig, round, &streams).await;
    }
    (rig, streams)
}

async fn assert_read(rig: &Rig, streams: &[StreamId], rounds: u64) {
    for stream in streams {
        let all = entries(0, rounds, 1, ENTRY_BYTES);
        assert_eq!(read(&rig.tier, *stream).await, all);
    }
    assert_sound(rig).await;
}

fn num_split(rig: &Rig, streams: &[StreamId]) -> usize {
    let is_split = |stream: &&StreamId| kinds(rig, **stream) == [ObjectKind::Stream];
    streams.iter().filter(is_split).count()
}

#[tokio::test(start_paused = true)]
async fn sets_wait_and_are_split_and_each_byte_is_written_again_once() {
    let (rig, streams) = uploaded(splitting(), 3).await;
    assert_eq!(compact(&rig).await, 0, "they wait for more of their like");
    upload(&rig, 3, &streams).await;
    let gets = rig.bucket.count(Op::Get, "data/");
    assert_eq!(compact(&rig).await, 1);
    assert_eq!(num_split(&rig, &streams), 12);
    assert_eq!(compact(&rig).await, 0, "it ends");
    let counters = rig.tier.counters();
    assert_eq!((counters.stream_set_live, counters.stream_live), (0, 12));
    let (sent, again) = (counters.upload_bytes, counters.compaction_bytes_written);
    assert!(again <= sent / 20 * 21, "{again} of {sent} bytes");
    // Two streams fit memory: an index, a request for each pair of streams of each set, and the proofs.
    let gets = rig.bucket.count(Op::Get, "data/") - gets;
    assert_eq!(gets, 4 + 4 * 6 + 12);
    assert_read(&rig, &streams, 4).await;
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(
        rig.bucket.keys("data/").await.len(),
        12,
        "the sets go, late"
    );
}

#[tokio::test(start_paused = true)]
async fn more_streams_than_a_split_reaches_are_joined_as_ever() {
    let mut config = splitting();
    config.compact.split_window_bytes = 64 << 10;
    config.compact.object_bytes = 128 << 10;
    let (rig, streams) = uploaded(config, 4).await;
    compact(&rig).await;
    assert_eq!(
        rig.tier.counters().stream_live,
        12,
        "72 KiB do not fit, but a join does"
    );
    assert_read(&rig, &streams, 4).await;
}

#[tokio::test(start_paused = true)]
async fn what_no_stream_has_enough_of_goes_into_one_set() {
    let mut config = splitting();
    config.compact.step_bytes = 32 << 10;
    let rig = Rig::new(config).await;
    let (large, small) = (streams(&rig, 12).await, streams(&rig, 2).await);
    for round in 0..5 {
        for stream in &small {
            rig.tail.append(*stream, Epoch(1), entries(round, 1, 1, 10));
        }
        upload(&rig, round, &large).await;
    }
    assert_eq!(compact(&rig).await, 1);
    assert_eq!(num_split(&rig, &large), 12);
    for stream in &small {
        assert_eq!(kinds(&rig, *stream), [ObjectKind::StreamSet]);
        assert_eq!(read(&rig.tier, *stream).await, entries(0, 5, 1, 10));
    }
    assert_eq!(rig.tier.counters().stream_set_live, 1);
    assert_read(&rig, &large, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_split_that_a_crash_cuts_short_goes_on_where_it_was() {
    let bucket = FaultyBucket::new();
    let rig = Rig::on(bucket.clone(), 1, splitting()).await;
    let streams = streams(&rig, 12).await;
    for round in 0..4 {
        upload(&rig, round, &streams).await;
    }
    bucket.script_behind(2, Op::Create, "meta/log/", &[Fault::Throttle; 100_000]);
    let cut = rig.tier.compact_until_done(NODE, rig.node_epoch);
    let cut = tokio::time::timeout(Duration::from_secs(5), cut).await;
    assert!(cut.is_err());
    assert_eq!(num_split(&rig, &streams), 4, "two commits of two streams");
    assert_eq!(
        rig.tier.counters().stream_set_live,
        4,
        "nothing is given up"
    );
    let healed = FaultyBucket::new();
    for key in bucket.keys("").await {
        healed.tamper(&key, Some(bucket.bytes(&key).await)).await;
    }
    drop(rig);
    let rig = Rig::on(healed, 2, splitting()).await;
    assert_eq!(compact(&rig).await, 1);
    assert_eq!(num_split(&rig, &streams), 12);
    assert_eq!(
        rig.tier.counters().compaction_objects,
        8,
        "only what was left"
    );
    assert_read(&rig, &streams, 4).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_that_split_the_same_sets_one_wins_and_the_other_stops() {
    let (rig, streams) = uploaded(splitting(), 4).await;
    let open = Tier::open(rig.bucket.clone(), TestEnv::shared(77), splitting());
    let other = open.await.unwrap();
    compact(&rig).await;
    let steps = other.compact_until_done(NODE, rig.node_epoch).await;
    assert_eq!(steps.unwrap(), 1);
    let counters = other.counters();
    assert_eq!(
        (counters.ranges_replaced, counters.compaction_objects),
        (0, 2)
    );
    assert_eq!(num_split(&rig, &streams), 12);
    assert_read(&rig, &streams, 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_trim_under_a_split_takes_its_stream_out_alone() {
    let (rig, streams) = uploaded(splitting(), 5).await;
    let trim = MetaOp::TrimStream {
        stream: streams[7],
        epoch: Epoch(1),
        start: Offset(2),
    };
    let metadata = rig.tier.metadata();
    let (steps, trimmed) = tokio::join!(
        rig.tier.compact_until_done(NODE, rig.node_epoch),
        metadata.propose(vec![trim])
    );
    trimmed.unwrap();
    // The trimmed stream is left in three sets, and comes out of them afterwards.
    assert_eq!(steps.unwrap(), 2);
    let fetched = rig.tier.fetch(streams[7], Offset(2), 10_000).await.unwrap();
    assert_eq!(fetched.entries, entries(2, 3, 1, ENTRY_BYTES));
    let others: Vec<_> = [&streams[..7], &streams[8..]].concat();
    assert_eq!(num_split(&rig, &others), 11);
    assert_read(&rig, &others, 5).await;
}

/// Of sets that are mostly dead the metadata knows the size, not what is left.
#[tokio::test(start_paused = true)]
async fn sets_that_hold_too_little_are_looked_into_once() {
    let (rig, streams) = uploaded(splitting(), 2).await;
    for stream in &streams[1..] {
        let (epoch, start) = (Epoch(1), Offset(2));
        let trim = MetaOp::TrimStream {
            stream: *stream,
            epoch,
            start,
        };
        rig.tier.metadata().propose(vec![trim]).await.unwrap();
    }
    assert_eq!(compact(&rig).await, 1);
    assert_eq!(rig.tier.counters().compaction_objects, 0);
    assert_eq!(compact(&rig).await, 0, "not again");
    assert_read(&rig, &streams[..1], 2).await;
}

#[tokio::test(start_paused = true)]
async fn damage_in_a_set_is_named_and_nothing_of_it_is_committed() {
    let (rig, streams) = uploaded(splitting(), 4).await;
    let key = rig.tier.metadata().read(|state| {
        let (_, range) = state.stream(streams[0]).unwrap().ranges().nth(1).unwrap();
        range.object.key()
    });
    rig.bucket.flip(&key, 300).await;
    let err = rig.tier.compact_until_done(NODE, rig.node_epoch).await;
    assert!(matches!(&err, Err(TierError::Corrupt { object, .. }) if *object == key));
    assert_eq!(num_split(&rig, &streams), 0, "it lies in the first stream");
    assert_read_but(&rig, &streams[1..], 4).await;
}

async fn assert_read_but(rig: &Rig, streams: &[StreamId], rounds: u64) {
    for stream in streams {
        let all = entries(0, rounds, 1, ENTRY_BYTES);
        assert_eq!(read(&rig.tier, *stream).await, all);
    }
}
