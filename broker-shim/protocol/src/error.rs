//! Why bytes could not be decoded, or a message not encoded.
//!
//! *Owns*: both error types. Every one of them means that the input is invalid: the same call fails
//! again, and nothing is worth a retry.
//!
//! *Does not own*: what to do with the connection; Kafka closes it on most of these.
//!
//! *IO: none*

use std::fmt;

use thiserror::Error;

/// The spot in a message at which decoding stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The message, such as `ProduceRequest`.
    pub message: &'static str,
    /// Struct and field, such as `TopicProduceData.name`.
    pub field: &'static str,
    /// Bytes from the start of the message.
    pub position: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} at byte {}",
            self.message, self.field, self.position
        )
    }
}

/// Bytes that are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes are left than the field takes.
    #[error("{at}: {needed} bytes needed, {remaining} left")]
    Truncated {
        /// Where.
        at: Place,
        /// Bytes the field takes at least.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// A length below −1, or longer than its type allows.
    #[error("{at}: length {length} is out of range")]
    BadLength {
        /// Where.
        at: Place,
        /// The length on the wire.
        length: i64,
    },
    /// Null where this version does not allow it.
    #[error("{at}: null is not allowed here")]
    UnexpectedNull {
        /// Where.
        at: Place,
    },
    /// An array announces more elements than the rest of the bytes could hold.
    #[error("{at}: {count} elements announced, {remaining} bytes left")]
    TooManyElements {
        /// Where.
        at: Place,
        /// The count on the wire.
        count: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// The message would take more memory than its bytes justify (see `MAX_EXPANSION`).
    #[error("{at}: the message expands beyond its memory budget of {budget} bytes")]
    MemoryBudget {
        /// Where.
        at: Place,
        /// Bytes of memory the message may take.
        budget: usize,
    },
    /// A variable-length number of more than five bytes, or beyond 32 bits.
    #[error("{at}: varint does not fit 32 bits")]
    VarintOverflow {
        /// Where.
        at: Place,
    },
    /// A string that is not UTF-8.
    #[error("{at}: string is not UTF-8")]
    InvalidUtf8 {
        /// Where.
        at: Place,
    },
    /// The byte before a nullable struct is neither −1 nor 1.
    #[error("{at}: struct marker is {found}, expected -1 or 1")]
    BadStructMarker {
        /// Where.
        at: Place,
        /// The marker on the wire.
        found: i8,
    },
    /// A tagged field has another size than it announced.
    #[error("{at}: tag {tag} announced {announced} bytes and has {found}")]
    TagSize {
        /// Where.
        at: Place,
        /// The tag.
        tag: u32,
        /// Its size on the wire.
        announced: usize,
        /// Its size as decoded.
        found: usize,
    },
    /// The message has no such version.
    #[error("{message}: version {version} is outside {min}-{max}")]
    UnsupportedVersion {
        /// The message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
        /// The first version there is.
        min: i16,
        /// The last version there is.
        max: i16,
    },
    /// A request header names an API that this crate does not know; its fixed part is good.
    #[error("unknown api key {api_key} version {api_version}, correlation id {correlation_id}")]
    UnknownApiKey {
        /// The key.
        api_key: i16,
        /// The version.
        api_version: i16,
        /// The correlation id, for an answer or a log line.
        correlation_id: i32,
    },
    /// Bytes are left behind the message (`decode_exact` only).
    #[error("{message}: {remaining} bytes left behind the message")]
    TrailingBytes {
        /// The message.
        message: &'static str,
        /// Bytes that are left.
        remaining: usize,
    },
}

/// A message that cannot be written as asked. What was written so far must be thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message has no such version.
    #[error("{message}: version {version} is outside {min}-{max}")]
    UnsupportedVersion {
        /// The message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
        /// The first version there is.
        min: i16,
        /// The last version there is.
        max: i16,
    },
    /// A field is set that this version does not have.
    #[error("{message}: {field} is set, but version {version} does not carry it")]
    UnsupportedField {
        /// The message.
        message: &'static str,
        /// Struct and field.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// Null in a version that does not allow it.
    #[error("{message}: {field} is null, which version {version} does not allow")]
    UnexpectedNull {
        /// The message.
        message: &'static str,
        /// Struct and field.
        field: &'static str,
        /// The version.
        version: i16,
    },
    /// A string, byte string, array or tagged field is longer than its length prefix can say.
    #[error("{message}: {field} has length {length}, more than {max}")]
    TooLong {
        /// The message.
        message: &'static str,
        /// Struct and field.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The largest length that can be written.
        max: usize,
    },
}
