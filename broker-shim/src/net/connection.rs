//! What one connection is made of, besides its bytes.
//!
//! *Owns*: `Connection`; how its halves learn that the broker stops.
//! *Does not own*: sockets, tasks.
//!
//! Invariants
//! 1. Each connection is told apart, in an order of the teller's: a channel with many receivers
//!    would wake them in an order drawn at random.
//!
//! *IO: none*

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidewater_types::Env;
use tokio::sync::Notify;

use super::limits::Limits;
use super::window::Pool;

/// What a connection is made of, besides its bytes.
pub(crate) struct Connection<H> {
    pub(crate) handler: Arc<H>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) peer: SocketAddr,
    /// Unique in this process.
    pub(crate) id: u64,
    /// Says when no further request shall be read.
    pub(crate) stop: Stop,
    /// What this and all other connections have in flight.
    pub(crate) pool: Arc<Pool>,
}

/// Tells one connection that no further request shall be read. Clones tell the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    told: Arc<Told>,
}

#[derive(Debug, Default)]
struct Told {
    is_set: AtomicBool,
    changed: Notify,
}

impl Stop {
    /// The connection shall end.
    pub(crate) fn set(&self) {
        self.told.is_set.store(true, Ordering::Release);
        self.told.changed.notify_waiters();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.told.is_set.load(Ordering::Acquire)
    }

    /// Completes once it is set.
    pub(super) async fn wait(&self) {
        let changed = self.told.changed.notified();
        // Whoever sets it after this look finds the waiter: `notified` counts from its making.
        if !self.is_set() {
            changed.await;
        }
    }
}
