//! Taking over: from the dead, from zombies, from each other.
//!
//! *IO: none*

use super::fickle::Fate;
use super::*;
use crate::object::format::entry::{Header, Kind};
use crate::object::owner::Owner;
use tidewater_types::WalId;

#[test]
fn frames_come_back_in_order_over_several_lives() {
    let world = World::default();
    let (wal, mut lsns) = world.filled(3);
    let id = wal.wal_id();
    drop(wal);
    for life in 1..4 {
        let (wal, frames) = world.open();
        let expected: Vec<u64> = (1..=3 * life).collect();
        assert_eq!(numbers(&frames), expected);
        assert_eq!(frames.iter().map(|(lsn, _)| *lsn).collect::<Vec<_>>(), lsns);
        assert_eq!((wal.wal_id(), wal.epoch()), (id, Epoch(life + 1)));
        assert_eq!(world.env.run(wal.read(lsns[0])).unwrap(), body(1));
        lsns.extend((1..=3).map(|n| world.append(&wal, 3 * life + n)));
    }
}

#[test]
fn lives_without_appends_leave_the_log_as_it_is() {
    let world = World::default();
    let (_wal, _) = world.filled(2);
    for _ in 0..4 {
        assert_eq!(numbers(&world.open().1), [1, 2]);
    }
}

#[test]
fn missing_existing_foreign_and_newer_ones_are_refused_and_nothing_is_changed() {
    let world = World::default();
    assert!(matches!(world.refused(), WalError::Missing { .. }));
    let wal = world.create();
    let id = wal.wal_id();
    let keys = world.keys();
    let open = |identity, mode| {
        let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
        let config = ObjectWalConfig::tiny();
        let opening = ObjectWal::open(bucket, env, config, identity, mode, |_, _| {});
        world.env.run(opening).map(|_| ()).unwrap_err()
    };
    let existing = OpenMode::Existing;
    assert!(matches!(
        open(identity(), OpenMode::Create),
        WalError::Exists { .. }
    ));
    let other = Identity {
        cluster: ClusterId([2; 16]),
        ..identity()
    };
    assert!(matches!(
        open(other, existing),
        WalError::ForeignCluster { .. }
    ));
    let other = Identity {
        wal: Some(WalId([9; 16])),
        ..identity()
    };
    assert!(matches!(
        open(other, existing),
        WalError::ForeignWal { found, .. } if found == id
    ));
    let other = Identity {
        node: NodeId(8),
        ..identity()
    };
    assert!(matches!(open(other, existing), WalError::Missing { .. }));
    assert_eq!(world.keys(), keys);
}

#[test]
fn a_start_of_another_node_a_newer_format_or_rot_is_refused_and_nothing_is_changed() {
    let world = World::default();
    drop(world.create());
    let keys = world.keys();
    let start = key_of(1, 0);
    let saved = world.env.run(world.bucket.object(&start));
    let mut newer = saved.to_vec();
    newer[4] = 2;
    reseal(&mut newer);
    world
        .env
        .run(world.bucket.replace(&start, Some(newer.into())));
    assert!(matches!(
        world.refused(),
        WalError::NewerFormat { found: 2, .. }
    ));
    let mut foreign = saved.to_vec();
    foreign[24] = 8;
    reseal(&mut foreign);
    world
        .env
        .run(world.bucket.replace(&start, Some(foreign.into())));
    assert!(matches!(world.refused(), WalError::ForeignNode { .. }));
    world.env.run(
        world
            .bucket
            .replace(&start, Some(Bytes::from_static(b"rot"))),
    );
    assert!(matches!(world.refused(), WalError::Corrupt { .. }));
    assert_eq!(world.keys(), keys);
}

fn reseal(bytes: &mut [u8]) {
    let checksum = tidewater_types::crc32c(&[&bytes[..8], &bytes[12..]]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn the_old_owner_is_fenced_and_told_so() {
    let world = World::default();
    let (old, _) = world.filled(2);
    let (new, frames) = world.open();
    assert_eq!(numbers(&frames), [1, 2]);
    let error = world.env.run(begin(&old, 3)).unwrap_err();
    assert!(
        matches!(&error, WalError::Fenced { key, epoch, by }
            if *key == key_of(1, 4) && *epoch == Epoch(1) && *by == Epoch(2)),
        "{error}"
    );
    assert_eq!(error.kind(), tidewater_types::ErrorKind::Fenced);
    assert!(matches!(old.try_reserve(1), Err(WalError::Fenced { .. })));
    world.append(&new, 3);
    drop(new);
    assert_eq!(numbers(&world.open().1), [1, 2, 3]);
}

/// Takes over while a PUT of the old owner is in flight, does `meanwhile`, lets the PUT land,
/// and looks at the log a third time.
fn late_put(meanwhile: impl FnOnce(&World, &ObjectWal)) -> (Vec<u64>, usize) {
    let world = World::default();
    let (old, _) = world.filled(2);
    world.bucket.plan(&[Fate::Silent]);
    drop(begin(&old, 3));
    world.pass(1);
    assert_eq!(world.bucket.num_held(), 1);
    drop(old);
    world.pass(1);
    let (new, frames) = world.open();
    assert_eq!(numbers(&frames), [1, 2]);
    meanwhile(&world, &new);
    let landed = world.env.run(world.bucket.land());
    world.append(&new, 5);
    drop(new);
    (numbers(&world.open().1), landed)
}

#[test]
fn a_put_that_lands_after_the_takeover_meets_the_fence() {
    assert_eq!(late_put(|_, _| ()), (vec![1, 2, 5], 0));
}

#[test]
fn a_put_that_lands_after_trim_and_deletion_meets_the_fence() {
    let trimmed = late_put(|world, new| {
        world.append(new, 4);
        new.trim(new.watermarks().durable);
        world.pass(500);
        assert!(!world.keys().contains(&key_of(1, 3)), "deleted");
    });
    assert_eq!(trimmed, (vec![5], 0));
}

#[test]
fn entries_behind_the_fence_do_not_count() {
    let world = World::default();
    let (old, _) = world.filled(2);
    // Two objects under way: the first is stuck, the other one lands.
    world.bucket.plan(&[Fate::Silent, Fate::Fine]);
    drop(begin(&old, 3));
    world.pass(1);
    drop(begin(&old, 4));
    world.pass(3);
    drop(old);
    assert!(world.keys().contains(&key_of(1, 5)));
    assert!(!world.keys().contains(&key_of(1, 4)));
    let (new, frames) = world.open();
    assert_eq!(numbers(&frames), [1, 2]);
    assert_eq!(world.env.run(world.bucket.land()), 0);
    world.append(&new, 6);
    drop(new);
    assert_eq!(numbers(&world.open().1), [1, 2, 6]);
}

#[test]
fn an_entry_that_lands_before_its_fence_counts() {
    let world = World::default();
    let (old, _) = world.filled(2);
    world.bucket.plan(&[Fate::LostAnswer]);
    drop(begin(&old, 3));
    world.pass(1);
    drop(old);
    assert_eq!(numbers(&world.open().1), [1, 2, 3]);
}

#[test]
fn a_taker_whose_creates_are_lost_late_or_throttled_comes_through() {
    for fate in [Fate::LostAnswer, Fate::Late, Fate::Silent, Fate::Throttled] {
        for at in 0..4 {
            let world = World::default();
            let (old, _) = world.filled(2);
            drop(old);
            let mut fates = vec![Fate::Fine; at];
            fates.push(fate);
            world.bucket.plan(&fates);
            let (new, frames) = world.open();
            assert_eq!(numbers(&frames), [1, 2], "{fate:?} {at}");
            world.env.run(world.bucket.land());
            world.append(&new, 3);
            drop(new);
            assert_eq!(numbers(&world.open().1), [1, 2, 3], "{fate:?} {at}");
        }
    }
}

#[test]
fn a_taker_that_dies_at_any_step_is_followed_by_one_that_loses_nothing() {
    for rounds in 0..40 {
        let world = World::default();
        let (old, _) = world.filled(2);
        let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
        let opening = open_with(bucket, env, ObjectWalConfig::tiny(), OpenMode::Existing);
        drop(world.env.run_for(opening, rounds));
        // The old owner may be fenced by now, or not.
        let acked = world.env.run(begin(&old, 3)).is_ok();
        drop(old);
        let found = numbers(&world.open().1);
        assert!(
            found == [1, 2, 3] || (found == [1, 2] && !acked),
            "{rounds}: {found:?}"
        );
    }
}

#[test]
fn of_two_takers_the_slower_one_is_told() {
    for rounds in 0..12 {
        let world = World::default();
        let (old, _) = world.filled(2);
        drop(old);
        let open = || {
            let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
            Box::pin(open_with(
                bucket,
                env,
                ObjectWalConfig::tiny(),
                OpenMode::Existing,
            ))
        };
        let mut slow = open();
        if let Some(early) = world.env.run_for(&mut slow, rounds) {
            early.unwrap();
            continue;
        }
        let (fast, frames, _) = world.env.run(open()).unwrap();
        assert_eq!(numbers(&frames), [1, 2]);
        match world.env.run(slow) {
            // It claimed an epoch only now, and so is the later owner.
            Ok((slow, frames, _)) => {
                assert_eq!(numbers(&frames), [1, 2]);
                let error = world.env.run(begin(&fast, 3)).unwrap_err();
                assert!(matches!(error, WalError::Fenced { .. }), "{error}");
                world.append(&slow, 3);
            }
            Err(error) => {
                assert!(matches!(error, WalError::Fenced { .. }), "{error}");
                world.append(&fast, 3);
            }
        }
        assert_eq!(numbers(&world.open().1), [1, 2, 3]);
    }
}

#[test]
fn a_taker_that_slept_while_the_log_was_trimmed_does_not_fence_in_the_past() {
    // The taker has listed; then the owner writes far beyond the window, trims and deletes.
    let mut slept = 0;
    for rounds in 1.. {
        let world = World::default();
        let (old, _) = world.filled(2);
        let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
        let opening = open_with(bucket, env, ObjectWalConfig::tiny(), OpenMode::Existing);
        let mut opening = Box::pin(opening);
        if world.env.run_for(&mut opening, rounds).is_some() {
            break;
        }
        slept += 1;
        let mut acked = vec![];
        for number in 3..30 {
            match world.env.run(begin(&old, number)) {
                Ok(lsn) => acked.push((lsn, body(number))),
                Err(WalError::Fenced { .. }) => break,
                Err(other) => panic!("{other}"),
            }
            if acked.len() == 25 {
                old.trim(acked[24].0);
                world.pass(100);
            }
        }
        let opened = world.env.run(opening).unwrap();
        let trimmed = opened.2.trimmed;
        acked.retain(|(lsn, _)| *lsn >= trimmed);
        let late: Vec<_> = opened
            .1
            .iter()
            .filter(|(_, bytes)| numbers(&[(Lsn(0), bytes.clone())])[0] > 2)
            .cloned()
            .collect();
        assert_eq!(late, acked, "{rounds}");
        let Ok(permit) = old.try_reserve(100) else {
            continue;
        };
        let append = old.append(permit, body(99).into()).unwrap();
        let error = world.env.run(append).unwrap_err();
        assert!(
            matches!(error, WalError::Fenced { .. }),
            "{rounds}: {error}"
        );
    }
    assert!(slept > 8, "{slept}");
}

#[test]
fn a_lost_entry_in_front_of_a_durable_one_is_damage_and_named() {
    for seq in 2..=5 {
        let world = World::default();
        let (old, lsns) = world.filled(5);
        old.trim(lsns[0]);
        drop(old);
        world.env.run(world.bucket.replace(&key_of(1, seq), None));
        for _ in 0..2 {
            match world.refused() {
                WalError::Corrupt { path, .. } => assert_eq!(path, key_of(1, seq)),
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn an_entry_that_rots_is_damage_wherever_it_stands() {
    for seq in [0, 2, 3, 4, 5, 6] {
        let world = World::default();
        drop(world.filled(5));
        let mut bytes = world.env.run(world.bucket.object(&key_of(1, seq))).to_vec();
        bytes[70] ^= 1;
        world
            .env
            .run(world.bucket.replace(&key_of(1, seq), Some(bytes.into())));
        match world.refused() {
            WalError::Corrupt { path, .. } => assert_eq!(path, key_of(1, seq)),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_lost_last_entry_that_nothing_proves_is_a_tail() {
    let world = World::default();
    drop(world.filled(3));
    world.env.run(world.bucket.replace(&key_of(1, 4), None));
    assert_eq!(numbers(&world.open().1), [1, 2]);
}

#[test]
fn an_entry_of_another_wal_in_the_chain_is_damage() {
    let world = World::default();
    drop(world.filled(2));
    let place = Place::new(Epoch(1), 4);
    let owner = Owner {
        cluster: ClusterId([1; 16]),
        node: NodeId(7),
        wal: WalId([9; 16]),
        epoch: Epoch(1),
        nonce: [3; 16],
    };
    let state = Header {
        trim: crate::object::format::entry::TrimPoint {
            place: Place::new(Epoch(1), 1),
            ..Default::default()
        },
        ..owner.blank(Kind::State, place)
    };
    let bytes = state.encode(&[]);
    world
        .env
        .run(world.bucket.replace(&key_of(1, 4), Some(bytes)));
    assert!(matches!(world.refused(), WalError::Corrupt { .. }));
}

#[test]
fn a_log_given_up_is_followed_by_a_new_one_and_stays() {
    let world = World::default();
    drop(world.filled(5));
    world.env.run(world.bucket.replace(&key_of(1, 3), None));
    assert!(matches!(world.refused(), WalError::Corrupt { .. }));
    let old = world.keys();
    let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
    let replacing = ObjectWal::replace(bucket, env, ObjectWalConfig::tiny(), identity());
    let (wal, report) = world.env.run(replacing).unwrap();
    assert_eq!((report.num_frames, report.end), (0, Lsn(0)));
    for number in 6..9 {
        world.append(&wal, number);
    }
    wal.trim(wal.watermarks().durable);
    world.pass(500);
    drop(wal);
    for _ in 0..2 {
        let (wal, frames) = world.open();
        assert_eq!(numbers(&frames), [0u64; 0]);
        world.pass(500);
        drop(wal);
    }
    let kept = world.keys();
    assert!(old.iter().all(|key| kept.contains(key)), "{kept:?}");
}

#[test]
fn peeking_tells_the_cluster_and_changes_nothing() {
    let world = World::default();
    let peek = || {
        let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
        let config = ObjectWalConfig::tiny();
        world
            .env
            .run(async move { ObjectWal::peek(bucket, env, &config, NodeId(7)).await })
    };
    assert_eq!(peek().unwrap(), None);
    drop(world.filled(2));
    let keys = world.keys();
    assert_eq!(peek().unwrap(), Some(ClusterId([1; 16])));
    assert_eq!(world.keys(), keys);
}
