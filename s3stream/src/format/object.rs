//! Codec of the header and the footer of a data object.
//!
//! *Owns*: both layouts and their checksums.
//! *Does not own*: blocks, index.
//!
//! Invariants
//! 1. Header and footer carry the whole object id: an object at another's key is seen.
//! 2. The footer covers the index, and the index the blocks; metadata keeps the
//!    footer's checksum, so every byte that is read hangs on the metadata.
//!
//! *Format: docs/formats/stream-set-object.md, docs/formats/stream-object.md*
//! *IO: none*

use bytes::{BufMut, Bytes};
use tidewater_types::{Epoch, NodeId, crc32c};

use crate::object_id::{ObjectId, ObjectKind};

use crate::reader::{FormatError, Reader};

pub(crate) const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"TWOB");
pub(crate) const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"TWFT");
pub(crate) const VERSION: u16 = 1;
/// Some blocks were written for other objects.
pub(crate) const VERSION_ORIGINS: u16 = 2;
pub(crate) const HEADER_SIZE: usize = 48;
pub(crate) const FOOTER_SIZE: usize = 80;

/// What the footer says about the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) id: ObjectId,
    pub(crate) kind: ObjectKind,
    pub(crate) index_position: u64,
    pub(crate) index_crc: u32,
    pub(crate) block_count: u32,
    pub(crate) stream_count: u32,
    /// Objects that blocks were copied from.
    pub(crate) origin_count: u16,
}

/// The first bytes of an object.
pub(crate) fn encode_header(id: &ObjectId, kind: ObjectKind) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_SIZE);
    put_identity(&mut out, (HEADER_MAGIC, VERSION), id, kind);
    out.put_u32_le(0);
    let crc = crc32c(&[&out]);
    out.put_u32_le(crc);
    assert_eq!(out.len(), HEADER_SIZE);
    Bytes::from(out)
}

/// Checks that the object is what its key says.
pub(crate) fn decode_header(bytes: Bytes) -> Result<(ObjectId, ObjectKind), FormatError> {
    let (mut reader, version) = checked(bytes, HEADER_SIZE, HEADER_MAGIC)?;
    if version != VERSION {
        return Err(FormatError::Unsupported { version });
    }
    let identity = read_identity(&mut reader)?;
    reader.zeros::<4>()?;
    Ok(identity)
}

/// The last bytes of an object, and their checksum.
pub(crate) fn encode_footer(footer: &Footer) -> (Bytes, u32) {
    let mut out = Vec::with_capacity(FOOTER_SIZE);
    let version = if footer.origin_count == 0 {
        VERSION
    } else {
        VERSION_ORIGINS
    };
    put_identity(&mut out, (FOOTER_MAGIC, version), &footer.id, footer.kind);
    out.put_u64_le(footer.index_position);
    out.put_u32_le(footer.index_crc);
    out.put_u32_le(footer.block_count);
    out.put_u32_le(footer.stream_count);
    out.put_u16_le(footer.origin_count);
    out.put_slice(&[0; 14]);
    let crc = crc32c(&[&out]);
    out.put_u32_le(crc);
    assert_eq!(out.len(), FOOTER_SIZE);
    (Bytes::from(out), crc)
}

/// Reads a footer; its checksum comes back for comparison with the metadata.
pub(crate) fn decode_footer(bytes: Bytes) -> Result<(Footer, u32), FormatError> {
    let crc = bytes
        .last_chunk::<4>()
        .map_or(0, |chunk| u32::from_le_bytes(*chunk));
    let (mut reader, version) = checked(bytes, FOOTER_SIZE, FOOTER_MAGIC)?;
    let (id, kind) = read_identity(&mut reader)?;
    let index_position = reader.u64()?;
    let (index_crc, block_count, stream_count) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let origin_count = reader.u16()?;
    let has_origins = version == VERSION_ORIGINS;
    reader.expect("origins", has_origins.into(), (origin_count > 0).into())?;
    reader.zeros::<14>()?;
    if kind == ObjectKind::Stream {
        reader.expect("streams in a stream object", 1, u64::from(stream_count))?;
    }
    Ok((
        Footer {
            id,
            kind,
            index_position,
            index_crc,
            block_count,
            stream_count,
            origin_count,
        },
        crc,
    ))
}

fn put_identity(out: &mut Vec<u8>, (magic, version): (u32, u16), id: &ObjectId, kind: ObjectKind) {
    out.put_u32_le(magic);
    out.put_u16_le(version);
    out.put_u8(kind.code());
    out.put_u8(0);
    out.put_u32_le(id.node.0);
    out.put_u32_le(0);
    out.put_u64_le(id.epoch.0);
    out.put_u64_le(id.counter);
    out.put_u64_le(id.nonce);
}

fn read_identity(reader: &mut Reader) -> Result<(ObjectId, ObjectKind), FormatError> {
    let code = reader.u8()?;
    let kind = ObjectKind::from_code(code)
        .ok_or_else(|| reader.damaged("object kind", 1, u64::from(code)))?;
    reader.zeros::<1>()?;
    let node = NodeId(reader.u32()?);
    reader.zeros::<4>()?;
    let (epoch, counter, nonce) = (Epoch(reader.u64()?), reader.u64()?, reader.u64()?);
    Ok((
        ObjectId {
            node,
            epoch,
            counter,
            nonce,
        },
        kind,
    ))
}

/// Size, magic and checksum hold, and the version is known; the reader stands behind it.
fn checked(bytes: Bytes, size: usize, magic: u32) -> Result<(Reader, u16), FormatError> {
    let mut reader = Reader::new(bytes.clone());
    reader.expect("size", size as u64, bytes.len() as u64)?;
    let found = reader.u32()?;
    reader.expect("magic", u64::from(magic), u64::from(found))?;
    let mut crc_reader = Reader::new(bytes.clone());
    crc_reader.bytes(size - 4)?;
    let (found, crc) = (crc32c(&[&bytes[..size - 4]]), crc_reader.u32()?);
    crc_reader.expect("checksum", u64::from(crc), u64::from(found))?;
    let version = reader.u16()?;
    // The checksum comes first: damage must not look like the future.
    if [VERSION, VERSION_ORIGINS].contains(&version) {
        Ok((reader, version))
    } else {
        Err(FormatError::Unsupported { version })
    }
}
