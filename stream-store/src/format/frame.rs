//! The head of a store frame: which stream, which offsets.
//!
//! *Owns*: encoding and decoding of the 40 bytes in front of a payload.
//! *Does not own*: the payload, and the checksum (the WAL's).
//!
//! Invariants
//! 1. `decode(encode(head)) == head`, byte for byte.
//! 2. A head that decodes has at least one record and its end offset does not overflow.
//!
//! *Format: docs/formats/store-frame.md*
//! *IO: none*

use bytes::Buf;
use tidewater_types::{Epoch, Offset, StreamId};

/// Length of the encoded head in bytes.
pub(crate) const HEAD_BYTES: usize = 40;

const VERSION: u8 = 1;
const KIND_ENTRY: u8 = 1;

/// What stands in front of each payload in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// The stream.
    pub stream: StreamId,
    /// Epoch in which it was appended to.
    pub stream_epoch: Epoch,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Records in the payload.
    pub record_count: u32,
    /// Largest timestamp of the records.
    pub timestamp_ms_max: i64,
}

/// Why bytes are not a frame: the field, what was found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadFrame {
    pub(crate) field: &'static str,
    pub(crate) found: u64,
    pub(crate) newer: bool,
}

impl FrameHead {
    /// The head of a frame that a WAL holds; `None` if the store would refuse the frame.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Self> {
        Self::decode(frame).ok()
    }

    pub(crate) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[0] = VERSION;
        out[1] = KIND_ENTRY;
        out[4..8].copy_from_slice(&self.record_count.to_le_bytes());
        out[8..16].copy_from_slice(&self.stream.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.stream_epoch.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.base_offset.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.timestamp_ms_max.to_le_bytes());
        out
    }

    pub(crate) fn decode(frame: &[u8]) -> Result<Self, BadFrame> {
        let corrupt = |field, found| BadFrame {
            field,
            found,
            newer: false,
        };
        let newer = |field, found: u8| BadFrame {
            field,
            found: found.into(),
            newer: true,
        };
        if frame.len() < HEAD_BYTES {
            return Err(corrupt("length", frame.len() as u64));
        }
        let mut head = &frame[..HEAD_BYTES];
        let version = head.get_u8();
        if version != VERSION {
            return Err(newer("version", version));
        }
        let kind = head.get_u8();
        if kind != KIND_ENTRY {
            return Err(newer("kind", kind));
        }
        let reserved = head.get_u16_le();
        if reserved != 0 {
            return Err(BadFrame {
                field: "reserved",
                found: reserved.into(),
                newer: true,
            });
        }
        let record_count = head.get_u32_le();
        if record_count == 0 || i32::try_from(record_count).is_err() {
            return Err(corrupt("record_count", record_count.into()));
        }
        let decoded = Self {
            stream: StreamId(head.get_u64_le()),
            stream_epoch: Epoch(head.get_u64_le()),
            base_offset: Offset(head.get_u64_le()),
            record_count,
            timestamp_ms_max: head.get_i64_le(),
        };
        match decoded.base_offset.checked_add(record_count.into()) {
            Some(_) => Ok(decoded),
            None => Err(corrupt("base_offset", decoded.base_offset.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VECTORS: &str = include_str!("../../../docs/formats/vectors/store-frame-v1.hex");

    /// (name, refused field, bytes) of each vector.
    fn vectors() -> Vec<(String, Option<String>, Vec<u8>)> {
        let mut all: Vec<(String, Option<String>, Vec<u8>)> = Vec::new();
        for line in VECTORS.lines() {
            if let Some(name) = line.strip_prefix("# name: ") {
                all.push((name.to_owned(), None, Vec::new()));
            } else if let Some(field) = line.strip_prefix("# refuse: ") {
                all.last_mut().unwrap().1 = Some(field.to_owned());
            } else if !line.starts_with('#') {
                let bytes = line
                    .split_whitespace()
                    .map(|b| u8::from_str_radix(b, 16).unwrap());
                if let Some(last) = all.last_mut() {
                    last.2.extend(bytes);
                }
            }
        }
        all
    }

    #[test]
    fn vectors_decode_and_encode_to_the_same_bytes() {
        let all = vectors();
        assert_eq!(all.len(), 5);
        for (name, refused, bytes) in all {
            match (FrameHead::decode(&bytes), refused) {
                (Ok(head), None) => {
                    assert_eq!(head.encode()[..], bytes[..HEAD_BYTES], "{name}");
                    assert_eq!(head.stream, StreamId(7));
                    assert_eq!(head.base_offset, Offset(1000));
                    assert_eq!(head.timestamp_ms_max, 1_700_000_000_123);
                }
                (Err(bad), Some(field)) => assert_eq!(bad.field, field, "{name}"),
                (decoded, refused) => panic!("{name}: {decoded:?}, expected refusal {refused:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(head) = FrameHead::decode(&bytes) {
                prop_assert_eq!(&head.encode()[..], &bytes[..HEAD_BYTES]);
            }
        }
    }
}
