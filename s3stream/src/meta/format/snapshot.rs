//! Codec of a metadata snapshot: the whole state after one log entry.
//!
//! *Owns*: the layout, the checksum, and the check that what was read is a state
//! the machine can be in.
//! *Does not own*: which snapshot is read.
//!
//! Invariants
//! 1. Everything is in ascending order: one byte form for each state, so two
//!    nodes that snapshot the same entry write the same bytes.
//! 2. References are counted again when read and must agree with who is dead.
//!
//! *Format: docs/formats/metadata-snapshot.md*
//! *IO: none*

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes};
use tidewater_types::{ClusterId, Epoch, NodeId, Offset, StreamId, WalId, crc32c};

use crate::meta::state::{
    KeyState, MetaState, NodeState, ObjectState, RangeState, SnapshotRef, StreamState,
};
use crate::object_id::ObjectId;
use crate::reader::{FormatError, Reader};

use super::op::{put_count, put_id, put_text, read_id, read_kind, read_text};

pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"TWMS");
pub(crate) const VERSION: u16 = 1;
pub(crate) const HEADER_SIZE: usize = 48;
const CRC_AT: usize = HEADER_SIZE - 4;

/// The bytes of the state.
pub(crate) fn encode(state: &MetaState) -> Bytes {
    let mut out = Vec::new();
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
    put_nodes(&mut out, state);
    let indices = put_objects(&mut out, state);
    put_count(&mut out, state.streams.len());
    for (id, stream) in &state.streams {
        put_stream(&mut out, *id, stream, &indices);
    }
    put_count(&mut out, state.keys.len());
    for (key, value) in &state.keys {
        put_text(&mut out, key);
        out.put_u64_le(value.version);
        put_count(&mut out, value.value.len());
        out.put_slice(&value.value);
    }
    let body_size = (out.len() - HEADER_SIZE) as u64;
    out[size_at..size_at + 8].copy_from_slice(&body_size.to_le_bytes());
    let crc = crc32c(&[&out[..CRC_AT], &out[HEADER_SIZE..]]);
    out[CRC_AT..HEADER_SIZE].copy_from_slice(&crc.to_le_bytes());
    Bytes::from(out)
}

fn put_nodes(out: &mut Vec<u8>, state: &MetaState) {
    put_count(out, state.nodes.len());
    for (id, node) in &state.nodes {
        out.put_u32_le(id.0);
        out.put_u64_le(node.epoch.0);
        out.put_u64_le(node.objects_committed);
        out.put_u8(u8::from(node.wal.is_some()));
        out.put_slice(node.wal.as_ref().map_or(&[], |wal| &wal.0));
    }
}

fn put_objects(out: &mut Vec<u8>, state: &MetaState) -> BTreeMap<ObjectId, u32> {
    put_count(out, state.objects.len());
    let mut indices = BTreeMap::new();
    for (index, (id, object)) in (0u32..).zip(&state.objects) {
        indices.insert(*id, index);
        put_id(out, id);
        out.put_u8(object.kind.code());
        out.put_u64_le(object.size);
        out.put_u64_le(object.index_position);
        out.put_u32_le(object.footer_crc);
        // Log entries count from 1: 0 says alive.
        out.put_u64_le(object.died_seq.unwrap_or(0));
    }
    indices
}

fn put_stream(
    out: &mut Vec<u8>,
    id: StreamId,
    stream: &StreamState,
    indices: &BTreeMap<ObjectId, u32>,
) {
    out.put_u64_le(id.0);
    out.put_u64_le(stream.epoch.0);
    out.put_u8(u8::from(stream.owner.is_some()));
    if let Some(owner) = stream.owner {
        out.put_u32_le(owner.0);
    }
    out.put_u64_le(stream.start.0);
    out.put_u64_le(stream.end.0);
    out.put_u8(u8::from(stream.snapshot.is_some()));
    if let Some(snapshot) = &stream.snapshot {
        out.put_u64_le(snapshot.as_of.0);
        out.put_u32_le(indices[&snapshot.object]);
        out.put_u64_le(snapshot.position);
        out.put_u32_le(snapshot.size);
    }
    put_count(out, stream.ranges.len());
    for (start, range) in &stream.ranges {
        out.put_u64_le(start.0);
        out.put_u64_le(range.end.0);
        out.put_i64_le(range.timestamp_ms_max);
        out.put_u32_le(indices[&range.object]);
    }
}

/// Reads a snapshot that should be of log entry `seq`.
pub(crate) fn decode(bytes: Bytes, seq: u64) -> Result<MetaState, FormatError> {
    let mut reader = Reader::new(bytes.clone());
    let magic = reader.u32()?;
    reader.expect("magic", u64::from(MAGIC), u64::from(magic))?;
    let version = reader.u16()?;
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
    let mut state = MetaState::new(ClusterId(reader.array()?));
    (state.seq, state.log_crc) = (seq, reader.u32()?);
    let body_size = reader.u64()?;
    reader.u32()?;
    reader.expect("body size", body_size, reader.remaining() as u64)?;
    (state.next_stream, state.last_version) = (reader.u64()?, reader.u64()?);
    read_nodes(&mut reader, &mut state)?;
    let ids = read_objects(&mut reader, &mut state)?;
    for _ in 0..reader.count(34, "streams")? {
        read_stream(&mut reader, &mut state, &ids)?;
    }
    for _ in 0..reader.count(14, "keys")? {
        let key = read_text(&mut reader)?;
        let version = reader.u64()?;
        let size = reader.count(1, "value size")?;
        let value = Bytes::copy_from_slice(&reader.bytes(size)?);
        ascending(
            &reader,
            state.keys.last_key_value().map(|(last, _)| last),
            &key,
        )?;
        state.keys.insert(key, KeyState { value, version });
    }
    reader.finish()?;
    for object in state.objects.values() {
        let dead = object.died_seq.is_some();
        reader.expect(
            "dead objects have no reference",
            u64::from(dead),
            u64::from(object.num_references == 0),
        )?;
    }
    Ok(state)
}

fn ascending<T: Ord>(reader: &Reader, last: Option<&T>, next: &T) -> Result<(), FormatError> {
    if last.is_none_or(|last| last < next) {
        Ok(())
    } else {
        Err(reader.damaged("ascending order", 1, 0))
    }
}

fn read_nodes(reader: &mut Reader, state: &mut MetaState) -> Result<(), FormatError> {
    for _ in 0..reader.count(21, "nodes")? {
        let id = NodeId(reader.u32()?);
        let (epoch, objects_committed) = (Epoch(reader.u64()?), reader.u64()?);
        let wal = if reader.flag("WAL flag")? {
            Some(WalId(reader.array()?))
        } else {
            None
        };
        ascending(
            reader,
            state.nodes.last_key_value().map(|(last, _)| last),
            &id,
        )?;
        state.nodes.insert(
            id,
            NodeState {
                epoch,
                wal,
                objects_committed,
            },
        );
    }
    Ok(())
}

fn read_objects(reader: &mut Reader, state: &mut MetaState) -> Result<Vec<ObjectId>, FormatError> {
    let mut ids = Vec::new();
    for _ in 0..reader.count(57, "objects")? {
        let id = read_id(reader)?;
        ascending(reader, ids.last(), &id)?;
        ids.push(id);
        let kind = read_kind(reader)?;
        let (size, index_position, footer_crc) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let died_seq = Some(reader.u64()?).filter(|seq| *seq != 0);
        if died_seq.is_some() {
            state.dead.insert(id);
        }
        let object = ObjectState {
            kind,
            size,
            index_position,
            footer_crc,
            num_references: 0,
            died_seq,
        };
        state.objects.insert(id, object);
    }
    Ok(ids)
}

fn read_stream(
    reader: &mut Reader,
    state: &mut MetaState,
    ids: &[ObjectId],
) -> Result<(), FormatError> {
    let id = StreamId(reader.u64()?);
    ascending(
        reader,
        state.streams.last_key_value().map(|(last, _)| last),
        &id,
    )?;
    let epoch = Epoch(reader.u64()?);
    let owner = if reader.flag("owner flag")? {
        Some(NodeId(reader.u32()?))
    } else {
        None
    };
    let (start, end) = (Offset(reader.u64()?), Offset(reader.u64()?));
    let mut stream = StreamState {
        epoch,
        owner,
        start,
        end,
        ..StreamState::default()
    };
    if reader.flag("snapshot flag")? {
        let as_of = Offset(reader.u64()?);
        let object = read_reference(reader, state, ids)?;
        stream.snapshot = Some(SnapshotRef {
            as_of,
            object,
            position: reader.u64()?,
            size: reader.u32()?,
        });
    }
    for _ in 0..reader.count(28, "ranges")? {
        let (range_start, range_end) = (Offset(reader.u64()?), Offset(reader.u64()?));
        let timestamp_ms_max = reader.i64()?;
        let object = read_reference(reader, state, ids)?;
        ascending(reader, Some(&range_start), &range_end)?;
        ascending(
            reader,
            stream.ranges.last_key_value().map(|(last, _)| last),
            &range_start,
        )?;
        stream.ranges.insert(
            range_start,
            RangeState {
                end: range_end,
                object,
                timestamp_ms_max,
            },
        );
    }
    state.streams.insert(id, stream);
    Ok(())
}

fn read_reference(
    reader: &mut Reader,
    state: &mut MetaState,
    ids: &[ObjectId],
) -> Result<ObjectId, FormatError> {
    let index = reader.u32()?;
    let id = ids.get(index as usize).copied();
    let id =
        id.ok_or_else(|| reader.damaged("object index", ids.len() as u64, u64::from(index)))?;
    let object = state
        .objects
        .get_mut(&id)
        .expect("ids are those of the objects");
    object.num_references += 1;
    Ok(id)
}
