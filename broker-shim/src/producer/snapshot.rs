//! The producer snapshot: the state of a partition's producers as of an offset.
//!
//! *Owns*: its bytes. *Does not own*: where they are kept (the engine attaches them
//! to a commit and does not look inside).
//!
//! Invariants
//! 1. One state has one encoding: producers by ascending id, windows oldest first.
//! 2. Nothing is allocated for a count that the bytes cannot hold.
//!
//! *Format: docs/formats/producer-snapshot.md* · *IO: none*

use bytes::Bytes;
use tidewater_types::{ErrorKind, crc32c};

use super::state::{BatchMark, Producer, Producers, WINDOW_BATCHES_MAX};

const MAGIC: [u8; 4] = *b"TWPS";
const VERSION: u16 = 1;
const CRC_BYTES: usize = 4;

/// Why bytes are not a producer snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The bytes end early.
    #[error("producer snapshot is cut off at byte {position}")]
    Truncated { position: usize },
    /// Something else was stored here.
    #[error("producer snapshot magic is {found:02x?}")]
    Magic { found: [u8; 4] },
    /// Written by a newer release.
    #[error("producer snapshot version is {found}, this release reads {VERSION}")]
    Version { found: u16 },
    /// The checksum does not match.
    #[error("producer snapshot checksum is {found:#010x}, stored is {expected:#010x}")]
    Crc { expected: u32, found: u32 },
    /// A field has a value no writer writes.
    #[error("producer snapshot has an impossible value in front of byte {position}")]
    Value { position: usize },
    /// Bytes are left over.
    #[error("producer snapshot has {num_bytes} bytes too many")]
    TooLong { num_bytes: usize },
}

impl SnapshotError {
    /// A newer version is `Invalid` for this release; all else is damage.
    #[allow(
        dead_code,
        reason = "the caller has one reaction to all of them so far"
    )]
    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            Self::Version { .. } => ErrorKind::Invalid,
            _ => ErrorKind::Corrupt,
        }
    }
}

/// Encodes `state` as of `offset`.
pub(crate) fn encode(offset: i64, state: &Producers) -> Bytes {
    let mut out = Vec::with_capacity(24 + state.len() * 139);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(
        &u32::try_from(state.len())
            .expect("limited far below")
            .to_le_bytes(),
    );
    for (producer_id, producer) in state.iter() {
        out.extend_from_slice(&producer_id.to_le_bytes());
        out.extend_from_slice(&producer.epoch.to_le_bytes());
        out.extend_from_slice(&producer.last_append_ms.to_le_bytes());
        out.push(u8::try_from(producer.window.len()).expect("at most five"));
        for mark in &producer.window {
            out.extend_from_slice(&mark.first_sequence.to_le_bytes());
            out.extend_from_slice(&mark.last_offset_delta.to_le_bytes());
            out.extend_from_slice(&mark.base_offset.to_le_bytes());
            out.extend_from_slice(&mark.max_timestamp.to_le_bytes());
        }
    }
    let crc = crc32c(&[&out]);
    out.extend_from_slice(&crc.to_le_bytes());
    Bytes::from(out)
}

/// The offset and state a snapshot holds.
pub(crate) fn decode(bytes: &[u8]) -> Result<(i64, Producers), SnapshotError> {
    let mut reader = Reader { bytes, position: 0 };
    let magic = reader.array()?;
    if magic != MAGIC {
        return Err(SnapshotError::Magic { found: magic });
    }
    let version = u16::from_le_bytes(reader.array()?);
    if version != VERSION {
        return Err(SnapshotError::Version { found: version });
    }
    let Some((covered, stored)) = bytes.split_last_chunk::<CRC_BYTES>() else {
        return Err(SnapshotError::Truncated {
            position: bytes.len(),
        });
    };
    let (expected, found) = (u32::from_le_bytes(*stored), crc32c(&[covered]));
    if expected != found {
        return Err(SnapshotError::Crc { expected, found });
    }
    reader.bytes = covered;
    let reserved: [u8; 2] = reader.array()?;
    reader.check(reserved == [0; 2])?;
    let offset = i64::from_le_bytes(reader.array()?);
    let num_producers = u32::from_le_bytes(reader.array()?);
    let mut state = Producers::default();
    let mut previous_id = -1;
    for _ in 0..num_producers {
        let producer_id = i64::from_le_bytes(reader.array()?);
        reader.check(producer_id > previous_id)?;
        previous_id = producer_id;
        state.insert(producer_id, read_producer(&mut reader)?);
    }
    match covered.len() - reader.position {
        0 => Ok((offset, state)),
        num_bytes => Err(SnapshotError::TooLong { num_bytes }),
    }
}

fn read_producer(reader: &mut Reader<'_>) -> Result<Producer, SnapshotError> {
    let epoch = i16::from_le_bytes(reader.array()?);
    let last_append_ms = i64::from_le_bytes(reader.array()?);
    let [num_marks] = reader.array()?;
    reader.check(usize::from(num_marks) <= WINDOW_BATCHES_MAX)?;
    let mut window = Vec::with_capacity(WINDOW_BATCHES_MAX);
    for _ in 0..num_marks {
        let mark = BatchMark {
            first_sequence: i32::from_le_bytes(reader.array()?),
            last_offset_delta: i32::from_le_bytes(reader.array()?),
            base_offset: i64::from_le_bytes(reader.array()?),
            max_timestamp: i64::from_le_bytes(reader.array()?),
        };
        let possible =
            mark.first_sequence >= 0 && mark.last_offset_delta >= 0 && mark.base_offset >= 0;
        reader.check(
            possible
                && mark
                    .base_offset
                    .checked_add(i64::from(mark.last_offset_delta))
                    .is_some(),
        )?;
        window.push(mark);
    }
    Ok(Producer {
        epoch,
        last_append_ms,
        window,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let left = self
            .bytes
            .get(self.position..)
            .and_then(<[u8]>::first_chunk::<N>);
        let array = *left.ok_or(SnapshotError::Truncated {
            position: self.position,
        })?;
        self.position += N;
        Ok(array)
    }

    fn check(&self, possible: bool) -> Result<(), SnapshotError> {
        if possible {
            Ok(())
        } else {
            Err(SnapshotError::Value {
                position: self.position,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testvectors::vectors;

    const VECTORS: &str = include_str!("../../../docs/formats/vectors/producer-snapshot-v1.hex");

    #[test]
    fn good_vectors_decode_and_encode_to_the_same_bytes() {
        let good: Vec<_> = vectors(VECTORS)
            .into_iter()
            .filter(|v| v.refuse.is_none())
            .collect();
        assert_eq!(good.len(), 2);
        for vector in good {
            let (offset, state) = decode(&vector.bytes).unwrap();
            assert_eq!(encode(offset, &state), vector.bytes, "{}", vector.name);
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

    #[test]
    fn every_prefix_and_every_flipped_bit_is_refused() {
        let vector = &vectors(VECTORS)[1];
        for cut in 0..vector.bytes.len() {
            assert!(decode(&vector.bytes[..cut]).is_err());
        }
        for bit in 0..vector.bytes.len() * 8 {
            let mut bytes = vector.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_err(), "bit {bit}");
        }
    }
}
