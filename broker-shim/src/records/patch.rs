//! The changes the broker makes to a stored batch, in place.
//!
//! *Owns*: base offset and leader epoch (outside the checksum), timestamp type and
//! maximum timestamp (inside it).
//! *Does not own*: when they are due.
//!
//! Invariants
//! 1. No record byte changes and no byte moves.
//! 2. Whatever changes under the checksum is followed by a new checksum.
//!
//! *IO: none*

use tidewater_types::crc32c;

use super::header::{
    ATTRIBUTES_POSITION, BATCH_OVERHEAD, CRC_COVER_START, CRC_POSITION, LEADER_EPOCH_POSITION,
    MAX_TIMESTAMP_POSITION, TIMESTAMP_TYPE_BIT,
};

/// Writes the offset of the first record and the leader's epoch.
///
/// # Panics
/// If `batch` is shorter than a header; validated batches are not.
pub(crate) fn patch_base_offset(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    assert!(batch.len() >= BATCH_OVERHEAD, "a batch has a header");
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[LEADER_EPOCH_POSITION..LEADER_EPOCH_POSITION + 4]
        .copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Makes `append_ms` the time of every record: sets the timestamp type, the
/// maximum timestamp and the checksum. `batch` is exactly one batch.
///
/// # Panics
/// If `batch` is shorter than a header.
pub(crate) fn set_log_append_time(batch: &mut [u8], append_ms: i64) {
    assert!(batch.len() >= BATCH_OVERHEAD, "a batch has a header");
    let bytes = [batch[ATTRIBUTES_POSITION], batch[ATTRIBUTES_POSITION + 1]];
    let attributes = i16::from_be_bytes(bytes) | TIMESTAMP_TYPE_BIT;
    batch[ATTRIBUTES_POSITION..ATTRIBUTES_POSITION + 2].copy_from_slice(&attributes.to_be_bytes());
    set_max_timestamp(batch, append_ms);
}

/// Writes the maximum timestamp and the checksum. `batch` is exactly one batch.
///
/// # Panics
/// If `batch` is shorter than a header.
pub(crate) fn set_max_timestamp(batch: &mut [u8], max_timestamp: i64) {
    assert!(batch.len() >= BATCH_OVERHEAD, "a batch has a header");
    batch[MAX_TIMESTAMP_POSITION..MAX_TIMESTAMP_POSITION + 8]
        .copy_from_slice(&max_timestamp.to_be_bytes());
    set_crc(batch);
}

/// Writes the checksum. `batch` is exactly one batch.
///
/// # Panics
/// If `batch` is shorter than a header.
pub(crate) fn set_crc(batch: &mut [u8]) {
    let crc = crc32c(&[&batch[CRC_COVER_START..]]);
    batch[CRC_POSITION..CRC_POSITION + 4].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::header::{BatchHeader, TimestampType};
    use super::super::testdata;
    use super::*;

    #[test]
    fn base_offset_and_leader_epoch_lie_outside_the_checksum() {
        let before = testdata::kafka_python("lz4");
        let mut batch = before.to_vec();
        patch_base_offset(&mut batch, 1 << 40, 12);
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!(
            (header.base_offset, header.partition_leader_epoch),
            (1 << 40, 12)
        );
        header.check_crc(&batch).unwrap();
        assert_eq!(batch[16..], before[16..]);
        assert_eq!(batch[8..12], before[8..12]);
    }

    #[test]
    fn log_append_time_keeps_records_and_makes_a_new_checksum() {
        let before = testdata::kafka_python("gzip");
        let mut batch = before.to_vec();
        set_log_append_time(&mut batch, 42);
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!(
            (header.timestamp_type(), header.max_timestamp),
            (TimestampType::LogAppendTime, 42)
        );
        header.check_crc(&batch).unwrap();
        assert_eq!(batch[43..], before[43..]);
    }
}
