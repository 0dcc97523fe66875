//! Fields that several metadata codecs share.
//!
//! *Owns*: the layout of ids, counts and texts. *Does not own*: what they are part of.
//!
//! *Format: docs/formats/metadata-log.md*
//! *IO: none*

use bytes::BufMut;
use tidewater_types::{Epoch, NodeId};

use crate::object_id::{ObjectId, ObjectKind};
use crate::reader::{FormatError, Reader};

pub(crate) fn put_id(out: &mut Vec<u8>, id: &ObjectId) {
    out.put_u32_le(id.node.0);
    out.put_u64_le(id.epoch.0);
    out.put_u64_le(id.counter);
    out.put_u64_le(id.nonce);
}

pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("counts are bounded by the entry size"));
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u16_le(u16::try_from(text.len()).expect("the length of keys is checked before"));
    out.put_slice(text.as_bytes());
}

pub(crate) fn read_id(reader: &mut Reader) -> Result<ObjectId, FormatError> {
    let (node, epoch) = (NodeId(reader.u32()?), Epoch(reader.u64()?));
    Ok(ObjectId {
        node,
        epoch,
        counter: reader.u64()?,
        nonce: reader.u64()?,
    })
}

pub(crate) fn read_kind(reader: &mut Reader) -> Result<ObjectKind, FormatError> {
    let code = reader.u8()?;
    ObjectKind::from_code(code).ok_or_else(|| reader.damaged("object kind", 1, u64::from(code)))
}

pub(crate) fn read_text(reader: &mut Reader) -> Result<String, FormatError> {
    let size = usize::from(reader.u16()?);
    let bytes = reader.bytes(size)?;
    let text = std::str::from_utf8(&bytes);
    text.map(str::to_owned)
        .map_err(|err| reader.damaged("UTF-8 text", size as u64, err.valid_up_to() as u64))
}

/// A tag and nothing but words.
pub(crate) fn put_words(out: &mut Vec<u8>, tag: u8, words: &[u64]) {
    out.put_u8(tag);
    words.iter().for_each(|word| out.put_u64_le(*word));
}

pub(crate) fn put_node(out: &mut Vec<u8>, node: NodeId, epoch: Epoch) {
    out.put_u32_le(node.0);
    out.put_u64_le(epoch.0);
}

pub(crate) fn read_node(reader: &mut Reader) -> Result<(NodeId, Epoch), FormatError> {
    Ok((NodeId(reader.u32()?), Epoch(reader.u64()?)))
}
