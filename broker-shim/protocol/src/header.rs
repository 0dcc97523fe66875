//! Request and response headers, and which version of them goes with which request.
//!
//! *Owns*: the choice of the header version, and reading a header before anything else is known
//! about the request.
//!
//! *Does not own*: the header's fields on the wire (`messages::request_header`), framing.
//!
//! Invariants:
//! 1. The fixed part (key, version, correlation id) is read first and alone, so that an answer can
//!    name the correlation id even where the rest makes no sense.
//! 2. The response header of ApiVersions is version 0 always: a client that asks for versions does
//!    not yet know whether it may expect a flexible one (KIP-511).
//!
//! *Format: the Kafka protocol, see <https://kafka.apache.org/protocol>*
//! *IO: none*

use bytes::{Buf, Bytes};

use crate::{ApiKey, DecodeError, EncodeError, Encoder, Message, Place, messages};

/// What stands in front of every request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHeader {
    /// The API, see [`ApiKey::from_i16`].
    pub api_key: i16,
    /// The version of the request. A known API may still carry a version outside
    /// [`ApiKey::versions`]; the caller decides what to do with it.
    pub api_version: i16,
    /// Comes back in the response header.
    pub correlation_id: i32,
    /// The name the client gave itself.
    pub client_id: Option<String>,
}

/// The header version of a request: 2 for flexible versions, else 1. Unknown keys give 1.
pub fn request_header_version(api_key: i16, api_version: i16) -> i16 {
    if is_flexible(api_key, api_version) {
        2
    } else {
        1
    }
}

/// The header version of a response: 1 for flexible versions, else 0; ApiVersions 0 always.
pub fn response_header_version(api_key: i16, api_version: i16) -> i16 {
    let flexible = is_flexible(api_key, api_version) && api_key != ApiKey::ApiVersions.code();
    i16::from(flexible)
}

fn is_flexible(api_key: i16, api_version: i16) -> bool {
    ApiKey::from_i16(api_key)
        .and_then(ApiKey::flexible_since)
        .is_some_and(|since| api_version >= since)
}

/// Reads the header from the front of a request; what is left in `buf` is the body.
///
/// An ApiVersions request in a version from the future always yields a header: its client id is
/// `None` and the rest of `buf` is dropped if it cannot be read, because that request must be
/// answered (with error 35) whatever it holds.
///
/// # Errors
/// `UnknownApiKey` carries the fixed part. Other errors mean that the bytes are no header.
pub fn decode_request_header(buf: &mut Bytes) -> Result<RequestHeader, DecodeError> {
    const FIXED: usize = 8;
    if buf.len() < FIXED {
        let name = messages::RequestHeader::NAME;
        let at = Place {
            message: name,
            field: "RequestHeader.request_api_key",
            position: 0,
        };
        return Err(DecodeError::Truncated {
            at,
            needed: FIXED,
            remaining: buf.len(),
        });
    }
    let mut fixed = &buf[..FIXED];
    let (api_key, api_version, correlation_id) =
        (fixed.get_i16(), fixed.get_i16(), fixed.get_i32());
    let Some(api) = ApiKey::from_i16(api_key) else {
        return Err(DecodeError::UnknownApiKey {
            api_key,
            api_version,
            correlation_id,
        });
    };
    let header_version = request_header_version(api_key, api_version);
    match messages::RequestHeader::decode(buf, header_version) {
        Ok(header) => {
            let client_id = header.client_id;
            Ok(RequestHeader {
                api_key,
                api_version,
                correlation_id,
                client_id,
            })
        }
        Err(_) if api == ApiKey::ApiVersions && !api.versions().contains(api_version) => {
            buf.clear();
            Ok(RequestHeader {
                api_key,
                api_version,
                correlation_id,
                client_id: None,
            })
        }
        Err(error) => Err(error),
    }
}

/// Appends the header of a request, as a client does.
///
/// # Errors
/// `TooLong` for a client id over 32,767 bytes.
pub fn encode_request_header(out: &mut Encoder, header: &RequestHeader) -> Result<(), EncodeError> {
    let wire = messages::RequestHeader {
        request_api_key: header.api_key,
        request_api_version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.clone(),
    };
    wire.encode(
        out,
        request_header_version(header.api_key, header.api_version),
    )
}

/// Appends the header of the response to a request with this key, version and correlation id.
///
/// # Errors
/// None in practice; the type is that of every other encoder call.
pub fn encode_response_header(
    out: &mut Encoder,
    api_key: i16,
    api_version: i16,
    correlation_id: i32,
) -> Result<(), EncodeError> {
    let wire = messages::ResponseHeader { correlation_id };
    wire.encode(out, response_header_version(api_key, api_version))
}

/// Reads the header of a response to a request with this key and version, as a client does;
/// returns the correlation id.
///
/// # Errors
/// `DecodeError` where the bytes are no header.
pub fn decode_response_header(
    buf: &mut Bytes,
    api_key: i16,
    api_version: i16,
) -> Result<i32, DecodeError> {
    let version = response_header_version(api_key, api_version);
    Ok(messages::ResponseHeader::decode(buf, version)?.correlation_id)
}
