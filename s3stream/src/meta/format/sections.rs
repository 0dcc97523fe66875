//! Codec of the sections of a metadata snapshot: nodes, objects, streams, ranges, keys.
//!
//! *Owns*: their layout, where a part ends, and the check that what was read is a
//! state the machine can be in.
//! *Does not own*: the objects they lie in (`snapshot`).
//!
//! Invariants
//! 1. Everything is in ascending order, also from part to part.
//! 2. References are counted again when read and must agree with who is dead.
//! 3. A part ends where an item does; the ranges of a stream may go on in the next.
//!
//! *Format: docs/formats/metadata-snapshot.md*
//! *IO: none*

use std::collections::btree_map;

use bytes::{BufMut, Bytes};
use tidewater_types::{Epoch, NodeId, Offset, StreamId, WalId};

use crate::meta::chunk_map::{Iter, Ranks};
use crate::meta::state::{
    KeyState, MetaState, NodeState, ObjectState, RangeState, SnapshotRef, StreamState,
};
use crate::object_id::{COMPACTION_COUNTERS, ObjectId};
use crate::reader::{FormatError, Reader};

use super::field::{put_count, put_id, put_text, read_id, read_kind, read_text};

const NODES: u8 = 1;
const OBJECTS: u8 = 2;
const STREAMS: u8 = 3;
const RANGES: u8 = 4;
const KEYS: u8 = 5;
const COMPACTIONS: u8 = 6;
const DELETE_DELAY: u8 = 7;
const OWNED_SINCE: u8 = 8;

/// The sections of a state, in runs of about the size asked for.
pub(crate) struct Sections<'a> {
    run_bytes: usize,
    ranks: Ranks<'a, ObjectId, ObjectState>,
    nodes: btree_map::Iter<'a, NodeId, NodeState>,
    objects: Iter<'a, ObjectId, ObjectState>,
    streams: Iter<'a, StreamId, StreamState>,
    /// The stream whose ranges are next, and what is left of them.
    ranges: Option<(StreamId, Iter<'a, Offset, RangeState>)>,
    ranges_after: Iter<'a, StreamId, StreamState>,
    keys: Iter<'a, String, KeyState>,
    compactions: btree_map::Iter<'a, NodeId, NodeState>,
    owned: Iter<'a, StreamId, StreamState>,
    /// Taken once it is written.
    delete_delay_ns: Option<u64>,
}

impl<'a> Sections<'a> {
    pub(crate) fn new(state: &'a MetaState, run_bytes: usize) -> Self {
        Self {
            run_bytes,
            ranks: state.objects.ranks(),
            nodes: state.nodes.iter(),
            objects: state.objects.iter(),
            streams: state.streams.iter(),
            ranges: None,
            ranges_after: state.streams.iter(),
            keys: state.keys.iter(),
            compactions: state.nodes.iter(),
            owned: state.streams.iter(),
            delete_delay_ns: Some(state.delete_delay_ns).filter(|delay| *delay > 0),
        }
    }

    /// Writes items until there are none or the run is long enough; nothing if there were none.
    fn section(
        &mut self,
        out: &mut Vec<u8>,
        tag: u8,
        mut put: impl FnMut(&mut Self, &mut Vec<u8>) -> bool,
    ) {
        let at = out.len();
        out.put_u8(tag);
        out.put_u32_le(0);
        let mut count = 0u32;
        while out.len() < self.run_bytes && put(self, out) {
            count += 1;
        }
        if count == 0 {
            out.truncate(at);
        } else {
            out[at + 1..at + 5].copy_from_slice(&count.to_le_bytes());
        }
    }

    fn rank(&self, id: &ObjectId) -> u32 {
        u32::try_from(self.ranks.rank(id)).expect("fewer than 2^32 objects")
    }

    fn put_node(&mut self, out: &mut Vec<u8>) -> bool {
        let Some((id, node)) = self.nodes.next() else {
            return false;
        };
        out.put_u32_le(id.0);
        out.put_u64_le(node.epoch.0);
        out.put_u64_le(node.objects_committed);
        out.put_u8(u8::from(node.wal.is_some()));
        out.put_slice(node.wal.as_ref().map_or(&[], |wal| &wal.0));
        true
    }

    fn put_object(&mut self, out: &mut Vec<u8>) -> bool {
        let Some((id, object)) = self.objects.next() else {
            return false;
        };
        put_id(out, id);
        out.put_u8(object.kind.code());
        out.put_u64_le(object.size);
        out.put_u64_le(object.index_position);
        out.put_u32_le(object.footer_crc);
        // Log entries count from 1: 0 says alive.
        out.put_u64_le(object.died_seq.unwrap_or(0));
        true
    }

    fn put_stream(&mut self, out: &mut Vec<u8>) -> bool {
        let Some((id, stream)) = self.streams.next() else {
            return false;
        };
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
            out.put_u32_le(self.rank(&snapshot.object));
            out.put_u64_le(snapshot.position);
            out.put_u32_le(snapshot.size);
        }
        true
    }

    /// One stream's ranges, or as many as the run takes.
    fn put_ranges(&mut self, out: &mut Vec<u8>) -> bool {
        let (stream, mut ranges) = loop {
            if let Some(open) = self.ranges.take() {
                break open;
            }
            let Some((id, stream)) = self.ranges_after.next() else {
                return false;
            };
            if !stream.ranges.is_empty() {
                self.ranges = Some((*id, stream.ranges.iter()));
            }
        };
        out.put_u64_le(stream.0);
        let count_at = out.len();
        out.put_u32_le(0);
        let mut count = 0u32;
        while out.len() < self.run_bytes || count == 0 {
            let Some((start, range)) = ranges.next() else {
                break;
            };
            out.put_u64_le(start.0);
            out.put_u64_le(range.end.0);
            out.put_i64_le(range.timestamp_ms_max);
            out.put_u32_le(self.rank(&range.object));
            count += 1;
        }
        out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
        if ranges.size_hint().0 > 0 {
            self.ranges = Some((stream, ranges));
        }
        true
    }

    fn put_key(&mut self, out: &mut Vec<u8>) -> bool {
        let Some((key, value)) = self.keys.next() else {
            return false;
        };
        put_text(out, key);
        out.put_u64_le(value.version);
        put_count(out, value.value.len());
        out.put_slice(&value.value);
        true
    }
}

impl Sections<'_> {
    /// A node that never compacted takes no room.
    fn put_compactions(&mut self, out: &mut Vec<u8>) -> bool {
        let nodes = self.compactions.by_ref();
        let Some((id, node)) =
            nodes.find(|(_, node)| node.compactions_committed > COMPACTION_COUNTERS)
        else {
            return false;
        };
        out.put_u32_le(id.0);
        out.put_u64_le(node.compactions_committed);
        true
    }

    /// A stream that no other node had takes no room.
    fn put_owned_since(&mut self, out: &mut Vec<u8>) -> bool {
        let streams = self.owned.by_ref();
        let mut moved = streams.filter(|(_, stream)| stream.owned_since > Epoch(0));
        let Some((id, stream)) = moved.next() else {
            return false;
        };
        out.put_u64_le(id.0);
        out.put_u64_le(stream.owned_since.0);
        true
    }

    fn put_delete_delay(&mut self, out: &mut Vec<u8>) -> bool {
        let delay_ns = self.delete_delay_ns.take();
        delay_ns
            .inspect(|delay_ns| out.put_u64_le(*delay_ns))
            .is_some()
    }
}

impl Iterator for Sections<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.run_bytes.min(64 << 10));
        self.section(&mut out, NODES, Self::put_node);
        self.section(&mut out, OBJECTS, Self::put_object);
        self.section(&mut out, STREAMS, Self::put_stream);
        self.section(&mut out, RANGES, Self::put_ranges);
        self.section(&mut out, KEYS, Self::put_key);
        self.section(&mut out, COMPACTIONS, Self::put_compactions);
        self.section(&mut out, DELETE_DELAY, Self::put_delete_delay);
        self.section(&mut out, OWNED_SINCE, Self::put_owned_since);
        (!out.is_empty()).then_some(out)
    }
}

/// Puts a state together from the sections of one part after the other.
pub(crate) struct SectionsReader {
    state: MetaState,
    ids: Vec<ObjectId>,
    compacted: Option<NodeId>,
    owned: Option<StreamId>,
    tag: u8,
}

impl SectionsReader {
    pub(crate) fn new(state: MetaState) -> Self {
        let ids = Vec::new();
        Self {
            state,
            ids,
            compacted: None,
            owned: None,
            tag: 0,
        }
    }

    /// Reads the sections of the next part.
    pub(crate) fn feed(&mut self, sections: Bytes) -> Result<(), FormatError> {
        let reader = &mut Reader::new(sections);
        let mut in_part = 0;
        while reader.remaining() > 0 {
            let tag = reader.u8()?;
            // A section goes on in the next part at most, and never in the same.
            if tag <= in_part || tag < self.tag || tag > OWNED_SINCE {
                return Err(reader.damaged("section", u64::from(self.tag), u64::from(tag)));
            }
            (in_part, self.tag) = (tag, tag);
            let size_min = match tag {
                NODES => 21,
                OBJECTS => 57,
                STREAMS => 34,
                RANGES => 40,
                KEYS => 14,
                COMPACTIONS => 12,
                OWNED_SINCE => 16,
                _ => 8,
            };
            for _ in 0..some(reader, size_min, "items")? {
                match tag {
                    NODES => self.node(reader)?,
                    OBJECTS => self.object(reader)?,
                    STREAMS => self.stream(reader)?,
                    RANGES => self.ranges(reader)?,
                    KEYS => self.key(reader)?,
                    COMPACTIONS => self.compactions(reader)?,
                    OWNED_SINCE => self.owned_since(reader)?,
                    _ => self.delete_delay(reader)?,
                }
            }
        }
        Ok(())
    }

    /// The state, if every reference fits.
    pub(crate) fn finish(self) -> Result<MetaState, FormatError> {
        let nothing = Reader::new(Bytes::new());
        for object in self.state.objects.values() {
            let dead = object.died_seq.is_some();
            nothing.expect(
                "dead objects have no reference",
                u64::from(dead),
                u64::from(object.num_references == 0),
            )?;
        }
        Ok(self.state)
    }

    fn node(&mut self, reader: &mut Reader) -> Result<(), FormatError> {
        let id = NodeId(reader.u32()?);
        let (epoch, objects_committed) = (Epoch(reader.u64()?), reader.u64()?);
        let wal = if reader.flag("WAL flag")? {
            Some(WalId(reader.array()?))
        } else {
            None
        };
        let last = self.state.nodes.last_key_value();
        ascending(reader, last.map(|(last, _)| last), &id)?;
        let node = NodeState {
            epoch,
            wal,
            objects_committed,
            compactions_committed: COMPACTION_COUNTERS,
        };
        self.state.nodes.insert(id, node);
        Ok(())
    }

    fn compactions(&mut self, reader: &mut Reader) -> Result<(), FormatError> {
        let (id, counter) = (NodeId(reader.u32()?), reader.u64()?);
        ascending(reader, self.compacted.as_ref(), &id)?;
        self.compacted = Some(id);
        let node = self.state.nodes.get_mut(&id);
        let node = node.filter(|_| counter > COMPACTION_COUNTERS);
        let node = node.ok_or_else(|| reader.damaged("node and counter of a compaction", 1, 0))?;
        node.compactions_committed = counter;
        Ok(())
    }

    fn owned_since(&mut self, reader: &mut Reader) -> Result<(), FormatError> {
        let (id, epoch) = (StreamId(reader.u64()?), Epoch(reader.u64()?));
        ascending(reader, self.owned.as_ref(), &id)?;
        self.owned = Some(id);
        let stream = self.state.streams.get_mut(&id);
        let stream = stream.filter(|stream| (Epoch(1)..=stream.epoch).contains(&epoch));
        let stream = stream.ok_or_else(|| reader.damaged("stream and epoch of a move", 1, 0))?;
        stream.owned_since = epoch;
        Ok(())
    }

    fn delete_delay(&mut self, reader: &mut Reader) -> Result<(), FormatError> {
        let (known, delay_ns) = (self.state.delete_delay_ns, reader.u64()?);
        if known != 0 || delay_ns == 0 {
            return Err(reader.damaged("deletion delay, said once", 0, known));
        }
        self.state.delete_delay_ns = delay_ns;
        Ok(())
    }

    fn object(&mut self, reader: &mut Reader) -> Result<(), FormatError> {
        let id = read_id(reader)?;
        ascending(reader, self.ids.last(), &id)?;
        self.ids.push(id);
        let kind = read_kind(reader)?;
        let (size, index_position, footer_crc) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let died_seq = Some(reader.u64()?).filter(|seq| *seq != 0);
        if died_seq.is_some() {
            self.state.dead.insert(id);
        }
        let object = ObjectState {
            kind,
            size,
            index_position,
            footer_crc,
            num_references: 0,
            died_seq,
        };
        self.state.objects.insert(id, object);
        Ok(())
    }

    fn stream(&mut self, reader: &mut Reader) -> Result<(), FormatError> {
        let id = StreamId(reader.u64()?);
        let last = self.state.streams.last_key_value();
        ascending(reader, last.map(|(last, _)| last), &id)?;
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
            let object = self.reference(reader)?;
            stream.snapshot = Some(SnapshotRef {
                as_of,
                object,
                position: reader.u64()?,
                size: reader.u32()?,
            });
        }
        self.state.streams.insert(id, stream);
        Ok(())
    }

    fn ranges(&mut self, reader: &mut Reader) -> Result<(), FormatError> {
        let id = StreamId(reader.u64()?);
        for _ in 0..some(reader, 28, "ranges")? {
            let (start, end) = (Offset(reader.u64()?), Offset(reader.u64()?));
            let timestamp_ms_max = reader.i64()?;
            let object = self.reference(reader)?;
            let Some(stream) = self.state.streams.get_mut(&id) else {
                return Err(reader.damaged("stream of a range", 0, id.0));
            };
            ascending(reader, Some(&start), &end)?;
            let last = stream.ranges.last_key_value();
            ascending(reader, last.map(|(last, _)| last), &start)?;
            let range = RangeState {
                end,
                object,
                timestamp_ms_max,
            };
            stream.ranges.insert(start, range);
        }
        Ok(())
    }

    fn key(&mut self, reader: &mut Reader) -> Result<(), FormatError> {
        let key = read_text(reader)?;
        let version = reader.u64()?;
        let size = reader.count(1, "value size")?;
        // Copied, so that a value does not pin the buffer of its part.
        let value = Bytes::copy_from_slice(&reader.bytes(size)?);
        let last = self.state.keys.last_key_value();
        ascending(reader, last.map(|(last, _)| last), &key)?;
        self.state.keys.insert(key, KeyState { value, version });
        Ok(())
    }

    fn reference(&mut self, reader: &mut Reader) -> Result<ObjectId, FormatError> {
        let index = reader.u32()?;
        let id = self.ids.get(index as usize).copied();
        let most = self.ids.len() as u64;
        let id = id.ok_or_else(|| reader.damaged("object index", most, u64::from(index)))?;
        let object = self.state.objects.get_mut(&id);
        object.expect("ids are those of the objects").num_references += 1;
        Ok(id)
    }
}

/// A count of things, of which there is one at least.
fn some(reader: &mut Reader, size_min: usize, what: &'static str) -> Result<usize, FormatError> {
    match reader.count(size_min, what)? {
        0 => Err(reader.damaged(what, 1, 0)),
        count => Ok(count),
    }
}

fn ascending<T: Ord>(reader: &Reader, last: Option<&T>, next: &T) -> Result<(), FormatError> {
    if last.is_none_or(|last| last < next) {
        Ok(())
    } else {
        Err(reader.damaged("ascending order", 1, 0))
    }
}
