//! Eight writers that take one WAL from each other.
//!
//! *IO: through the bucket port*

use std::collections::BTreeMap;

use super::fickle::Fate;
use super::*;
use crate::testing::env::Rng;

/// What was acknowledged.
pub(super) type Acked = Arc<Mutex<BTreeMap<Lsn, Bytes>>>;

/// One writer: takes the WAL over and appends until it is fenced, `lives` times.
pub(super) async fn writer(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    config: ObjectWalConfig,
    acked: Acked,
    (number, lives): (u64, u64),
) {
    let mut rng = Rng(number);
    for life in 0..lives {
        let opened = open_with(
            bucket.clone(),
            env.clone(),
            config.clone(),
            OpenMode::Existing,
        );
        let before = acked.lock().clone();
        let (wal, frames, _) = match opened.await {
            Ok(opened) => opened,
            Err(WalError::Fenced { .. }) => continue,
            Err(other) => panic!("writer {number}: {other}"),
        };
        let found: BTreeMap<_, _> = frames.into_iter().collect();
        for (lsn, bytes) in &before {
            assert_eq!(found.get(lsn), Some(bytes), "acknowledged at {lsn}");
        }
        for frame in 0..rng.below(4) + 1 {
            let bytes = frame_bytes(number << 32 | life << 16 | frame, 50);
            let Ok(permit) = wal.reserve(bytes.len()).await else {
                break;
            };
            let Ok(append) = wal.append(permit, bytes.clone().into()) else {
                break;
            };
            match append.await {
                Ok(lsn) => {
                    let taken = acked.lock().insert(lsn, bytes);
                    assert_eq!(taken, None, "two acknowledgements for {lsn}");
                }
                Err(WalError::Fenced { .. }) => break,
                Err(other) => panic!("writer {number}: {other}"),
            }
        }
    }
}

/// After the race: everything acknowledged is there, once and in its place.
pub(super) async fn judge(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    config: ObjectWalConfig,
    acked: &Acked,
) {
    let (wal, frames, _) = open_with(bucket, env, config, OpenMode::Existing)
        .await
        .unwrap();
    let found: BTreeMap<_, _> = frames.into_iter().collect();
    let acked = acked.lock();
    assert!(!acked.is_empty(), "somebody got through");
    for (lsn, bytes) in &*acked {
        assert_eq!(found.get(lsn), Some(bytes), "acknowledged at {lsn}");
    }
    drop(wal);
}

#[test]
fn of_eight_racing_writers_none_loses_what_was_acknowledged() {
    for seed in 0..20 {
        let world = World::default();
        let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
        drop(world.create());
        let acked = Acked::default();
        let config = ObjectWalConfig::tiny();
        let race = futures_util::future::join_all((0..8).map(|number| {
            writer(
                bucket.clone(),
                env.clone(),
                config.clone(),
                acked.clone(),
                (seed * 8 + number, 3),
            )
        }));
        world.env.run(race);
        world.env.run(judge(bucket, env, config, &acked));
        assert!(world.keys().len() >= 60, "{} keys", world.keys().len());
        assert_eq!(world.remains(), [""; 0], "however takers meet");
    }
}

/// One taker fences a number that the owner has deleted, and lists the entry that would tell. Before
/// it reads that, the owner deletes it, too, and another taker puts a fence in its place. With
/// `has_twin` an entry that was deleted has landed again.
fn fenced_in_the_place_of_an_entry(has_twin: bool) {
    for rounds in 0..6 {
        let world = World::default();
        let (old, _) = world.filled(2);
        let exists = |epoch, number| world.keys().contains(&key_of(epoch, number));
        let opening = || {
            let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
            let config = ObjectWalConfig::tiny();
            Box::pin(open_with(bucket, env, config, OpenMode::Existing))
        };
        let (mut other, mut taker) = (opening(), opening());
        while !exists(2, 0) {
            assert!(world.env.run_for(&mut other, 1).is_none());
        }
        // Its barrier; next would come the fence at number 3.
        while !exists(1, 8) {
            assert!(world.env.run_for(&mut taker, 1).is_none());
        }
        world
            .bucket
            .plan(if has_twin { &[Fate::Silent] } else { &[] });
        world.append(&old, 3);
        old.trim(old.watermarks().durable);
        world.pass(20);
        assert!(exists(1, 5) && (1..5).all(|number| !exists(1, number)));
        assert_eq!(world.env.run(world.bucket.land()), usize::from(has_twin));
        // Its barrier; next comes the fence at number 5.
        while !exists(1, 10) {
            assert!(world.env.run_for(&mut other, 1).is_none());
        }
        while !exists(1, 3) {
            assert!(world.env.run_for(&mut taker, 1).is_none());
        }
        assert!(world.env.run_for(&mut taker, rounds).is_none());
        old.trim(world.append(&old, 4));
        world.append(&old, 5);
        world.pass(20);
        assert!(!exists(1, 5));
        while !exists(1, 5) {
            assert!(world.env.run_for(&mut other, 1).is_none());
        }
        let (_, frames, _) = world.env.run(taker).unwrap();
        assert_eq!(numbers(&frames), [4, 5], "after {rounds} rounds");
        assert_eq!(world.remains(), [""; 0], "after {rounds} rounds");
    }
}

#[test]
fn a_fence_in_the_place_of_an_entry_is_no_proof_of_an_end() {
    fenced_in_the_place_of_an_entry(false);
}

#[test]
fn a_fence_in_the_place_of_an_entry_is_no_proof_of_damage() {
    fenced_in_the_place_of_an_entry(true);
}
