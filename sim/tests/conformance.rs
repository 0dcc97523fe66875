//! The write-ahead log's conformance suite on the simulator's disk, under its executor.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_sim::{Device, DiskFaults, DiskShape, Executor, Handle, Limits, SimEnv, Tag};
use tidewater_types::{BoxFuture, ClusterId, NodeId};
use tidewater_wal::conformance::{Kind, Reopened, run};
use tidewater_wal::{DeviceWal, DeviceWalConfig, Identity, OpenMode, Wal, WalMode};

const LIMITS: Limits = Limits {
    polls: 10_000_000,
    time: Duration::from_secs(3600),
};
const IDENTITY: Identity = Identity {
    cluster: ClusterId([7; 16]),
    node: NodeId(1),
    wal: None,
};

struct OnSimDisk {
    handle: Handle,
    seed: u64,
    sector_bytes: usize,
    config: DeviceWalConfig,
    devices: Mutex<Vec<Device>>,
}

impl OnSimDisk {
    fn device(&self, place: usize) -> Device {
        let mut devices = self.devices.lock();
        while devices.len() <= place {
            let shape = DiskShape {
                block_bytes: self.sector_bytes,
                sector_bytes: self.sector_bytes,
                write_ns: 20_000,
                flush_ns: 100_000,
                is_file: true,
            };
            let seed = self.seed + devices.len() as u64;
            let faults = DiskFaults::default();
            devices.push(Device::new(self.handle.clone(), seed, shape, faults));
        }
        devices[place].clone()
    }

    async fn open(&self, place: usize, mode: OpenMode) -> Reopened {
        let device = self.device(place);
        let disk = loop {
            // The last life holds it until its engine has noticed that its handle is gone.
            match device.open() {
                Some(disk) => break disk,
                None => self.handle.sleep(Duration::from_micros(20)).await,
            }
        };
        let env = Arc::new(SimEnv::new(self.handle.clone(), self.seed, Tag(1), 0));
        let frames = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&frames);
        let on_frame = move |lsn, frame| sink.lock().push((lsn, frame));
        let config = self.config.clone();
        let opening = DeviceWal::open_on(Box::new(disk), env, config, IDENTITY, mode, on_frame);
        let (wal, _) = opening.await.unwrap();
        let frames = std::mem::take(&mut *frames.lock());
        Reopened {
            wal: Arc::new(wal),
            frames,
        }
    }
}

impl Kind for OnSimDisk {
    fn create(&self, place: usize) -> BoxFuture<'_, Arc<dyn Wal>> {
        Box::pin(async move { self.open(place, OpenMode::Create).await.wal })
    }

    fn reopen(&self, place: usize) -> BoxFuture<'_, Option<Reopened>> {
        Box::pin(async move { Some(self.open(place, OpenMode::Existing).await) })
    }

    fn capacity_bytes(&self) -> Option<u64> {
        Some(self.config.capacity_bytes)
    }
}

#[test]
fn the_device_wal_conforms_on_the_simulated_disk() {
    for (seed, sector_bytes, mode) in [
        (1, 512, WalMode::RingSync),
        (2, 512, WalMode::RingDsync),
        (3, 4096, WalMode::RingSync),
        (4, 4096, WalMode::RingDsync),
    ] {
        let executor = Executor::new(seed);
        let handle = executor.handle();
        let env = Arc::new(SimEnv::new(handle.clone(), seed, Tag(1), 0));
        let kind = OnSimDisk {
            handle,
            seed: seed << 32,
            sector_bytes,
            config: DeviceWalConfig {
                mode,
                ..DeviceWalConfig::tiny()
            },
            devices: Mutex::default(),
        };
        let outcome = executor.run(LIMITS, async move { run(&kind, env).await });
        outcome.unwrap_or_else(|stop| panic!("{mode}, sectors of {sector_bytes}: {stop}"));
    }
}
