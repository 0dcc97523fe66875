//! Sockets: binding, accepting.
//!
//! *Owns*: the listening socket, socket options; the network port of a real process.
//! *Does not own*: what is done with a connection (`server`).
//!
//! Invariants
//! 1. `bind` touches nothing but the socket, so that a port in use is known before
//!    any file is.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the socket driver"
)]

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tidewater_types::ErrorKind;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::config::HostPort;

use super::port::Listener;

const BACKLOG: i32 = 1024;
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

    /// Begins to accept.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub(crate) fn accepting(self) -> io::Result<Sockets> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        Ok(Sockets { listener })
    }
}

/// Binds `address` and listens. Connections queue up from here on.
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

/// A socket that accepts.
#[derive(Debug)]
pub(crate) struct Sockets {
    listener: tokio::net::TcpListener,
}

impl Listener for Sockets {
    type Input = OwnedReadHalf;
    type Output = OwnedWriteHalf;

    async fn accept(&mut self) -> io::Result<(OwnedReadHalf, OwnedWriteHalf, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        if let Err(error) = set_options(&stream) {
            tracing::debug!(%peer, %error, "socket options not set");
        }
        let (input, output) = stream.into_split();
        Ok((input, output, peer))
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}
