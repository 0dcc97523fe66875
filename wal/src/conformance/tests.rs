//! The kinds without a file pass the suite; logs with one thing wrong do not.
//!
//! *IO: none*

use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Env};

use super::{Kind, Reopened, run};
use crate::testing::env::TestEnv;
use crate::testing::lives;
use crate::testing::model::Model;
use crate::{DeviceWalConfig, MemoryWal, OpenMode, Wal};

mod wrong;

const MEMORY_BYTES: usize = 1 << 20;

struct Memory(TestEnv);

impl Kind for Memory {
    fn create(&self, _: usize) -> BoxFuture<'_, Arc<dyn Wal>> {
        let env = Arc::new(self.0.clone());
        Box::pin(async { Arc::new(MemoryWal::new(env, MEMORY_BYTES, 50)) as Arc<dyn Wal> })
    }

    fn reopen(&self, _: usize) -> BoxFuture<'_, Option<Reopened>> {
        Box::pin(async { None })
    }

    fn capacity_bytes(&self) -> Option<u64> {
        Some(MEMORY_BYTES as u64)
    }
}

/// The device WAL on model disks.
struct OnModel {
    env: TestEnv,
    disks: Mutex<Vec<Model>>,
}

impl OnModel {
    async fn open(&self, place: usize, mode: OpenMode) -> Reopened {
        let model = {
            let mut disks = self.disks.lock();
            while disks.len() <= place {
                let seed = disks.len() as u64;
                disks.push(Model::new(seed));
            }
            disks[place].clone()
        };
        let opened = lives::open(&model, &self.env, DeviceWalConfig::tiny(), mode).await;
        let (wal, frames, _) = opened.unwrap();
        Reopened {
            wal: Arc::new(wal),
            frames,
        }
    }
}

impl Kind for OnModel {
    fn create(&self, place: usize) -> BoxFuture<'_, Arc<dyn Wal>> {
        Box::pin(async move { self.open(place, OpenMode::Create).await.wal })
    }

    fn reopen(&self, place: usize) -> BoxFuture<'_, Option<Reopened>> {
        Box::pin(async move {
            // The engine of the last life has noticed by then that its handle is gone.
            self.env.sleep(std::time::Duration::from_millis(1)).await;
            Some(self.open(place, OpenMode::Existing).await)
        })
    }

    fn capacity_bytes(&self) -> Option<u64> {
        Some(DeviceWalConfig::tiny().capacity_bytes)
    }
}

/// Runs the suite in virtual time.
fn conforms(env: &TestEnv, kind: &dyn Kind) {
    let world = Arc::new(env.clone());
    env.run_for(run(kind, world), 10_000_000).expect("it ends");
}

#[test]
fn memory_conforms() {
    let env = TestEnv::default();
    conforms(&env, &Memory(env.clone()));
}

#[test]
fn the_device_wal_conforms_on_a_model_disk() {
    let env = TestEnv::default();
    let kind = OnModel {
        env: env.clone(),
        disks: Mutex::default(),
    };
    conforms(&env, &kind);
}
