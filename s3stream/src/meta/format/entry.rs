//! Codec of one entry of the metadata log: who wrote it, and transactions.
//!
//! *Owns*: header and checksum. *Does not own*: the operations (`op`).
//!
//! Invariants
//! 1. The checksum covers header and body; the header names cluster, number and
//!    the entry before, so an entry at a wrong place is seen.
//! 2. Decode then encode gives the same bytes.
//!
//! *Format: docs/formats/metadata-log.md*
//! *IO: none*

use bytes::{BufMut, Bytes};
use tidewater_types::{ClusterId, Epoch, NodeId, crc32c};

use crate::meta::op::MetaOp;
use crate::reader::{FormatError, Reader};

use super::op;

pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"TWML");
pub(crate) const VERSION: u16 = 1;
pub(crate) const HEADER_SIZE: usize = 84;
const CRC_AT: usize = HEADER_SIZE - 4;
/// The node of a writer that is not registered.
const NO_NODE: u32 = u32::MAX;

/// Who wrote an entry, and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) seq: u64,
    pub(crate) cluster: ClusterId,
    /// Drawn once a process.
    pub(crate) writer: u64,
    /// Drawn once an entry: tells one's own entry from another's after a lost answer.
    pub(crate) nonce: u64,
    /// The node and epoch the writer had registered.
    pub(crate) node: Option<(NodeId, Epoch)>,
    /// Checksum of the entry before; 0 for the first.
    pub(crate) previous_crc: u32,
    /// For people who read logs; never compared.
    pub(crate) written_ms: i64,
}

/// An entry as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    pub(crate) header: EntryHeader,
    pub(crate) txns: Vec<Vec<MetaOp>>,
    pub(crate) crc: u32,
    /// Size of the entry in bytes.
    pub(crate) num_bytes: u64,
}

/// The bytes of an entry and their checksum. `txns` are encoded transactions.
pub(crate) fn encode<'a>(
    header: &EntryHeader,
    txns: impl Iterator<Item = &'a [u8]> + Clone,
) -> (Bytes, u32) {
    let body_size: usize = txns.clone().map(<[u8]>::len).sum();
    let mut out = Vec::with_capacity(HEADER_SIZE + body_size);
    let (node, epoch) = header
        .node
        .map_or((NO_NODE, 0), |(node, epoch)| (node.0, epoch.0));
    out.put_u32_le(MAGIC);
    out.put_u16_le(VERSION);
    out.put_u16_le(0);
    out.put_u64_le(header.seq);
    out.put_slice(&header.cluster.0);
    out.put_u64_le(header.writer);
    out.put_u64_le(header.nonce);
    out.put_u32_le(node);
    out.put_u32_le(header.previous_crc);
    out.put_u64_le(epoch);
    out.put_u32_le(u32::try_from(txns.clone().count()).expect("entries are bounded"));
    out.put_u32_le(u32::try_from(body_size).expect("entries are bounded"));
    out.put_i64_le(header.written_ms);
    assert_eq!(out.len(), CRC_AT);
    out.put_u32_le(0);
    txns.for_each(|txn| out.put_slice(txn));
    let crc = crc32c(&[&out[..CRC_AT], &out[HEADER_SIZE..]]);
    out[CRC_AT..HEADER_SIZE].copy_from_slice(&crc.to_le_bytes());
    (Bytes::from(out), crc)
}

/// Reads an entry that should have number `seq`.
pub(crate) fn decode(bytes: Bytes, seq: u64) -> Result<LogEntry, FormatError> {
    let mut reader = Reader::new(bytes.clone());
    let magic = reader.u32()?;
    reader.expect("magic", u64::from(MAGIC), u64::from(magic))?;
    let version = reader.u16()?;
    // The checksum is read before the version is believed: damage must not look like the future.
    let mut crc_reader = Reader::new(bytes.clone());
    crc_reader.bytes(CRC_AT)?;
    let crc = crc_reader.u32()?;
    let found = crc32c(&[&bytes[..CRC_AT], &bytes[HEADER_SIZE..]]);
    crc_reader.expect("checksum", u64::from(crc), u64::from(found))?;
    if version != VERSION {
        return Err(FormatError::Unsupported { version });
    }
    reader.zeros::<2>()?;
    let found_seq = reader.u64()?;
    reader.expect("sequence number", seq, found_seq)?;
    let cluster = ClusterId(reader.array()?);
    let (writer, nonce) = (reader.u64()?, reader.u64()?);
    let (node, previous_crc, epoch) = (reader.u32()?, reader.u32()?, reader.u64()?);
    let txn_count = reader.u32()? as usize;
    let body_size = u64::from(reader.u32()?);
    let written_ms = reader.i64()?;
    reader.u32()?;
    reader.expect("body size", body_size, reader.remaining() as u64)?;
    let node = if node == NO_NODE {
        reader.expect("epoch of no node", 0, epoch)?;
        None
    } else {
        Some((NodeId(node), Epoch(epoch)))
    };
    let mut txns = Vec::new();
    for _ in 0..txn_count {
        txns.push(op::decode_txn(&mut reader)?);
    }
    reader.finish()?;
    let header = EntryHeader {
        seq,
        cluster,
        writer,
        nonce,
        node,
        previous_crc,
        written_ms,
    };
    Ok(LogEntry {
        header,
        txns,
        crc,
        num_bytes: bytes.len() as u64,
    })
}
