//! The bug is found by crashes, and by nothing else; the repaired log is not blamed.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_sim::{Device, DiskFaults, DiskShape, Executor, Handle, Limits, SimEnv, Tag, Trials};
use tidewater_types::BoxFuture;
use tidewater_wal::Wal;
use tidewater_wal::conformance::{Kind, Reopened, run};

use super::Crashes;
use super::log::BlockWal;

#[test]
fn the_lost_frame_is_found_made_small_and_shown() {
    let trial = Crashes { hasty: true };
    let found = Trials::new(200).run(&trial).expect_err("within 200 seeds");
    assert_eq!(found.violation.checker, "frames", "{found}");
    assert!(found.violation.detail.starts_with("lost:"), "{found}");
    assert_eq!(found.plan.lives.len(), 1, "{found}");
    assert!(
        found.plan.lives[0].power_loss.is_some(),
        "a kill loses nothing"
    );
    assert!(
        found.lanes.contains("!! FAIL") && found.lanes.contains("disk"),
        "{found}"
    );
    assert!(found.timeline.contains("anomaly") || found.timeline.contains("lost:"));
    let again = Trials::new(1)
        .look(&trial, found.seed)
        .expect_err("the seed shows it again");
    assert_eq!(again.to_string(), found.to_string());
}

#[test]
fn the_repaired_log_is_not_blamed() {
    let faults = Trials::new(500).run(&Crashes { hasty: false });
    let faults = faults.unwrap_or_else(|found| panic!("{found}"));
    for fault in [
        "power_loss",
        "kill",
        "disk_write_eio",
        "disk_flush_eio",
        "disk_slow",
    ] {
        assert!(
            faults.get(fault).is_some_and(|count| *count > 0),
            "{fault}: {faults:?}"
        );
    }
}

/// The broken log for the conformance suite, which knows no crashes.
struct Kinds {
    handle: Handle,
    devices: Mutex<Vec<Device>>,
}

impl Kinds {
    async fn open(&self, place: usize) -> Reopened {
        let device = {
            let mut devices = self.devices.lock();
            while devices.len() <= place {
                let shape = DiskShape {
                    block_bytes: 512,
                    sector_bytes: 512,
                    write_ns: 20_000,
                    flush_ns: 80_000,
                    is_file: false,
                };
                let (handle, seed) = (self.handle.clone(), devices.len() as u64);
                devices.push(Device::new(handle, seed, shape, DiskFaults::default()));
            }
            devices[place].clone()
        };
        let disk = loop {
            match device.open() {
                Some(disk) => break disk,
                None => self.handle.sleep(Duration::from_micros(20)).await,
            }
        };
        let env = Arc::new(SimEnv::new(self.handle.clone(), 1, Tag(1), 0));
        let mut frames = Vec::new();
        let on_frame = |lsn, frame| frames.push((lsn, frame));
        let wal = BlockWal::open(Box::new(disk), env, true, on_frame)
            .await
            .unwrap();
        let wal = Arc::new(wal);
        Reopened { wal, frames }
    }
}

impl Kind for Kinds {
    fn create(&self, place: usize) -> BoxFuture<'_, Arc<dyn Wal>> {
        Box::pin(async move { self.open(place).await.wal })
    }

    fn reopen(&self, place: usize) -> BoxFuture<'_, Option<Reopened>> {
        Box::pin(async move { Some(self.open(place).await) })
    }

    fn capacity_bytes(&self) -> Option<u64> {
        None
    }

    fn trims_on_close(&self) -> bool {
        false
    }
}

#[test]
fn without_crashes_the_broken_log_conforms() {
    let executor = Executor::new(1);
    let handle = executor.handle();
    let env = Arc::new(SimEnv::new(handle.clone(), 1, Tag(1), 0));
    let devices = Mutex::default();
    let kind = Kinds { handle, devices };
    let limits = Limits {
        polls: 10_000_000,
        time: Duration::from_secs(3600),
    };
    let outcome = executor.run(limits, async move { run(&kind, env).await });
    outcome.unwrap_or_else(|stop| panic!("{stop}"));
}
