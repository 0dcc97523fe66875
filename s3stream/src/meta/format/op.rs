//! Codec of metadata operations.
//!
//! *Owns*: one tag and one layout an operation.
//! *Does not own*: the entry around them.
//!
//! Invariants
//! 1. One byte form for each operation: decode then encode gives the same bytes.
//! 2. A tag once given keeps its layout for ever.
//!
//! *Format: docs/formats/metadata-log.md*
//! *IO: none*

use bytes::{BufMut, Bytes};
use tidewater_types::{Epoch, NodeId, Offset, StreamId, WalId};

use crate::meta::op::{MetaOp, NewObject, NewRange, NewSnapshot, Replacement};
use crate::object_id::ObjectId;
use crate::reader::{FormatError, Reader};

use super::field::{
    put_count, put_id, put_node, put_text, put_words, read_id, read_kind, read_node, read_text,
};
use super::{owner, replace};

const OBJECT_SIZE: usize = 49;
const RANGE_SIZE: usize = 44;
const SNAPSHOT_SIZE: usize = 40;
const ID_SIZE: usize = 28;

/// Encodes a transaction: the number of its operations, then each.
pub(crate) fn encode_txn(txn: &[MetaOp]) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, txn.len());
    txn.iter().for_each(|op| put_op(&mut out, op));
    out
}

/// Reads a transaction.
pub(crate) fn decode_txn(reader: &mut Reader) -> Result<Vec<MetaOp>, FormatError> {
    let count = reader.count(1, "operations")?;
    (0..count).map(|_| read_op(reader)).collect()
}

fn put_op(out: &mut Vec<u8>, op: &MetaOp) {
    match op {
        MetaOp::RegisterNode { node, epoch } => {
            out.put_u8(1);
            put_node(out, *node, *epoch);
        }
        MetaOp::SetNodeWal {
            node,
            node_epoch,
            wal,
        } => put_node_wal(out, *node, *node_epoch, wal.as_ref()),
        MetaOp::CreateStream { stream } => put_words(out, 3, &[stream.0]),
        MetaOp::OpenStream {
            stream,
            node,
            node_epoch,
            epoch,
        } => {
            out.put_u8(4);
            out.put_u64_le(stream.0);
            put_node(out, *node, *node_epoch);
            out.put_u64_le(epoch.0);
        }
        MetaOp::CommitUpload {
            node,
            node_epoch,
            objects,
            ranges,
            snapshots,
        } => {
            out.put_u8(5);
            put_node(out, *node, *node_epoch);
            put_commit(out, objects, ranges, snapshots);
        }
        MetaOp::TrimStream {
            stream,
            epoch,
            start,
        } => put_words(out, 6, &[stream.0, epoch.0, start.0]),
        MetaOp::DeleteStream { stream } => put_words(out, 7, &[stream.0]),
        MetaOp::PutKey {
            key,
            value,
            expected_version,
        } => put_put(out, key, value, *expected_version),
        MetaOp::DeleteKey {
            key,
            expected_version,
        } => put_delete(out, key, *expected_version),
        MetaOp::RemoveObjects { objects } => put_removal(out, objects),
        MetaOp::SetDeleteDelay { delay_ns } => put_words(out, 25, &[*delay_ns]),
        MetaOp::ReplaceRanges {
            node,
            node_epoch,
            objects,
            replacements,
        } => put_replacements(out, (*node, *node_epoch), objects, replacements),
        MetaOp::CondemnObjects {
            node,
            epoch,
            counter,
        } => put_condemned(out, *node, *epoch, *counter),
        MetaOp::RequireNode { .. } | MetaOp::RequireOwner { .. } | MetaOp::ReleaseStream { .. } => {
            owner::put(out, op)
        }
    }
}

fn put_node_wal(out: &mut Vec<u8>, node: NodeId, node_epoch: Epoch, wal: Option<&WalId>) {
    out.put_u8(2);
    put_node(out, node, node_epoch);
    out.put_u8(u8::from(wal.is_some()));
    out.put_slice(wal.map_or(&[], |wal| &wal.0));
}

fn put_put(out: &mut Vec<u8>, key: &str, value: &[u8], expected_version: Option<u64>) {
    out.put_u8(8);
    put_text(out, key);
    put_count(out, value.len());
    out.put_slice(value);
    put_version(out, expected_version);
}

fn put_delete(out: &mut Vec<u8>, key: &str, expected_version: Option<u64>) {
    out.put_u8(9);
    put_text(out, key);
    put_version(out, expected_version);
}

fn put_replacements(
    out: &mut Vec<u8>,
    (node, node_epoch): (NodeId, Epoch),
    objects: &[NewObject],
    replacements: &[Replacement],
) {
    out.put_u8(20);
    put_node(out, node, node_epoch);
    put_objects(out, objects);
    replace::put(out, replacements);
}

fn put_condemned(out: &mut Vec<u8>, node: NodeId, epoch: Epoch, counter: u64) {
    out.put_u8(21);
    put_node(out, node, epoch);
    out.put_u64_le(counter);
}

fn put_removal(out: &mut Vec<u8>, objects: &[ObjectId]) {
    out.put_u8(10);
    put_count(out, objects.len());
    objects.iter().for_each(|id| put_id(out, id));
}

fn put_objects(out: &mut Vec<u8>, objects: &[NewObject]) {
    put_count(out, objects.len());
    for object in objects {
        put_id(out, &object.id);
        out.put_u8(object.kind.code());
        out.put_u64_le(object.size);
        out.put_u64_le(object.index_position);
        out.put_u32_le(object.footer_crc);
    }
}

fn put_commit(
    out: &mut Vec<u8>,
    objects: &[NewObject],
    ranges: &[NewRange],
    snapshots: &[NewSnapshot],
) {
    put_objects(out, objects);
    put_count(out, ranges.len());
    for range in ranges {
        out.put_u64_le(range.stream.0);
        out.put_u64_le(range.epoch.0);
        out.put_u64_le(range.start.0);
        out.put_u64_le(range.end.0);
        out.put_i64_le(range.timestamp_ms_max);
        out.put_u32_le(range.object);
    }
    put_count(out, snapshots.len());
    for snapshot in snapshots {
        out.put_u64_le(snapshot.stream.0);
        out.put_u64_le(snapshot.epoch.0);
        out.put_u64_le(snapshot.as_of.0);
        out.put_u32_le(snapshot.object);
        out.put_u64_le(snapshot.position);
        out.put_u32_le(snapshot.size);
    }
}

fn put_version(out: &mut Vec<u8>, version: Option<u64>) {
    out.put_u8(u8::from(version.is_some()));
    if let Some(version) = version {
        out.put_u64_le(version);
    }
}

fn read_op(reader: &mut Reader) -> Result<MetaOp, FormatError> {
    Ok(match reader.u8()? {
        1 => {
            let (node, epoch) = read_node(reader)?;
            MetaOp::RegisterNode { node, epoch }
        }
        2 => read_node_wal(reader)?,
        3 => MetaOp::CreateStream {
            stream: StreamId(reader.u64()?),
        },
        4 => {
            let stream = StreamId(reader.u64()?);
            let (node, node_epoch) = read_node(reader)?;
            MetaOp::OpenStream {
                stream,
                node,
                node_epoch,
                epoch: Epoch(reader.u64()?),
            }
        }
        5 => read_commit(reader)?,
        6 => {
            let (stream, epoch) = (StreamId(reader.u64()?), Epoch(reader.u64()?));
            MetaOp::TrimStream {
                stream,
                epoch,
                start: Offset(reader.u64()?),
            }
        }
        7 => MetaOp::DeleteStream {
            stream: StreamId(reader.u64()?),
        },
        8 => read_put(reader)?,
        9 => MetaOp::DeleteKey {
            key: read_text(reader)?,
            expected_version: read_version(reader)?,
        },
        10 => {
            let count = reader.count(ID_SIZE, "objects")?;
            MetaOp::RemoveObjects {
                objects: (0..count)
                    .map(|_| read_id(reader))
                    .collect::<Result<_, _>>()?,
            }
        }
        20 => {
            let (node, node_epoch) = read_node(reader)?;
            MetaOp::ReplaceRanges {
                node,
                node_epoch,
                objects: read_objects(reader)?,
                replacements: replace::read(reader)?,
            }
        }
        21 => read_condemned(reader)?,
        tag @ 22..=24 => owner::read(tag, reader)?,
        25 => MetaOp::SetDeleteDelay {
            delay_ns: reader.u64()?,
        },
        // The checksum held, so this is no damage: an operation of a newer version.
        other => {
            return Err(FormatError::Unsupported {
                version: u16::from(other) << 8,
            });
        }
    })
}

fn read_condemned(reader: &mut Reader) -> Result<MetaOp, FormatError> {
    let (node, epoch) = read_node(reader)?;
    Ok(MetaOp::CondemnObjects {
        node,
        epoch,
        counter: reader.u64()?,
    })
}

fn read_node_wal(reader: &mut Reader) -> Result<MetaOp, FormatError> {
    let (node, node_epoch) = read_node(reader)?;
    let wal = reader.flag("WAL flag")?;
    let wal = if wal {
        Some(WalId(reader.array()?))
    } else {
        None
    };
    Ok(MetaOp::SetNodeWal {
        node,
        node_epoch,
        wal,
    })
}

fn read_put(reader: &mut Reader) -> Result<MetaOp, FormatError> {
    let key = read_text(reader)?;
    let size = reader.count(1, "value size")?;
    // A value outlives its entry: copied, so that it does not pin the entry's buffer.
    let value = Bytes::copy_from_slice(&reader.bytes(size)?);
    Ok(MetaOp::PutKey {
        key,
        value,
        expected_version: read_version(reader)?,
    })
}

fn read_objects(reader: &mut Reader) -> Result<Vec<NewObject>, FormatError> {
    let count = reader.count(OBJECT_SIZE, "objects")?;
    let objects = (0..count).map(|_| {
        Ok(NewObject {
            id: read_id(reader)?,
            kind: read_kind(reader)?,
            size: reader.u64()?,
            index_position: reader.u64()?,
            footer_crc: reader.u32()?,
        })
    });
    objects.collect()
}

fn read_commit(reader: &mut Reader) -> Result<MetaOp, FormatError> {
    let (node, node_epoch) = read_node(reader)?;
    let objects = read_objects(reader)?;
    let count = reader.count(RANGE_SIZE, "ranges")?;
    let ranges = (0..count).map(|_| {
        Ok(NewRange {
            stream: StreamId(reader.u64()?),
            epoch: Epoch(reader.u64()?),
            start: Offset(reader.u64()?),
            end: Offset(reader.u64()?),
            timestamp_ms_max: reader.i64()?,
            object: reader.u32()?,
        })
    });
    let ranges = ranges.collect::<Result<_, FormatError>>()?;
    let count = reader.count(SNAPSHOT_SIZE, "snapshots")?;
    let snapshots = (0..count).map(|_| {
        Ok(NewSnapshot {
            stream: StreamId(reader.u64()?),
            epoch: Epoch(reader.u64()?),
            as_of: Offset(reader.u64()?),
            object: reader.u32()?,
            position: reader.u64()?,
            size: reader.u32()?,
        })
    });
    let snapshots = snapshots.collect::<Result<_, FormatError>>()?;
    Ok(MetaOp::CommitUpload {
        node,
        node_epoch,
        objects,
        ranges,
        snapshots,
    })
}

fn read_version(reader: &mut Reader) -> Result<Option<u64>, FormatError> {
    let some = reader.flag("version flag")?;
    if some {
        reader.u64().map(Some)
    } else {
        Ok(None)
    }
}
