//! What a connection asks of the broker.
//!
//! *Owns*: the trait between the wire and the APIs, request and reply.
//! *Does not own*: any API.
//!
//! *IO: none*

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_protocol::RequestHeader;
use tidewater_types::BoxFuture;

use super::window::Pool;

/// One request, its header read and its version known to be served.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) header: RequestHeader,
    /// The bytes behind the header: a slice of the frame, not a copy.
    pub(crate) body: Bytes,
    #[allow(dead_code, reason = "what quotas and authentication go by")]
    pub(crate) peer: SocketAddr,
    /// The peer as Kafka writes it in group descriptions: `/127.0.0.1`.
    pub(crate) client_host: String,
    /// What all connections have in flight.
    pub(crate) pool: Arc<Pool>,
    /// Unique in this process.
    #[allow(dead_code, reason = "what sessions and authentication go by")]
    pub(crate) connection: u64,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Response header and body in order, without the length in front.
    Segments(Vec<Bytes>),
    /// No response (Produce with acks=0).
    None,
    /// Close the connection once earlier responses are written.
    Close,
}

/// What is left of a request after its ordered stage.
pub(crate) struct Staged {
    /// Runs beside the rests of other requests of the connection.
    pub(crate) rest: BoxFuture<'static, Reply>,
    /// Whether `rest` is first polled when every earlier response was written. For reads with
    /// large answers, so that a client that does not read costs one answer and not sixty-four.
    pub(crate) in_turn: bool,
}

impl Staged {
    /// A rest that runs beside others.
    pub(crate) fn concurrent(rest: impl Future<Output = Reply> + Send + 'static) -> Self {
        let rest = Box::pin(rest);
        Self {
            rest,
            in_turn: false,
        }
    }

    /// A rest that waits for its turn (see `in_turn`). It must have no effect but its reply.
    pub(crate) fn in_turn(rest: impl Future<Output = Reply> + Send + 'static) -> Self {
        let rest = Box::pin(rest);
        Self {
            rest,
            in_turn: true,
        }
    }

    /// Nothing is left.
    pub(crate) fn ready(reply: Reply) -> Self {
        Self::concurrent(std::future::ready(reply))
    }
}

/// The broker behind the connections.
pub(crate) trait Handler: Send + Sync + 'static {
    /// The versions of an API that are served, first and last. `None` for an unknown API.
    /// A request outside closes its connection, save ApiVersions, which is answered with error 35.
    fn served(&self, api_key: i16) -> Option<(i16, i16)>;

    /// The ordered stage. It is awaited before the connection's next request is looked at, so
    /// what it does happens in the order the client asked for; what takes long belongs in the
    /// rest.
    fn handle(&self, request: Request) -> BoxFuture<'_, Staged>;
}
