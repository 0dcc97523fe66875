//! Record batches as the clients of the simulation write and read them.
//!
//! *Owns*: batches of magic 2 without compression, written apart from the broker's own code, so
//! that the two cannot be wrong in the same way.
//! *Does not own*: what a value means.
//!
//! *Format: the record batch of the Kafka protocol, <https://kafka.apache.org/documentation/#recordbatch>*
//! *IO: none*

use bytes::Bytes;
use tidewater_types::crc32c;

use crate::check::partition::Value;
use crate::check::{Violation, payload, value_of};

/// Bytes in front of the records.
const HEAD_BYTES: usize = 61;
const CRC_AT: usize = 17;

/// The producer that a batch names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) id: i64,
    pub(super) epoch: i16,
    /// Of the batch's first record.
    pub(super) sequence: i32,
}

impl Stamp {
    /// Belongs to nobody: no producer id, no sequence.
    pub(super) const NONE: Self = Self {
        id: -1,
        epoch: -1,
        sequence: -1,
    };
}

/// A batch of one record a value, `num_bytes` of payload each.
pub(super) fn encode(stamp: Stamp, timestamp: i64, values: &[Value], num_bytes: usize) -> Bytes {
    let mut records = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let payload = payload(value.number(), num_bytes);
        let mut record = vec![0];
        put_varint(&mut record, 0);
        put_varint(&mut record, index as i64);
        put_varint(&mut record, -1);
        put_varint(&mut record, payload.len() as i64);
        record.extend_from_slice(&payload);
        put_varint(&mut record, 0);
        put_varint(&mut records, record.len() as i64);
        records.extend_from_slice(&record);
    }
    let count = i32::try_from(values.len()).expect("few");
    let len = i32::try_from(HEAD_BYTES - 12 + records.len()).expect("small");
    let mut batch = Vec::with_capacity(HEAD_BYTES + records.len());
    batch.extend_from_slice(&0i64.to_be_bytes());
    batch.extend_from_slice(&len.to_be_bytes());
    batch.extend_from_slice(&(-1i32).to_be_bytes());
    batch.push(2);
    batch.extend_from_slice(&[0; 4]);
    batch.extend_from_slice(&0i16.to_be_bytes());
    batch.extend_from_slice(&(count - 1).to_be_bytes());
    batch.extend_from_slice(&timestamp.to_be_bytes());
    batch.extend_from_slice(&timestamp.to_be_bytes());
    batch.extend_from_slice(&stamp.id.to_be_bytes());
    batch.extend_from_slice(&stamp.epoch.to_be_bytes());
    batch.extend_from_slice(&stamp.sequence.to_be_bytes());
    batch.extend_from_slice(&count.to_be_bytes());
    batch.extend_from_slice(&records);
    let crc = crc32c(&[&batch[CRC_AT + 4..]]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(batch)
}

/// The records of a batch: these bytes are kept as they are.
pub(super) fn records_of(batch: &[u8]) -> &[u8] {
    &batch[HEAD_BYTES..]
}

/// The values of all batches in `bytes`, each with its offset.
pub(super) fn decode(mut bytes: &[u8]) -> Result<Vec<(i64, Value)>, Violation> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let batch_end = batch_of(bytes, &mut values);
        let Some(end) = batch_end else {
            let detail = format!("altered: a batch behind {:?} cannot be read", values.last());
            return Err(Violation::new("log", detail));
        };
        bytes = &bytes[end..];
    }
    Ok(values)
}

/// Reads the first batch; where it ends.
fn batch_of(bytes: &[u8], values: &mut Vec<(i64, Value)>) -> Option<usize> {
    let int = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let base = i64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    let end = 12 + usize::try_from(int(8)?).ok()?;
    let batch = bytes.get(..end)?;
    let crc = u32::from_be_bytes(batch.get(CRC_AT..CRC_AT + 4)?.try_into().ok()?);
    if batch.get(16) != Some(&2) || crc32c(&[batch.get(CRC_AT + 4..)?]) != crc {
        return None;
    }
    let count = int(57)?;
    let mut rest = batch.get(HEAD_BYTES..)?;
    for _ in 0..count {
        let len = usize::try_from(take_varint(&mut rest)?).ok()?;
        let (mut record, behind) = rest.split_at_checked(len)?;
        rest = behind;
        record = record.get(1..)?;
        take_varint(&mut record)?;
        let offset = base + take_varint(&mut record)?;
        take_varint(&mut record)?;
        let len = usize::try_from(take_varint(&mut record)?).ok()?;
        values.push((offset, Value::of(value_of(record.get(..len)?)?)));
    }
    rest.is_empty().then_some(end)
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).expect("7 bits") | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).expect("7 bits"));
}

fn take_varint(from: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Stamp, decode, encode};
    use crate::check::partition::Value;

    #[test]
    fn what_is_written_is_read_and_each_flipped_bit_is_seen() {
        let values: Vec<Value> = (7..10).map(Value::of).collect();
        let stamp = Stamp {
            id: 4,
            epoch: 0,
            sequence: 7,
        };
        let batch = encode(stamp, 1_793_491_200_000, &values, 30);
        let two = [&batch[..], &batch[..]].concat();
        let read = decode(&two).unwrap();
        assert_eq!(read.len(), 6);
        assert_eq!(read[4], (1, values[1]));
        for at in 12..batch.len() {
            // The leader epoch is the broker's to write and has no checksum.
            if !(12..16).contains(&at) {
                let mut wrong = batch.to_vec();
                wrong[at] ^= 1;
                assert!(decode(&wrong).is_err(), "byte {at}");
            }
        }
        assert!(decode(&batch[..batch.len() - 1]).is_err());
    }
}
