//! How the store gets its device WAL in simulation.
//!
//! *Owns*: the choice between creating and opening, as the store's own opener makes it.
//! *Does not own*: the WAL.
//!
//! *IO: none*

use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_stream_store::{FrameSink, OpenedWal, WalExpectation, WalOpener};
use tidewater_types::{BoxFuture, Env, WalId};
use tidewater_wal::{DeviceWal, DeviceWalConfig, Identity, OpenMode, WalError};

use crate::disk::Device;

/// Opens the WAL on a simulated device and shows it to the checkers.
pub(super) struct SimOpener {
    pub(super) device: Device,
    pub(super) env: Arc<dyn Env>,
    pub(super) config: DeviceWalConfig,
    pub(super) opened: Arc<Mutex<Option<Arc<DeviceWal>>>>,
}

impl WalOpener for SimOpener {
    fn open(
        self: Box<Self>,
        expect: WalExpectation,
        on_frame: FrameSink,
    ) -> BoxFuture<'static, Result<OpenedWal, WalError>> {
        Box::pin(async move {
            let fresh = expect.wal.is_none() || expect.accept_data_loss;
            if fresh {
                // Nothing was appended before the metadata named the log: a torn creation goes.
                self.device.wipe();
            }
            let Some(disk) = self.device.open() else {
                return Err(WalError::Busy {
                    path: "simulated disk".into(),
                });
            };
            let [low, high] = ["wal id", "wal id"].map(|label| self.env.random(label));
            let drawn = WalId((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
            let wal = if fresh { Some(drawn) } else { expect.wal };
            let identity = Identity {
                cluster: expect.cluster,
                node: expect.node,
                wal,
            };
            let mode = if fresh {
                OpenMode::Create
            } else {
                OpenMode::Existing
            };
            let opening = DeviceWal::open_on(
                Box::new(disk),
                self.env,
                self.config,
                identity,
                mode,
                on_frame,
            );
            let (wal, _report) = opening.await?;
            let wal = Arc::new(wal);
            *self.opened.lock() = Some(Arc::clone(&wal));
            Ok(OpenedWal {
                id: Some(wal.wal_id()),
                wal,
                report: None,
            })
        })
    }
}
