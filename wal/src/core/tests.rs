//! The engine under crashes and faults, on the model disk.
//!
//! *IO: none*

use crate::testing::lives::lives;

mod dropped;
mod pressure;
mod recycling;

#[test]
fn nothing_acknowledged_is_lost_over_many_lives() {
    for seed in 0..300 {
        let outcome = std::panic::catch_unwind(|| lives(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn every_seeded_bug_that_a_crash_reveals_is_noticed() {
    use crate::testing::lives::seeds_to_kill;
    let mut survivors = Vec::new();
    // 12 (in place) takes some thousands: a torn slot while the other one is stale.
    for mutant in [1, 2, 3, 4, 6, 7, 8, 11, 14, 15, 52, 54, 55] {
        match seeds_to_kill(mutant, 5000) {
            Some(seeds) => println!("mutant {mutant}: {seeds} seeds"),
            None => survivors.push(mutant),
        }
    }
    assert_eq!(survivors, Vec::<u16>::new());
}

mod faults {
    use std::time::Duration;

    use bytes::Bytes;
    use tidewater_types::Lsn;

    use crate::acks::Append;
    use crate::port::{Frame, Wal};
    use crate::testing::env::TestEnv;
    use crate::testing::frame_bytes;
    use crate::testing::lives::open;
    use crate::testing::model::Model;
    use crate::{DeviceWal, DeviceWalConfig, OpenMode, WalError};

    pub(super) fn create(env: &TestEnv, model: &Model, config: DeviceWalConfig) -> DeviceWal {
        env.run(open(model, env, config, OpenMode::Create))
            .unwrap()
            .0
    }

    pub(super) fn fresh() -> (TestEnv, Model, DeviceWal) {
        let (env, model) = (TestEnv::default(), Model::new(3));
        let wal = create(&env, &model, DeviceWalConfig::tiny());
        (env, model, wal)
    }

    pub(super) fn start(wal: &DeviceWal, body: Bytes) -> Result<Append, WalError> {
        wal.append(wal.try_reserve(body.len())?, Frame::from(body))
    }

    #[test]
    fn a_failed_flush_poisons_and_fails_every_waiting_append() {
        let (env, model, wal) = fresh();
        env.pass(Duration::from_millis(5));
        model.0.lock().failing_flushes = 1;
        let appends: Vec<_> = (0..5)
            .map(|n| start(&wal, frame_bytes(n, 100)).unwrap())
            .collect();
        for append in appends {
            assert!(matches!(env.run(append), Err(WalError::Poisoned { .. })));
        }
        assert!(matches!(wal.try_reserve(1), Err(WalError::Poisoned { .. })));
        assert!(matches!(
            env.run(wal.reserve(1)),
            Err(WalError::Poisoned { .. })
        ));
        assert!(matches!(
            env.run(wal.close()),
            Err(WalError::Poisoned { .. })
        ));
        assert_eq!(wal.watermarks().durable, Lsn(0));
    }

    #[test]
    fn a_failed_write_poisons() {
        let (env, model, wal) = fresh();
        env.pass(Duration::from_millis(5));
        model.0.lock().failing_writes = 1;
        let append = start(&wal, frame_bytes(1, 100)).unwrap();
        let error = env.run(append).unwrap_err();
        assert!(
            error.to_string().contains("write of model at position"),
            "{error}"
        );
    }

    #[test]
    fn a_lone_append_costs_one_write_and_one_flush() {
        let (env, model, wal) = fresh();
        env.run(start(&wal, frame_bytes(1, 100)).unwrap()).unwrap();
        env.pass(Duration::from_millis(10));
        let before = model.counts();
        env.run(start(&wal, frame_bytes(2, 100)).unwrap()).unwrap();
        let after = model.counts();
        assert_eq!(after, (before.0 + 1, before.1 + 1));
    }

    #[test]
    fn a_burst_shares_its_flushes() {
        let (env, model, wal) = fresh();
        env.pass(Duration::from_millis(10));
        let before = model.0.lock().flushes;
        let appends: Vec<_> = (0..100)
            .map(|n| start(&wal, frame_bytes(n, 100)).unwrap())
            .collect();
        for append in appends {
            env.run(append).unwrap();
        }
        assert!(
            model.0.lock().flushes - before <= 3,
            "{} flushes",
            model.0.lock().flushes - before
        );
    }

    #[test]
    fn many_laps_of_a_small_ring() {
        let (env, model, wal) = fresh();
        let mut last = Vec::new();
        for n in 0..2000u64 {
            let body = frame_bytes(n, 2000 + 13 * (n as usize % 50));
            let lsn = env.run(start(&wal, body.clone()).unwrap()).unwrap();
            last.push((lsn, body));
            if n % 7 == 0 {
                last.drain(..last.len() / 2);
                wal.trim(last[0].0);
            }
        }
        for (lsn, body) in &last {
            assert_eq!(env.run(wal.read(*lsn)).unwrap(), body);
        }
        assert!(
            model.image().len() <= 64 * 1024 * 4,
            "a ring that is trimmed stays small"
        );
        env.run(wal.close()).unwrap();
        let (_, found, _) = env
            .run(open(
                &model,
                &env,
                DeviceWalConfig::tiny(),
                OpenMode::Existing,
            ))
            .unwrap();
        assert_eq!(found, last);
    }

    #[test]
    fn the_largest_frame_fits_and_one_byte_more_does_not() {
        let (env, _, wal) = fresh();
        let max = wal.frame_bytes_max();
        for n in 0..5 {
            let lsn = env.run(start(&wal, frame_bytes(n, max)).unwrap()).unwrap();
            assert_eq!(env.run(wal.read(lsn)).unwrap(), frame_bytes(n, max));
        }
        assert!(matches!(
            wal.try_reserve(max + 1),
            Err(WalError::FrameTooLarge { .. })
        ));
    }
}
