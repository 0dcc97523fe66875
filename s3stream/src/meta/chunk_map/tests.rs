//! The map behaves as the standard library's, whatever is done to it.
//!
//! *IO: none*

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{CHUNK, ChunkMap, ChunkSet};

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u32),
    Remove(u16),
    Change(u16, u32),
    /// Takes a clone, which later steps must not change.
    Clone,
    /// Inserts ascending keys from here on, so that chunks fill and split.
    Run(u16, u16),
    Drain(u16, u16),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..3_000u16;
    prop_oneof![
        8 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        8 => key.clone().prop_map(Step::Remove),
        4 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Change(key, value)),
        2 => Just(Step::Clone),
        4 => (key.clone(), 1..900u16).prop_map(|(from, count)| Step::Run(from, count)),
        2 => (key, 1..900u16).prop_map(|(from, count)| Step::Drain(from, count)),
    ]
}

fn check(map: &ChunkMap<u16, u32>, model: &BTreeMap<u16, u32>) {
    assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
    assert!(map.iter().eq(model.iter()));
    assert!(map.iter().rev().eq(model.iter().rev()));
    assert_eq!(map.last_key_value(), model.last_key_value());
    let ranks = map.ranks();
    for (rank, key) in model.keys().enumerate() {
        assert_eq!(ranks.rank(key), rank);
    }
    for (first, chunk) in &map.chunks {
        assert!(!chunk.is_empty() && chunk.len() <= CHUNK && chunk[0].0 == *first);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_is_a_sorted_map(steps in proptest::collection::vec(step(), 1..60), a: u16, b: u16) {
        let (mut map, mut model) = (ChunkMap::default(), BTreeMap::new());
        let mut clones = Vec::new();
        for step in steps {
            match step {
                Step::Insert(key, value) => {
                    prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                }
                Step::Remove(key) => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                Step::Change(key, value) => {
                    let (found, expected) = (map.get_mut(&key), model.get_mut(&key));
                    prop_assert_eq!(found.is_some(), expected.is_some());
                    if let (Some(found), Some(expected)) = (found, expected) {
                        (*found, *expected) = (value, value);
                    }
                }
                Step::Clone => clones.push((map.clone(), model.clone())),
                Step::Run(from, count) => for key in from..from + count {
                    prop_assert_eq!(map.insert(key, 7), model.insert(key, 7));
                },
                Step::Drain(from, count) => for key in from..from + count {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                },
            }
        }
        check(&map, &model);
        clones.iter().for_each(|(map, model)| check(map, model));
        let (low, high) = (a.min(b) % 3_000, a.max(b) % 3_000);
        let (low, high) = (low.min(high), low.max(high));
        prop_assert!(map.range(low..high).eq(model.range(low..high)));
        prop_assert!(map.range(low..=high).eq(model.range(low..=high)));
        prop_assert!(map.range(..=high).rev().eq(model.range(..=high).rev()));
        prop_assert!(map.range(low..).eq(model.range(low..)));
        prop_assert_eq!(map.get(&low), model.get(&low));
        let same: ChunkMap<u16, u32> = model.into_iter().rev().collect();
        prop_assert!(same == map);
    }
}

#[test]
fn ascending_inserts_leave_no_slack() {
    let map: ChunkMap<u32, u32> = (0..10_000).map(|key| (key, key)).collect();
    let room: usize = map.chunks.iter().map(|(_, chunk)| chunk.capacity()).sum();
    assert!(room <= 10_000 + CHUNK, "{room} places");
    assert_eq!(map.chunks.len(), 10_000usize.div_ceil(CHUNK));
}

#[test]
fn a_set_is_a_map_without_values() {
    let mut set = ChunkSet::default();
    assert!(set.insert(3) && set.insert(1) && !set.insert(3));
    assert!(set.contains(&1) && set.remove(&1) && !set.remove(&1));
    assert_eq!((set.len(), set.iter().collect::<Vec<_>>()), (1, vec![&3]));
}
