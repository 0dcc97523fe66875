//! What can be wrong with a record batch.
//!
//! *Owns*: `RecordsError` (bytes that are not a batch), `ProduceFault` (a batch a
//! producer may not send) and the Kafka error code of each.
//! *Does not own*: the response they end up in.
//!
//! Invariants
//! 1. Every produce fault has the error code Apache Kafka gives.
//! 2. Record errors in one fault are capped, so that a small request cannot ask
//!    for a large answer.
//!
//! *IO: none*

use tidewater_types::ErrorKind;

use super::compression::Codec;

/// Most record errors one fault lists.
pub(crate) const RECORD_ERRORS_MAX: usize = 100;

const CORRUPT_MESSAGE: i16 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TIMESTAMP: i16 = 32;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;

/// Bytes that are not a readable v2 record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordsError {
    /// The bytes end before the batch does.
    #[error("record batch needs {needed} bytes, found {found}")]
    Truncated { needed: usize, found: usize },
    /// The length field leaves no room for the header.
    #[error("record batch length {found} is smaller than a header")]
    BatchLength { found: i32 },
    /// Not format v2.
    #[error("record batch magic is {found}, expected 2")]
    Magic { found: i8 },
    /// The checksum does not match the bytes.
    #[error("record batch checksum is {found:#010x}, its header says {expected:#010x}")]
    Crc { expected: u32, found: u32 },
    /// Compression ids 5 to 7 mean nothing.
    #[error("unknown compression id {id}")]
    UnknownCodec { id: u8 },
    /// The compressed bytes are not what the codec understands.
    #[error("records do not decompress as {codec}")]
    Decompress { codec: Codec },
    /// More decompressed bytes than the limit allows.
    #[error("records decompress to more than {limit} bytes")]
    DecompressedTooLarge { limit: u64 },
    /// Record number `index` is malformed.
    #[error("record {index} is malformed: {what}")]
    Record { index: u32, what: Malformed },
    /// Bytes are left after the last record the header counts.
    #[error("bytes follow record {num_records}, the last the header counts")]
    BytesAfterRecords { num_records: i32 },
}

/// How one record is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// The records end inside or before this one.
    #[error("it is cut off")]
    CutOff,
    /// A variable-length number of more bytes than its type needs.
    #[error("a number is too long")]
    Varint,
    /// The size field is negative.
    #[error("its size is negative")]
    Size,
    /// The fields use more or fewer bytes than the size field says.
    #[error("its fields do not fill its size")]
    SizeMismatch,
    /// The header count is negative or impossible in the bytes left.
    #[error("its number of headers is impossible")]
    HeaderCount,
    /// A header key has a negative length.
    #[error("a header key has a negative length")]
    HeaderKey,
}

impl RecordsError {
    /// What the reader of a stored batch does about it.
    #[allow(
        dead_code,
        reason = "the caller has one reaction to all of them so far"
    )]
    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            Self::DecompressedTooLarge { .. } => ErrorKind::Invalid,
            _ => ErrorKind::Corrupt,
        }
    }
}

/// Why a produced batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProduceFault {
    /// The partition's bytes hold no whole batch.
    #[error("produce requests must have exactly one record batch a partition, found none")]
    NoBatch,
    /// Bytes follow the first batch.
    #[error(
        "produce requests must have exactly one record batch a partition, found {num_bytes} bytes behind it"
    )]
    SeveralBatches { num_bytes: usize },
    /// Formats v0 and v1 may not be produced.
    #[error("produce requests must have record batches with magic 2, found {found}")]
    Magic { found: i8 },
    /// The producer's base offset is not 0.
    #[error("the base offset of a produced record batch should be 0, found {found}")]
    BaseOffset { found: i64 },
    /// The whole batch is larger than `max.message.bytes`.
    #[error("record batch size {num_bytes} exceeds the maximum of {num_bytes_max} bytes")]
    TooLarge {
        num_bytes: usize,
        num_bytes_max: usize,
    },
    /// Checksum or length field wrong.
    #[error("record batch is corrupt: {0}")]
    Corrupt(RecordsError),
    /// zstd came with Produce v7 (KIP-110).
    #[error("produce version {version} may not use zstd, version 7 and later may")]
    ZstdTooEarly { version: i16 },
    /// Compression ids 5 to 7.
    #[error("unknown compression id {id}")]
    UnknownCodec { id: u8 },
    /// Last offset delta or record count below what one record needs.
    #[error(
        "record batch has an impossible last offset delta {last_offset_delta} or record count {num_records}"
    )]
    Count {
        last_offset_delta: i32,
        num_records: i32,
    },
    /// Offsets and count disagree.
    #[error("last offset delta {last_offset_delta} does not match the record count {num_records}")]
    CountMismatch {
        last_offset_delta: i32,
        num_records: i32,
    },
    /// Only the broker writes control batches.
    #[error("clients are not allowed to write control records")]
    Control,
    /// An idempotent batch without sequence.
    #[error("invalid sequence {sequence} in a record batch of producer {producer_id}")]
    Sequence { producer_id: i64, sequence: i32 },
    /// The records cannot be read.
    #[error("invalid records: {0}")]
    Unreadable(RecordsError),
    /// Record offsets are not 0, 1, 2 and so on.
    #[error("record {index} has offset delta {found}")]
    OffsetDelta { index: u32, found: i32 },
    /// A decompressed size no broker should hold.
    #[error("records decompress to more than {limit} bytes")]
    DecompressedTooLarge { limit: u64 },
    /// Single records are refused; all of them have timestamp reasons or all do not.
    #[error("{}", if self.code() == INVALID_TIMESTAMP { "one or more records have been rejected due to invalid timestamp" } else { "one or more records have been rejected due to record errors" })]
    Records { errors: Vec<RecordError> },
}

/// One refused record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordError {
    /// Which record of the batch, from 0.
    pub(crate) batch_index: i32,
    pub(crate) reason: RecordErrorReason,
}

/// Why one record is refused; its text is the response's error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordErrorReason {
    /// A topic with `cleanup.policy=compact` needs keys.
    #[error("compacted topic cannot accept message without key")]
    NoKey,
    /// Outside `message.timestamp.before.max.ms` / `message.timestamp.after.max.ms`.
    #[error("timestamp {timestamp} is out of range, it should be within [{earliest}, {latest}]")]
    TimestampOutOfRange {
        timestamp: i64,
        earliest: i64,
        latest: i64,
    },
    /// Only the broker says log append time.
    #[error("producer should not set timestamp type to LogAppendTime")]
    LogAppendTime,
}

impl ProduceFault {
    /// The Kafka error code.
    pub(crate) fn code(&self) -> i16 {
        match self {
            Self::Corrupt(_) => CORRUPT_MESSAGE,
            Self::TooLarge { .. } | Self::DecompressedTooLarge { .. } => MESSAGE_TOO_LARGE,
            Self::ZstdTooEarly { .. } | Self::UnknownCodec { .. } => UNSUPPORTED_COMPRESSION_TYPE,
            Self::Records { errors }
                if errors.iter().any(|e| e.reason != RecordErrorReason::NoKey) =>
            {
                INVALID_TIMESTAMP
            }
            _ => INVALID_RECORD,
        }
    }

    /// The records to name in the response (Produce v8 and later), at most 100.
    pub(crate) fn record_errors(&self) -> &[RecordError] {
        match self {
            Self::Records { errors } => errors,
            _ => &[],
        }
    }

    /// Every fault is the producer's: the same bytes are refused again.
    #[allow(
        dead_code,
        reason = "the caller has one reaction to all of them so far"
    )]
    pub(crate) fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
