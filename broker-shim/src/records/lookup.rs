//! Timestamps inside one batch: the first record at or after a time, and the
//! record with the greatest (ListOffsets by time and −3).
//!
//! *Owns*: the search inside a batch, compressed or not.
//! *Does not own*: which batch to search.
//!
//! Invariants
//! 1. Both answers name the first record that qualifies, by offset.
//! 2. Memory does not grow with the decompressed size.
//!
//! *IO: none*

use super::codec::DecompressionLimit;
use super::fault::RecordsError;
use super::header::BatchHeader;
use super::parse::Shapes;

const NO_TIMESTAMP: i64 = -1;
/// What was accepted is read in full; only a produced batch meets the limit.
const UNLIMITED: DecompressionLimit = DecompressionLimit(u64::MAX);

/// A record's offset and its timestamp, ms since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimestampedOffset {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
}

/// The first record of `batch` whose timestamp is `timestamp` or later.
///
/// # Errors
/// The batch cannot be read.
pub(crate) fn find_timestamp(
    batch: &[u8],
    timestamp: i64,
) -> Result<Option<TimestampedOffset>, RecordsError> {
    if BatchHeader::parse(batch)?.max_timestamp < timestamp {
        return Ok(None);
    }
    first_record(batch, |found| found >= timestamp)
}

/// The first record of `batch` that carries the batch's maximum timestamp; `None`
/// for a batch without timestamps.
///
/// # Errors
/// The batch cannot be read.
pub(crate) fn max_timestamp(batch: &[u8]) -> Result<Option<TimestampedOffset>, RecordsError> {
    let maximum = BatchHeader::parse(batch)?.max_timestamp;
    if maximum == NO_TIMESTAMP {
        return Ok(None);
    }
    first_record(batch, |found| found == maximum)
}

fn first_record(
    batch: &[u8],
    wanted: impl Fn(i64) -> bool,
) -> Result<Option<TimestampedOffset>, RecordsError> {
    let mut shapes = Shapes::open(BatchHeader::parse(batch)?, batch, UNLIMITED)?;
    while let Some(shape) = shapes.advance()? {
        let timestamp = shapes.timestamp(&shape);
        if wanted(timestamp) {
            return Ok(Some(TimestampedOffset {
                offset: shapes.offset(&shape),
                timestamp,
            }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::patch::{patch_base_offset, set_log_append_time};
    use super::super::testdata;
    use super::*;

    const T: i64 = 1_700_000_000_000;

    fn at(offset: i64, timestamp: i64) -> Option<TimestampedOffset> {
        Some(TimestampedOffset { offset, timestamp })
    }

    #[test]
    fn time_is_found_inside_batches_of_every_codec() {
        for name in testdata::CODEC_NAMES {
            let mut batch = testdata::aiokafka(name).to_vec();
            patch_base_offset(&mut batch, 500, 3);
            assert_eq!(find_timestamp(&batch, 0), Ok(at(500, T)), "{name}");
            assert_eq!(find_timestamp(&batch, T), Ok(at(500, T)), "{name}");
            // Record 1 is at T + 7 and record 2 at T + 3: the first by offset wins.
            assert_eq!(find_timestamp(&batch, T + 1), Ok(at(501, T + 7)), "{name}");
            assert_eq!(find_timestamp(&batch, T + 7), Ok(at(501, T + 7)), "{name}");
            assert_eq!(find_timestamp(&batch, T + 8), Ok(None), "{name}");
            assert_eq!(max_timestamp(&batch), Ok(at(501, T + 7)), "{name}");
        }
    }

    #[test]
    fn log_append_time_gives_the_first_record_and_the_batch_time() {
        let mut batch = testdata::aiokafka("zstd").to_vec();
        patch_base_offset(&mut batch, 500, 3);
        set_log_append_time(&mut batch, T + 99);
        assert_eq!(find_timestamp(&batch, T + 98), Ok(at(500, T + 99)));
        assert_eq!(find_timestamp(&batch, T + 100), Ok(None));
        assert_eq!(max_timestamp(&batch), Ok(at(500, T + 99)));
    }
}
