//! What one connection is made of, besides its bytes.
//!
//! *Owns*: `Connection`; how its halves learn that the broker stops.
//! *Does not own*: sockets, tasks.
//!
//! *IO: none*

use std::net::SocketAddr;
use std::sync::Arc;

use tidewater_types::Env;
use tokio::sync::watch;

use super::limits::Limits;

/// What a connection is made of, besides its bytes.
pub(crate) struct Connection<H> {
    pub(crate) handler: Arc<H>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) peer: SocketAddr,
    /// Unique in this process.
    pub(crate) id: u64,
    /// Turns true when no further request shall be read.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Completes once the broker stops, or its handle is gone.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopping| *stopping).await;
}
