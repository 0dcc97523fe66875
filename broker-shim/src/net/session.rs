//! Both halves of a connection side by side.
//!
//! *Owns*: the order of their ends. *Does not own*: sockets, tasks.
//!
//! Invariants
//! 1. When the reader ends, what was begun is still answered; when the responder
//!    ends, the reader is told.
//!
//! *IO: none* (over any `AsyncRead` and `AsyncWrite`)

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::connection::Connection;
use super::handler::Handler;
use super::reader::{ReadEnd, Reader};
use super::responder::{Responder, WriteEnd};
use super::window::Window;

/// Serves a connection until it ends, and says why it did.
pub(crate) async fn run<H, R, W>(
    connection: Connection<H>,
    input: R,
    output: W,
) -> (ReadEnd, WriteEnd)
where
    H: Handler,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let limits = Arc::clone(&connection.limits);
    let env = Arc::clone(&connection.env);
    let window = Window::new(
        limits.in_flight_max,
        limits.in_flight_bytes_max,
        Arc::clone(&connection.pool),
    );
    let (queue, staged) = mpsc::unbounded_channel();
    let responder = Responder::new(output, staged, &window, env, limits.idle);
    let reader = Reader::new(connection, input, queue, &window);
    // The reader owns the queue's sending end: when it returns, the responder finishes what was
    // begun and returns too.
    tokio::join!(reader.run(), responder.run())
}
