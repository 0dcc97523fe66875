//! Tests of reads: offsets, sizes, times, damage.

mod loads;

use std::time::Duration;

use tidewater_types::{Epoch, ErrorKind, Offset, StreamId};

use crate::testing::{Fault, Op, Rig, entries, entry, small_config};
use crate::{Entry, MetaOp, ObjectId, Tier, TierConfig, TierError};

/// Three objects, several blocks each: entries of 5 records and 100 bytes.
async fn filled() -> (Rig, StreamId, Vec<Entry>) {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    let noise = rig.stream().await;
    let mut all = Vec::new();
    for round in 0..3u64 {
        let part = entries(round * 100, 20, 5, 100);
        all.extend(part.clone());
        rig.tail
            .append(noise, Epoch(1), entries(round * 3, 3, 1, 50));
        rig.upload(stream, part).await;
    }
    (rig, stream, all)
}

async fn objects(tier: &Tier, stream: StreamId) -> Vec<ObjectId> {
    tier.metadata().read(|state| {
        state
            .stream(stream)
            .unwrap()
            .ranges()
            .map(|(_, range)| range.object)
            .collect()
    })
}

#[tokio::test(start_paused = true)]
async fn every_offset_reads_the_entry_that_holds_it_first() {
    let (rig, stream, all) = filled().await;
    for offset in 0..300u64 {
        let fetched = rig.tier.fetch(stream, Offset(offset), 1).await.unwrap();
        let expected = usize::try_from(offset / 5).unwrap();
        assert_eq!(fetched.entries, all[expected..=expected]);
    }
    assert_eq!(
        rig.tier
            .fetch(stream, Offset(300), 1)
            .await
            .unwrap()
            .entries,
        []
    );
}

#[tokio::test(start_paused = true)]
async fn a_large_fetch_crosses_blocks_and_objects() {
    let (rig, stream, all) = filled().await;
    let fetched = rig
        .tier
        .fetch(stream, Offset(42), usize::MAX)
        .await
        .unwrap();
    assert_eq!(fetched.entries, all[8..]);
    for (bytes_max, count) in [
        (0, 1),
        (100, 1),
        (199, 1),
        (200, 2),
        (1_050, 10),
        (2_500, 25),
    ] {
        let fetched = rig.tier.fetch(stream, Offset(42), bytes_max).await.unwrap();
        assert_eq!(fetched.entries, all[8..8 + count], "{bytes_max} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_larger_than_the_limit_and_the_block_comes_whole() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    let all = vec![
        entry(0, 1, 10),
        entry(1, 1, 5_000),
        entry(2, 1, 0),
        entry(3, 1, 10),
    ];
    rig.upload(stream, all.clone()).await;
    assert_eq!(
        rig.tier
            .fetch(stream, Offset(1), 100)
            .await
            .unwrap()
            .entries,
        all[1..2]
    );
    assert_eq!(
        rig.tier
            .fetch(stream, Offset(0), 100_000)
            .await
            .unwrap()
            .entries,
        all
    );
}

#[tokio::test(start_paused = true)]
async fn offsets_outside_are_refused_with_the_bounds() {
    let (rig, stream, _) = filled().await;
    let trim = MetaOp::TrimStream {
        stream,
        epoch: Epoch(1),
        start: Offset(7),
    };
    rig.tier.metadata().propose(vec![trim]).await.unwrap();
    let out_of_range = |offset| {
        let (start, end) = (Offset(7), Offset(300));
        TierError::OutOfRange {
            stream,
            offset: Offset(offset),
            start,
            end,
        }
    };
    assert_eq!(
        rig.tier.fetch(stream, Offset(6), 1).await,
        Err(out_of_range(6))
    );
    assert_eq!(
        rig.tier.fetch(stream, Offset(301), 1).await,
        Err(out_of_range(301))
    );
    assert_eq!(
        rig.tier.fetch(stream, Offset(7), 1).await.unwrap().entries[0].base_offset,
        Offset(5)
    );
    let unknown = StreamId(99);
    assert_eq!(
        rig.tier.fetch(unknown, Offset(0), 1).await,
        Err(TierError::UnknownStream { stream: unknown })
    );
}

#[tokio::test(start_paused = true)]
async fn a_block_is_read_once_and_then_comes_from_memory() {
    let (rig, stream, _) = filled().await;
    let first = rig.tier.fetch(stream, Offset(0), usize::MAX).await.unwrap();
    assert_eq!(first.from_memory, 0);
    let gets = rig.bucket.count(Op::Get, "data/");
    // The blocks of an object come by one request, its index by another.
    assert_eq!(gets, 3 + 3);
    assert!(first.from_bucket > 10, "{} blocks", first.from_bucket);
    let second = rig.tier.fetch(stream, Offset(0), usize::MAX).await.unwrap();
    assert_eq!(
        (second.from_memory, second.from_bucket),
        (first.from_bucket, 0)
    );
    assert_eq!(rig.bucket.count(Op::Get, "data/"), gets);
}

#[tokio::test(start_paused = true)]
async fn readers_of_one_block_share_one_request() {
    let (rig, stream, _) = filled().await;
    let fetches = (0..20).map(|_| rig.tier.fetch(stream, Offset(0), 1));
    let results = futures_util::future::join_all(fetches).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(
        rig.bucket.count(Op::Get, "data/"),
        2,
        "the index and the block"
    );
}

#[tokio::test(start_paused = true)]
async fn the_cache_stays_within_its_bytes() {
    let config = TierConfig {
        block_cache_bytes: 64 << 10,
        block_bytes: 4_096,
        ..small_config()
    };
    let rig = Rig::new(config).await;
    let stream = rig.stream().await;
    rig.upload(stream, entries(0, 300, 1, 1_000)).await;
    let all = rig.tier.fetch(stream, Offset(0), usize::MAX).await.unwrap();
    let again = rig.tier.fetch(stream, Offset(0), usize::MAX).await.unwrap();
    assert_eq!(all.entries, again.entries);
    assert!(
        again.from_memory <= 20 && again.from_bucket > 50,
        "{} from memory",
        again.from_memory
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_is_found_by_the_index_and_one_block() {
    let (rig, stream, all) = filled().await;
    for (timestamp, expected) in [
        (0, 0),
        (1_000, 0),
        (1_001, 1),
        (2_000, 20),
        (2_001, 21),
        (3_950, 59),
    ] {
        let found = rig
            .tier
            .find_timestamp(stream, Offset(0), timestamp)
            .await
            .unwrap();
        assert_eq!(found.as_ref(), Some(&all[expected]), "at {timestamp}");
    }
    assert_eq!(
        rig.tier
            .find_timestamp(stream, Offset(0), 3_951)
            .await
            .unwrap(),
        None
    );
    let found = rig
        .tier
        .find_timestamp(stream, Offset(252), 0)
        .await
        .unwrap();
    assert_eq!(
        found.as_ref(),
        Some(&all[50]),
        "not before the offset asked from"
    );
    let fresh = Tier::open(rig.bucket.clone(), rig.env.clone(), small_config())
        .await
        .unwrap();
    let gets = rig.bucket.count(Op::Get, "data/");
    fresh
        .find_timestamp(stream, Offset(0), 3_900)
        .await
        .unwrap();
    assert_eq!(rig.bucket.count(Op::Get, "data/") - gets, 2);
    let counters = fresh.counters();
    let read = (counters.indices_from_bucket, counters.blocks_from_bucket);
    assert_eq!(read, (1, 1), "one index and one block");
}

#[tokio::test(start_paused = true)]
async fn timestamps_that_go_back_are_searched_right() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    let mut all = entries(0, 40, 1, 100);
    for (entry, timestamp) in all.iter_mut().zip([5, 90, 3, 4].into_iter().cycle()) {
        entry.timestamp_ms_max = timestamp;
    }
    rig.upload(stream, all.clone()).await;
    for from in 0..40u64 {
        let expected = all
            .iter()
            .find(|entry| entry.base_offset >= Offset(from) && entry.timestamp_ms_max >= 50);
        assert_eq!(
            rig.tier
                .find_timestamp(stream, Offset(from), 50)
                .await
                .unwrap()
                .as_ref(),
            expected
        );
    }
}

#[tokio::test(start_paused = true)]
async fn throttled_and_lost_reads_are_tried_again_but_not_for_ever() {
    let (rig, stream, all) = filled().await;
    rig.bucket.script(
        Op::Get,
        "data/",
        &[Fault::Throttle, Fault::Vanish, Fault::Throttle],
    );
    assert_eq!(
        rig.tier.fetch(stream, Offset(0), 1).await.unwrap().entries,
        all[..1]
    );
    rig.bucket.script(Op::Get, "data/", &[Fault::Throttle; 8]);
    let err = rig.tier.fetch(stream, Offset(150), 1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Retry);
    assert_eq!(
        rig.tier
            .fetch(stream, Offset(150), 1)
            .await
            .unwrap()
            .entries,
        all[30..31]
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_cut_short_is_read_again() {
    let (rig, stream, all) = filled().await;
    rig.bucket.script(Op::Get, "data/", &[Fault::Truncate]);
    assert_eq!(
        rig.tier.fetch(stream, Offset(0), 1).await.unwrap().entries,
        all[..1]
    );
    rig.bucket.script(Op::Get, "data/", &[Fault::Truncate]);
    assert_eq!(
        rig.tier.fetch(stream, Offset(40), 1).await.unwrap().entries,
        all[8..9]
    );
}

#[tokio::test(start_paused = true)]
async fn damage_names_object_and_position_and_is_not_cached() {
    let (rig, stream, all) = filled().await;
    let key = objects(&rig.tier, stream).await[0].key();
    let sound = rig.bucket.bytes(&key).await;
    rig.bucket.flip(&key, 150).await;
    let err = rig.tier.fetch(stream, Offset(0), 1).await.unwrap_err();
    assert!(
        matches!(&err, TierError::Corrupt { object, what: "checksum", .. } if *object == key),
        "{err}"
    );
    assert_eq!(err.kind(), ErrorKind::Corrupt);
    rig.bucket.tamper(&key, Some(sound.clone())).await;
    assert_eq!(
        rig.tier.fetch(stream, Offset(0), 1).await.unwrap().entries,
        all[..1]
    );
    // The index is in memory by now; a fresh reader sees damage to it.
    rig.bucket.flip(&key, sound.len() - 100).await;
    let fresh = Tier::open(rig.bucket.clone(), rig.env.clone(), small_config())
        .await
        .unwrap();
    let err = fresh.fetch(stream, Offset(0), 1).await.unwrap_err();
    assert!(
        matches!(
            &err,
            TierError::Corrupt {
                what: "index checksum",
                ..
            }
        ),
        "{err}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_swapped_object_is_damage() {
    let (rig, stream, _) = filled().await;
    let ids = objects(&rig.tier, stream).await;
    let other = rig.bucket.bytes(&ids[1].key()).await;
    rig.bucket.tamper(&ids[0].key(), Some(other)).await;
    let err = rig.tier.fetch(stream, Offset(0), 1).await.unwrap_err();
    assert!(matches!(err, TierError::Corrupt { .. }), "{err}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_object_is_named_after_the_metadata_was_read_again() {
    let (rig, stream, _) = filled().await;
    let key = objects(&rig.tier, stream).await[0].key();
    rig.bucket.tamper(&key, None).await;
    let refreshes = rig.bucket.count(Op::Get, "meta/log/");
    let err = rig.tier.fetch(stream, Offset(0), 1).await.unwrap_err();
    assert_eq!(err, TierError::Missing { object: key });
    assert_eq!(rig.bucket.count(Op::Get, "meta/log/"), refreshes + 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_old_metadata_learns_of_a_trim_by_the_missing_object() {
    let (rig, stream, all) = filled().await;
    let reader = Tier::open(rig.bucket.clone(), rig.env.clone(), small_config())
        .await
        .unwrap();
    let trim = MetaOp::TrimStream {
        stream,
        epoch: Epoch(1),
        start: Offset(100),
    };
    // The object held a range of the other stream as well.
    let delete = MetaOp::DeleteStream {
        stream: StreamId(stream.0 + 1),
    };
    rig.tier
        .metadata()
        .propose(vec![trim, delete])
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let err = reader.fetch(stream, Offset(0), 1).await.unwrap_err();
    assert!(
        matches!(
            err,
            TierError::OutOfRange {
                start: Offset(100),
                ..
            }
        ),
        "{err}"
    );
    assert_eq!(
        reader.fetch(stream, Offset(100), 1).await.unwrap().entries,
        all[20..21]
    );
}

#[tokio::test(start_paused = true)]
async fn a_read_that_a_trim_overtakes_ends_in_front_of_what_is_gone() {
    let (rig, stream, all) = filled().await;
    // Its first object is slow to come; meanwhile the next one is trimmed.
    rig.bucket.script(Op::Get, "data/", &[Fault::Throttle; 3]);
    let fetch = rig.tier.fetch(stream, Offset(0), 100_000);
    let trim = MetaOp::TrimStream {
        stream,
        epoch: Epoch(1),
        start: Offset(200),
    };
    let trim = rig.tier.metadata().propose(vec![trim]);
    let (fetched, trimmed) = tokio::join!(fetch, trim);
    trimmed.unwrap();
    assert_eq!(fetched.unwrap().entries, all[..20]);
}

/// One object of 134 blocks.
async fn long_stream(config: TierConfig) -> (Rig, StreamId, Vec<Entry>) {
    let rig = Rig::new(config).await;
    let stream = rig.stream().await;
    let all = entries(0, 400, 1, 100);
    rig.upload(stream, all.clone()).await;
    (rig, stream, all)
}

#[tokio::test(start_paused = true)]
async fn damage_in_one_of_several_joined_blocks_is_told_of_that_one_alone() {
    let (rig, stream, all) = long_stream(small_config()).await;
    let key = objects(&rig.tier, stream).await[0].key();
    rig.bucket.flip(&key, 6_000).await;
    let err = rig
        .tier
        .fetch(stream, Offset(0), usize::MAX)
        .await
        .unwrap_err();
    assert!(
        matches!(
            err,
            TierError::Corrupt {
                what: "checksum",
                ..
            }
        ),
        "{err}"
    );
    let start = rig.tier.fetch(stream, Offset(0), 1_000).await.unwrap();
    assert_eq!(start.entries, all[..10]);
    let end = rig
        .tier
        .fetch(stream, Offset(200), usize::MAX)
        .await
        .unwrap();
    assert_eq!(end.entries, all[200..]);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_prefix_is_left_alone_by_the_next_request() {
    let (rig, stream, all) = long_stream(small_config()).await;
    rig.bucket.script(Op::Get, "data/", &[Fault::Throttle; 3]);
    let begun = tokio::time::Instant::now();
    let fetched = rig.tier.fetch(stream, Offset(0), 1).await.unwrap();
    assert_eq!(fetched.entries, all[..1]);
    // 50, 100 and 200 ms, and up to a quarter more.
    let waited = begun.elapsed();
    let expected = Duration::from_millis(350)..Duration::from_millis(700);
    assert!(expected.contains(&waited), "{waited:?}");
}
