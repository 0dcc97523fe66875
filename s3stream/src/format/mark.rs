//! Codec of the mark that says how far a stream is compacted by key.
//!
//! *Owns*: the key and the value. *Does not own*: when it moves.
//!
//! Invariants
//! 1. A mark that does not decode is refused, never taken for none.
//!
//! *Format: docs/formats/key-compaction.md*
//! *IO: none*

use bytes::{BufMut, Bytes};
use tidewater_types::{Offset, StreamId};

use crate::reader::{FormatError, Reader};

/// All marks begin so.
pub(crate) const PREFIX: &str = "s3stream/cleaned/";
const VERSION: u16 = 1;

/// How far a stream is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Below it, no record is superseded by another one below it.
    pub(crate) end: Offset,
    /// Records that stayed below it.
    pub(crate) num_records: u64,
    /// When the first deletion below it may go, in milliseconds since the Unix epoch;
    /// `i64::MAX` if there is none.
    pub(crate) horizon_ms: i64,
}

impl Default for Mark {
    /// Nothing is compacted.
    fn default() -> Self {
        Self {
            end: Offset(0),
            num_records: 0,
            horizon_ms: i64::MAX,
        }
    }
}

/// Where the mark of the stream lies.
pub(crate) fn key(stream: StreamId) -> String {
    format!("{PREFIX}{stream}")
}

/// The stream whose mark lies there.
pub(crate) fn stream_of(key: &str) -> Option<StreamId> {
    let id = key.strip_prefix(PREFIX)?.parse().ok()?;
    (self::key(StreamId(id)) == key).then_some(StreamId(id))
}

pub(crate) fn encode(mark: &Mark) -> Bytes {
    let mut out = Vec::with_capacity(32);
    out.put_u16_le(VERSION);
    out.put_slice(&[0; 6]);
    out.put_u64_le(mark.end.0);
    out.put_u64_le(mark.num_records);
    out.put_i64_le(mark.horizon_ms);
    Bytes::from(out)
}

pub(crate) fn decode(bytes: Bytes) -> Result<Mark, FormatError> {
    let mut reader = Reader::new(bytes);
    let version = reader.u16()?;
    if version != VERSION {
        return Err(FormatError::Unsupported { version });
    }
    reader.zeros::<6>()?;
    let mark = Mark {
        end: Offset(reader.u64()?),
        num_records: reader.u64()?,
        horizon_ms: reader.i64()?,
    };
    if mark.num_records > mark.end.0 {
        return Err(reader.damaged("records below the mark", mark.end.0, mark.num_records));
    }
    reader.finish()?;
    Ok(mark)
}

#[cfg(test)]
mod tests {
    use tidewater_types::StreamId;

    use super::{key, stream_of};

    #[test]
    fn a_key_tells_its_stream() {
        assert_eq!(key(StreamId(70)), "s3stream/cleaned/70");
        assert_eq!(stream_of("s3stream/cleaned/70"), Some(StreamId(70)));
        for wrong in ["s3stream/cleaned/", "s3stream/cleaned/07", "topic/70"] {
            assert_eq!(stream_of(wrong), None, "{wrong}");
        }
    }
}
