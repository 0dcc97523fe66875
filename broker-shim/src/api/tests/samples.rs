//! Record batches to produce.
//!
//! *Owns*: how they are made, and how they are damaged.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::crc32c;

use crate::records::{BatchBuilder, BatchHeader, DecompressionLimit, ProducerStamp, records};

/// The time of the first record of every sample, ms since the Unix epoch.
pub(super) const T: i64 = 1_700_000_000_000;

const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;

/// A batch of `num_records`, a millisecond apart, without a producer id.
pub(super) fn batch(num_records: usize) -> Bytes {
    batch_at(T, num_records)
}

pub(super) fn batch_at(timestamp: i64, num_records: usize) -> Bytes {
    fill(BatchBuilder::new(), timestamp, num_records).build(0, -1)
}

/// A batch of an idempotent producer.
pub(super) fn stamped(id: i64, epoch: i16, sequence: i32, num_records: usize) -> Bytes {
    let stamp = ProducerStamp {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: sequence,
        transactional: false,
    };
    fill(BatchBuilder::new().with_producer(stamp), T, num_records).build(0, -1)
}

/// A batch of a transaction.
pub(super) fn transactional(id: i64) -> Bytes {
    let stamp = ProducerStamp {
        producer_id: id,
        producer_epoch: 0,
        base_sequence: 0,
        transactional: true,
    };
    fill(BatchBuilder::new().with_producer(stamp), T, 1).build(0, -1)
}

fn fill(mut builder: BatchBuilder, timestamp: i64, num_records: usize) -> BatchBuilder {
    for index in 0..num_records {
        let (key, value) = (format!("key-{index}"), format!("value-{index}"));
        let at = timestamp + i64::try_from(index).unwrap();
        builder.append(at, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
    }
    builder
}

/// The batch with another magic.
pub(super) fn with_magic(batch: &Bytes, magic: u8) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[MAGIC] = magic;
    bytes.into()
}

/// The batch with attribute bits set and a checksum that fits.
pub(super) fn with_attributes(batch: &Bytes, bits: u8) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[ATTRIBUTES + 1] |= bits;
    let crc = crc32c(&[&bytes[ATTRIBUTES..]]);
    bytes[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// The batch with a base offset of its own.
pub(super) fn with_base_offset(batch: &Bytes, base_offset: i64) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes.into()
}

/// The batch with its last byte changed.
pub(super) fn damaged(batch: &Bytes) -> Bytes {
    let mut bytes = batch.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes.into()
}

pub(super) fn joined(batches: &[Bytes]) -> Bytes {
    batches.concat().into()
}

/// The headers of the batches in fetched bytes, each batch whole and with a good checksum.
pub(super) fn headers(bytes: &Bytes) -> Vec<BatchHeader> {
    let mut rest = bytes.clone();
    let mut headers = Vec::new();
    while !rest.is_empty() {
        let header = BatchHeader::parse(&rest).unwrap();
        let batch = rest.split_to(header.num_bytes());
        header.check_crc(&batch).unwrap();
        headers.push(header);
    }
    headers
}

/// The base offsets of the batches in fetched bytes.
pub(super) fn base_offsets(bytes: &Bytes) -> Vec<i64> {
    headers(bytes)
        .iter()
        .map(|header| header.base_offset)
        .collect()
}

/// The offsets of the records in fetched bytes.
pub(super) fn record_offsets(bytes: &Bytes) -> Vec<i64> {
    let mut rest = bytes.clone();
    let mut offsets = Vec::new();
    while !rest.is_empty() {
        let batch = rest.split_to(BatchHeader::parse(&rest).unwrap().num_bytes());
        offsets.extend(
            records(&batch, DecompressionLimit::default())
                .unwrap()
                .map(|record| record.unwrap().offset),
        );
    }
    offsets
}
