//! Looking at a log that is at rest, damaged, or somebody's.
//!
//! *IO: none*

use super::*;
use crate::port::FRAME_HEAD_BYTES_MAX;

/// As much of a frame as a look keeps.
fn head(number: u64) -> Bytes {
    body(number).slice(..FRAME_HEAD_BYTES_MAX)
}

/// The numbers of the frames whose heads these are.
fn numbers(heads: &[(Lsn, Bytes)]) -> Vec<u64> {
    let number = |bytes: &Bytes| (0..100).find(|number| head(*number) == *bytes);
    heads
        .iter()
        .map(|(_, bytes)| number(bytes).unwrap())
        .collect()
}

impl World {
    fn look(&self) -> Result<Option<super::super::look::Looked>, WalError> {
        let (bucket, env) = (Arc::new(self.bucket.clone()), Arc::new(self.env.clone()));
        let look = ObjectWal::look(bucket, env, ObjectWalConfig::tiny(), NodeId(7));
        self.env.run(look)
    }
}

#[test]
fn a_look_shows_what_opening_would_and_disturbs_nobody() {
    let world = World::default();
    assert!(world.look().unwrap().is_none());
    let (wal, lsns) = world.filled(5);
    let keys = world.keys();
    for _ in 0..2 {
        let (identity, frames, report) = world.look().unwrap().unwrap();
        assert_eq!(identity.cluster, super::identity().cluster);
        assert_eq!(identity.wal, Some(wal.wal_id()));
        assert_eq!(numbers(&frames), [1, 2, 3, 4, 5]);
        assert_eq!(frames.iter().map(|(lsn, _)| *lsn).collect::<Vec<_>>(), lsns);
        assert_eq!(report.num_frames, 5);
        assert_eq!(world.keys(), keys, "nothing was created or deleted");
    }
    // The owner was not fenced.
    world.append(&wal, 6);
    assert_eq!(
        numbers(&world.look().unwrap().unwrap().1),
        [1, 2, 3, 4, 5, 6]
    );
    drop(wal);
    let (_wal, frames) = world.open();
    assert_eq!(super::numbers(&frames), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_log_too_large_to_be_taken_over_can_be_looked_at() {
    let world = World::default();
    let (wal, _) = world.filled(1);
    for number in 2..=24 {
        let frame = [&body(number)[..], &[0; 50_000]].concat();
        let permit = world.env.run(wal.reserve(frame.len())).unwrap();
        let append = wal.append(permit, Bytes::from(frame).into()).unwrap();
        world.env.run(append).unwrap();
    }
    drop(wal);
    let config = ObjectWalConfig {
        takeover_bytes_max: 1 << 20,
        ..ObjectWalConfig::tiny()
    };
    let (bucket, env) = (Arc::new(world.bucket.clone()), Arc::new(world.env.clone()));
    let existing = OpenMode::Existing;
    let opening = open_with(bucket.clone(), env.clone(), config.clone(), existing);
    let refused = world.env.run(opening);
    assert!(matches!(refused, Err(WalError::LogTooLarge { .. })));
    let look = ObjectWal::look(bucket, env, config, NodeId(7));
    let (_, heads, _) = world.env.run(look).unwrap().unwrap();
    assert_eq!(numbers(&heads), (1..=24).collect::<Vec<_>>());
}

#[test]
fn a_look_refuses_what_opening_refuses() {
    for at in [0, 2, 4, 6] {
        let world = World::default();
        let (wal, _) = world.filled(5);
        drop(wal);
        let key = key_of(1, at);
        world
            .env
            .run(world.bucket.delete(tidewater_bucket::Purpose::Wal, &key))
            .unwrap();
        let looked = world.look();
        // The last one cannot be told from one that was never written.
        let found = looked.as_ref().err().map(ToString::to_string);
        assert_eq!(found.is_some(), at != 6, "{at}: {found:?}");
        assert!(found.is_none_or(|found| found.contains(&key)), "{at}");
    }
}
