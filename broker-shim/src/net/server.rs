//! Accepting: one task a connection, and the end of all of them.
//!
//! *Owns*: the limit of connections, what is done when none can be accepted, the end of all
//! connections when the broker stops.
//! *Does not own*: where connections come from (`port`), what happens on one (`session`).
//!
//! Invariants
//! 1. When `serve` returns, no connection is left.
//!
//! *IO: none* (through ports)

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{AbortHandle, Abortable, Either, select};
use parking_lot::Mutex;
use tidewater_types::Env;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::connection::{Connection, Stop};
use super::handler::Handler;
use super::limits::Limits;
use super::port::Listener;
use super::reader::ReadEnd;
use super::session;
use super::window::Pool;

/// How long accepting rests when the host has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts and serves connections until `stop` completes; then finishes what is in flight,
/// for `Limits::stop_grace` at most.
pub(crate) async fn serve<H: Handler, L: Listener>(
    mut listener: L,
    handler: Arc<H>,
    limits: Limits,
    env: Arc<dyn Env>,
    stop: impl Future<Output = ()> + Send,
) {
    let mut server = Server {
        handler,
        pool: Pool::new(limits.total_bytes_max),
        limits: Arc::new(limits),
        env,
        open: Arc::default(),
        num_accepted: 0,
        num_refused: 0,
    };
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((input, output, peer)) => server.start(input, output, peer),
                Err(error) => server.rest(&error).await,
            },
        }
    }
    drop(listener);
    server.drain().await;
}

/// The connections that are open.
#[derive(Default)]
struct Open {
    handles: Mutex<BTreeMap<u64, (Stop, AbortHandle)>>,
    /// The last one has ended.
    emptied: Notify,
}

/// Takes a connection off the list when its task ends, however it does.
struct Entry {
    open: Arc<Open>,
    id: u64,
}

impl Open {
    fn len(&self) -> usize {
        self.handles.lock().len()
    }

    async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// No connection reads another request.
    fn stop(&self) {
        for (stop, _) in self.handles.lock().values() {
            stop.set();
        }
    }

    fn cut(&self) {
        for (_, handle) in self.handles.lock().values() {
            handle.abort();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut handles = self.open.handles.lock();
        handles.remove(&self.id);
        if handles.is_empty() {
            self.open.emptied.notify_one();
        }
        drop(handles);
        if std::thread::panicking() {
            tracing::error!(id = self.id, "a connection's task panicked");
        }
    }
}

struct Server<H> {
    handler: Arc<H>,
    pool: Arc<Pool>,
    limits: Arc<Limits>,
    env: Arc<dyn Env>,
    open: Arc<Open>,
    num_accepted: u64,
    num_refused: u64,
}

impl<H: Handler> Server<H> {
    async fn rest(&self, error: &io::Error) {
        if error.kind() != io::ErrorKind::ConnectionAborted {
            tracing::warn!(%error, "cannot accept a connection");
            self.env.sleep(ACCEPT_PAUSE).await;
        }
    }

    fn start<R, W>(&mut self, input: R, output: W, peer: SocketAddr)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        if self.open.len() >= self.limits.connections_max {
            self.num_refused += 1;
            if self.num_refused.is_power_of_two() {
                let (limit, refused) = (self.limits.connections_max, self.num_refused);
                tracing::warn!(%peer, limit, refused, "connection refused: too many are open");
            }
            return;
        }
        self.num_accepted += 1;
        let id = self.num_accepted;
        let stop = Stop::default();
        let connection = Connection {
            handler: Arc::clone(&self.handler),
            env: Arc::clone(&self.env),
            limits: Arc::clone(&self.limits),
            peer,
            id,
            stop: stop.clone(),
            pool: Arc::clone(&self.pool),
        };
        let (handle, registration) = AbortHandle::new_pair();
        self.open.handles.lock().insert(id, (stop, handle));
        let entry = Entry {
            open: Arc::clone(&self.open),
            id,
        };
        let task = async move {
            let _entry = entry;
            // Cut: the connection is gone, and nobody asks how it ended.
            let _ = Abortable::new(run(connection, input, output), registration).await;
        };
        self.env.spawn("connection", Box::pin(task));
    }

    /// Waits for the connections to end, and ends those that do not.
    async fn drain(self) {
        self.open.stop();
        let grace = self.env.sleep(self.limits.stop_grace);
        // One wait: a second beside it would share the one notice with it.
        let mut all = std::pin::pin!(self.open.empty());
        if let Either::Right(_) = select(all.as_mut(), grace).await {
            let connections = self.open.len();
            tracing::info!(connections, "cutting connections that have not ended");
            self.open.cut();
            all.await;
        }
    }
}

impl<H> Drop for Server<H> {
    fn drop(&mut self) {
        self.open.cut();
    }
}

async fn run<H, R, W>(connection: Connection<H>, input: R, output: W)
where
    H: Handler,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let (id, peer) = (connection.id, connection.peer);
    let (read, write) = session::run(connection, input, output).await;
    match read {
        ReadEnd::Framing(_) | ReadEnd::Refused(_) => {
            tracing::warn!(id, %peer, "connection closed: {read}");
        }
        _ => tracing::debug!(id, %peer, "connection closed: {read}; {write}"),
    }
}

#[cfg(test)]
mod tests {
    use tidewater_stream_store::TokioEnv;
    use tidewater_types::BoxFuture;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
    use tokio::sync::{mpsc, oneshot};

    use super::super::handler::{Request, Staged};
    use super::super::testing::{GATED, NOW, Shared, TestHandler, limits, request};
    use super::*;

    /// Connections without sockets.
    struct Pipes(mpsc::UnboundedReceiver<io::Result<DuplexStream>>);

    impl Listener for Pipes {
        type Input = ReadHalf<DuplexStream>;
        type Output = WriteHalf<DuplexStream>;

        async fn accept(&mut self) -> io::Result<(Self::Input, Self::Output, SocketAddr)> {
            let Some(next) = self.0.recv().await else {
                return std::future::pending().await;
            };
            let (input, output) = tokio::io::split(next?);
            Ok((input, output, SocketAddr::from(([10, 0, 0, 1], 7))))
        }
    }

    struct Running {
        connect: mpsc::UnboundedSender<io::Result<DuplexStream>>,
        stop: oneshot::Sender<()>,
        server: tokio::task::JoinHandle<()>,
    }

    fn start<H: Handler>(handler: H, limits: Limits) -> Running {
        let (connect, pipes) = mpsc::unbounded_channel();
        let (stop, stopping) = oneshot::channel();
        let env = Arc::new(TokioEnv::current());
        let stopped = async { drop(stopping.await) };
        let serving = serve(Pipes(pipes), Arc::new(handler), limits, env, stopped);
        Running {
            connect,
            stop,
            server: tokio::spawn(serving),
        }
    }

    impl Running {
        async fn ask(&self, what: u8) -> DuplexStream {
            let (mut client, server) = tokio::io::duplex(1 << 16);
            self.connect.send(Ok(server)).unwrap();
            client.write_all(&request(0, 3, 5, what)).await.unwrap();
            client
        }
    }

    #[tokio::test]
    async fn a_connection_that_does_not_end_is_cut_when_its_grace_is_over() {
        let handler = TestHandler::new();
        let grace = Duration::from_millis(30);
        let limits = Limits {
            stop_grace: grace,
            ..limits()
        };
        let running = start(Shared(Arc::clone(&handler)), limits);
        let mut client = running.ask(GATED).await;
        while handler.begun.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let stopped = tokio::time::Instant::now();
        running.stop.send(()).unwrap();
        running.server.await.unwrap();
        assert!(stopped.elapsed() >= grace);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "nothing is left");
    }

    #[tokio::test]
    async fn an_accept_that_fails_is_tried_again() {
        let running = start(Shared(TestHandler::new()), limits());
        let failed = io::Error::other("no file descriptor");
        running.connect.send(Err(failed)).unwrap();
        let mut client = running.ask(NOW).await;
        assert!(client.read_u32().await.unwrap() > 0);
    }

    struct Panics(Shared);

    impl Handler for Panics {
        fn served(&self, api_key: i16) -> Option<(i16, i16)> {
            self.0.served(api_key)
        }

        fn handle(&self, request: Request) -> BoxFuture<'_, Staged> {
            assert_eq!(request.body.first(), Some(&NOW), "a bug");
            self.0.handle(request)
        }
    }

    #[tokio::test]
    async fn a_panic_ends_its_connection_and_no_other() {
        let running = start(Panics(Shared(TestHandler::new())), limits());
        let mut broken = running.ask(GATED).await;
        assert_eq!(broken.read(&mut [0]).await.unwrap(), 0);
        let mut client = running.ask(NOW).await;
        assert!(client.read_u32().await.unwrap() > 0);
        running.stop.send(()).unwrap();
        drop(client);
        running.server.await.unwrap();
    }
}
