//! The offsets log with only the last value of each key, as of any recent offset.
//!
//! *Owns*: the map, the records since the last released snapshot, the snapshot's bytes.
//! *Does not own*: what keys and values mean.
//!
//! Invariants
//! 1. `snapshot_at(offset)` holds the last value of each key below `offset`; a key
//!    whose last record is a tombstone is not in it.
//! 2. Keys and values are copies: a small slice would keep a whole batch in memory.
//!
//! *Format: docs/formats/consumer-offsets.md* · *IO: none*

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use tidewater_types::{ErrorKind, crc32c};

const MAGIC: [u8; 4] = *b"TWGS";
const VERSION: u16 = 1;
const CRC_BYTES: usize = 4;

/// Why a snapshot cannot be made or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GroupSnapshotError {
    /// The offset lies below the released one or beyond the last record.
    #[error("group state is known from offset {first} to {last}, not at {offset}")]
    OutOfRange { offset: i64, first: i64, last: i64 },
    /// The bytes end early.
    #[error("group snapshot is cut off at byte {position}")]
    Truncated { position: usize },
    /// Something else was stored here.
    #[error("group snapshot magic is {found:02x?}")]
    Magic { found: [u8; 4] },
    /// Written by a newer release.
    #[error("group snapshot version is {found}, this release reads {VERSION}")]
    Version { found: u16 },
    /// The checksum does not match.
    #[error("group snapshot checksum is {found:#010x}, stored is {expected:#010x}")]
    Crc { expected: u32, found: u32 },
    /// A field has a value no writer writes.
    #[error("group snapshot has an impossible value in front of byte {position}")]
    Value { position: usize },
    /// Bytes are left over.
    #[error("group snapshot has {num_bytes} bytes too many")]
    TooLong { num_bytes: usize },
}

impl GroupSnapshotError {
    #[allow(
        dead_code,
        reason = "the caller has one reaction to all of them so far"
    )]
    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            Self::OutOfRange { .. } | Self::Version { .. } => ErrorKind::Invalid,
            _ => ErrorKind::Corrupt,
        }
    }
}

type Map = BTreeMap<Bytes, Bytes>;

/// The compacted log with its recent past.
#[derive(Clone, Debug, Default)]
pub(crate) struct CompactedLog {
    base_offset: i64,
    base: Map,
    later: VecDeque<(i64, Bytes, Option<Bytes>)>,
    next_offset: i64,
}

impl CompactedLog {
    /// Reads a snapshot; the log goes on at its offset.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, GroupSnapshotError> {
        let (base_offset, base) = decode(bytes)?;
        Ok(Self {
            base_offset,
            base,
            later: VecDeque::new(),
            next_offset: base_offset,
        })
    }

    /// The records of the snapshot this log began with, or was released to.
    pub(crate) fn base(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.base.iter()
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Takes the record at `offset`.
    ///
    /// # Panics
    /// If `offset` was passed already: the log's reader or writer broke the order.
    pub(crate) fn push(&mut self, offset: i64, key: &[u8], value: Option<&[u8]>) {
        self.skip_to(offset);
        self.next_offset = offset + 1;
        self.later.push_back((
            offset,
            Bytes::copy_from_slice(key),
            value.map(Bytes::copy_from_slice),
        ));
    }

    /// Passes offsets that hold no record.
    ///
    /// # Panics
    /// As `push`.
    pub(crate) fn skip_to(&mut self, offset: i64) {
        assert!(
            offset >= self.next_offset,
            "offset {offset} comes after {}",
            self.next_offset
        );
        self.next_offset = offset;
    }

    /// The state as of `offset`, encoded.
    pub(crate) fn snapshot_at(&self, offset: i64) -> Result<Bytes, GroupSnapshotError> {
        let num_records = self.num_records_below(offset)?;
        let mut map = self.base.clone();
        for (_, key, value) in self.later.iter().take(num_records) {
            apply(&mut map, key.clone(), value.clone());
        }
        Ok(encode(offset, &map))
    }

    /// The snapshot at `offset` is committed: nothing below is asked for again.
    pub(crate) fn release(&mut self, offset: i64) -> Result<(), GroupSnapshotError> {
        let num_records = self.num_records_below(offset)?;
        for (_, key, value) in self.later.drain(..num_records) {
            apply(&mut self.base, key, value);
        }
        self.base_offset = offset;
        Ok(())
    }

    fn num_records_below(&self, offset: i64) -> Result<usize, GroupSnapshotError> {
        let (first, last) = (self.base_offset, self.next_offset);
        if !(first..=last).contains(&offset) {
            return Err(GroupSnapshotError::OutOfRange {
                offset,
                first,
                last,
            });
        }
        Ok(self.later.partition_point(|(at, ..)| *at < offset))
    }
}

fn apply(map: &mut Map, key: Bytes, value: Option<Bytes>) {
    match value {
        Some(value) => {
            map.insert(key, value);
        }
        None => {
            map.remove(&key);
        }
    }
}

fn encode(offset: i64, map: &Map) -> Bytes {
    let num_bytes: usize = map
        .iter()
        .map(|(key, value)| 8 + key.len() + value.len())
        .sum();
    let mut out = BytesMut::with_capacity(24 + num_bytes);
    out.extend_from_slice(&MAGIC);
    out.put_u16_le(VERSION);
    out.put_u16_le(0);
    out.put_i64_le(offset);
    out.put_u32_le(u32::try_from(map.len()).expect("bounded by memory"));
    for (key, value) in map {
        for field in [key, value] {
            out.put_u32_le(u32::try_from(field.len()).expect("a record field is below 2 GiB"));
            out.extend_from_slice(field);
        }
    }
    let crc = crc32c(&[&out]);
    out.put_u32_le(crc);
    out.freeze()
}

fn decode(bytes: &[u8]) -> Result<(i64, Map), GroupSnapshotError> {
    let mut reader = Reader { bytes, position: 0 };
    let magic = reader.array()?;
    if magic != MAGIC {
        return Err(GroupSnapshotError::Magic { found: magic });
    }
    let version = u16::from_le_bytes(reader.array()?);
    if version != VERSION {
        return Err(GroupSnapshotError::Version { found: version });
    }
    let Some((covered, stored)) = bytes.split_last_chunk::<CRC_BYTES>() else {
        return Err(GroupSnapshotError::Truncated {
            position: bytes.len(),
        });
    };
    let (expected, found) = (u32::from_le_bytes(*stored), crc32c(&[covered]));
    if expected != found {
        return Err(GroupSnapshotError::Crc { expected, found });
    }
    reader.bytes = covered;
    let reserved: [u8; 2] = reader.array()?;
    let offset = i64::from_le_bytes(reader.array()?);
    reader.check(reserved == [0; 2] && offset >= 0)?;
    let num_records = u32::from_le_bytes(reader.array()?);
    let mut map = Map::new();
    for _ in 0..num_records {
        let (key, value) = (reader.field()?, reader.field()?);
        let ascends = map.last_key_value().is_none_or(|(last, _)| *last < key);
        reader.check(ascends)?;
        map.insert(key, value);
    }
    match covered.len() - reader.position {
        0 => Ok((offset, map)),
        num_bytes => Err(GroupSnapshotError::TooLong { num_bytes }),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], GroupSnapshotError> {
        let left = self
            .bytes
            .get(self.position..)
            .and_then(<[u8]>::first_chunk::<N>);
        let array = *left.ok_or(GroupSnapshotError::Truncated {
            position: self.position,
        })?;
        self.position += N;
        Ok(array)
    }

    fn field(&mut self) -> Result<Bytes, GroupSnapshotError> {
        let truncated = GroupSnapshotError::Truncated {
            position: self.position,
        };
        let length = usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| truncated)?;
        let field = self.bytes[self.position..].get(..length).ok_or(truncated)?;
        self.position += length;
        Ok(Bytes::copy_from_slice(field))
    }

    fn check(&self, possible: bool) -> Result<(), GroupSnapshotError> {
        if possible {
            Ok(())
        } else {
            Err(GroupSnapshotError::Value {
                position: self.position,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testvectors::vectors;
    use proptest::prelude::*;

    const VECTORS: &str = include_str!("../../../docs/formats/vectors/consumer-offsets-v1.hex");

    #[test]
    fn good_vectors_decode_and_encode_to_the_same_bytes() {
        let good: Vec<_> = vectors(VECTORS)
            .into_iter()
            .filter(|v| v.refuse.is_none() && v.name.starts_with("snapshot"))
            .collect();
        assert_eq!(good.len(), 2);
        for vector in good {
            let log = CompactedLog::decode(&vector.bytes).unwrap();
            assert_eq!(
                log.snapshot_at(log.next_offset()).unwrap(),
                vector.bytes,
                "{}",
                vector.name
            );
        }
    }

    #[test]
    fn bad_vectors_are_refused_for_the_reason_they_name() {
        for vector in vectors(VECTORS) {
            let Some(reason) = vector.refuse else {
                continue;
            };
            let error = decode(&vector.bytes).unwrap_err();
            assert!(
                format!("{error:?}").to_lowercase().starts_with(&reason),
                "{}: {error:?}",
                vector.name
            );
        }
    }

    proptest! {
        #[test]
        fn snapshots_at_any_offset_are_exact(
            records in proptest::collection::vec((0u8..6, proptest::option::of(any::<u8>()), 0i64..3), 1..60),
            cut in 0usize..60,
            released in 0usize..60,
        ) {
            let mut log = CompactedLog::default();
            let mut alone = CompactedLog::default();
            let (cut, released) = (cut.min(records.len()), released.min(cut).min(records.len()));
            let mut offsets = vec![0];
            for (index, (key, value, gap)) in records.iter().enumerate() {
                let offset = log.next_offset() + gap;
                log.push(offset, &[*key], value.as_ref().map(std::slice::from_ref));
                if index < cut {
                    alone.push(offset, &[*key], value.as_ref().map(std::slice::from_ref));
                }
                offsets.push(offset + 1);
            }
            let expected = alone.snapshot_at(offsets[cut]).unwrap();
            log.release(offsets[released]).unwrap();
            prop_assert_eq!(&log.snapshot_at(offsets[cut]).unwrap(), &expected);
            let restored = CompactedLog::decode(&expected).unwrap();
            prop_assert_eq!(restored.next_offset(), offsets[cut]);
        }
    }
}
