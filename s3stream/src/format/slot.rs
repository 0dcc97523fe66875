//! Codec of the header of a slot of the disk cache: which block of which object follows.
//!
//! *Owns*: the header's bytes and its checksum.
//! *Does not own*: where slots lie, the payload; it is a data block as the object has it.
//!
//! Invariants
//! 1. A header that holds says where it was written: bytes that landed elsewhere do not hold.
//!
//! *Format: docs/formats/block-cache.md*
//! *IO: none*

use bytes::{BufMut, Bytes};
use tidewater_types::{Epoch, NodeId, crc32c};

use crate::object_id::ObjectId;
use crate::reader::{FormatError, Reader};

pub(crate) const HEADER_SIZE: usize = 72;
/// Slots begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 4096;
const MAGIC: u32 = u32::from_le_bytes(*b"TWCS");
const VERSION: u16 = 1;
const CRC_END: usize = 8;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotHeader {
    pub(crate) object: ObjectId,
    /// Where the block lies in the object.
    pub(crate) block_position: u64,
    pub(crate) payload_size: u32,
    pub(crate) payload_crc: u32,
    /// Where the slot lies in the cache.
    pub(crate) slot_position: u64,
    /// Ascends with each slot written.
    pub(crate) sequence: u64,
}

impl SlotHeader {
    /// Bytes of the cache that the slot takes.
    pub(crate) fn slot_size(payload_size: u32) -> u64 {
        (HEADER_SIZE as u64 + u64::from(payload_size)).next_multiple_of(ALIGNMENT)
    }
}

pub(crate) fn encode(header: &SlotHeader) -> Bytes {
    let mut rest = Vec::with_capacity(HEADER_SIZE - CRC_END);
    rest.put_u16_le(VERSION);
    rest.put_u16_le(0);
    rest.put_u32_le(header.payload_size);
    rest.put_u32_le(header.payload_crc);
    rest.put_u32_le(header.object.node.0);
    rest.put_u64_le(header.object.epoch.0);
    rest.put_u64_le(header.object.counter);
    rest.put_u64_le(header.object.nonce);
    rest.put_u64_le(header.block_position);
    rest.put_u64_le(header.slot_position);
    rest.put_u64_le(header.sequence);
    let mut out = Vec::with_capacity(HEADER_SIZE);
    out.put_u32_le(MAGIC);
    out.put_u32_le(crc32c(&[&rest]));
    out.put_slice(&rest);
    Bytes::from(out)
}

/// The header of the slot at `slot_position`.
pub(crate) fn decode(bytes: Bytes, slot_position: u64) -> Result<SlotHeader, FormatError> {
    let mut reader = Reader::new(bytes.clone());
    let magic = reader.u32()?;
    reader.expect("magic", u64::from(MAGIC), u64::from(magic))?;
    let crc = reader.u32()?;
    let covered = bytes.get(CRC_END..HEADER_SIZE).unwrap_or_default();
    let found = crc32c(&[covered]);
    reader.expect("header checksum", u64::from(crc), u64::from(found))?;
    let version = reader.u16()?;
    if version != VERSION {
        return Err(FormatError::Unsupported { version });
    }
    reader.zeros::<2>()?;
    let (payload_size, payload_crc) = (reader.u32()?, reader.u32()?);
    let object = ObjectId {
        node: NodeId(reader.u32()?),
        epoch: Epoch(reader.u64()?),
        counter: reader.u64()?,
        nonce: reader.u64()?,
    };
    let block_position = reader.u64()?;
    let found = reader.u64()?;
    reader.expect("slot position", slot_position, found)?;
    Ok(SlotHeader {
        object,
        block_position,
        payload_size,
        payload_crc,
        slot_position,
        sequence: reader.u64()?,
    })
}
