//! What can go wrong, one enum an operation.
//!
//! *Owns*: the errors of metadata and of the tier, and what a caller does about each.
//! *Does not own*: the bucket's outcomes; tidewater-bucket has them.
//!
//! *IO: none*

use std::time::Duration;

use tidewater_bucket::BucketError;
use tidewater_types::{Epoch, ErrorKind, NodeId, Offset, StreamId};

/// Why a transaction was refused when it was applied. Nothing of it took effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No such node is registered.
    #[error("node {node} is not registered")]
    NodeUnknown {
        /// The node.
        node: NodeId,
    },
    /// A node registers with the epoch that follows its last one, and no other.
    #[error("node {node} is at epoch {current}, the registration names another successor")]
    NodeEpochNotNext {
        /// The node.
        node: NodeId,
        /// Its epoch in the metadata.
        current: Epoch,
    },
    /// The node was registered again; whoever acts under the older epoch must stop.
    #[error("node {node} is fenced, its epoch is {current}")]
    NodeFenced {
        /// The node.
        node: NodeId,
        /// Its epoch in the metadata.
        current: Epoch,
    },
    /// No such stream, or it was deleted.
    #[error("stream {stream} does not exist")]
    StreamUnknown {
        /// The stream.
        stream: StreamId,
    },
    /// The id is or was another stream's.
    #[error("stream id {stream} was given already, the next is {next}")]
    StreamIdUsed {
        /// The id asked for.
        stream: StreamId,
        /// The smallest id that is free.
        next: StreamId,
    },
    /// The stream is at a later epoch, or at this one already.
    #[error("stream {stream} is at epoch {current}")]
    StreamEpochStale {
        /// The stream.
        stream: StreamId,
        /// Its epoch in the metadata.
        current: Epoch,
    },
    /// Another node owns the stream and did not give it up: its WAL may hold records of it.
    #[error("stream {stream} belongs to node {owner}")]
    StreamOwned {
        /// The stream.
        stream: StreamId,
        /// The node.
        owner: NodeId,
    },
    /// The key is not at the version the writer expects.
    #[error("key {key} is at version {current}")]
    KeyVersion {
        /// The key.
        key: String,
        /// Its version; 0 if there is no such key.
        current: u64,
    },
    /// The object id was used before, or is not one this node and epoch may give.
    #[error("object {object} is not a new object of its node")]
    ObjectReused {
        /// The object's key.
        object: String,
    },
    /// The object is still referenced and may not be removed.
    #[error("object {object} is referenced")]
    ObjectLive {
        /// The object's key.
        object: String,
    },
    /// The cluster's log has another deletion delay.
    #[error("deletions in the log are announced {current_ns} ns before they are made")]
    DeleteDelay {
        /// The cluster's, in nanoseconds.
        current_ns: u64,
    },
    /// The operation contradicts itself.
    #[error("malformed operation: {what}")]
    Malformed {
        /// What does not hold.
        what: &'static str,
    },
}

impl Rejection {
    /// What the caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NodeFenced { .. }
            | Self::NodeEpochNotNext { .. }
            | Self::StreamEpochStale { .. } => ErrorKind::Fenced,
            _ => ErrorKind::Invalid,
        }
    }
}

/// Why metadata could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// The transaction was judged and refused.
    #[error("operation {index} was rejected: {reason}")]
    Rejected {
        /// Which operation of the transaction.
        index: usize,
        /// Why.
        reason: Rejection,
    },
    /// The transaction does not fit a log entry.
    #[error("transaction of {num_bytes} bytes exceeds the entry limit of {max}")]
    TooLarge {
        /// Its encoded size in bytes.
        num_bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Stored bytes are not what was written.
    #[error(
        "{key} is damaged at byte {position}: {what}, expected {expected:#x}, found {found:#x}"
    )]
    Corrupt {
        /// The object's key.
        key: String,
        /// Byte in the object.
        position: u64,
        /// What was checked there.
        what: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A log entry is gone although a later one exists.
    #[error("{key} is missing although later entries exist")]
    MissingEntry {
        /// The entry's key.
        key: String,
    },
    /// This process was held up for so long that the log went on, was shortened, and its own entry
    /// has no known outcome. The metadata must be opened anew.
    #[error("log entry {seq} lies below the deletion boundary {boundary}: held up for too long")]
    Outpaced {
        /// The entry.
        seq: u64,
        /// Entries up to it may be deleted.
        boundary: u64,
    },
    /// Written by a newer version of this software.
    #[error("{key} has format version {version}, which this version cannot read")]
    Unsupported {
        /// The object's key.
        key: String,
        /// The version it states.
        version: u16,
    },
    /// The bucket did not do it; nothing was changed.
    #[error("the bucket does not answer: {0}")]
    Unavailable(#[source] BucketError),
    /// The configuration is out of range.
    #[error("{field} must be {range}")]
    InvalidConfig {
        /// The field.
        field: &'static str,
        /// What it may be.
        range: &'static str,
    },
    /// The cluster was made with another `delete_delay`. Every process relies on every other one's, so
    /// there is one.
    #[error("delete_delay is {own:?} here and {cluster:?} in the cluster's metadata")]
    OtherDeleteDelay {
        /// That of this process's configuration.
        own: Duration,
        /// That of the cluster.
        cluster: Duration,
    },
    /// The metadata was closed while the call waited; its outcome is unknown.
    #[error("the metadata log is closed")]
    Closed,
}

impl MetaError {
    /// Whether the transaction was refused for what others changed, so that one built from the
    /// state as it is now may be granted. Not so if its author was fenced.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Rejected { reason, .. } if reason.kind() != ErrorKind::Fenced)
    }

    /// Whether the transaction wanted a stream that another node has.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        let Self::Rejected { reason, .. } = self else {
            return false;
        };
        matches!(reason, Rejection::StreamOwned { .. })
    }

    /// What the caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Rejected { reason, .. } => reason.kind(),
            Self::TooLarge { .. }
            | Self::Unsupported { .. }
            | Self::InvalidConfig { .. }
            | Self::OtherDeleteDelay { .. } => ErrorKind::Invalid,
            Self::Corrupt { .. } | Self::MissingEntry { .. } => ErrorKind::Corrupt,
            Self::Unavailable(cause) => cause.kind(),
            Self::Closed | Self::Outpaced { .. } => ErrorKind::Closed,
        }
    }
}

/// An entry that its owner cannot read. Its stream is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry at offset {offset} of stream {stream} cannot be read: {what}")]
pub struct NotKeyed {
    /// The stream.
    pub stream: StreamId,
    /// The entry's base offset.
    pub offset: Offset,
    /// What does not hold.
    pub what: &'static str,
}

/// Why a stream could not be read or uploaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TierError {
    /// No such stream, or it was deleted.
    #[error("stream {stream} does not exist")]
    UnknownStream {
        /// The stream.
        stream: StreamId,
    },
    /// The offset lies before the start of the stream or past its committed end.
    #[error("offset {offset} of stream {stream} is outside [{start}, {end}]")]
    OutOfRange {
        /// The stream.
        stream: StreamId,
        /// The offset asked for.
        offset: Offset,
        /// The stream's start.
        start: Offset,
        /// The stream's committed end.
        end: Offset,
    },
    /// Stored bytes are not what was written.
    #[error(
        "{object} is damaged at byte {position}: {what}, expected {expected:#x}, found {found:#x}"
    )]
    Corrupt {
        /// The object's key.
        object: String,
        /// Byte in the object.
        position: u64,
        /// What was checked there.
        what: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A referenced object does not exist.
    #[error("{object} is referenced and does not exist")]
    Missing {
        /// The object's key.
        object: String,
    },
    /// Written by a newer version of this software.
    #[error("{object} has format version {version}, which this version cannot read")]
    Unsupported {
        /// The object's key.
        object: String,
        /// The version it states.
        version: u16,
    },
    /// The bucket did not answer in the attempts that are made.
    #[error("the bucket does not answer: {0}")]
    Unavailable(#[source] BucketError),
    /// The node was registered again elsewhere; this process must stop acting for it.
    #[error("node {node} at epoch {epoch} is fenced")]
    Fenced {
        /// The node.
        node: NodeId,
        /// The epoch this process acts under.
        epoch: Epoch,
    },
    /// Reading or changing metadata failed.
    #[error(transparent)]
    Meta(MetaError),
    /// The owner of a stream cannot read an entry of it that compaction read whole.
    #[error(transparent)]
    NotKeyed(#[from] NotKeyed),
    /// The uploader was stopped.
    #[error("the uploader is stopped")]
    Closed,
    /// A task of the uploader panicked: a bug. What it had not committed stays in the tail.
    #[error("the uploader died of a bug")]
    Died,
}

impl TierError {
    /// What the caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownStream { .. } | Self::OutOfRange { .. } | Self::Unsupported { .. } => {
                ErrorKind::Invalid
            }
            Self::Corrupt { .. } | Self::Missing { .. } | Self::NotKeyed(_) => ErrorKind::Corrupt,
            Self::Unavailable(cause) => cause.kind(),
            Self::Fenced { .. } => ErrorKind::Fenced,
            Self::Meta(cause) => cause.kind(),
            Self::Closed | Self::Died => ErrorKind::Closed,
        }
    }
}

impl From<MetaError> for TierError {
    fn from(cause: MetaError) -> Self {
        Self::Meta(cause)
    }
}
