//! Codec of a deletion boundary of the metadata log.
//!
//! *Owns*: its few bytes. *Does not own*: what it means (`meta/boundary`).
//!
//! Invariants
//! 1. The key tells the boundary; the bytes tell people and fsck who drew it.
//!
//! *Format: docs/formats/metadata-boundary.md*
//! *IO: none*

use bytes::{BufMut, Bytes};
use tidewater_types::{ClusterId, crc32c};

use crate::reader::{FormatError, Reader};

const MAGIC: u32 = u32::from_le_bytes(*b"TWMB");
const VERSION: u16 = 1;
const CRC_AT: usize = 40;

/// The bytes of a boundary: entries up to `boundary` may be deleted.
pub(crate) fn encode(boundary: u64, cluster: ClusterId, writer: u64) -> Bytes {
    let mut out = Vec::with_capacity(CRC_AT + 4);
    out.put_u32_le(MAGIC);
    out.put_u16_le(VERSION);
    out.put_u16_le(0);
    out.put_u64_le(boundary);
    out.put_slice(&cluster.0);
    out.put_u64_le(writer);
    assert_eq!(out.len(), CRC_AT);
    let crc = crc32c(&[&out]);
    out.put_u32_le(crc);
    Bytes::from(out)
}

/// Cluster and writer of the boundary with this number.
pub(crate) fn decode(bytes: Bytes, boundary: u64) -> Result<(ClusterId, u64), FormatError> {
    let mut reader = Reader::new(bytes.clone());
    let magic = reader.u32()?;
    reader.expect("magic", u64::from(MAGIC), u64::from(magic))?;
    let version = reader.u16()?;
    let mut crc_reader = Reader::new(bytes.clone());
    crc_reader.bytes(CRC_AT)?;
    let crc = crc_reader.u32()?;
    crc_reader.expect(
        "checksum",
        u64::from(crc),
        u64::from(crc32c(&[&bytes[..CRC_AT]])),
    )?;
    if version != VERSION {
        return Err(FormatError::Unsupported { version });
    }
    reader.zeros::<2>()?;
    let found = reader.u64()?;
    reader.expect("boundary", boundary, found)?;
    let (cluster, writer) = (ClusterId(reader.array()?), reader.u64()?);
    reader.u32()?;
    reader.finish()?;
    Ok((cluster, writer))
}
