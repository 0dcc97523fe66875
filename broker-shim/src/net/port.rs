//! The network port: where connections come from, and what one is.
//!
//! *Owns*: the trait that production answers with sockets (`driver`) and the simulator with
//! connections of its own.
//! *Does not own*: addresses and names; whoever makes a listener knows where it listens.
//!
//! Invariants
//! 1. A connection is two streams of bytes, each ordered and whole up to where it breaks off;
//!    nothing else is relied upon, least of all that a peer that is gone is noticed.
//!
//! *IO: none*

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

/// Accepts connections. Dropping it refuses those that were not accepted.
pub trait Listener: Send + 'static {
    /// What the peer sends.
    type Input: AsyncRead + Unpin + Send + 'static;
    /// What the peer is sent; shutting it down is the end of the stream for the peer.
    type Output: AsyncWrite + Unpin + Send + 'static;

    /// Completes with the next connection and the address of its peer. Dropping the future loses
    /// no connection.
    ///
    /// # Errors
    /// No connection could be accepted now; the next call may succeed.
    fn accept(
        &mut self,
    ) -> impl Future<Output = io::Result<(Self::Input, Self::Output, SocketAddr)>> + Send;
}
