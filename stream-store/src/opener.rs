//! How a store gets its WAL: the port, and the openers for the device and the memory WAL.
//!
//! *Owns*: which WAL is right for a cluster and node, and what `accept_data_loss` permits.
//! *Does not own*: the WALs.
//!
//! Invariants
//! 1. A WAL that the metadata names is never created anew, unless losing it was accepted.
//! 2. Nothing is deleted: a WAL that is given up is renamed.
//!
//! *IO: none* (the device opener's blocking part is in driver.rs)

use std::sync::Arc;

use bytes::Bytes;
use tidewater_types::{BoxFuture, ClusterId, Env, Lsn, NodeId, WalId};
use tidewater_wal::{MemoryWal, Wal, WalError};

/// What the metadata says the WAL must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalExpectation {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The WAL the metadata names for this node; `None` if it never named one.
    pub wal: Option<WalId>,
    /// Whether an empty WAL may take the place of a missing, wiped or foreign one.
    pub accept_data_loss: bool,
}

/// A WAL that is open and recovered.
pub struct OpenedWal {
    /// The WAL.
    pub wal: Arc<dyn Wal>,
    /// Its identity; `None` for one that does not outlive the process.
    pub id: Option<WalId>,
    /// What recovery found, for the operator.
    pub report: Option<String>,
}

/// Takes each recovered frame, in LSN order.
pub type FrameSink = Box<dyn FnMut(Lsn, Bytes) + Send>;

/// Opens the WAL once the store knows which one to expect.
pub trait WalOpener: Send + Sync + 'static {
    /// The cluster of the WAL that is there, read without changing or locking anything;
    /// `None` if there is none, or none that can be read.
    fn peek(&self) -> BoxFuture<'_, Result<Option<ClusterId>, WalError>> {
        Box::pin(async { Ok(None) })
    }

    /// Opens or creates it. Every recovered frame was handed to `on_frame` and is durable
    /// before the future completes.
    fn open(
        self: Box<Self>,
        expect: WalExpectation,
        on_frame: FrameSink,
    ) -> BoxFuture<'static, Result<OpenedWal, WalError>>;
}

/// Opens a memory WAL: for tests and throw-away clusters, nothing outlives the process.
pub struct MemoryWalOpener {
    /// Payload bytes that may wait for their upload.
    pub capacity_bytes: usize,
    /// How long a reservation waits for room, in milliseconds.
    pub reserve_ms_max: u64,
    /// The environment.
    pub env: Arc<dyn Env>,
}

impl WalOpener for MemoryWalOpener {
    fn open(
        self: Box<Self>,
        expect: WalExpectation,
        _on_frame: FrameSink,
    ) -> BoxFuture<'static, Result<OpenedWal, WalError>> {
        Box::pin(async move {
            if let Some(named) = expect.wal.filter(|_| !expect.accept_data_loss) {
                // The node's acknowledged data may be in the WAL it used before.
                let path = format!("WAL {named} (a memory WAL was asked for)");
                return Err(WalError::Missing { path });
            }
            let wal: Arc<dyn Wal> = {
                let Self {
                    capacity_bytes,
                    reserve_ms_max,
                    env,
                } = *self;
                Arc::new(MemoryWal::new(env, capacity_bytes, reserve_ms_max))
            };
            Ok(OpenedWal {
                wal,
                id: None,
                report: None,
            })
        })
    }
}
