//! Tests of key compaction: what stays, what goes and when, what disturbs it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tidewater_types::{Epoch, Offset, StreamId};

use crate::testing::keyed::{Pair, TestOwner, hold_up, keyed_entry, pairs_of};
use crate::testing::{Fault, FaultyBucket, NODE, Op, Rig, TestEnv, small_config};
use crate::{
    Entry, FsckOptions, MetaOp, Severity, StateSnapshot, Tier, TierConfig, TierError, fsck,
};

use super::map::SLOT_BYTES;

fn config() -> TierConfig {
    let mut config = small_config();
    config.compact.background = false;
    // Nothing is joined: what happens is key compaction.
    config.compact.objects_min = 64;
    config.compact.object_bytes = 1 << 30;
    config.compact.key_records_min = 1;
    config
}

struct Keys {
    rig: Rig,
    stream: StreamId,
    owner: Arc<TestOwner>,
    end: u64,
}

impl Keys {
    async fn new(config: TierConfig) -> Self {
        let rig = Rig::new(config).await;
        let stream = rig.stream().await;
        let owner = Arc::new(TestOwner::default());
        rig.tier.set_key_owner(stream, Some(owner.clone()));
        Self {
            rig,
            stream,
            owner,
            end: 0,
        }
    }

    /// Uploads an entry for each of `batches`.
    async fn upload(&mut self, batches: &[&[Pair]]) {
        let now = self.rig.env.wall_ms();
        for pairs in batches {
            let entry = keyed_entry(self.end, now, pairs);
            self.end = entry.end_offset().0;
            self.rig.tail.append(self.stream, Epoch(1), vec![entry]);
        }
        self.rig.uploader.flush().await.unwrap();
    }

    async fn compact(&self) -> u64 {
        let done = self.rig.tier.compact_until_done(NODE, self.rig.node_epoch);
        done.await.unwrap()
    }

    async fn read(&self) -> Vec<(u64, Pair)> {
        pairs_of(&read_from(&self.rig.tier, self.stream, 0).await)
    }

    async fn assert_sound(&self) {
        let options = FsckOptions {
            verify_checksums: true,
            ..FsckOptions::default()
        };
        let report = fsck(self.rig.bucket.clone(), self.rig.env.clone(), options);
        let findings = report.await.unwrap().findings;
        let mut findings = findings.iter();
        let wrong = findings.find(|finding| finding.severity == Severity::Error);
        assert!(wrong.is_none(), "{wrong:?}");
    }
}

/// All entries from `offset` on, a few at a time; each read below the end gets somewhere.
async fn read_from(tier: &Tier, stream: StreamId, offset: u64) -> Vec<Entry> {
    let (mut all, mut next) = (Vec::new(), Offset(offset));
    let end = tier
        .metadata()
        .read(|state| state.stream(stream).unwrap().end);
    while next < end {
        let fetched = tier.fetch(stream, next, 20).await.unwrap();
        let last = fetched.entries.last().map(Entry::end_offset);
        next = last.unwrap_or_else(|| panic!("stuck at {next}"));
        all.extend(fetched.entries);
    }
    all
}

/// The value of each key that a reader of everything ends with.
fn newest(pairs: &[(u64, Pair)]) -> std::collections::BTreeMap<u8, u8> {
    let mut newest = std::collections::BTreeMap::new();
    for (_, (key, value)) in pairs {
        match value {
            Some(value) => newest.insert(*key, *value),
            None => newest.remove(key),
        };
    }
    newest
}

#[tokio::test(start_paused = true)]
async fn of_each_key_the_newest_value_stays_at_its_offset() {
    let mut keys = Keys::new(config()).await;
    keys.upload(&[&[(1, Some(1)), (2, Some(2))], &[(1, Some(3))]])
        .await;
    keys.upload(&[&[(3, Some(4)), (1, Some(5))], &[(2, Some(6))]])
        .await;
    assert_eq!(keys.compact().await, 1);
    // The last entry is not compacted, so it supersedes nothing yet.
    let expected = [
        (1, (2, Some(2))),
        (3, (3, Some(4))),
        (4, (1, Some(5))),
        (5, (2, Some(6))),
    ];
    assert_eq!(keys.read().await, expected);
    keys.assert_sound().await;
    assert_eq!(keys.compact().await, 0, "it ends");
    let counters = keys.rig.tier.counters();
    assert_eq!((counters.key_passes, counters.key_records_dropped), (1, 2));
    keys.upload(&[&[(9, Some(7))]]).await;
    assert_eq!(keys.compact().await, 1);
    assert_eq!(keys.read().await[..2], expected[1..3]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_stays_for_its_time_and_goes_by_itself() {
    let mut config = config();
    config.compact.background = true;
    config.compact.pause = Duration::from_millis(1);
    let mut keys = Keys::new(config).await;
    keys.upload(&[
        &[(1, Some(1))],
        &[(1, None)],
        &[(2, Some(2))],
        &[(3, Some(3))],
    ])
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let kept = [(1, (1, None)), (2, (2, Some(2))), (3, (3, Some(3)))];
    assert_eq!(keys.read().await, kept, "what it deletes is gone");
    let requests = keys.rig.bucket.requests().len();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(keys.read().await, kept);
    assert!(
        keys.rig.bucket.requests().len() <= requests + 2,
        "nothing is asked for before the time is over"
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(keys.read().await, kept[1..]);
    let requests = keys.rig.bucket.requests().len();
    tokio::time::sleep(Duration::from_secs(590)).await;
    assert_eq!(keys.rig.bucket.requests().len(), requests, "idle is free");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_waits_for_the_pass_behind_the_one_that_saw_it_first() {
    let mut keys = Keys::new(config()).await;
    keys.owner.policy.lock().delete_retention_ms = 0;
    keys.upload(&[
        &[(1, Some(1))],
        &[(1, None)],
        &[(2, Some(2))],
        &[(2, Some(3))],
    ])
    .await;
    // Its time is over at once, and still a pass lies between.
    assert_eq!(keys.compact().await, 2);
    assert_eq!(keys.read().await, [(2, (2, Some(2))), (3, (2, Some(3)))]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_passes_over_holes_of_any_size() {
    let mut keys = Keys::new(config()).await;
    for _ in 0..40 {
        keys.upload(&[&[(1, Some(1)), (2, Some(2)), (3, Some(3))][..]; 3])
            .await;
    }
    keys.upload(&[&[(1, Some(8)), (2, Some(8))], &[(4, Some(9))]])
        .await;
    keys.compact().await;
    let left = [
        (359, (3, Some(3))),
        (360, (1, Some(8))),
        (361, (2, Some(8))),
        (362, (4, Some(9))),
    ];
    assert_eq!(keys.read().await, left);
    let (tier, stream) = (&keys.rig.tier, keys.stream);
    for offset in 0..362 {
        let fetched = tier.fetch(stream, Offset(offset), 1).await.unwrap();
        let first = fetched.entries.first().map(|entry| entry.base_offset.0);
        let expected = [357, 360, 362]
            .into_iter()
            .zip([360, 362, 363])
            .find(|(_, end)| offset < *end);
        assert_eq!(first, expected.map(|(base, _)| base), "from {offset} on");
    }
    let found = tier.find_timestamp(stream, Offset(0), 0).await.unwrap();
    assert_eq!(found.unwrap().base_offset, Offset(357));
    let end = tier.fetch(stream, Offset(363), 1_000).await.unwrap();
    assert!(end.entries.is_empty());
    keys.assert_sound().await;
    // All of what was joined into one object goes: a block without an entry stands for it.
    keys.upload(&[&[(3, Some(7)), (4, Some(7))], &[(5, Some(5))]])
        .await;
    keys.upload(&[&[(1, Some(7)), (2, Some(7))], &[(6, Some(6))]])
        .await;
    keys.compact().await;
    let left = [3, 4, 5, 1, 2, 6].map(|key| (key, Some(if key > 4 { key } else { 7 })));
    assert_eq!(keys.read().await, (363..).zip(left).collect::<Vec<_>>());
    keys.assert_sound().await;
}

#[tokio::test(start_paused = true)]
async fn a_map_that_is_full_takes_several_passes() {
    let mut config = config();
    config.compact.key_map_bytes = SLOT_BYTES * 7;
    let mut keys = Keys::new(config).await;
    for round in 0..4_u8 {
        for key in 1..20_u8 {
            let pairs = [
                (key, Some(round)),
                (20 + key, Some(round)),
                (key, Some(round + 100)),
            ];
            keys.upload(&[&pairs]).await;
        }
    }
    let before = newest(&keys.read().await);
    assert!(keys.compact().await > 6);
    let left = keys.read().await;
    assert_eq!(newest(&left), before);
    // In what the last map holds a key may stand twice: once below it, once in it.
    assert!(left.len() < 90, "{}", left.len());
    keys.assert_sound().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_undecided_young_or_not_in_a_snapshot_is_left_alone() {
    let mut keys = Keys::new(config()).await;
    let pairs: [&[Pair]; 6] = [&[(1, Some(1))]; 6];
    *keys.owner.bound.lock() = Offset(2);
    keys.upload(&pairs).await;
    keys.compact().await;
    assert_eq!(keys.read().await.len(), 5, "offsets 0 and 1 are decided");
    *keys.owner.bound.lock() = Offset(u64::MAX);
    keys.owner.policy.lock().lag_ms_min = 60_000;
    assert_eq!(keys.compact().await, 0, "too young");
    tokio::time::sleep(Duration::from_secs(61)).await;
    let state = StateSnapshot {
        as_of: Offset(4),
        bytes: Bytes::from_static(b"state"),
    };
    keys.rig.tail.attach(keys.stream, state);
    keys.owner.policy.lock().lag_ms_min = 0;
    keys.upload(&pairs).await;
    keys.compact().await;
    let offsets: Vec<_> = keys.read().await.iter().map(|(at, _)| *at).collect();
    assert_eq!(offsets, (3..12).collect::<Vec<_>>());
    let kept = keys.rig.tier.snapshot(keys.stream).await.unwrap();
    assert_eq!(kept.unwrap().as_of, Offset(4));
    keys.assert_sound().await;
}

#[tokio::test(start_paused = true)]
async fn few_records_wait_and_clean_ones_are_not_read_for_little() {
    let mut config = config();
    config.compact.key_records_min = 10;
    let mut keys = Keys::new(config).await;
    {
        let mut policy = keys.owner.policy.lock();
        (policy.few_ms_max, policy.dirty_permille) = (5_000, 500);
    }
    keys.upload(&[&[(1, Some(1))][..]; 5]).await;
    assert_eq!(keys.compact().await, 0);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(keys.compact().await, 1, "few, and old enough");
    let distinct: Vec<[Pair; 1]> = (10..60).map(|key| [(key, Some(1))]).collect();
    let distinct: Vec<&[Pair]> = distinct.iter().map(|pair| &pair[..]).collect();
    keys.upload(&distinct).await;
    assert_eq!(keys.compact().await, 1);
    keys.upload(&distinct[..20]).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(keys.compact().await, 0, "21 of 71");
    keys.owner.policy.lock().lag_ms_max = 4_000;
    assert_eq!(keys.compact().await, 1, "too long ago");
}

#[tokio::test(start_paused = true)]
async fn two_compactors_do_no_harm() {
    let mut keys = Keys::new(config()).await;
    for _ in 0..5 {
        keys.upload(&[&[(1, Some(1))], &[(2, None)], &[(3, Some(3))]])
            .await;
    }
    let open = Tier::open(keys.rig.bucket.clone(), TestEnv::shared(77), config());
    let other = open.await.unwrap();
    other.set_key_owner(keys.stream, Some(keys.owner.clone()));
    let before = newest(&keys.read().await);
    let epoch = keys.rig.node_epoch;
    let (first, second) = tokio::join!(keys.compact(), other.compact_until_done(NODE, epoch));
    assert!(first >= 1 && second.unwrap() >= 1);
    assert_eq!(newest(&keys.read().await), before);
    assert_eq!(keys.read().await.len(), 4);
    keys.assert_sound().await;
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_is_cut_short_is_done_again() {
    let mut left = Vec::new();
    for num_commits in 0..4 {
        left.push(cut_short_behind(num_commits).await);
    }
    assert_eq!(left[0], 216, "nothing was committed");
    assert!(left.is_sorted_by(|more, less| more > less), "{left:?}");
    assert!(left[3] > 6, "it was not done: {left:?}");
}

/// Cuts a pass short once `num_commits` of its objects are committed, and does it again in another
/// life. Records that were there in between.
async fn cut_short_behind(num_commits: usize) -> usize {
    let bucket = FaultyBucket::new();
    let mut config = config();
    config.compact.object_bytes = 1 << 10;
    let rig = Rig::on(bucket.clone(), 1, config.clone()).await;
    let stream = rig.stream().await;
    let owner = Arc::new(TestOwner::default());
    rig.tier.set_key_owner(stream, Some(owner.clone()));
    let mut keys = Keys {
        rig,
        stream,
        owner,
        end: 0,
    };
    // Two of these objects would be too large: each is a commit of its own, and none is joined.
    for _ in 0..6 {
        keys.upload(&[&[(1, Some(1)), (2, None), (3, Some(3))][..]; 12])
            .await;
    }
    bucket.script_behind(
        num_commits,
        Op::Create,
        "meta/log/",
        &[Fault::Throttle; 100_000],
    );
    let cut = tokio::time::timeout(Duration::from_secs(5), keys.compact()).await;
    assert!(cut.is_err());
    let (owner, end) = (keys.owner.clone(), keys.end);
    drop(keys);
    let healed = FaultyBucket::new();
    for key in bucket.keys("").await {
        let bytes = bucket.bytes(&key).await;
        healed.tamper(&key, Some(bytes)).await;
    }
    let rig = Rig::on(healed, 2, config).await;
    rig.tier.set_key_owner(stream, Some(owner.clone()));
    let keys = Keys {
        rig,
        stream,
        owner,
        end,
    };
    let between = keys.read().await;
    assert_eq!(newest(&between), [(1, 1), (3, 3)].into());
    keys.assert_sound().await;
    keys.compact().await;
    assert_eq!(keys.rig.tier.counters().key_passes, 1);
    assert_eq!(keys.read().await.len(), 6);
    keys.assert_sound().await;
    between.len()
}

#[tokio::test(start_paused = true)]
async fn a_pass_whose_sources_were_joined_meanwhile_is_done_again() {
    // What nobody joins fills an object of its own, of which nothing changes: the next one has a
    // counter behind that of the join.
    let mut full = config();
    full.compact.object_bytes = 1 << 10;
    let mut keys = Keys::new(full).await;
    let others: Vec<[Pair; 1]> = (100..140).map(|key| [(key, Some(0))]).collect();
    let others: Vec<&[Pair]> = others.iter().map(|pair| &pair[..]).collect();
    keys.upload(&others).await;
    for _ in 0..3 {
        keys.upload(&[&[(1, Some(1))], &[(2, Some(2))]]).await;
    }
    let mut joining = config();
    (joining.compact.objects_min, joining.compact.growth_min) = (2, 2);
    let open = Tier::open(keys.rig.bucket.clone(), TestEnv::shared(77), joining);
    let other = open.await.unwrap();
    let mut pass = Box::pin(keys.compact());
    hold_up(&keys.rig.bucket, &mut pass).await;
    let joined = other.compact_until_done(NODE, keys.rig.node_epoch).await;
    assert!(joined.unwrap() > 0);
    pass.await;
    assert_eq!(keys.rig.tier.counters().replacements_dropped, 1);
    keys.compact().await;
    // The last entry is not compacted, and supersedes nothing yet.
    let left = [(44, (1, Some(1))), (43, (2, Some(2))), (45, (2, Some(2)))];
    let mut found = keys.read().await;
    found.retain(|(_, (key, _))| *key < 100);
    found.sort_unstable_by_key(|(_, pair)| *pair);
    assert_eq!(found, left);
    keys.assert_sound().await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_stops_its_stream_alone() {
    let mut sick = Keys::new(config()).await;
    let sound = sick.rig.stream().await;
    let owner = Arc::new(TestOwner::default());
    sick.rig.tier.set_key_owner(sound, Some(owner));
    for round in 0..4 {
        let entry = keyed_entry(round, sick.rig.env.wall_ms(), &[(1, Some(1))]);
        sick.rig.tail.append(sound, Epoch(1), vec![entry]);
    }
    sick.upload(&[&[(7, Some(1))][..]; 4]).await;
    *sick.owner.unreadable.lock() = Some(7);
    let failed = sick.rig.tier.compact_until_done(NODE, sick.rig.node_epoch);
    let failed = failed.await;
    assert!(matches!(failed, Err(TierError::NotKeyed(_))), "{failed:?}");
    assert_eq!(sick.compact().await, 1, "it is not tried again");
    assert_eq!(sick.read().await.len(), 4);
    assert_eq!(read_from(&sick.rig.tier, sound, 0).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_a_deleted_stream_is_forgotten() {
    let mut keys = Keys::new(config()).await;
    keys.upload(&[&[(1, Some(1))][..]; 4]).await;
    keys.compact().await;
    let metadata = keys.rig.tier.metadata();
    let marks = || metadata.read(|state| state.keys_with_prefix("s3stream/").count());
    assert_eq!(marks(), 1);
    let stream = keys.stream;
    let delete = MetaOp::DeleteStream { stream };
    metadata.propose(vec![delete]).await.unwrap();
    assert_eq!(keys.compact().await, 0);
    assert_eq!(marks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_trim_under_a_pass_wins() {
    let mut keys = Keys::new(config()).await;
    for _ in 0..4 {
        keys.upload(&[&[(1, Some(1))], &[(2, Some(2))]]).await;
    }
    let trim = MetaOp::TrimStream {
        stream: keys.stream,
        epoch: Epoch(1),
        start: Offset(5),
    };
    let metadata = keys.rig.tier.metadata();
    let (_, trimmed) = tokio::join!(keys.compact(), metadata.propose(vec![trim]));
    trimmed.unwrap();
    let left = read_from(&keys.rig.tier, keys.stream, 5).await;
    assert_eq!(newest(&pairs_of(&left)), [(1, 1), (2, 2)].into());
    keys.assert_sound().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_written_the_newest_of_each_key_is_read(
        uploads in proptest::collection::vec(
            proptest::collection::vec(
                proptest::collection::vec((1_u8..9, proptest::option::of(any::<u8>())), 1..4),
                1..4,
            ),
            1..8,
        ),
        num_slots in 2_u64..12,
        object_bytes in 300_u64..2_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut config = config();
            config.compact.key_map_bytes = num_slots * SLOT_BYTES;
            config.compact.object_bytes = object_bytes.max(1 << 10);
            let mut keys = Keys::new(config).await;
            let mut written = Vec::new();
            for batches in &uploads {
                let pairs = batches.iter().flatten().copied();
                written.extend((keys.end..).zip(pairs));
                let batches: Vec<&[Pair]> = batches.iter().map(|pairs| &pairs[..]).collect();
                keys.upload(&batches).await;
                keys.compact().await;
                tokio::time::sleep(Duration::from_millis(400)).await;
                let left = keys.read().await;
                assert_eq!(newest(&left), newest(&written));
                assert!(left.iter().all(|record| written.contains(record)));
            }
            keys.assert_sound().await;
        });
    }
}
