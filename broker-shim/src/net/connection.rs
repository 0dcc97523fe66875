//! One connection over any byte stream.
//!
//! *Owns*: what reader and responder share; running them side by side.
//! *Does not own*: sockets, tasks.
//!
//! *IO: none* (over any `AsyncRead` and `AsyncWrite`)

use std::net::SocketAddr;
use std::sync::Arc;

use tidewater_types::Env;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use super::handler::Handler;
use super::limits::Limits;
use super::reader::Reader;
use super::responder::{Responder, WriteEnd};
use super::window::Window;

pub(crate) use super::reader::ReadEnd;

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

impl<H: Handler> Connection<H> {
    /// Serves the connection until it ends, and says why it did.
    pub(crate) async fn run<R, W>(self, input: R, output: W) -> (ReadEnd, WriteEnd)
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        let limits = Arc::clone(&self.limits);
        let window = Window::new(limits.in_flight_max, limits.in_flight_bytes_max);
        let (queue, staged) = mpsc::unbounded_channel();
        let responder = Responder::new(output, staged, &window, Arc::clone(&self.env), limits.idle);
        let reader = Reader::new(self, input, queue, &window);
        // The reader owns the queue's sending end: when it returns, the responder finishes what
        // was begun and returns too.
        tokio::join!(reader.run(), responder.run())
    }
}

/// Completes once the broker stops, or its handle is gone.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopping| *stopping).await;
}
