//! How the store gets its device WAL in simulation.
//!
//! *Owns*: the choice between creating and opening, as the store's own opener makes it.
//! *Does not own*: the WAL.
//!
//! *IO: none*

use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_stream_store::{FrameSink, OpenedWal, WalExpectation, WalOpener};
use tidewater_types::{BoxFuture, Env, ErrorKind, Lsn, WalId};
use tidewater_wal::{DeviceWal, DeviceWalConfig, Identity, OpenMode, WalError};

use crate::disk::Device;

/// Opens the WAL on a simulated device and shows it to the checkers.
pub(crate) struct SimOpener {
    pub(crate) device: Device,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) config: DeviceWalConfig,
    pub(crate) opened: Arc<Mutex<Option<Arc<DeviceWal>>>>,
}

impl WalOpener for SimOpener {
    fn limit(&mut self, _limits: &dyn Fn(Arc<dyn Bucket>) -> Arc<dyn Bucket>) {}

    fn open(
        self: Box<Self>,
        expect: WalExpectation,
        on_frame: FrameSink,
    ) -> BoxFuture<'static, Result<OpenedWal, WalError>> {
        Box::pin(async move {
            let Self {
                device,
                env,
                config,
                opened,
            } = *self;
            if expect.accept_data_loss {
                device.wipe();
            }
            let named = expect.wal.filter(|_| !expect.accept_data_loss);
            let identity = |wal| Identity {
                cluster: expect.cluster,
                node: expect.node,
                wal,
            };
            let drawn = || {
                let [low, high] = ["wal id", "wal id"].map(|label| env.random(label));
                WalId((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
            };
            let taken = Arc::new(Mutex::new(on_frame));
            let attempt = |mode, wal| {
                let sink = Arc::clone(&taken);
                let on_frame = move |lsn, frame| (*sink.lock())(lsn, frame);
                let disk = device.open().ok_or(WalError::Busy {
                    path: "simulated disk".into(),
                });
                let (env, config, identity) = (Arc::clone(&env), config.clone(), identity(wal));
                async move {
                    DeviceWal::open_on(Box::new(disk?), env, config, identity, mode, on_frame).await
                }
            };
            let exists = device.exists();
            let mut outcome = if exists || named.is_some() {
                attempt(OpenMode::Existing, named).await
            } else {
                attempt(OpenMode::Create, Some(drawn())).await
            };
            // A creation that a crash cut short never was renamed into place, on a real disk. What is
            // on a device that went away nobody knows: a real start is refused, and takes no other one.
            let torn = !device.is_removed()
                && matches!(&outcome, Err(error) if matches!(
                    error.kind(),
                    ErrorKind::Corrupt | ErrorKind::Invalid
                ));
            if exists && named.is_none() && torn {
                device.wipe();
                outcome = attempt(OpenMode::Create, Some(drawn())).await;
            }
            let (wal, report) = outcome?;
            let wal = Arc::new(wal);
            *opened.lock() = Some(Arc::clone(&wal));
            Ok(OpenedWal {
                id: Some(wal.wal_id()),
                wal,
                is_used: report.end > Lsn(0),
                report: None,
            })
        })
    }
}
