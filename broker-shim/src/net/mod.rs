//! Connections of Kafka clients: frames in, replies out, in the order of the requests.
//!
//! *Owns*: listening, framing, what a connection may cost (bytes, requests in
//! flight, time), pipelining and the order of responses; refusing versions nobody
//! serves; the wire form of the private requests.
//! *Does not own*: what a request means (`Handler`), authentication, quotas.
//!
//! Invariants
//! 1. The ordered stage of request n ends before request n + 1 is looked at.
//! 2. Responses leave in the order of their requests, each whole or not at all.
//! 3. No length from the wire makes memory grow before that many bytes arrived.
//! 4. A stage or a rest that was started runs to its end, also when the client is
//!    gone; only the end of the process cuts it short.
//!
//! *IO: driver* (`driver` alone; all else runs over any `Listener`)

mod connection;
mod deadline;
mod driver;
mod frames;
mod handler;
mod limits;
mod open;
mod out;
mod port;
mod private_wire;
mod reader;
mod responder;
mod server;
mod session;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod window;

pub(crate) use driver::bind;
pub(crate) use handler::{Handler, Reply, Request, Staged};
pub use limits::Limits;
pub use port::Listener;
pub(crate) use private_wire::{
    FSCK_API_KEY, PrivateWireError, STATS_API_KEY, decode_private_response, encode_private_request,
    encode_private_response,
};
pub(crate) use server::serve;
pub(crate) use window::{Making, Pool};
