//! Sockets: binding, accepting, one task a connection.
//!
//! *Owns*: the listening socket, socket options, the limit of connections, the
//! end of all connections when the broker stops.
//! *Does not own*: what happens on a connection (`connection`).
//!
//! Invariants
//! 1. `bind` touches nothing but the socket, so that a port in use is known before
//!    any file is.
//! 2. When `serve` returns, no connection is left.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the socket driver"
)]

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tidewater_types::{Env, ErrorKind};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::config::HostPort;

use super::connection::{Connection, stopped};
use super::handler::Handler;
use super::limits::Limits;
use super::reader::ReadEnd;
use super::session;

const BACKLOG: i32 = 1024;
/// How long accepting rests when the host has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Dead peers of idle connections are found after about this long.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// A listening address the host does not give.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The host name leads nowhere.
    #[error("cannot listen: {address}: expected a host name with an address, found {cause}")]
    Resolve { address: String, cause: io::Error },
    /// Somebody else listens there.
    #[error("cannot listen: {address}: expected a free port, found it in use by another process")]
    InUse { address: String },
    /// A port below 1024, usually.
    #[error("cannot listen: {address}: expected permission to listen, found it denied")]
    Denied { address: String },
    /// Not an address of this host.
    #[error("cannot listen: {address}: expected an address of this host, found another's")]
    Foreign { address: String },
    /// Something else.
    #[error("cannot listen: {address}: expected a listening socket, found {cause}")]
    Other { address: String, cause: io::Error },
}

impl BindError {
    /// Nothing was changed; the same call may succeed later.
    #[allow(dead_code, reason = "the shape every error of the project has")]
    pub(crate) fn kind(&self) -> ErrorKind {
        ErrorKind::Retry
    }
}

/// A socket that listens and accepts nothing yet.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: TcpListener,
    listen: HostPort,
    local: SocketAddr,
}

impl Bound {
    /// The address that was bound, with its actual port.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// The address for clients: `advertise`, else the host that was asked for; port 0 stands for
    /// the actual port.
    pub(crate) fn advertised(&self, advertise: Option<&HostPort>) -> HostPort {
        let mut address = advertise.unwrap_or(&self.listen).clone();
        if address.port == 0 {
            address.port = self.local.port();
        }
        address
    }
}

/// Binds `address` and listens. Connections queue up from here on and are answered by `serve`.
///
/// # Errors
/// `BindError` names the address and what stands in the way.
pub(crate) fn bind(address: &HostPort) -> Result<Bound, BindError> {
    let name = address.to_string();
    let resolve = |cause| BindError::Resolve {
        address: name.clone(),
        cause,
    };
    let found = (address.host.as_str(), address.port)
        .to_socket_addrs()
        .map_err(resolve)?;
    let mut candidates: Vec<SocketAddr> = found.collect();
    // `localhost` is 127.0.0.1 for most clients; be found there where both families resolve.
    candidates.sort_by_key(SocketAddr::is_ipv6);
    let mut last = resolve(io::ErrorKind::NotFound.into());
    for candidate in candidates {
        match listen(candidate) {
            Ok((listener, local)) => {
                let listen = address.clone();
                return Ok(Bound {
                    listener,
                    listen,
                    local,
                });
            }
            Err(cause) => last = refused(name.clone(), cause),
        }
    }
    Err(last)
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener: TcpListener = socket.into();
    let local = listener.local_addr()?;
    Ok((listener, local))
}

fn refused(address: String, cause: io::Error) -> BindError {
    match cause.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        io::ErrorKind::PermissionDenied => BindError::Denied { address },
        io::ErrorKind::AddrNotAvailable => BindError::Foreign { address },
        _ => BindError::Other { address, cause },
    }
}

/// Accepts and serves connections until `stop` turns true; then finishes what is in flight,
/// for `Limits::stop_grace` at most.
///
/// # Errors
/// The runtime does not take the socket.
pub(crate) async fn serve<H: Handler>(
    bound: Bound,
    handler: Arc<H>,
    limits: Limits,
    env: Arc<dyn Env>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(bound.listener)?;
    let mut server = Server {
        handler,
        limits: Arc::new(limits),
        env,
        stop: stop.clone(),
        tasks: JoinSet::new(),
        num_accepted: 0,
        num_refused: 0,
    };
    let mut stop = stop;
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(ended) = server.tasks.join_next(), if !server.tasks.is_empty() => report(ended),
            accepted = listener.accept() => server.accepted(accepted).await,
        }
    }
    drop(listener);
    server.drain().await;
    Ok(())
}

struct Server<H> {
    handler: Arc<H>,
    limits: Arc<Limits>,
    env: Arc<dyn Env>,
    stop: watch::Receiver<bool>,
    tasks: JoinSet<()>,
    num_accepted: u64,
    num_refused: u64,
}

impl<H: Handler> Server<H> {
    async fn accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => self.start(stream, peer),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn start(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.tasks.len() >= self.limits.connections_max {
            self.num_refused += 1;
            if self.num_refused.is_power_of_two() {
                let (limit, refused) = (self.limits.connections_max, self.num_refused);
                tracing::warn!(%peer, limit, refused, "connection refused: too many are open");
            }
            return;
        }
        self.num_accepted += 1;
        let connection = Connection {
            handler: Arc::clone(&self.handler),
            env: Arc::clone(&self.env),
            limits: Arc::clone(&self.limits),
            peer,
            id: self.num_accepted,
            stop: self.stop.clone(),
        };
        self.tasks.spawn(run(connection, stream));
    }

    /// Waits for the connections to end, and ends those that do not.
    async fn drain(mut self) {
        let all = async { while self.tasks.join_next().await.map(report).is_some() {} };
        if tokio::time::timeout(self.limits.stop_grace, all)
            .await
            .is_err()
        {
            tracing::info!(
                connections = self.tasks.len(),
                "cutting connections that have not ended"
            );
            self.tasks.shutdown().await;
        }
    }
}

async fn run<H: Handler>(connection: Connection<H>, stream: TcpStream) {
    let (id, peer) = (connection.id, connection.peer);
    if let Err(error) = set_options(&stream) {
        tracing::debug!(id, %peer, %error, "socket options not set");
    }
    let (input, output) = stream.into_split();
    let (read, write) = session::run(connection, input, output).await;
    match read {
        ReadEnd::Framing(_) | ReadEnd::Refused(_) => {
            tracing::warn!(id, %peer, "connection closed: {read}");
        }
        _ => tracing::debug!(id, %peer, "connection closed: {read}; {write}"),
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}
