//! What a batch that a client produced must satisfy.
//!
//! *Owns*: every check on the bytes of one partition in a Produce request, and
//! their order, which decides the error code a client sees.
//! *Does not own*: producer sequences against earlier batches (`producer`),
//! offsets, authorisation.
//!
//! Where Apache Kafka is lenient this is strict on purpose: bytes behind the batch
//! (Kafka cuts a partial one off) and record offset deltas other than 0, 1, 2…
//! (Kafka re-encodes such a batch) are both 87.
//!
//! Invariants
//! 1. What passes can be read by every consumer: all records were parsed.
//! 2. Nothing is changed here; `ValidBatch` says what to patch on append.
//!
//! *IO: none*

use bytes::{Bytes, BytesMut};

use super::codec::DecompressionLimit;
use super::compression::Codec;
use super::fault::{ProduceFault, RECORD_ERRORS_MAX, RecordError, RecordErrorReason, RecordsError};
use super::header::{BatchHeader, LOG_OVERHEAD, MAGIC_POSITION, TimestampType};
use super::parse::{RecordShape, Shapes};
use super::patch::{patch_base_offset, set_log_append_time, set_max_timestamp};

const NO_TIMESTAMP: i64 = -1;
const ZSTD_VERSION_MIN: i16 = 7;

/// What the topic and the request ask of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProduceRules {
    /// Version of the Produce request.
    pub(crate) produce_version: i16,
    /// `max.message.bytes`: most bytes of the whole batch as sent.
    pub(crate) num_bytes_max: usize,
    /// Most bytes its records may decompress to.
    pub(crate) decompression_limit: DecompressionLimit,
    /// `cleanup.policy` contains `compact`.
    pub(crate) compacted: bool,
    /// `message.timestamp.type`.
    pub(crate) timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub(crate) timestamp_before_ms_max: i64,
    /// `message.timestamp.after.max.ms`.
    pub(crate) timestamp_after_ms_max: i64,
    /// Now by the broker's clock, ms since the Unix epoch.
    pub(crate) now_ms: i64,
}

/// A batch that may be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValidBatch {
    /// The batch as its producer sent it.
    pub(crate) bytes: Bytes,
    pub(crate) header: BatchHeader,
    /// The greatest timestamp of a record; the header's may differ.
    pub(crate) max_timestamp: i64,
    /// Set when the topic's timestamps are the time of the append.
    pub(crate) append_ms: Option<i64>,
}

impl ValidBatch {
    /// Number of offsets the batch takes.
    pub(crate) fn num_records(&self) -> u32 {
        u32::try_from(self.header.num_records).expect("validated: positive")
    }

    /// `log_append_time_ms` of the response: −1 unless the topic uses it.
    pub(crate) fn log_append_time(&self) -> i64 {
        self.append_ms.unwrap_or(NO_TIMESTAMP)
    }

    /// The bytes to store: base offset, leader epoch and, where due, timestamps
    /// patched. In place when nothing else holds the buffer, else on one copy.
    pub(crate) fn into_stored(self, base_offset: i64, leader_epoch: i32) -> Bytes {
        let mut batch = self
            .bytes
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        patch_base_offset(&mut batch, base_offset, leader_epoch);
        if let Some(append_ms) = self.append_ms {
            set_log_append_time(&mut batch, append_ms);
        } else if self.max_timestamp != self.header.max_timestamp {
            set_max_timestamp(&mut batch, self.max_timestamp);
        }
        batch.freeze()
    }
}

/// Checks the record bytes of one partition of a Produce request.
///
/// # Errors
/// The first fault in Kafka's own order of checks.
pub(crate) fn validate_produce(
    bytes: &Bytes,
    rules: &ProduceRules,
) -> Result<ValidBatch, ProduceFault> {
    let header = one_batch(bytes)?;
    let codec = header.codec();
    if codec == Ok(Codec::Zstd) && rules.produce_version < ZSTD_VERSION_MIN {
        return Err(ProduceFault::ZstdTooEarly {
            version: rules.produce_version,
        });
    }
    if header.base_offset != 0 {
        return Err(ProduceFault::BaseOffset {
            found: header.base_offset,
        });
    }
    if bytes.len() > rules.num_bytes_max {
        return Err(ProduceFault::TooLarge {
            num_bytes: bytes.len(),
            num_bytes_max: rules.num_bytes_max,
        });
    }
    header.check_crc(bytes).map_err(ProduceFault::Corrupt)?;
    check_header(&header)?;
    let max_timestamp = check_records(&header, bytes, rules)?;
    let append_ms = (rules.timestamp_type == TimestampType::LogAppendTime).then_some(rules.now_ms);
    Ok(ValidBatch {
        bytes: bytes.clone(),
        header,
        max_timestamp,
        append_ms,
    })
}

/// The header of the one batch that `bytes` must be.
fn one_batch(bytes: &[u8]) -> Result<BatchHeader, ProduceFault> {
    let Some(magic) = bytes.get(MAGIC_POSITION) else {
        return Err(ProduceFault::NoBatch);
    };
    let magic = i8::from_be_bytes([*magic]);
    match magic {
        2 => {}
        0 | 1 => return Err(ProduceFault::Magic { found: magic }),
        found => return Err(ProduceFault::Corrupt(RecordsError::Magic { found })),
    }
    let length = i32::from_be_bytes(
        *bytes[8..]
            .first_chunk::<4>()
            .expect("longer than the magic's position"),
    );
    let header = match BatchHeader::parse(bytes) {
        Ok(header) => header,
        Err(RecordsError::Truncated { .. })
            if usize::try_from(length).is_ok_and(|l| l + LOG_OVERHEAD > bytes.len()) =>
        {
            return Err(ProduceFault::NoBatch);
        }
        Err(error) => return Err(ProduceFault::Corrupt(error)),
    };
    let num_bytes = header.num_bytes();
    if num_bytes > bytes.len() {
        return Err(ProduceFault::NoBatch);
    }
    if num_bytes < bytes.len() {
        return Err(ProduceFault::SeveralBatches {
            num_bytes: bytes.len() - num_bytes,
        });
    }
    Ok(header)
}

fn check_header(header: &BatchHeader) -> Result<(), ProduceFault> {
    let (last_offset_delta, num_records) = (header.last_offset_delta, header.num_records);
    if last_offset_delta < 0 || num_records <= 0 {
        return Err(ProduceFault::Count {
            last_offset_delta,
            num_records,
        });
    }
    if i64::from(last_offset_delta) + 1 != i64::from(num_records) {
        return Err(ProduceFault::CountMismatch {
            last_offset_delta,
            num_records,
        });
    }
    if header.is_control() {
        return Err(ProduceFault::Control);
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(ProduceFault::Sequence {
            producer_id: header.producer_id,
            sequence: header.base_sequence,
        });
    }
    Ok(())
}

/// Parses every record; the greatest timestamp among them.
fn check_records(
    header: &BatchHeader,
    bytes: &[u8],
    rules: &ProduceRules,
) -> Result<i64, ProduceFault> {
    let mut shapes = Shapes::open(*header, bytes, rules.decompression_limit).map_err(unreadable)?;
    let mut errors = Vec::new();
    let mut max_timestamp = NO_TIMESTAMP;
    loop {
        let index = shapes.index();
        let Some(shape) = shapes.advance().map_err(unreadable)? else {
            break;
        };
        if i64::from(shape.offset_delta) != i64::from(index) {
            return Err(ProduceFault::OffsetDelta {
                index,
                found: shape.offset_delta,
            });
        }
        let timestamp = shapes.timestamp(&shape);
        max_timestamp = max_timestamp.max(timestamp);
        if let Some(reason) = refuse_record(header, &shape, timestamp, rules)
            && errors.len() < RECORD_ERRORS_MAX
        {
            let batch_index = i32::try_from(index).expect("below the record count");
            errors.push(RecordError {
                batch_index,
                reason,
            });
        }
    }
    if errors.is_empty() {
        Ok(max_timestamp)
    } else {
        Err(ProduceFault::Records { errors })
    }
}

fn refuse_record(
    header: &BatchHeader,
    shape: &RecordShape,
    timestamp: i64,
    rules: &ProduceRules,
) -> Option<RecordErrorReason> {
    if rules.compacted && shape.key.is_none() {
        return Some(RecordErrorReason::NoKey);
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Some(RecordErrorReason::LogAppendTime);
    }
    if rules.timestamp_type == TimestampType::LogAppendTime || timestamp == NO_TIMESTAMP {
        return None;
    }
    let earliest = rules.now_ms.saturating_sub(rules.timestamp_before_ms_max);
    let latest = rules.now_ms.saturating_add(rules.timestamp_after_ms_max);
    let in_range = (earliest..=latest).contains(&timestamp);
    (!in_range).then_some(RecordErrorReason::TimestampOutOfRange {
        timestamp,
        earliest,
        latest,
    })
}

fn unreadable(error: RecordsError) -> ProduceFault {
    match error {
        RecordsError::UnknownCodec { id } => ProduceFault::UnknownCodec { id },
        RecordsError::DecompressedTooLarge { limit } => {
            ProduceFault::DecompressedTooLarge { limit }
        }
        other => ProduceFault::Unreadable(other),
    }
}

#[cfg(test)]
mod tests;
