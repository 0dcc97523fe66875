//! One record after the other, checked field by field, contents passed over.
//!
//! *Owns*: the layout of a v2 record.
//! *Does not own*: which records are acceptable, or copies of their contents.
//!
//! Invariants
//! 1. A record's fields fill exactly the size it states.
//! 2. Work is proportional to the bytes read; counts alone cause none.
//!
//! *IO: none*

use std::ops::Range;

use super::codec::{DecompressionLimit, Payload, source_error};
use super::compression::Codec;
use super::fault::{Malformed, RecordsError};
use super::header::{BATCH_OVERHEAD, BatchHeader, TimestampType};
use super::input::{Input, InputError};

/// Where the parts of one record lie, as positions in the plain records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordShape {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<Range<u64>>,
    pub(crate) value: Option<Range<u64>>,
}

/// The records of one batch, in order.
pub(crate) struct Shapes<'a> {
    input: Input<Payload<'a>>,
    header: BatchHeader,
    codec: Codec,
    limit: DecompressionLimit,
    index: u32,
}

impl<'a> Shapes<'a> {
    /// Opens the records of `batch`, which starts with `header`.
    ///
    /// # Errors
    /// `Truncated` when the batch is not all there, `UnknownCodec`.
    pub(crate) fn open(
        header: BatchHeader,
        batch: &'a [u8],
        limit: DecompressionLimit,
    ) -> Result<Self, RecordsError> {
        let codec = header.codec()?;
        let records = &header.whole(batch)?[BATCH_OVERHEAD..];
        let input = Input::new(Payload::open(codec, records, limit));
        Ok(Self {
            input,
            header,
            codec,
            limit,
            index: 0,
        })
    }

    /// The number of the record `advance` gives next, from 0.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The next record, or `None` once the header's count is reached and nothing follows.
    ///
    /// # Errors
    /// `Record` for a malformed one, `BytesAfterRecords`, or what the codec says.
    pub(crate) fn advance(&mut self) -> Result<Option<RecordShape>, RecordsError> {
        let num_records = self.header.num_records;
        if i64::from(self.index) >= i64::from(num_records) {
            return match self.input.is_at_end() {
                Ok(true) => Ok(None),
                Ok(false) => Err(RecordsError::BytesAfterRecords { num_records }),
                Err(error) => Err(self.error(error)),
            };
        }
        match read_record(&mut self.input, |_, _| ()) {
            Ok(shape) => {
                self.index += 1;
                Ok(Some(shape))
            }
            Err(error) => Err(self.error(error)),
        }
    }

    /// The timestamp of a record of this batch.
    pub(crate) fn timestamp(&self, shape: &RecordShape) -> i64 {
        match self.header.timestamp_type() {
            TimestampType::CreateTime => self
                .header
                .base_timestamp
                .wrapping_add(shape.timestamp_delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        }
    }

    /// The offset of a record of this batch.
    pub(crate) fn offset(&self, shape: &RecordShape) -> i64 {
        self.header
            .base_offset
            .wrapping_add(i64::from(shape.offset_delta))
    }

    fn error(&self, error: InputError) -> RecordsError {
        match error {
            InputError::Malformed(what) => RecordsError::Record {
                index: self.index,
                what,
            },
            InputError::Source(error) => source_error(&error, self.codec, self.limit),
        }
    }
}

pub(crate) fn read_record<R: std::io::BufRead>(
    input: &mut Input<R>,
    mut on_header: impl FnMut(Range<u64>, Option<Range<u64>>),
) -> Result<RecordShape, InputError> {
    let size = u64::try_from(input.varint()?).map_err(|_| Malformed::Size)?;
    let end = input.num_read() + size;
    let _attributes = input.byte()?;
    let timestamp_delta = input.varlong()?;
    let offset_delta = input.varint()?;
    let key = field(input, end)?;
    let value = field(input, end)?;
    let num_headers = u64::try_from(input.varint()?).map_err(|_| Malformed::HeaderCount)?;
    // A header takes at least two bytes.
    if num_headers > end.saturating_sub(input.num_read()) / 2 {
        return Err(Malformed::HeaderCount.into());
    }
    for _ in 0..num_headers {
        let key = field(input, end)?.ok_or(Malformed::HeaderKey)?;
        let value = field(input, end)?;
        on_header(key, value);
    }
    if input.num_read() != end {
        return Err(Malformed::SizeMismatch.into());
    }
    Ok(RecordShape {
        timestamp_delta,
        offset_delta,
        key,
        value,
    })
}

/// Passes over a field with a length in front; a negative length is null.
fn field<R: std::io::BufRead>(
    input: &mut Input<R>,
    end: u64,
) -> Result<Option<Range<u64>>, InputError> {
    let Ok(length) = u64::try_from(input.varint()?) else {
        return Ok(None);
    };
    let start = input.num_read();
    if length > end.saturating_sub(start) {
        return Err(Malformed::SizeMismatch.into());
    }
    input.skip(usize::try_from(length).map_err(|_| Malformed::Size)?)?;
    Ok(Some(start..start + length))
}
