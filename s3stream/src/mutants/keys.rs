//! Seeded bugs of key compaction.
//!
//! *IO: driver (a runtime)*

use super::*;

/// A stream of values of the keys 1 to 8, each written twice, an entry a record; compacted by key.
async fn compacted_by_key(mutant: u16) -> (Rig, StreamId) {
    let mut config = small_config();
    config.compact.background = false;
    (config.compact.key_records_min, config.compact.key_map_bytes) = (1, 24 * 4);
    let rig = Rig::new(config).await;
    let stream = rig.stream().await;
    let owner = std::sync::Arc::new(TestOwner::default());
    rig.tier.set_key_owner(stream, Some(owner));
    let now = rig.env.wall_ms();
    let pairs = |key: u8| [(key, Some(1)), (key % 8 + 1, Some(2)), (100 + key, None)];
    let entries = (1..9).map(|key| keyed_entry(u64::from(key - 1) * 3, now, &pairs(key)));
    rig.upload(stream, entries.collect()).await;
    let _mutant = Active::new(mutant);
    let compact = rig
        .tier
        .compact_until_done(crate::testing::NODE, rig.node_epoch);
    assert!(compact.await.unwrap() >= 1);
    (rig, stream)
}

/// Values of the keys 1 to 8, and deletions.
async fn kept(rig: &Rig, stream: StreamId) -> (usize, usize) {
    let fetched = rig.tier.fetch(stream, Offset(0), 100_000).await.unwrap();
    let pairs = pairs_of(&fetched.entries);
    let keys: std::collections::BTreeSet<_> = pairs
        .iter()
        .filter(|(_, (key, _))| *key < 10)
        .map(|(_, (key, _))| *key)
        .collect();
    let deletions = pairs.iter().filter(|(_, (_, value))| value.is_none());
    (keys.len(), deletions.count())
}

#[tokio::test(start_paused = true)]
async fn mutant_92_drops_the_newest_of_a_key_that_found_no_room() {
    let (rig, stream) = compacted_by_key(0).await;
    assert_eq!(kept(&rig, stream).await, (8, 8));
    let (rig, stream) = compacted_by_key(92).await;
    assert!(kept(&rig, stream).await.0 < 8);
}

#[tokio::test(start_paused = true)]
async fn mutant_93_drops_deletions_at_once() {
    let (rig, stream) = compacted_by_key(93).await;
    assert!(kept(&rig, stream).await.1 < 8);
}

#[tokio::test(start_paused = true)]
async fn mutant_94_reads_nothing_at_a_hole() {
    let mut config = small_config();
    config.compact.background = false;
    config.compact.objects_min = 64;
    config.compact.key_records_min = 1;
    // So that objects of ten entries each lose all of them.
    config.compact.object_bytes = 1 << 10;
    let rig = Rig::new(config).await;
    let stream = rig.stream().await;
    let owner = std::sync::Arc::new(TestOwner::default());
    rig.tier.set_key_owner(stream, Some(owner));
    for offset in 0..25 {
        let entry = keyed_entry(offset, rig.env.wall_ms(), &[(1, Some(1))]);
        rig.upload(stream, vec![entry]).await;
    }
    let compact = rig
        .tier
        .compact_until_done(crate::testing::NODE, rig.node_epoch);
    assert!(compact.await.unwrap() >= 1);
    let first = |fetched: crate::Fetched| fetched.entries.first().map(|entry| entry.base_offset);
    let read = || async {
        rig.tier.forget_blocks();
        rig.tier.fetch(stream, Offset(1), 100).await.unwrap()
    };
    assert_eq!(first(read().await), Some(Offset(23)));
    let _mutant = Active::new(94);
    assert_eq!(first(read().await), None);
}

#[tokio::test(start_paused = true)]
async fn mutant_86_leaves_what_was_joined_meanwhile_as_it_is() {
    let mut config = small_config();
    config.compact.background = false;
    config.compact.objects_min = 64;
    config.compact.key_records_min = 1;
    config.compact.object_bytes = 1 << 10;
    let rig = Rig::new(config.clone()).await;
    let stream = rig.stream().await;
    let owner = std::sync::Arc::new(TestOwner::default());
    rig.tier.set_key_owner(stream, Some(owner));
    // An object of its own, of which nothing changes: the next one has a counter behind the join's.
    let key = |offset: u64| u8::try_from(100 + offset).unwrap();
    let now = rig.env.wall_ms();
    let others = (0..40).map(|offset| keyed_entry(offset, now, &[(key(offset), Some(0))]));
    rig.upload(stream, others.collect()).await;
    for offset in 40..44 {
        let entry = keyed_entry(offset, rig.env.wall_ms(), &[(1, Some(1))]);
        rig.upload(stream, vec![entry]).await;
    }
    (config.compact.objects_min, config.compact.growth_min) = (2, 2);
    let env = crate::testing::TestEnv::shared(77);
    let other = crate::Tier::open(rig.bucket.clone(), env, config);
    let other = other.await.unwrap();
    let _mutant = Active::new(86);
    let (node, epoch) = (crate::testing::NODE, rig.node_epoch);
    let mut pass = Box::pin(rig.tier.compact_until_done(node, epoch));
    hold_up(&rig.bucket, &mut pass).await;
    other.compact_until_done(node, epoch).await.unwrap();
    pass.await.unwrap();
    rig.tier.compact_until_done(node, epoch).await.unwrap();
    assert_eq!(
        rig.tier
            .fetch(stream, Offset(40), 1_000)
            .await
            .unwrap()
            .entries
            .len(),
        4
    );
}
