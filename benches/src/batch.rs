//! Record batches (format v2) to produce.
//!
//! *Owns*: their encoding, uncompressed and without a producer.
//!
//! *Format: Kafka's own* · *IO: none*

use bytes::{BufMut, Bytes, BytesMut};
use tidewater_types::crc32c;

/// Bytes in front of what the length field counts.
const LOG_OVERHEAD: usize = 12;
/// Where the checksum stands, and behind it what it covers.
const CRC_POSITION: usize = 17;

/// A batch of `num_records` records with values of `value_bytes` bytes, no keys, no headers.
///
/// # Panics
/// If the batch does not fit an `i32`.
#[must_use]
pub fn batch(num_records: usize, value_bytes: usize) -> Bytes {
    let count = i32::try_from(num_records).expect("a small batch");
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(0);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(0);
    out.put_i32(count - 1);
    out.put_i64(1_700_000_000_000);
    out.put_i64(1_700_000_000_000);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(count);
    for index in 0..count {
        let mut record = BytesMut::new();
        record.put_i8(0);
        put_varint(&mut record, 0);
        put_varint(&mut record, index);
        put_varint(&mut record, -1);
        put_varint(
            &mut record,
            i32::try_from(value_bytes).expect("a small value"),
        );
        record.put_bytes(b'x', value_bytes);
        put_varint(&mut record, 0);
        put_varint(
            &mut out,
            i32::try_from(record.len()).expect("a small record"),
        );
        out.extend_from_slice(&record);
    }
    let length = i32::try_from(out.len() - LOG_OVERHEAD).expect("a small batch");
    out[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c(&[&out[CRC_POSITION + 4..]]);
    out[CRC_POSITION..CRC_POSITION + 4].copy_from_slice(&checksum.to_be_bytes());
    out.freeze()
}

fn put_varint(out: &mut BytesMut, value: i32) {
    let mut rest = ((value << 1) ^ (value >> 31)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}
