//! Looking at a log that is at rest, damaged, or somebody's.
//!
//! *IO: none*

use super::*;

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
    assert_eq!(numbers(&frames), [1, 2, 3, 4, 5, 6]);
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
