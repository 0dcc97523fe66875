//! Codec of the operations about owners: guards, and giving a stream up.
//!
//! *Owns*: their layouts, tags 22 to 24. *Does not own*: other operations (op.rs).
//!
//! *Format: docs/formats/metadata-log.md*
//! *IO: none*

use bytes::BufMut;
use tidewater_types::{Epoch, NodeId, StreamId};

use crate::meta::op::MetaOp;
use crate::reader::{FormatError, Reader};

use super::field::{put_node, put_words, read_node};

pub(super) fn put(out: &mut Vec<u8>, op: &MetaOp) {
    match op {
        MetaOp::RequireNode { node, node_epoch } => {
            out.put_u8(22);
            put_node(out, *node, *node_epoch);
        }
        MetaOp::RequireOwner { stream, node } => {
            put_words(out, 23, &[stream.0]);
            out.put_u32_le(node.0);
        }
        MetaOp::ReleaseStream { stream, epoch } => put_words(out, 24, &[stream.0, epoch.0]),
        other => unreachable!("{other:?} has another codec"),
    }
}

/// Reads what follows `tag`.
pub(super) fn read(tag: u8, reader: &mut Reader) -> Result<MetaOp, FormatError> {
    Ok(match tag {
        22 => {
            let (node, node_epoch) = read_node(reader)?;
            MetaOp::RequireNode { node, node_epoch }
        }
        23 => MetaOp::RequireOwner {
            stream: StreamId(reader.u64()?),
            node: NodeId(reader.u32()?),
        },
        24 => MetaOp::ReleaseStream {
            stream: StreamId(reader.u64()?),
            epoch: Epoch(reader.u64()?),
        },
        other => unreachable!("tag {other} has another codec"),
    })
}
