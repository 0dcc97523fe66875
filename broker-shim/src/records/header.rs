//! The fixed 61 bytes at the head of a v2 record batch.
//!
//! *Owns*: the positions and meaning of the header's fields.
//! *Does not own*: whether a header is acceptable (`validate`), the records behind it.
//!
//! Invariants
//! 1. Parsing needs 61 bytes and reads no further.
//! 2. The checksum covers everything from the attributes (byte 21) to the end of
//!    the batch; base offset, length, leader epoch and magic lie outside it.
//!
//! *IO: none*

use tidewater_types::crc32c;

use super::compression::Codec;
use super::fault::RecordsError;

/// Bytes of a v2 batch before its first record.
pub(crate) const BATCH_OVERHEAD: usize = 61;
/// Bytes of base offset and length, which the length field does not count.
pub(crate) const LOG_OVERHEAD: usize = 12;
/// Where the checksum's cover begins.
pub(crate) const CRC_COVER_START: usize = 21;
pub(crate) const LEADER_EPOCH_POSITION: usize = 12;
pub(crate) const MAGIC_POSITION: usize = 16;
pub(crate) const CRC_POSITION: usize = 17;
pub(crate) const ATTRIBUTES_POSITION: usize = 21;
pub(crate) const MAX_TIMESTAMP_POSITION: usize = 35;

pub(crate) const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
pub(crate) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(crate) const CONTROL_BIT: i16 = 1 << 5;
pub(crate) const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// What the timestamps of a batch mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimestampType {
    /// Set by the producer, a record at a time.
    CreateTime,
    /// Set by the broker; every record carries the batch's maximum timestamp.
    LogAppendTime,
}

/// The header of a v2 record batch. Field names are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// Bytes after this field: the whole batch less 12.
    pub(crate) batch_length: i32,
    pub(crate) partition_leader_epoch: i32,
    pub(crate) magic: i8,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) num_records: i32,
}

impl BatchHeader {
    /// Reads the header of a batch. Only magic 2 is understood.
    ///
    /// # Errors
    /// `Truncated` below 61 bytes, `Magic` for another format, `BatchLength` when
    /// the length field leaves no room for a header.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, RecordsError> {
        let Some(head) = bytes.first_chunk::<BATCH_OVERHEAD>() else {
            return Err(RecordsError::Truncated {
                needed: BATCH_OVERHEAD,
                found: bytes.len(),
            });
        };
        let magic = i8::from_be_bytes([head[MAGIC_POSITION]]);
        if magic != 2 {
            return Err(RecordsError::Magic { found: magic });
        }
        let header = Self {
            base_offset: i64_at(head, 0),
            batch_length: i32_at(head, 8),
            partition_leader_epoch: i32_at(head, LEADER_EPOCH_POSITION),
            magic,
            crc: u32::from_be_bytes(array_at(head, CRC_POSITION)),
            attributes: i16_at(head, ATTRIBUTES_POSITION),
            last_offset_delta: i32_at(head, 23),
            base_timestamp: i64_at(head, 27),
            max_timestamp: i64_at(head, MAX_TIMESTAMP_POSITION),
            producer_id: i64_at(head, 43),
            producer_epoch: i16_at(head, 51),
            base_sequence: i32_at(head, 53),
            num_records: i32_at(head, 57),
        };
        let enough = usize::try_from(header.batch_length)
            .is_ok_and(|length| length + LOG_OVERHEAD >= BATCH_OVERHEAD);
        if !enough {
            return Err(RecordsError::BatchLength {
                found: header.batch_length,
            });
        }
        Ok(header)
    }

    /// Bytes of the whole batch, the 12 before the length's cover included.
    pub(crate) fn num_bytes(&self) -> usize {
        usize::try_from(self.batch_length).expect("parse refuses a negative length") + LOG_OVERHEAD
    }

    /// The batch this header opens, cut to its own length.
    ///
    /// # Errors
    /// `Truncated` when `bytes` ends before the batch does.
    pub(crate) fn whole<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], RecordsError> {
        bytes
            .get(..self.num_bytes())
            .ok_or(RecordsError::Truncated {
                needed: self.num_bytes(),
                found: bytes.len(),
            })
    }

    /// Checks the checksum over `bytes`, which starts with this header.
    ///
    /// # Errors
    /// `Truncated`, or `Crc` with both values.
    pub(crate) fn check_crc(&self, bytes: &[u8]) -> Result<(), RecordsError> {
        let found = crc32c(&[&self.whole(bytes)?[CRC_COVER_START..]]);
        if found == self.crc {
            Ok(())
        } else {
            Err(RecordsError::Crc {
                expected: self.crc,
                found,
            })
        }
    }

    /// The sequence of the last record: sequences count from 0 to `i32::MAX` and
    /// wrap to 0. `None` for a batch without producer sequence.
    pub(crate) fn last_sequence(&self) -> Option<i32> {
        (self.base_sequence >= 0)
            .then(|| increment_sequence(self.base_sequence, self.last_offset_delta))
    }

    /// Whether an idempotent or transactional producer sent the batch.
    pub(crate) fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// `UnknownCodec` for ids 5 to 7.
    pub(crate) fn codec(&self) -> Result<Codec, RecordsError> {
        Codec::from_attributes(self.attributes).map_err(|id| RecordsError::UnknownCodec { id })
    }

    pub(crate) fn timestamp_type(&self) -> TimestampType {
        if self.attributes & TIMESTAMP_TYPE_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// When the tombstones of a cleaned batch may go, ms since the Unix epoch
    /// (KIP-534): the base timestamp, once attribute bit 6 is set.
    pub(crate) fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }
}

/// The sequence `delta` after `sequence`, wrapping from `i32::MAX` to 0.
pub(crate) fn increment_sequence(sequence: i32, delta: i32) -> i32 {
    let sum = (i64::from(sequence) + i64::from(delta)) & i64::from(i32::MAX);
    i32::try_from(sum).expect("31 bits")
}

fn array_at<const N: usize>(head: &[u8; BATCH_OVERHEAD], at: usize) -> [u8; N] {
    *head[at..]
        .first_chunk::<N>()
        .expect("positions lie in the fixed header")
}

fn i16_at(head: &[u8; BATCH_OVERHEAD], at: usize) -> i16 {
    i16::from_be_bytes(array_at(head, at))
}

fn i32_at(head: &[u8; BATCH_OVERHEAD], at: usize) -> i32 {
    i32::from_be_bytes(array_at(head, at))
}

fn i64_at(head: &[u8; BATCH_OVERHEAD], at: usize) -> i64 {
    i64::from_be_bytes(array_at(head, at))
}

#[cfg(test)]
mod tests {
    use super::super::testdata;
    use super::*;

    #[test]
    fn header_of_a_real_producer_is_read() {
        let bytes = testdata::kafka_python("none");
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(header.base_offset, 0);
        assert_eq!(header.num_bytes(), bytes.len());
        assert_eq!(header.last_offset_delta, 2);
        assert_eq!(header.base_timestamp, 1_700_000_000_000);
        assert_eq!(header.max_timestamp, 1_700_000_000_007);
        assert_eq!(
            (
                header.producer_id,
                header.producer_epoch,
                header.base_sequence
            ),
            (4000, 3, 17)
        );
        assert_eq!(header.last_sequence(), Some(19));
        assert_eq!(header.num_records, 3);
        assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
        assert!(!header.is_transactional() && !header.is_control());
        assert_eq!(header.delete_horizon_ms(), None);
        header.check_crc(&bytes).unwrap();
    }

    #[test]
    fn every_shorter_prefix_is_truncated() {
        let bytes = testdata::aiokafka("none");
        for cut in 0..BATCH_OVERHEAD {
            assert_eq!(
                BatchHeader::parse(&bytes[..cut]),
                Err(RecordsError::Truncated {
                    needed: BATCH_OVERHEAD,
                    found: cut
                })
            );
        }
        let header = BatchHeader::parse(&bytes[..BATCH_OVERHEAD]).unwrap();
        assert!(matches!(
            header.check_crc(&bytes[..bytes.len() - 1]),
            Err(RecordsError::Truncated { .. })
        ));
    }

    #[test]
    fn a_length_too_small_for_a_header_is_refused() {
        for length in [-1i32, 0, 48, i32::MIN] {
            let mut bytes = testdata::aiokafka("none").to_vec();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            assert_eq!(
                BatchHeader::parse(&bytes),
                Err(RecordsError::BatchLength { found: length })
            );
        }
    }

    #[test]
    fn sequences_wrap_to_zero_after_the_greatest() {
        assert_eq!(increment_sequence(5, 2), 7);
        assert_eq!(increment_sequence(i32::MAX, 1), 0);
        assert_eq!(increment_sequence(i32::MAX - 1, 4), 2);
    }
}
