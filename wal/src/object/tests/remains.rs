//! Damage to what earlier lives left, which no opening may ever look at.
//!
//! *IO: none*

use super::*;
use crate::object::format::entry::{HEADER_BYTES, Kind, decode};
use crate::object::format::{epoch_prefix, place_of};

impl World {
    /// The paths of what is wrong.
    pub(super) fn remains(&self) -> Vec<String> {
        let (bucket, env) = (Arc::new(self.bucket.clone()), Arc::new(self.env.clone()));
        let look = ObjectWal::look_at_remains(bucket, env, ObjectWalConfig::tiny(), NodeId(7));
        let flaws = self.env.run(look).unwrap();
        let path = |flaw| match flaw {
            WalError::Corrupt { path, .. } => path,
            other => panic!("{other}"),
        };
        flaws.into_iter().map(path).collect()
    }

    fn put(&self, key: &str, bytes: Option<Bytes>) {
        self.env.run(self.bucket.replace(key, bytes));
    }

    /// What is wrong while `bytes` stand at `key`.
    fn with(&self, key: &str, bytes: Option<Bytes>) -> Vec<String> {
        let before = self.env.run(self.bucket.object(key));
        self.put(key, bytes);
        let found = self.remains();
        self.put(key, Some(before));
        found
    }

    /// Objects without a payload.
    fn heads(&self) -> Vec<(String, Bytes, Kind)> {
        let objects = self.keys().into_iter().map(|key| {
            let bytes = self.env.run(self.bucket.object(&key));
            let kind = decode(&bytes, place(&key)).unwrap().kind;
            (key, bytes, kind)
        });
        objects
            .filter(|(_, bytes, _)| bytes.len() == HEADER_BYTES)
            .collect()
    }
}

fn place(key: &str) -> Place {
    place_of(NodeId(7), key).unwrap()
}

/// Lives with entries and without, openings that failed, and a bridge over their epochs.
fn lived() -> World {
    for rounds in 1.. {
        let world = World::default();
        drop(world.filled(5));
        drop(world.open());
        let (wal, _) = world.open();
        world.append(&wal, 6);
        drop(wal);
        for _ in 0..4 {
            let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
            let config = ObjectWalConfig::tiny();
            let opening = Box::pin(open_with(bucket, env, config, OpenMode::Existing));
            world.env.run_for(opening, rounds);
        }
        let (wal, frames) = world.open();
        assert_eq!(frames.len(), 6);
        world.append(&wal, 7);
        let is_bridge = |(_, _, kind): &(String, Bytes, Kind)| matches!(kind, Kind::Bridge { .. });
        if world.heads().iter().any(is_bridge) {
            return world;
        }
    }
    unreachable!("an opening gets as far as the bridge");
}

#[test]
fn sound_remains_are_no_matter() {
    let world = World::default();
    assert!(world.remains().is_empty());
    let (wal, _) = world.filled(3);
    assert!(world.remains().is_empty());
    drop(wal);
    for _ in 0..3 {
        let _wal = world.open();
        assert!(world.remains().is_empty());
    }
    let world = lived();
    let keys = world.keys();
    assert!(world.remains().is_empty());
    assert_eq!(world.keys(), keys, "nothing was created or deleted");
}

#[test]
fn damage_to_any_start_fence_barrier_or_bridge_is_named() {
    let world = lived();
    for (key, bytes, kind) in world.heads() {
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let found = world.with(&key, Some(bytes.slice(..cut)));
            assert_eq!(found, [&*key], "{kind:?} cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 0x10;
            let found = world.with(&key, Some(flipped.into()));
            assert_eq!(found, [&*key], "{kind:?} flipped at {at}");
        }
    }
}

#[test]
fn those_that_changed_places_are_named() {
    let world = lived();
    let heads = world.heads();
    for (one, bytes, kind) in &heads {
        for (other, others, of) in &heads {
            if one < other && std::mem::discriminant(kind) == std::mem::discriminant(of) {
                world.put(one, Some(others.clone()));
                assert_eq!(world.with(other, Some(bytes.clone())), [&**one, other]);
                world.put(one, Some(bytes.clone()));
            }
        }
    }
    // That of another log, written for the same place.
    let other = World::default();
    other.env.random("another identity");
    drop(other.filled(5));
    let (_wal, _) = other.open();
    for (key, bytes, kind) in heads {
        let of_other = other.heads().into_iter().find(|(of, ..)| *of == key);
        if let Some((_, foreign, of)) = of_other
            && kind == of
        {
            assert_ne!(bytes, foreign);
            assert_eq!(world.with(&key, Some(foreign)), [key]);
        }
    }
}

#[test]
fn what_is_missing_is_named_unless_nothing_tells_that_it_was_there() {
    let world = lived();
    let heads = world.heads();
    let mut found = [0; 3];
    for (key, _, kind) in &heads {
        let Place { epoch, seq } = place(key);
        let of_epoch = epoch_prefix(NodeId(7), epoch);
        let beside = heads
            .iter()
            .filter(|(other, ..)| other.starts_with(&of_epoch));
        let has_barrier = beside.filter(|(_, _, kind)| *kind == Kind::Barrier).count() > 0;
        let missed = world.with(key, None);
        match kind {
            Kind::Start { .. } => {
                assert_eq!(missed, [&**key]);
                found[0] += 1;
            }
            // It ends the chain, too: there would be none if entries had come as far.
            Kind::Fence if has_barrier => assert!(missed.is_empty(), "{seq}: {missed:?}"),
            Kind::Fence => {
                assert_eq!(missed, [of_epoch]);
                found[1] += 1;
            }
            Kind::Barrier => {
                assert_eq!(missed, [of_epoch]);
                found[2] += 1;
            }
            // Trimmed, or as if the opening had ended before it.
            Kind::State | Kind::Bridge { .. } => assert!(missed.is_empty(), "{missed:?}"),
            Kind::Data => unreachable!("it has a payload"),
        }
    }
    assert!(found.iter().all(|count| *count > 1), "{found:?}");
}

#[test]
fn an_epoch_that_is_gone_is_named_and_keys_far_above_do_no_harm() {
    let world = lived();
    let second = epoch_prefix(NodeId(7), Epoch(2));
    for key in world.keys().iter().filter(|key| key.starts_with(&second)) {
        world.put(key, None);
    }
    assert_eq!(world.remains(), [key_of(2, 0)]);
    let last = place(world.keys().last().unwrap()).epoch.0;
    for far in [1 << 40, 1 << 62, u64::MAX] {
        world.put(&key_of(far, 0), Some(Bytes::from_static(b"junk")));
    }
    let expected = [key_of(1 << 40, 0), key_of(2, 0), key_of(last + 1, 0)];
    assert_eq!(world.remains(), expected);
}

#[test]
fn of_a_log_that_was_given_up_nothing_is_said() {
    let world = lived();
    world.put(&key_of(1, 0), None);
    world.put(&key_of(2, 0), Some(Bytes::from_static(b"junk")));
    assert_eq!(world.remains().len(), 2);
    let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
    let replace = ObjectWal::replace(bucket, env, ObjectWalConfig::tiny(), identity());
    let _wal = world.env.run(replace).unwrap();
    assert!(world.remains().is_empty());
}
