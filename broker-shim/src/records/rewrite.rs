//! Batches that key compaction takes records out of, as Apache Kafka's cleaner writes them.
//!
//! *Owns*: the batch with some of its records, and the batch with none.
//! *Does not own*: which records stay.
//!
//! Offsets do not move: base offset and last offset delta stay, and so do producer, epoch and
//! sequence, codec, leader epoch and the records' own timestamps. The base timestamp becomes that
//! of the first record that is left, or the delete horizon (KIP-534), which bit 6 of the
//! attributes tells.
//!
//! Invariants
//! 1. Every record that is left shows the same offset, timestamp, key, value and headers.
//!
//! *IO: none*

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::builder::{put_varint, put_varlong};
use super::codec::{DecompressionLimit, Payload, source_error};
use super::compression::{CODEC_BITS, Codec};
use super::fault::{Malformed, RecordsError};
use super::header::{
    ATTRIBUTES_POSITION, BATCH_OVERHEAD, BatchHeader, DELETE_HORIZON_BIT, LOG_OVERHEAD,
    TimestampType,
};
use super::input::{Input, InputError};
use super::patch::set_crc;
use super::snappy;

/// Kafka's own default level.
const ZSTD_LEVEL: i32 = 3;
/// What was accepted is read in full; only a produced batch meets the limit.
const UNLIMITED: DecompressionLimit = DecompressionLimit(u64::MAX);

/// The batch with the records for which `keep` is set; `None` if there are none.
///
/// # Errors
/// The batch cannot be read.
pub(crate) fn rewrite(
    batch: &[u8],
    keep: &[bool],
    delete_horizon_ms: Option<i64>,
) -> Result<Option<Bytes>, RecordsError> {
    let header = BatchHeader::parse(batch)?;
    let plain = plain_records(&header, batch)?;
    let (mut kept, mut num_records) = (Vec::new(), 0);
    for record in split(&plain) {
        let record = record.map_err(|error| unreadable(error, num_records))?;
        if keep.get(num_records) == Some(&true) {
            kept.push(record);
        }
        num_records += 1;
    }
    if num_records != keep.len() {
        let num_records = header.num_records;
        return Err(RecordsError::BytesAfterRecords { num_records });
    }
    let time = |record: &Raw<'_>| match header.timestamp_type() {
        TimestampType::CreateTime => header.base_timestamp.wrapping_add(record.timestamp_delta),
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    let Some(first) = kept.first() else {
        return Ok(None);
    };
    let horizon = delete_horizon_ms.or(header.delete_horizon_ms());
    let base_timestamp = horizon.unwrap_or_else(|| time(first));
    let mut records = Vec::with_capacity(plain.len());
    for record in &kept {
        record.put(&mut records, time(record).wrapping_sub(base_timestamp));
    }
    let max_timestamp = kept.iter().map(time).max().unwrap_or(header.max_timestamp);
    let mut out = batch[..BATCH_OVERHEAD].to_vec();
    out.extend(pack(header.codec()?, &records));
    let bit = if horizon.is_some() {
        DELETE_HORIZON_BIT
    } else {
        0
    };
    put(
        &mut out,
        ATTRIBUTES_POSITION,
        (header.attributes | bit).to_be_bytes(),
    );
    let times = (base_timestamp, max_timestamp);
    Ok(Some(finish(out, times, kept.len())))
}

/// The batch without a record, for what its header alone tells of its producer.
///
/// # Errors
/// The batch cannot be read.
pub(crate) fn without_records(batch: &[u8]) -> Result<Bytes, RecordsError> {
    let header = BatchHeader::parse(batch)?;
    let mut out = batch[..BATCH_OVERHEAD].to_vec();
    let attributes = header.attributes & !(CODEC_BITS | DELETE_HORIZON_BIT);
    put(&mut out, ATTRIBUTES_POSITION, attributes.to_be_bytes());
    let time = header.max_timestamp;
    Ok(finish(out, (time, time), 0))
}

/// Writes length, timestamps, count and checksum.
fn finish(mut batch: Vec<u8>, (base, greatest): (i64, i64), num_records: usize) -> Bytes {
    let length = |count| i32::try_from(count).expect("smaller than the batch it was");
    let num_bytes = length(batch.len() - LOG_OVERHEAD);
    put(&mut batch, 8, num_bytes.to_be_bytes());
    put(&mut batch, 27, base.to_be_bytes());
    put(&mut batch, 35, greatest.to_be_bytes());
    put(&mut batch, 57, length(num_records).to_be_bytes());
    set_crc(&mut batch);
    Bytes::from(batch)
}

fn put<const N: usize>(batch: &mut [u8], at: usize, bytes: [u8; N]) {
    batch[at..at + N].copy_from_slice(&bytes);
}

/// A record as it is encoded.
struct Raw<'a> {
    attributes: u8,
    timestamp_delta: i64,
    /// From the offset delta on.
    rest: &'a [u8],
}

impl Raw<'_> {
    /// The record with another timestamp delta.
    fn put(&self, out: &mut Vec<u8>, timestamp_delta: i64) {
        let mut head = vec![self.attributes];
        put_varlong(&mut head, timestamp_delta);
        let size = i32::try_from(head.len() + self.rest.len()).expect("a record is below 2 GiB");
        put_varint(out, size);
        out.extend_from_slice(&head);
        out.extend_from_slice(self.rest);
    }
}

fn plain_records(header: &BatchHeader, batch: &[u8]) -> Result<Vec<u8>, RecordsError> {
    let codec = header.codec()?;
    let records = &header.whole(batch)?[BATCH_OVERHEAD..];
    let input = Input::new(Payload::open(codec, records, UNLIMITED));
    input
        .rest()
        .map_err(|error| source_error(&error, codec, UNLIMITED))
}

/// The records, one after the other.
fn split(plain: &[u8]) -> impl Iterator<Item = Result<Raw<'_>, InputError>> {
    let mut left = plain;
    std::iter::from_fn(move || {
        (!left.is_empty()).then(|| {
            let mut input = Input::new(left);
            let size = input.varint()?;
            let start = input.num_read();
            let attributes = input.byte()?;
            let timestamp_delta = input.varlong()?;
            let (from, end) = (input.num_read(), start.saturating_add_signed(size.into()));
            let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
            let rest = left.get(at(from)..at(end)).ok_or(Malformed::CutOff)?;
            left = &left[at(end)..];
            Ok(Raw {
                attributes,
                timestamp_delta,
                rest,
            })
        })
    })
}

fn unreadable(error: InputError, index: usize) -> RecordsError {
    match error {
        InputError::Malformed(what) => RecordsError::Record {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            what,
        },
        InputError::Source(_) => RecordsError::Decompress { codec: Codec::None },
    }
}

/// Compresses plain records as Kafka's own clients do.
fn pack(codec: Codec, plain: &[u8]) -> Vec<u8> {
    const IN_MEMORY: &str = "writing to memory does not fail";
    match codec {
        Codec::None => plain.to_vec(),
        Codec::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain).expect(IN_MEMORY);
            encoder.finish().expect(IN_MEMORY)
        }
        Codec::Snappy => snappy::pack(plain),
        Codec::Lz4 => {
            let info = FrameInfo::new()
                .block_mode(BlockMode::Independent)
                .block_size(BlockSize::Max64KB);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(plain).expect(IN_MEMORY);
            encoder.finish().expect(IN_MEMORY)
        }
        Codec::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL).expect(IN_MEMORY),
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::BatchHeader;
    use super::super::iterate::{Record, records};
    use super::super::patch::{patch_base_offset, set_log_append_time};
    use super::super::testdata;
    use super::*;

    fn read(batch: &Bytes) -> Vec<Record> {
        let all = records(batch, DecompressionLimit::default()).unwrap();
        all.collect::<Result<_, _>>().unwrap()
    }

    fn batch(name: &str) -> Bytes {
        let mut batch = testdata::kafka_python(name).to_vec();
        patch_base_offset(&mut batch, 500, 3);
        Bytes::from(batch)
    }

    #[test]
    fn what_is_left_is_the_same_at_the_same_offsets_in_every_codec() {
        for name in testdata::CODEC_NAMES {
            let before = batch(name);
            let left = rewrite(&before, &[false, true, true], None)
                .unwrap()
                .unwrap();
            assert_eq!(read(&left), read(&before)[1..], "{name}");
            let (old, new) = (
                BatchHeader::parse(&before).unwrap(),
                BatchHeader::parse(&left).unwrap(),
            );
            new.check_crc(&left).unwrap();
            let expected = BatchHeader {
                batch_length: new.batch_length,
                crc: new.crc,
                base_timestamp: 1_700_000_000_007,
                num_records: 2,
                ..old
            };
            assert_eq!(new, expected, "{name}");
            assert_eq!(new.num_bytes(), left.len());
            let one = rewrite(&left, &[false, true], None).unwrap().unwrap();
            assert_eq!(read(&one), read(&before)[2..], "{name}");
            assert_eq!(
                BatchHeader::parse(&one).unwrap().max_timestamp,
                1_700_000_000_003
            );
        }
    }

    #[test]
    fn a_delete_horizon_takes_the_place_of_the_base_timestamp() {
        let horizon = 1_800_000_000_000;
        for name in testdata::CODEC_NAMES {
            let before = batch(name);
            let all = [true; 3];
            let left = rewrite(&before, &all, Some(horizon)).unwrap().unwrap();
            let header = BatchHeader::parse(&left).unwrap();
            assert_eq!(header.delete_horizon_ms(), Some(horizon));
            assert_eq!(header.max_timestamp, 1_700_000_000_007);
            assert_eq!(read(&left), read(&before), "{name}");
            let later = rewrite(&left, &[true, false, false], None)
                .unwrap()
                .unwrap();
            let header = BatchHeader::parse(&later).unwrap();
            assert_eq!(header.delete_horizon_ms(), Some(horizon), "it stays");
            assert_eq!(read(&later), read(&before)[..1]);
        }
    }

    #[test]
    fn log_append_time_stays() {
        let mut bytes = batch("zstd").to_vec();
        set_log_append_time(&mut bytes, 77);
        let before = Bytes::from(bytes);
        let left = rewrite(&before, &[true, false, true], None)
            .unwrap()
            .unwrap();
        let header = BatchHeader::parse(&left).unwrap();
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!((header.base_timestamp, header.max_timestamp), (77, 77));
        assert_eq!(read(&left)[1], read(&before)[2]);
    }

    #[test]
    fn a_batch_without_records_tells_of_its_producer() {
        for name in testdata::CODEC_NAMES {
            let before = batch(name);
            assert_eq!(rewrite(&before, &[false; 3], None), Ok(None));
            let empty = without_records(&before).unwrap();
            assert_eq!(empty.len(), BATCH_OVERHEAD);
            let (old, new) = (
                BatchHeader::parse(&before).unwrap(),
                BatchHeader::parse(&empty).unwrap(),
            );
            new.check_crc(&empty).unwrap();
            assert_eq!(new.last_sequence(), old.last_sequence());
            assert_eq!((new.base_offset, new.last_offset_delta), (500, 2));
            assert_eq!((new.num_records, new.codec()), (0, Ok(Codec::None)));
            assert_eq!(new.max_timestamp, old.max_timestamp);
            assert!(read(&empty).is_empty());
            assert_eq!(without_records(&empty).unwrap(), empty);
        }
    }

    #[test]
    fn damage_is_an_error() {
        for name in testdata::CODEC_NAMES {
            let before = batch(name);
            for cut in [3, BATCH_OVERHEAD, before.len() - 1] {
                assert!(rewrite(&before[..cut], &[true; 3], None).is_err(), "{name}");
            }
        }
        for count in [0, 2, 4] {
            let keep = vec![true; count];
            assert!(rewrite(&batch("lz4"), &keep, None).is_err(), "{count}");
        }
    }
}
