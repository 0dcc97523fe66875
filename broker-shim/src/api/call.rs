//! What every handler gets, and how its answer becomes bytes.
//!
//! *Owns*: the call, encoding of a response, the end of a malformed request.
//! *Does not own*: any API.
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_protocol::{DecodeError, Encoder, Message, RequestHeader, encode_response_header};
use tracing::{debug, error};

use crate::broker::Broker;
use crate::coordinator::Groups;
use crate::net::{Pool, Reply};

/// The part of a request every handler needs.
pub(crate) struct Call {
    pub(crate) broker: Arc<Broker>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) header: RequestHeader,
    pub(crate) client_host: String,
    /// What all connections have in flight.
    pub(crate) pool: Arc<Pool>,
}

/// The end of a request whose body cannot be read: Kafka closes the connection too.
pub(crate) fn malformed(call: &Call, error: &DecodeError) -> Reply {
    let (key, version) = (call.header.api_key, call.header.api_version);
    debug!(key, version, %error, host = call.client_host, "malformed request; closing");
    Reply::Close
}

/// The response's segments: header and message.
pub(crate) fn reply<M: Message>(request: &RequestHeader, message: &M) -> Reply {
    let mut out = Encoder::new();
    let (key, version) = (request.api_key, request.api_version);
    let encoded = encode_response_header(&mut out, key, version, request.correlation_id)
        .and_then(|()| message.encode(&mut out, version));
    match encoded {
        Ok(()) => Reply::Segments(out.finish()),
        Err(error) => {
            error!(message = M::NAME, version, %error, "a response cannot be encoded; closing");
            Reply::Close
        }
    }
}
