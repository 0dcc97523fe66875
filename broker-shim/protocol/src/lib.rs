//! A codec for Kafka's wire protocol, generated from a compact schema.
//!
//! *Owns*: messages, request and response headers, API keys, error codes; the bounds on what bytes
//! from the network may make the decoder allocate.
//!
//! *Does not own*: sockets and framing (the four length bytes), record batches (records pass
//! through as bytes, without a copy), what any request means.
//!
//! Invariants:
//! 1. Decoding never panics and never allocates more than [`MAX_EXPANSION`] times the bytes it was
//!    given (`wire::decoder` says how).
//! 2. What `encode` wrote in a version, `decode` reads back equal in that version.
//! 3. A value that a version cannot carry is refused by `encode`, unless the schema marks the field
//!    as one that may be left out.
//!
//! *Format: the Kafka protocol, see <https://kafka.apache.org/protocol>*
//! *IO: none*

mod api_key;
mod error;
mod error_code;
mod header;
mod message;
pub mod messages;
mod records;
#[cfg(feature = "testing")]
pub mod testing;
mod uuid;
mod version;
mod wire;

pub use api_key::ApiKey;
pub use error::{DecodeError, EncodeError, Place};
pub use error_code::ErrorCode;
pub use header::{
    RequestHeader, decode_request_header, decode_response_header, encode_request_header,
    encode_response_header, request_header_version, response_header_version,
};
pub use message::{Message, encode_to_bytes};
pub use records::Records;
pub use uuid::Uuid;
pub use version::VersionRange;
pub use wire::{Encoder, MAX_EXPANSION};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
