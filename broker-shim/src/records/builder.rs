//! Uncompressed batches for the broker's own topics.
//!
//! *Owns*: encoding records and the header around them, checksum included.
//! *Does not own*: batches of clients, which are never encoded here.
//!
//! Invariants
//! 1. A built batch passes the validation of produced batches.
//!
//! *IO: none*

use bytes::Bytes;

use super::header::{BATCH_OVERHEAD, LOG_OVERHEAD, TRANSACTIONAL_BIT};
use super::patch::set_crc;

/// The producer a batch is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerStamp {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) transactional: bool,
}

/// Collects records into one uncompressed batch.
#[derive(Clone, Debug)]
pub(crate) struct BatchBuilder {
    bytes: Vec<u8>,
    num_records: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer: Option<ProducerStamp>,
}

impl BatchBuilder {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH_OVERHEAD],
            num_records: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            producer: None,
        }
    }

    /// Writes the batch for a producer.
    #[allow(dead_code, reason = "the transaction log will write for producers")]
    pub(crate) fn with_producer(mut self, producer: ProducerStamp) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Adds a record with the next offset. `timestamp` is ms since the Unix epoch;
    /// a `None` value is a tombstone.
    pub(crate) fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        if self.num_records == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let mut body = vec![0u8];
        put_varlong(&mut body, timestamp.wrapping_sub(self.base_timestamp));
        put_varint(&mut body, self.num_records);
        put_field(&mut body, key);
        put_field(&mut body, value);
        put_varint(&mut body, length(headers.len()));
        for (key, value) in headers {
            put_field(&mut body, Some(key.as_bytes()));
            put_field(&mut body, *value);
        }
        put_varint(&mut self.bytes, length(body.len()));
        self.bytes.extend_from_slice(&body);
        self.num_records += 1;
    }

    /// Bytes of the batch so far.
    pub(crate) fn num_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch, its first record at `base_offset`.
    ///
    /// # Panics
    /// If no record was added, or more than 2 GiB of them.
    pub(crate) fn build(mut self, base_offset: i64, leader_epoch: i32) -> Bytes {
        assert!(self.num_records > 0, "a batch has a record");
        let producer = self.producer.unwrap_or(ProducerStamp {
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
        });
        let batch_length = length(self.bytes.len() - LOG_OVERHEAD);
        let attributes = if producer.transactional {
            TRANSACTIONAL_BIT
        } else {
            0
        };
        let mut head = Vec::with_capacity(BATCH_OVERHEAD);
        head.extend_from_slice(&base_offset.to_be_bytes());
        head.extend_from_slice(&batch_length.to_be_bytes());
        head.extend_from_slice(&leader_epoch.to_be_bytes());
        head.push(2);
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&attributes.to_be_bytes());
        head.extend_from_slice(&(self.num_records - 1).to_be_bytes());
        head.extend_from_slice(&self.base_timestamp.to_be_bytes());
        head.extend_from_slice(&self.max_timestamp.to_be_bytes());
        head.extend_from_slice(&producer.producer_id.to_be_bytes());
        head.extend_from_slice(&producer.producer_epoch.to_be_bytes());
        head.extend_from_slice(&producer.base_sequence.to_be_bytes());
        head.extend_from_slice(&self.num_records.to_be_bytes());
        self.bytes[..BATCH_OVERHEAD].copy_from_slice(&head);
        set_crc(&mut self.bytes);
        Bytes::from(self.bytes)
    }
}

fn length(count: usize) -> i32 {
    i32::try_from(count).expect("a batch of the broker's own stays below 2 GiB")
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, length(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

pub(crate) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).expect("7 bits") | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).expect("7 bits"));
}

#[cfg(test)]
mod tests {
    use super::super::testdata;
    use super::*;

    #[test]
    fn the_same_records_give_the_bytes_a_real_client_gives() {
        let mut builder = BatchBuilder::new().with_producer(ProducerStamp {
            producer_id: 4000,
            producer_epoch: 3,
            base_sequence: 17,
            transactional: false,
        });
        let value: &[u8] = b"the first value, the first value, the first value";
        let t = 1_700_000_000_000;
        builder.append(
            t,
            Some(b"k0"),
            Some(value),
            &[("h", Some(b"1")), ("h", None)],
        );
        builder.append(t + 7, None, Some(b"second"), &[]);
        builder.append(t + 3, Some(b"k2"), None, &[("x", Some(b""))]);
        assert_eq!(builder.num_bytes(), testdata::kafka_python("none").len());
        assert_eq!(builder.build(0, 0), testdata::kafka_python("none"));
    }
}
