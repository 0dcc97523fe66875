//! Codec of a metadata snapshot: the whole state after one log entry.
//!
//! *Owns*: the head, the parts of a large one, their checksums.
//! *Does not own*: what stands in the sections (`sections`), which snapshot is read.
//!
//! Invariants
//! 1. The head names every part by size and checksum: parts of two writers never mix.
//! 2. A state that fits one part is one object with one byte form: two nodes that
//!    snapshot the same entry write the same bytes.
//!
//! *Format: docs/formats/metadata-snapshot.md*
//! *IO: none*

use bytes::{BufMut, Bytes};
use tidewater_types::{ClusterId, crc32c};

use crate::meta::state::MetaState;
use crate::reader::{FormatError, Reader};

use super::field::put_count;
use super::sections::{Sections, SectionsReader};

const MAGIC: u32 = u32::from_le_bytes(*b"TWMS");
const PART_MAGIC: u32 = u32::from_le_bytes(*b"TWMP");
const VERSION: u16 = 1;
pub(crate) const HEADER_SIZE: usize = 48;
const CRC_AT: usize = HEADER_SIZE - 4;
const PART_HEADER_SIZE: usize = 32;
const PART_CRC_AT: usize = PART_HEADER_SIZE - 4;

/// A part of a snapshot, as its head names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartRef {
    /// Its whole size in bytes.
    pub(crate) size: u32,
    pub(crate) crc: u32,
}

/// The head of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    cluster: ClusterId,
    log_crc: u32,
    next_stream: u64,
    last_version: u64,
    /// Drawn by the writer of the parts; 0 if there are none.
    pub(crate) nonce: u64,
    pub(crate) parts: Vec<PartRef>,
    /// The sections behind those of the parts.
    pub(crate) rest: Bytes,
    /// Size of the head in bytes.
    pub(crate) size: u64,
}

impl Head {
    /// Size of the whole snapshot in bytes.
    pub(crate) fn total_bytes(&self) -> u64 {
        let parts = self.parts.iter().map(|part| u64::from(part.size));
        self.size + parts.sum::<u64>()
    }

    /// A state that lacks what the sections hold.
    pub(crate) fn reader(&self) -> SectionsReader {
        let mut state = MetaState::new(self.cluster);
        (state.seq, state.log_crc) = (self.seq, self.log_crc);
        (state.next_stream, state.last_version) = (self.next_stream, self.last_version);
        SectionsReader::new(state)
    }
}

/// The bytes of the head of `state`'s snapshot whose parts are written; `rest` is what is left.
pub(crate) fn encode_head(state: &MetaState, nonce: u64, parts: &[PartRef], rest: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_SIZE + 28 + parts.len() * 8 + rest.len());
    out.put_u32_le(MAGIC);
    out.put_u16_le(VERSION);
    out.put_u16_le(0);
    out.put_u64_le(state.seq);
    out.put_slice(&state.cluster.0);
    out.put_u32_le(state.log_crc);
    let size_at = out.len();
    out.put_u64_le(0);
    assert_eq!(out.len(), CRC_AT);
    out.put_u32_le(0);
    out.put_u64_le(state.next_stream);
    out.put_u64_le(state.last_version);
    out.put_u64_le(nonce);
    put_count(&mut out, parts.len());
    for part in parts {
        out.put_u32_le(part.size);
        out.put_u32_le(part.crc);
    }
    out.put_slice(rest);
    let body_size = (out.len() - HEADER_SIZE) as u64;
    out[size_at..size_at + 8].copy_from_slice(&body_size.to_le_bytes());
    let crc = crc32c(&[&out[..CRC_AT], &out[HEADER_SIZE..]]);
    out[CRC_AT..HEADER_SIZE].copy_from_slice(&crc.to_le_bytes());
    Bytes::from(out)
}

/// Reads the head of a snapshot that should be of log entry `seq`.
pub(crate) fn decode_head(bytes: Bytes, seq: u64) -> Result<Head, FormatError> {
    let size = bytes.len() as u64;
    let mut reader = checked(&bytes, MAGIC, CRC_AT)?;
    let found_seq = reader.u64()?;
    reader.expect("sequence number", seq, found_seq)?;
    let (cluster, log_crc) = (ClusterId(reader.array()?), reader.u32()?);
    let body_size = reader.u64()?;
    reader.u32()?;
    reader.expect("body size", body_size, reader.remaining() as u64)?;
    let (next_stream, last_version) = (reader.u64()?, reader.u64()?);
    let nonce = reader.u64()?;
    let count = reader.count(8, "parts")?;
    let parts = (0..count).map(|_| {
        Ok(PartRef {
            size: reader.u32()?,
            crc: reader.u32()?,
        })
    });
    let parts = parts.collect::<Result<Vec<_>, FormatError>>()?;
    if parts.is_empty() {
        reader.expect("nonce of no parts", 0, nonce)?;
    }
    let rest = reader.bytes(reader.remaining())?;
    Ok(Head {
        seq,
        cluster,
        log_crc,
        next_stream,
        last_version,
        nonce,
        parts,
        rest,
        size,
    })
}

/// Magic, checksum and version of a head or a part; the reader stands behind the reserved bytes.
fn checked(bytes: &Bytes, magic: u32, crc_at: usize) -> Result<Reader, FormatError> {
    let mut reader = Reader::new(bytes.clone());
    let found = reader.u32()?;
    reader.expect("magic", u64::from(magic), u64::from(found))?;
    let version = reader.u16()?;
    // The checksum is read before the version is believed: damage must not look like the future.
    let mut crc_reader = Reader::new(bytes.clone());
    crc_reader.bytes(crc_at)?;
    let crc = crc_reader.u32()?;
    let found = crc32c(&[&bytes[..crc_at], &bytes[crc_at + 4..]]);
    crc_reader.expect("checksum", u64::from(crc), u64::from(found))?;
    if version != VERSION {
        return Err(FormatError::Unsupported { version });
    }
    reader.zeros::<2>()?;
    Ok(reader)
}

/// The bytes of part `index`, and how the head names it.
pub(crate) fn encode_part(seq: u64, nonce: u64, index: u32, sections: &[u8]) -> (Bytes, PartRef) {
    let mut out = Vec::with_capacity(PART_HEADER_SIZE + sections.len());
    out.put_u32_le(PART_MAGIC);
    out.put_u16_le(VERSION);
    out.put_u16_le(0);
    out.put_u64_le(seq);
    out.put_u64_le(nonce);
    out.put_u32_le(index);
    assert_eq!(out.len(), PART_CRC_AT);
    out.put_u32_le(0);
    out.put_slice(sections);
    let crc = crc32c(&[&out[..PART_CRC_AT], &out[PART_HEADER_SIZE..]]);
    out[PART_CRC_AT..PART_HEADER_SIZE].copy_from_slice(&crc.to_le_bytes());
    let size = u32::try_from(out.len()).expect("parts are bounded by the configuration");
    (Bytes::from(out), PartRef { size, crc })
}

/// The sections of part `index` of the snapshot.
pub(crate) fn decode_part(bytes: Bytes, head: &Head, index: usize) -> Result<Bytes, FormatError> {
    let expected = head.parts[index];
    let mut reader = checked(&bytes, PART_MAGIC, PART_CRC_AT)?;
    reader.expect("size", u64::from(expected.size), bytes.len() as u64)?;
    let (seq, nonce, found_index) = (reader.u64()?, reader.u64()?, reader.u32()?);
    reader.expect("sequence number", head.seq, seq)?;
    reader.expect("nonce", head.nonce, nonce)?;
    reader.expect("part number", index as u64, u64::from(found_index))?;
    let crc = reader.u32()?;
    reader.expect(
        "checksum in the head",
        u64::from(expected.crc),
        u64::from(crc),
    )?;
    reader.bytes(reader.remaining())
}

/// The snapshot in as many objects as it takes: the sections of each part, the last for the head.
pub(crate) fn parts(state: &MetaState, part_bytes: usize) -> Sections<'_> {
    Sections::new(state, part_bytes)
}

/// The snapshot as one object.
#[cfg(test)]
pub(crate) fn encode(state: &MetaState) -> Bytes {
    let rest = parts(state, usize::MAX).next().unwrap_or_default();
    encode_head(state, 0, &[], &rest)
}

/// Reads a snapshot that is one object.
#[cfg(test)]
pub(crate) fn decode(bytes: Bytes, seq: u64) -> Result<MetaState, FormatError> {
    let head = decode_head(bytes, seq)?;
    let mut reader = head.reader();
    reader.feed(head.rest)?;
    reader.finish()
}
