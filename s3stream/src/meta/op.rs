//! The operations of the metadata log.
//!
//! *Owns*: what can be asked of the state machine.
//! *Does not own*: whether it is granted (`apply`), how it is stored (`format`).
//!
//! Invariants
//! 1. An operation names the epochs it relies on; they are checked when it is applied.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::{Epoch, NodeId, Offset, StreamId, WalId};

use crate::object_id::{ObjectId, ObjectKind};

/// An object that was uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewObject {
    /// Its identity; never committed before.
    pub id: ObjectId,
    /// What it holds.
    pub kind: ObjectKind,
    /// Its whole size in bytes.
    pub size: u64,
    /// Where its index begins; index and footer reach to the end.
    pub index_position: u64,
    /// Checksum of its footer, which covers the index, which covers the blocks.
    pub footer_crc: u32,
}

/// A range of a stream that an uploaded object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRange {
    /// The stream.
    pub stream: StreamId,
    /// The epoch under which the uploader holds the stream.
    pub epoch: Epoch,
    /// First offset: the stream's committed end.
    pub start: Offset,
    /// One past the last offset.
    pub end: Offset,
    /// Greatest record timestamp in the range, in milliseconds since the Unix epoch.
    pub timestamp_ms_max: i64,
    /// Which of the commit's objects holds it.
    pub object: u32,
}

/// A state snapshot that an uploaded object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSnapshot {
    /// The stream.
    pub stream: StreamId,
    /// The epoch under which the uploader holds the stream.
    pub epoch: Epoch,
    /// The offset the state is of; not above the stream's committed end.
    pub as_of: Offset,
    /// Which of the commit's objects holds it.
    pub object: u32,
    /// Where its block begins.
    pub position: u64,
    /// Size of the block in bytes.
    pub size: u32,
}

/// A range as it lies now, to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRange {
    /// First offset.
    pub start: Offset,
    /// One past the last offset.
    pub end: Offset,
    /// The object that holds it.
    pub object: ObjectId,
}

/// A range as compaction wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetRange {
    /// First offset.
    pub start: Offset,
    /// One past the last offset.
    pub end: Offset,
    /// Greatest record timestamp in the range, in milliseconds since the Unix epoch.
    pub timestamp_ms_max: i64,
    /// Which of the operation's objects holds it.
    pub object: u32,
}

/// A state snapshot that compaction took along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedSnapshot {
    /// The object it lies in now.
    pub from: ObjectId,
    /// Where its block begins there.
    pub from_position: u64,
    /// Which of the operation's objects holds it.
    pub object: u32,
    /// Where its block begins.
    pub position: u64,
    /// Size of the block in bytes.
    pub size: u32,
}

/// New places for a run of a stream's ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The stream.
    pub stream: StreamId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The ranges that are replaced, ascending and contiguous, at least one.
    pub sources: Vec<SourceRange>,
    /// What replaces them: the same offsets, ascending and contiguous.
    pub targets: Vec<TargetRange>,
    /// The stream's state snapshot, if it moves along. Left alone if a newer one was committed.
    pub snapshot: Option<MovedSnapshot>,
}

/// One change of the metadata, or a condition of the changes beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaOp {
    /// A node begins a new life; whoever acted for it before is fenced.
    RegisterNode {
        /// The node.
        node: NodeId,
        /// Its last epoch plus 1; 1 for a new node.
        epoch: Epoch,
    },
    /// Names the write-ahead log a node must have.
    SetNodeWal {
        /// The node.
        node: NodeId,
        /// Its epoch.
        node_epoch: Epoch,
        /// The log; `None` if it needs none.
        wal: Option<WalId>,
    },
    /// Creates an empty stream.
    CreateStream {
        /// `MetaState::next_stream_id()` or above.
        stream: StreamId,
    },
    /// A node takes a stream over.
    OpenStream {
        /// The stream.
        stream: StreamId,
        /// The new owner.
        node: NodeId,
        /// The owner's epoch.
        node_epoch: Epoch,
        /// Above the stream's epoch.
        epoch: Epoch,
    },
    /// Changes nothing: the transaction is rejected if another node owns the stream. Whoever owns
    /// it may hold records that are in no object yet.
    RequireOwner {
        /// The stream.
        stream: StreamId,
        /// Its owner, unless it has none.
        node: NodeId,
    },
    /// The owner, which has uploaded all of the stream, gives it up: any node may open it.
    ReleaseStream {
        /// The stream.
        stream: StreamId,
        /// Its epoch.
        epoch: Epoch,
    },
    /// Makes uploaded ranges part of their streams.
    ///
    /// Judged per stream: a range of a stream that was deleted, was opened under another epoch
    /// or does not end where the range starts is dropped and reported; the rest commits.
    CommitUpload {
        /// The uploader.
        node: NodeId,
        /// Its epoch.
        node_epoch: Epoch,
        /// The objects, counters ascending.
        objects: Vec<NewObject>,
        /// What they hold, at most one range a stream.
        ranges: Vec<NewRange>,
        /// States of the streams' owners.
        snapshots: Vec<NewSnapshot>,
    },
    /// Moves the start of a stream forward; does nothing if it is there already.
    ///
    /// The start may pass the committed end: the owner trimmed what it has not uploaded yet.
    TrimStream {
        /// The stream.
        stream: StreamId,
        /// Its epoch.
        epoch: Epoch,
        /// The new start.
        start: Offset,
    },
    /// Deletes a stream and gives up what it references.
    DeleteStream {
        /// The stream.
        stream: StreamId,
    },
    /// Sets a key.
    PutKey {
        /// 1 to 1,024 bytes.
        key: String,
        /// The value.
        value: Bytes,
        /// The version the key must have; `Some(0)`: there must be none; `None`: any.
        expected_version: Option<u64>,
    },
    /// Deletes a key; does nothing if there is none and none is expected.
    DeleteKey {
        /// The key.
        key: String,
        /// The version the key must have; `None`: any.
        expected_version: Option<u64>,
    },
    /// Puts compacted objects in the place of ranges.
    ///
    /// Judged per stream: if the stream was deleted, is at another epoch or one of its sources is
    /// not exactly there any more, its replacement is dropped and reported; the rest applies.
    ReplaceRanges {
        /// The compactor.
        node: NodeId,
        /// Its epoch.
        node_epoch: Epoch,
        /// The objects, counters ascending, all of compaction.
        objects: Vec<NewObject>,
        /// What they replace.
        replacements: Vec<Replacement>,
    },
    /// Objects of a node's epoch up to a counter that are not committed never will be.
    ///
    /// Does nothing if the node is at a later epoch: then none of them ever will be, either.
    CondemnObjects {
        /// The node whose objects they are.
        node: NodeId,
        /// Its epoch.
        epoch: Epoch,
        /// The greatest counter; those of uploads and of compaction are apart.
        counter: u64,
    },
    /// Changes nothing: the transaction is rejected unless this is the node's epoch.
    ///
    /// For operations that name no epoch of their own, such as those on keys: without it a process
    /// whose node was registered anew goes on changing what its successor believes to know.
    RequireNode {
        /// The node the proposer acts for.
        node: NodeId,
        /// The epoch it registered.
        node_epoch: Epoch,
    },
    /// Says how long a deletion in the log is announced before it is made. Every process relies on it,
    /// so it is said once and never changes; saying the same again does nothing.
    SetDeleteDelay {
        /// Nanoseconds, at least 1.
        delay_ns: u64,
    },
    /// Forgets dead objects that were deleted from the bucket. Unknown ids are passed over:
    /// another sweeper was faster.
    RemoveObjects {
        /// Dead objects.
        objects: Vec<ObjectId>,
    },
}

impl MetaOp {
    /// Whether it is rejected once the node is at another epoch.
    pub(crate) fn relies_on(&self, owner: (NodeId, Epoch)) -> bool {
        match self {
            Self::SetNodeWal {
                node, node_epoch, ..
            }
            | Self::OpenStream {
                node, node_epoch, ..
            }
            | Self::CommitUpload {
                node, node_epoch, ..
            }
            | Self::ReplaceRanges {
                node, node_epoch, ..
            }
            | Self::RequireNode { node, node_epoch } => (*node, *node_epoch) == owner,
            _ => false,
        }
    }
}
