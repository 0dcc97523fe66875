//! The records of a batch with their contents, for the logs the broker itself reads.
//!
//! *Owns*: `Record` and the iterator over a batch.
//! *Does not own*: validation of produced batches, which copies no contents.
//!
//! Invariants
//! 1. Keys and values are slices of the batch, or of its one decompressed copy.
//! 2. After an error the iterator ends.
//!
//! *IO: none*

use std::ops::Range;

use bytes::Bytes;

use super::codec::{DecompressionLimit, Payload, source_error};
use super::compression::Codec;
use super::fault::RecordsError;
use super::header::{BATCH_OVERHEAD, BatchHeader, TimestampType};
use super::input::{Input, InputError};
use super::parse::read_record;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    /// Milliseconds since the Unix epoch, −1 for none.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
}

/// One header of a record; keys may repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

/// Iterates over the records of one batch.
pub(crate) struct Records {
    header: BatchHeader,
    /// What is left of the plain records.
    plain: Bytes,
    index: u32,
    failed: bool,
}

/// The records of `batch`. Offsets and timestamps follow from its header; the
/// checksum is not looked at (`BatchHeader::check_crc` does that).
///
/// # Errors
/// A header that cannot be read, or records that do not decompress within `limit`.
pub(crate) fn records(batch: &Bytes, limit: DecompressionLimit) -> Result<Records, RecordsError> {
    let header = BatchHeader::parse(batch)?;
    let codec = header.codec()?;
    header.whole(batch)?;
    let packed = batch.slice(BATCH_OVERHEAD..header.num_bytes());
    let plain = if codec == Codec::None {
        packed
    } else {
        let input = Input::new(Payload::open(codec, &packed, limit));
        Bytes::from(
            input
                .rest()
                .map_err(|error| source_error(&error, codec, limit))?,
        )
    };
    Ok(Records {
        header,
        plain,
        index: 0,
        failed: false,
    })
}

impl Records {
    fn read_next(&mut self) -> Result<Option<Record>, RecordsError> {
        let num_records = self.header.num_records;
        if i64::from(self.index) >= i64::from(num_records) {
            return if self.plain.is_empty() {
                Ok(None)
            } else {
                Err(RecordsError::BytesAfterRecords { num_records })
            };
        }
        let plain = self.plain.clone();
        let slice = |range: Range<u64>| {
            let at = |position| usize::try_from(position).expect("a position in memory");
            plain.slice(at(range.start)..at(range.end))
        };
        let mut input = Input::new(&plain[..]);
        let mut headers = Vec::new();
        let shape = read_record(&mut input, |key, value| {
            headers.push(Header {
                key: slice(key),
                value: value.map(slice),
            });
        })
        .map_err(|error| match error {
            InputError::Malformed(what) => RecordsError::Record {
                index: self.index,
                what,
            },
            InputError::Source(_) => RecordsError::Decompress { codec: Codec::None },
        })?;
        let num_read = usize::try_from(input.num_read()).expect("a position in memory");
        self.plain = plain.slice(num_read..);
        self.index += 1;
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => self
                .header
                .base_timestamp
                .wrapping_add(shape.timestamp_delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        let offset = self
            .header
            .base_offset
            .wrapping_add(i64::from(shape.offset_delta));
        Ok(Some(Record {
            offset,
            timestamp,
            key: shape.key.map(slice),
            value: shape.value.map(slice),
            headers,
        }))
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read_next().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::super::testdata;
    use super::*;

    #[test]
    fn records_of_real_clients_are_read_from_every_codec() {
        for name in testdata::CODEC_NAMES {
            for batch in [testdata::aiokafka(name), testdata::kafka_python(name)] {
                let all: Result<Vec<_>, _> = records(&batch, DecompressionLimit::default())
                    .unwrap()
                    .collect();
                assert_eq!(all.unwrap(), testdata::expected_records(), "{name}");
            }
        }
    }

    #[test]
    fn iteration_ends_after_an_error() {
        let mut bytes = testdata::aiokafka("none").to_vec();
        bytes[BATCH_OVERHEAD] = 0x7f;
        let mut all = records(&Bytes::from(bytes), DecompressionLimit::default()).unwrap();
        assert!(matches!(
            all.next(),
            Some(Err(RecordsError::Record { index: 0, .. }))
        ));
        assert!(all.next().is_none());
    }
}
