//! `Message`: what every generated message can do.
//!
//! *Owns*: the trait and the shortcuts for a whole message in one buffer.
//!
//! *Does not own*: the implementations (`messages`).
//!
//! *IO: none*

use bytes::{Bytes, BytesMut};

use crate::{DecodeError, EncodeError, Encoder, VersionRange};

/// A message of the Kafka protocol.
pub trait Message: Sized + Default {
    /// The name in Kafka's schema, such as `ProduceRequest`.
    const NAME: &'static str;
    /// The key of the API the message belongs to; `None` for headers and stored records.
    const API_KEY: Option<i16>;
    /// The versions that can be decoded and encoded.
    const VERSIONS: VersionRange;
    /// The first version with compact lengths and tagged fields; `None` if there is none.
    const FLEXIBLE_SINCE: Option<i16>;

    /// Reads one message from the front of `buf`. Byte strings and records are slices of `buf`'s
    /// memory, not copies. Bytes behind the message stay in `buf`; after an error it is unspecified
    /// how much of `buf` is consumed. Tagged fields unknown to the schema are skipped.
    ///
    /// # Errors
    /// `DecodeError` where the bytes are not a message of this version.
    fn decode(buf: &mut Bytes, version: i16) -> Result<Self, DecodeError>;

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// `EncodeError` where the version cannot carry the value; `out` then holds a part of the
    /// message and must be thrown away.
    fn encode(&self, out: &mut Encoder, version: i16) -> Result<(), EncodeError>;

    /// Like [`Message::decode`], for a buffer that must hold the message and nothing else.
    ///
    /// # Errors
    /// As `decode`, and `TrailingBytes`.
    fn decode_exact(mut buf: Bytes, version: i16) -> Result<Self, DecodeError> {
        let message = Self::decode(&mut buf, version)?;
        match buf.len() {
            0 => Ok(message),
            remaining => Err(DecodeError::TrailingBytes {
                message: Self::NAME,
                remaining,
            }),
        }
    }
}

/// The message in one contiguous buffer; records are copied into it. For stored records and tests;
/// responses should go out as the segments of an [`Encoder`].
///
/// # Errors
/// As [`Message::encode`].
pub fn encode_to_bytes(message: &impl Message, version: i16) -> Result<Bytes, EncodeError> {
    let mut out = Encoder::new();
    message.encode(&mut out, version)?;
    let len = out.len();
    let mut segments = out.finish();
    if segments.len() == 1 {
        return Ok(segments.remove(0));
    }
    let mut whole = BytesMut::with_capacity(len);
    segments
        .iter()
        .for_each(|segment| whole.extend_from_slice(segment));
    Ok(whole.freeze())
}
