//! The metadata of a cluster as a pure state.
//!
//! *Owns*: streams and their ranges, objects and their references, nodes, the
//! versioned key-value part, and the primitive changes with their inverses.
//! *Does not own*: which change is granted (`apply`), storage (`format`, `log`).
//!
//! Invariants
//! 1. A stream's ranges are contiguous, the last ends at the committed end, and
//!    the first begins at or before the start. There are none if the start is
//!    at or past the end.
//! 2. An object's references are counted: one for each range and each snapshot
//!    that names it. At none it is dead, for ever.
//! 3. Stream ids and key versions only ascend; none is given twice.
//! 4. The state follows from the log alone: no clock, no randomness.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tidewater_types::{ClusterId, Epoch, NodeId, Offset, OffsetRange, StreamId, WalId};

use crate::object_id::{ObjectId, ObjectKind};

use super::chunk_map::{ChunkMap, ChunkSet};
use super::watched::Watched;

/// A registered node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Its current epoch.
    pub epoch: Epoch,
    /// The write-ahead log it must have.
    pub wal: Option<WalId>,
    /// Greatest counter of an upload that was committed or condemned in this epoch.
    pub(crate) objects_committed: u64,
    /// The same of compaction, whose counters lie above 2⁶³.
    pub(crate) compactions_committed: u64,
}

impl NodeState {
    /// Below and at this counter nothing of the node's epoch can be committed any more.
    pub(crate) fn committed(&self, id: &ObjectId) -> u64 {
        if id.is_compacted() {
            self.compactions_committed
        } else {
            self.objects_committed
        }
    }

    pub(crate) fn set_committed(&mut self, id: &ObjectId) {
        let committed = if id.is_compacted() {
            &mut self.compactions_committed
        } else {
            &mut self.objects_committed
        };
        *committed = id.counter.max(*committed);
    }
}

/// Part of a stream that one object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeState {
    /// One past the last offset.
    pub end: Offset,
    /// The object.
    pub object: ObjectId,
    /// Greatest record timestamp, in milliseconds since the Unix epoch.
    pub timestamp_ms_max: i64,
}

/// Where the state snapshot of a stream lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRef {
    /// The offset the state is of.
    pub as_of: Offset,
    /// The object.
    pub object: ObjectId,
    /// Where its block begins.
    pub position: u64,
    /// Size of the block in bytes.
    pub size: u32,
}

/// A stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// Its current epoch; 0 until it is opened for the first time.
    pub epoch: Epoch,
    /// The node that opened it last.
    pub owner: Option<NodeId>,
    /// The epoch with which that node took it; 0 if no other had it before. What was appended under
    /// an earlier one is old: objects hold it, or its loss was accepted.
    pub owned_since: Epoch,
    /// Offsets below are gone. May lie ahead of `end`: the owner trimmed what is not uploaded.
    pub start: Offset,
    /// Offsets below are in objects (or were).
    pub end: Offset,
    /// The last committed state of its owner.
    pub snapshot: Option<SnapshotRef>,
    pub(crate) ranges: ChunkMap<Offset, RangeState>,
}

impl StreamState {
    /// The ranges that objects hold, ascending. The first may begin before the start.
    pub fn ranges(&self) -> impl Iterator<Item = (OffsetRange, &RangeState)> {
        self.ranges.iter().map(|(start, range)| {
            (
                OffsetRange::new(*start, range.end).expect("ranges are not inverted"),
                range,
            )
        })
    }

    /// The ranges that end above `offset`, ascending.
    pub(crate) fn ranges_from(
        &self,
        offset: Offset,
    ) -> impl Iterator<Item = (Offset, &RangeState)> {
        let first = self
            .ranges
            .range(..=offset)
            .next_back()
            .map_or(offset, |(start, _)| *start);
        self.ranges
            .range(first..)
            .map(|(start, range)| (*start, range))
            .filter(move |(_, range)| range.end > offset)
    }

    fn head(&self) -> StreamHead {
        StreamHead {
            epoch: self.epoch,
            owner: self.owner,
            owned_since: self.owned_since,
            start: self.start,
            end: self.end,
            snapshot: self.snapshot,
        }
    }

    fn set_head(&mut self, head: StreamHead) {
        let StreamHead {
            epoch,
            owner,
            owned_since,
            start,
            end,
            snapshot,
        } = head;
        (self.epoch, self.owner, self.owned_since) = (epoch, owner, owned_since);
        (self.start, self.end, self.snapshot) = (start, end, snapshot);
    }
}

/// The part of a stream that is cheap to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamHead {
    pub(crate) epoch: Epoch,
    pub(crate) owner: Option<NodeId>,
    pub(crate) owned_since: Epoch,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) snapshot: Option<SnapshotRef>,
}

/// An object that was committed and is not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectState {
    /// What it holds.
    pub kind: ObjectKind,
    /// Its whole size in bytes.
    pub size: u64,
    /// Where its index begins.
    pub index_position: u64,
    /// Checksum of its footer.
    pub footer_crc: u32,
    /// Ranges and snapshots that name it.
    pub num_references: u64,
    /// The log entry that took the last reference away; the object is dead since.
    pub died_seq: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyState {
    pub(crate) value: Bytes,
    pub(crate) version: u64,
}

/// The metadata of a cluster. A clone costs a counter for each 256 entries, whatever they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaState {
    pub(crate) cluster: ClusterId,
    /// The last log entry applied and its checksum, which the next entry names.
    pub(crate) seq: u64,
    pub(crate) log_crc: u32,
    pub(crate) next_stream: u64,
    pub(crate) last_version: u64,
    /// How long deletions in the log are announced; 0 until somebody said it.
    pub(crate) delete_delay_ns: u64,
    pub(crate) nodes: BTreeMap<NodeId, NodeState>,
    pub(crate) streams: ChunkMap<StreamId, StreamState>,
    pub(crate) objects: ChunkMap<ObjectId, ObjectState>,
    pub(crate) keys: ChunkMap<String, KeyState>,
    /// Derived: the objects without a reference.
    pub(crate) dead: ChunkSet<ObjectId>,
}

impl MetaState {
    pub(crate) fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            seq: 0,
            log_crc: 0,
            next_stream: 1,
            last_version: 0,
            delete_delay_ns: 0,
            nodes: BTreeMap::new(),
            streams: ChunkMap::default(),
            objects: ChunkMap::default(),
            keys: ChunkMap::default(),
            dead: ChunkSet::default(),
        }
    }

    /// The cluster this metadata is of.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster
    }

    /// How long a deletion in the log is announced before it is made; `None` until it was said.
    #[must_use]
    pub fn delete_delay(&self) -> Option<Duration> {
        let said = Some(self.delete_delay_ns).filter(|delay_ns| *delay_ns > 0);
        said.map(Duration::from_nanos)
    }

    /// Number of the last log entry applied.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// A registered node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&NodeState> {
        self.nodes.get(&node)
    }

    /// All registered nodes, ascending by id.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeState)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// The smallest id a new stream may have.
    #[must_use]
    pub fn next_stream_id(&self) -> StreamId {
        StreamId(self.next_stream)
    }

    /// A stream that was created and not deleted.
    #[must_use]
    pub fn stream(&self, stream: StreamId) -> Option<&StreamState> {
        self.streams.get(&stream)
    }

    /// All streams, ascending by id.
    pub fn streams(&self) -> impl Iterator<Item = (StreamId, &StreamState)> {
        self.streams.iter().map(|(id, stream)| (*id, stream))
    }

    /// An object that was committed and is not removed.
    #[must_use]
    pub fn object(&self, object: ObjectId) -> Option<&ObjectState> {
        self.objects.get(&object)
    }

    /// All committed objects that are not removed, ascending by id.
    pub fn objects(&self) -> impl Iterator<Item = (ObjectId, &ObjectState)> {
        self.objects.iter().map(|(id, object)| (*id, object))
    }

    /// The value of a key and its version.
    #[must_use]
    pub fn key(&self, key: &str) -> Option<(&Bytes, u64)> {
        self.keys
            .get(key)
            .map(|state| (&state.value, state.version))
    }

    /// The keys that begin with `prefix`, ascending, with value and version.
    pub fn keys_with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Bytes, u64)> {
        self.keys
            .range::<str, _>((
                std::ops::Bound::Included(prefix),
                std::ops::Bound::Unbounded,
            ))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, state)| (key.as_str(), &state.value, state.version))
    }

    /// Objects without a reference, ascending by id.
    pub(crate) fn dead_objects(&self) -> impl Iterator<Item = ObjectId> {
        self.dead.iter().copied()
    }
}

/// The inverse of one primitive change.
#[derive(Debug)]
enum Undo {
    DeleteDelay,
    Counters { next_stream: u64, last_version: u64 },
    Node(NodeId, Option<NodeState>),
    Stream(StreamId, Option<StreamState>),
    Head(StreamId, StreamHead),
    Range(StreamId, Offset, Option<RangeState>),
    Object(ObjectId, Option<ObjectState>),
    Key(String, Option<KeyState>),
}

/// Changes of one transaction that can still be taken back.
pub(crate) struct Changes<'a> {
    pub(crate) state: &'a mut MetaState,
    undo: Vec<Undo>,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(state: &'a mut MetaState) -> Self {
        Self {
            state,
            undo: Vec::new(),
        }
    }

    pub(crate) fn set_counters(&mut self, next_stream: u64, last_version: u64) {
        let (stream, version) = (&mut self.state.next_stream, &mut self.state.last_version);
        assert!(
            next_stream >= *stream && last_version >= *version,
            "counters only ascend"
        );
        self.undo.push(Undo::Counters {
            next_stream: *stream,
            last_version: *version,
        });
        (*stream, *version) = (next_stream, last_version);
    }

    pub(crate) fn set_delete_delay(&mut self, delay_ns: u64) {
        let known = std::mem::replace(&mut self.state.delete_delay_ns, delay_ns);
        assert_eq!(known, 0, "it is said once");
        self.undo.push(Undo::DeleteDelay);
    }

    pub(crate) fn set_node(&mut self, id: NodeId, node: NodeState) {
        let old = self.state.nodes.insert(id, node);
        self.undo.push(Undo::Node(id, old));
    }

    pub(crate) fn create_stream(&mut self, id: StreamId) {
        let old = self.state.streams.insert(id, StreamState::default());
        assert!(old.is_none(), "a stream is created once");
        self.undo.push(Undo::Stream(id, None));
    }

    pub(crate) fn remove_stream(&mut self, id: StreamId) -> &StreamState {
        let old = self.state.streams.remove(&id);
        assert!(old.is_some(), "only a stream that exists is removed");
        self.undo.push(Undo::Stream(id, old));
        match self.undo.last() {
            Some(Undo::Stream(_, Some(stream))) => stream,
            _ => unreachable!("pushed the line above"),
        }
    }

    pub(crate) fn head(&self, id: StreamId) -> Option<StreamHead> {
        self.state.streams.get(&id).map(StreamState::head)
    }

    pub(crate) fn set_head(&mut self, id: StreamId, head: StreamHead) {
        let stream = self
            .state
            .streams
            .get_mut(&id)
            .expect("the caller looked it up");
        self.undo.push(Undo::Head(id, stream.head()));
        stream.set_head(head);
    }

    pub(crate) fn set_range(&mut self, id: StreamId, start: Offset, range: Option<RangeState>) {
        let ranges = &mut self
            .state
            .streams
            .get_mut(&id)
            .expect("the caller looked it up")
            .ranges;
        let old = match range {
            Some(range) => ranges.insert(start, range),
            None => ranges.remove(&start),
        };
        self.undo.push(Undo::Range(id, start, old));
    }

    pub(crate) fn set_object(&mut self, id: ObjectId, object: Option<ObjectState>) {
        let old = put_object(self.state, id, object);
        self.undo.push(Undo::Object(id, old));
    }

    pub(crate) fn set_key(&mut self, key: &str, value: Option<KeyState>) {
        let old = match value {
            Some(value) => self.state.keys.insert(key.to_owned(), value),
            None => self.state.keys.remove(key),
        };
        self.undo.push(Undo::Key(key.to_owned(), old));
    }

    /// What was changed, in order.
    pub(crate) fn tell(&self, changed: &mut Vec<Watched>) {
        for undo in &self.undo {
            let what = match undo {
                Undo::Node(id, _) => Watched::Node(*id),
                Undo::Stream(id, _) | Undo::Head(id, _) | Undo::Range(id, _, _) => {
                    Watched::Stream(*id)
                }
                Undo::Key(key, _) => Watched::Key(key.clone()),
                Undo::DeleteDelay | Undo::Counters { .. } | Undo::Object(..) => continue,
            };
            if changed.last() != Some(&what) {
                changed.push(what);
            }
        }
    }

    /// Takes every change back, the last one first.
    pub(crate) fn roll_back(mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::DeleteDelay => self.state.delete_delay_ns = 0,
                Undo::Counters {
                    next_stream,
                    last_version,
                } => {
                    (self.state.next_stream, self.state.last_version) = (next_stream, last_version);
                }
                Undo::Node(id, Some(old)) => drop(self.state.nodes.insert(id, old)),
                Undo::Node(id, None) => drop(self.state.nodes.remove(&id)),
                Undo::Stream(id, old) => restore(&mut self.state.streams, id, old),
                Undo::Head(id, head) => {
                    self.state
                        .streams
                        .get_mut(&id)
                        .expect("undone in order")
                        .set_head(head);
                }
                Undo::Range(id, start, old) => {
                    let stream = self.state.streams.get_mut(&id).expect("undone in order");
                    restore(&mut stream.ranges, start, old);
                }
                Undo::Object(id, old) => {
                    put_object(self.state, id, old);
                }
                Undo::Key(key, old) => restore(&mut self.state.keys, key, old),
            }
        }
    }
}

fn restore<K: Ord + Clone, V: Clone>(map: &mut ChunkMap<K, V>, key: K, old: Option<V>) {
    match old {
        Some(old) => map.insert(key, old),
        None => map.remove(&key),
    };
}

fn put_object(
    state: &mut MetaState,
    id: ObjectId,
    object: Option<ObjectState>,
) -> Option<ObjectState> {
    match object {
        Some(object) => {
            if object.died_seq.is_some() {
                state.dead.insert(id);
            } else {
                state.dead.remove(&id);
            }
            state.objects.insert(id, object)
        }
        None => {
            state.dead.remove(&id);
            state.objects.remove(&id)
        }
    }
}
