//! Tests of what is loaded, when, how often, and what stays in memory.

use std::time::Duration;

use futures_util::future::{join, select};
use tidewater_types::{Offset, StreamId};

use super::{filled, long_stream};
use crate::testing::{Op, Rig, small_config};
use crate::{Entry, Tier, TierConfig};

#[tokio::test(start_paused = true)]
async fn a_reader_in_sequence_is_read_ahead_of_and_a_random_one_is_not() {
    let (rig, stream, all) = long_stream(small_config()).await;
    for offset in [7u64, 300, 50, 222, 111] {
        rig.tier.fetch(stream, Offset(offset), 1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(rig.tier.counters().blocks_ahead, 0);
    let gets = rig.bucket.count(Op::Get, "data/");
    let (mut next, mut read) = (Offset(0), Vec::new());
    while next < Offset(400) {
        let fetched = rig.tier.fetch(stream, next, 400).await.unwrap();
        next = fetched.entries.last().unwrap().end_offset();
        read.extend(fetched.entries);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(read, all);
    let counters = rig.tier.counters();
    assert!(counters.blocks_ahead > 80, "{counters:?}");
    let gets = rig.bucket.count(Op::Get, "data/") - gets;
    assert!(gets < 30, "{gets} requests for 134 blocks");
    // 400 entries, three a block; what was read at random is in memory already.
    assert_eq!(counters.blocks_from_bucket, 134, "each block once");
}

#[tokio::test(start_paused = true)]
async fn the_index_of_the_next_object_is_there_before_the_reader() {
    let (rig, stream, all) = filled().await;
    let indices = || rig.tier.counters().indices_from_bucket;
    for entry in &all[..2] {
        let from = entry.base_offset;
        rig.tier.fetch(stream, from, 1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Only of the first object, which has seven blocks, something was read.
    assert!(rig.tier.counters().blocks_from_bucket < 7);
    assert_eq!(indices(), 2);
    let second = all[20].base_offset;
    let fetched = rig.tier.fetch(stream, second, 1).await.unwrap();
    assert_eq!((fetched.entries, indices()), (vec![all[20].clone()], 2));
}

#[tokio::test(start_paused = true)]
async fn requests_are_bounded_in_size() {
    let mut config = small_config();
    config.read.request_bytes_max = 4 << 10;
    let (rig, stream, all) = long_stream(config).await;
    let fetched = rig.tier.fetch(stream, Offset(0), usize::MAX).await.unwrap();
    assert_eq!(fetched.entries, all);
    // Blocks of 436 bytes: nine in 4 KiB.
    let gets = rig.bucket.count(Op::Get, "data/") - 1;
    assert_eq!((fetched.from_bucket, gets), (134, 15));
    assert_eq!(rig.tier.counters().reads_joined, gets as u64);
}

/// Memory for some 59 of the 134 blocks of a long stream, shards included.
fn little_memory() -> TierConfig {
    let mut config = small_config();
    config.block_cache_bytes = 64 << 10;
    config.block_bytes = 1 << 10;
    config
}

/// Fetches of at most `bytes_max` through `[from, to)` of `all`, as a consumer makes them.
async fn scan(rig: (&Tier, StreamId, &[Entry]), (from, to): (u64, u64), bytes_max: usize) {
    let (tier, stream, all) = rig;
    let (mut next, mut at) = (Offset(from), usize::try_from(from).unwrap());
    while next < Offset(to) {
        let fetched = tier.fetch(stream, next, bytes_max).await.unwrap();
        next = fetched.entries.last().unwrap().end_offset();
        let end = at + fetched.entries.len();
        assert!(fetched.entries == all[at..end], "other entries at {at}");
        at = end;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_passes_once_leaves_what_others_use_in_memory() {
    let (rig, stream, all) = long_stream_of(little_memory(), 2_000).await;
    // Twice: it is in use, and takes less than is kept for that.
    for _ in 0..2 {
        scan((&rig.tier, stream, &all), (0, 50), 300).await;
    }
    // Many times the memory, in fetches that share blocks, read ahead of.
    scan((&rig.tier, stream, &all), (100, 2_000), 700).await;
    let counters = rig.tier.counters();
    assert!(counters.blocks_ahead > 40, "{counters:?}");
    let before = counters.blocks_from_bucket;
    // Backwards: nothing is read ahead, which would count too.
    for offset in (0..50).rev().map(Offset) {
        rig.tier.fetch(stream, offset, 1).await.unwrap();
    }
    assert_eq!(rig.tier.counters().blocks_from_bucket, before);
}

#[tokio::test(start_paused = true)]
async fn in_a_full_cache_each_block_is_still_read_once() {
    let (rig, stream, all) = long_stream_of(little_memory(), 2_000).await;
    let mut config = little_memory();
    config.read.ahead_bytes_max = 8 << 10;
    let fresh = Tier::open(rig.bucket.clone(), rig.env.clone(), config)
        .await
        .unwrap();
    scan((&fresh, stream, &all), (0, 1_000), 700).await;
    let half = fresh.counters();
    scan((&fresh, stream, &all), (1_000, 2_000), 700).await;
    let whole = fresh.counters();
    let (ahead, loaded) = (
        whole.blocks_ahead - half.blocks_ahead,
        whole.blocks_from_bucket - half.blocks_from_bucket,
    );
    let num_blocks = u64::from(blocks_of(&rig, stream, (1_000, 2_000)).await);
    assert!(
        loaded <= num_blocks + 1,
        "{loaded} loads of {num_blocks} blocks"
    );
    assert!(ahead * 10 > num_blocks * 8, "{ahead} of {num_blocks} ahead");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_load_that_is_given_up_loads_itself() {
    let (rig, stream, all) = long_stream(small_config()).await;
    rig.tier.fetch(stream, Offset(0), 1).await.unwrap();
    // Its answer is lost, so it is tried again, until its caller has gone.
    rig.bucket
        .script(Op::Get, "data/", &[crate::testing::Fault::Throttle; 3]);
    let slow = Box::pin(rig.tier.fetch(stream, Offset(200), 1));
    let soon = Box::pin(tokio::time::sleep(Duration::from_millis(10)));
    let given_up = async { drop(select(slow, soon).await) };
    let other = rig.tier.fetch(stream, Offset(200), 1);
    let (_, other) = join(given_up, other).await;
    assert_eq!(other.unwrap().entries, all[200..201]);
    let again = rig.tier.fetch(stream, Offset(200), 1).await.unwrap();
    assert_eq!((again.from_memory, again.from_bucket), (1, 0));
}

/// As [`long_stream`], so many entries.
async fn long_stream_of(config: TierConfig, count: u64) -> (Rig, StreamId, Vec<Entry>) {
    let rig = Rig::new(config).await;
    let stream = rig.stream().await;
    let all = crate::testing::entries(0, count, 1, 100);
    rig.upload(stream, all.clone()).await;
    (rig, stream, all)
}

async fn blocks_of(rig: &Rig, stream: StreamId, (from, to): (u64, u64)) -> u32 {
    let tier = Tier::open(rig.bucket.clone(), rig.env.clone(), TierConfig::default())
        .await
        .unwrap();
    let num_bytes = usize::try_from((to - from) * 100).unwrap();
    let fetched = tier.fetch(stream, Offset(from), num_bytes).await.unwrap();
    fetched.from_bucket
}
