//! What no log would have written, and openings that fail over and over.
//!
//! *IO: none*

use super::*;
use crate::object::format::entry::{BRIDGE_SEQ, ENTRY_BYTES_MAX, Header, Kind};
use crate::object::owner::Owner;
use tidewater_types::WalId;

fn open_future(world: &World) -> std::pin::Pin<Box<impl Future<Output = Opened>>> {
    let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
    let config = ObjectWalConfig::tiny();
    Box::pin(open_with(bucket, env, config, OpenMode::Existing))
}

/// Openings that are cut off after `rounds`, then two in earnest, and what requests those take;
/// `None` if that is enough to open.
fn openings_that_fail(rounds: u64, times: usize) -> Option<(World, [u64; 2])> {
    let world = World::default();
    // Long enough to fail while it is read.
    drop(world.filled(300));
    for _ in 0..times {
        let mut opening = open_future(&world);
        if world.env.run_for(&mut opening, rounds).is_some() {
            return None;
        }
    }
    let requests = [(); 2].map(|()| {
        let before = world.bucket.num_requests();
        let (_wal, frames) = world.open();
        assert_eq!(frames.len(), 300, "{rounds} rounds, {times} times");
        world.bucket.num_requests() - before
    });
    assert_eq!(world.remains(), [""; 0], "{rounds} rounds, {times} times");
    Some((world, requests))
}

#[test]
fn openings_that_fail_for_ever_add_little_each_and_the_next_one_is_no_dearer() {
    let (mut bridged, mut rounds) = (0, 1);
    while let (Some((some, few)), Some((many, more))) = (
        openings_that_fail(rounds, 5),
        openings_that_fail(rounds, 40),
    ) {
        let bridge = format!("/{BRIDGE_SEQ:020}");
        let bridges = |world: &World| {
            let keys = world.keys();
            keys.iter().filter(|key| key.ends_with(&bridge)).count()
        };
        // Who never comes as far as the bridge leaves its epoch to be looked at, once.
        if bridges(&many) > 10 {
            bridged += 1;
            assert!(more[0] <= few[0] + 4, "{rounds}: {few:?} then {more:?}");
        } else {
            assert!(
                more[0] <= few[0] + 35 * 6,
                "{rounds}: {few:?} then {more:?}"
            );
        }
        // What stands in epochs without entries is read on the way, until the log is trimmed.
        assert!(
            more[1] <= few[1] + 35 * 2 + 4,
            "{rounds}: {few:?} then {more:?}"
        );
        let added = many.keys().len() - some.keys().len();
        assert!(added <= 35 * 4, "{rounds}: {added} objects of 35 openings");
        rounds += 1;
    }
    assert!(rounds > 20 && bridged > 5, "{rounds}, {bridged}");
}

fn put(world: &World, key: &str, bytes: Bytes) {
    world.env.run(world.bucket.replace(key, Some(bytes)));
}

#[test]
fn keys_that_no_log_can_reach_are_named_whatever_is_asked() {
    for place in [(u64::MAX, 0), (u64::MAX, 1), (1, u64::MAX), (1, 1 << 62)] {
        let world = World::default();
        drop(world.filled(2));
        let key = key_of(place.0, place.1);
        put(&world, &key, Bytes::from_static(b"x"));
        match world.refused() {
            WalError::Corrupt { path, found, .. } => {
                assert_eq!(path, key);
                assert_eq!(found, format!("{}/{}", place.0, place.1));
            }
            other => panic!("{other}"),
        }
        let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
        let replacing = ObjectWal::replace(bucket, env, ObjectWalConfig::tiny(), identity());
        let error = world.env.run(replacing).map(|_| ()).unwrap_err();
        assert!(matches!(error, WalError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn the_greatest_epoch_that_a_log_can_reach_is_no_panic() {
    let world = World::default();
    drop(world.filled(1));
    put(&world, &key_of((1 << 62) - 1, 0), Bytes::from_static(b"x"));
    assert!(matches!(world.refused(), WalError::Corrupt { .. }));
    let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
    let replacing = ObjectWal::replace(bucket, env, ObjectWalConfig::tiny(), identity());
    let (wal, _) = world.env.run(replacing).unwrap();
    assert_eq!(wal.epoch(), Epoch(1 << 62));
}

fn stranger(epoch: u64) -> Owner {
    Owner {
        cluster: ClusterId([1; 16]),
        node: NodeId(7),
        wal: WalId([9; 16]),
        epoch: Epoch(epoch),
        nonce: [3; 16],
    }
}

#[test]
fn an_lsn_near_the_end_is_damage_and_no_overflow() {
    let world = World::default();
    drop(world.filled(2));
    let place = Place::new(Epoch(1), 4);
    let state = Header {
        lsn: Lsn(u64::MAX - 5),
        durable: Lsn(u64::MAX - 5),
        trim: crate::object::format::entry::TrimPoint {
            lsn: Lsn(u64::MAX - 5),
            entry_lsn: Lsn(u64::MAX - 5),
            place,
        },
        ..stranger(1).blank(Kind::State, place)
    };
    put(&world, &key_of(1, 4), state.encode(&[]));
    assert!(matches!(world.refused(), WalError::Corrupt { .. }));
}

#[test]
fn a_bridge_of_another_wal_is_not_crossed() {
    let world = World::default();
    let (wal, _) = world.filled(2);
    let id = wal.wal_id();
    drop(wal);
    // Two openings that came no further than their starts.
    for epoch in [2, 3] {
        let owner = Owner {
            wal: id,
            ..stranger(epoch)
        };
        let kind = Kind::Start {
            window: 4,
            founding: Epoch(1),
        };
        let start = owner.blank(kind, Place::new(Epoch(epoch), 0));
        put(&world, &key_of(epoch, 0), start.encode(&[]));
    }
    let epoch = 2;
    let kind = Kind::Bridge { to: Epoch(1) };
    let bridge = |owner: Owner| {
        Header {
            writer: Epoch(3),
            ..owner.blank(kind, Place::new(Epoch(epoch), BRIDGE_SEQ))
        }
        .encode(&[])
    };
    put(&world, &key_of(epoch, BRIDGE_SEQ), bridge(stranger(3)));
    match world.refused() {
        WalError::ForeignWal { path, .. } => assert_eq!(path, key_of(epoch, BRIDGE_SEQ)),
        other => panic!("{other}"),
    }
    // Nor is one that rots.
    put(
        &world,
        &key_of(epoch, BRIDGE_SEQ),
        Bytes::from(vec![1; 160]),
    );
    assert!(matches!(world.refused(), WalError::Corrupt { .. }));
}

#[test]
fn rot_in_the_only_entry_that_is_left_is_no_empty_log() {
    let world = World::default();
    let (wal, lsns) = world.filled(4);
    wal.trim(lsns[3]);
    world.append(&wal, 5);
    world.pass(500);
    drop(wal);
    let left: Vec<_> = world.keys();
    assert!(!left.contains(&key_of(1, 1)), "{left:?}");
    for seq in [5, 6] {
        let bytes = world.env.run(world.bucket.object(&key_of(1, seq)));
        let mut rotten = bytes.to_vec();
        rotten[170] ^= 1;
        put(&world, &key_of(1, seq), rotten.into());
    }
    for _ in 0..2 {
        assert!(matches!(world.refused(), WalError::Corrupt { .. }));
    }
}

#[test]
fn an_object_larger_than_any_entry_is_not_read() {
    let world = World::default();
    drop(world.filled(2));
    world.bucket.claim_size(key_of(1, 3), ENTRY_BYTES_MAX + 1);
    let error = world.refused().to_string();
    assert!(error.contains("an entry has"), "{error}");
}

#[test]
fn a_log_longer_than_memory_may_hold_is_refused_with_its_length() {
    let world = World::default();
    let (wal, lsns) = world.filled(2);
    drop(wal);
    world.bucket.claim_size(key_of(1, 2), 64 << 20);
    match world.refused() {
        WalError::LogTooLarge { num_bytes, max, .. } => {
            assert_eq!(max, 64 << 20);
            assert!(num_bytes > max, "{num_bytes}");
        }
        other => panic!("{other} {lsns:?}"),
    }
}

#[test]
fn peeking_tells_the_cluster_of_the_log_that_took_the_place() {
    let world = World::default();
    drop(world.filled(2));
    let identity = Identity {
        cluster: ClusterId([2; 16]),
        ..identity()
    };
    let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
    let replacing = ObjectWal::replace(bucket, env, ObjectWalConfig::tiny(), identity);
    drop(world.env.run(replacing).unwrap());
    let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
    let config = ObjectWalConfig::tiny();
    let peek = async move { ObjectWal::peek(bucket, env, &config, NodeId(7)).await };
    assert_eq!(world.env.run(peek).unwrap(), Some(ClusterId([2; 16])));
}

#[test]
fn credentials_that_are_refused_for_a_while_cost_time_and_nothing_else() {
    let world = World::default();
    let (wal, _) = world.filled(1);
    world.bucket.plan(&[fickle::Fate::Refused; 6]);
    world.append(&wal, 2);
    drop(wal);
    assert_eq!(numbers(&world.open().1), [1, 2]);
    // An opening says so at once.
    world.bucket.plan(&[fickle::Fate::Refused]);
    let error = world.refused();
    assert!(error.to_string().contains("denied"), "{error}");
}

#[test]
fn a_close_states_the_trim_and_does_not_mind_if_it_cannot() {
    for fate in [fickle::Fate::Fine, fickle::Fate::Silent] {
        let world = World::default();
        let (wal, lsns) = world.filled(3);
        wal.trim(lsns[2]);
        world.bucket.plan(&[fate; 50]);
        world.env.run(wal.close()).unwrap();
        drop(wal);
        world.bucket.plan(&[]);
        let found = numbers(&world.open().1);
        let expected: &[u64] = match fate {
            fickle::Fate::Fine => &[3],
            _ => &[1, 2, 3],
        };
        assert_eq!(found, expected, "{fate:?}");
    }
}
