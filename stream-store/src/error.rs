//! What can go wrong when a stream is opened, appended to, read or trimmed.
//!
//! *Owns*: `StoreError` and what its caller does about each kind.
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_s3stream::{MetaError, TierError};
use tidewater_types::{ErrorKind, Lsn, NodeId, Offset, StreamId};
use tidewater_wal::WalError;

/// An operation of the store that did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A configuration value is out of its range.
    #[error("{field} is {found}, expected {expected}")]
    Config {
        /// The field of `StoreConfig`.
        field: &'static str,
        /// What was given.
        found: u64,
        /// The range.
        expected: &'static str,
    },
    /// No stream has this id, or it was deleted.
    #[error("stream {stream} does not exist")]
    NoStream {
        /// The stream.
        stream: StreamId,
    },
    /// Another node has the stream and did not give it up: its WAL may hold records of it.
    #[error(
        "stream {stream} belongs to node {owner}, whose WAL may hold records that are not uploaded"
    )]
    Owned {
        /// The stream.
        stream: StreamId,
        /// The node.
        owner: NodeId,
    },
    /// The stream was given up; another node may have it.
    #[error("stream {stream} was released")]
    Released {
        /// The stream.
        stream: StreamId,
    },
    /// The offset lies before the stream's start or after its end.
    #[error("offset {offset} of stream {stream} is outside [{start}, {end}]")]
    OutOfRange {
        /// The stream.
        stream: StreamId,
        /// What was asked for.
        offset: Offset,
        /// Log start offset.
        start: Offset,
        /// The highest offset that may be asked for.
        end: Offset,
    },
    /// The stream's offsets are used up.
    #[error("stream {stream} has no offset left")]
    OffsetsExhausted {
        /// The stream.
        stream: StreamId,
    },
    /// An append is larger than the store takes.
    #[error("an append of {num_bytes} bytes is larger than {num_bytes_max}")]
    TooLarge {
        /// Payload bytes.
        num_bytes: u64,
        /// The limit.
        num_bytes_max: u64,
    },
    /// No room for appends for longer than the configured patience: the bucket or the disk
    /// does not keep up.
    #[error("no room for an append: {waiting_bytes} bytes wait for their upload")]
    Full {
        /// Bytes not yet committed to objects.
        waiting_bytes: u64,
    },
    /// The store was closed, or its WAL failed; only a restart helps.
    #[error("the store is closed: {cause}")]
    Closed {
        /// Why.
        cause: Arc<str>,
    },
    /// The bucket's metadata and the WAL do not belong together.
    #[error("the WAL belongs to cluster {found}, the bucket holds {expected}")]
    ForeignWal {
        /// Cluster in the WAL.
        found: String,
        /// Cluster in the bucket, or that there is none.
        expected: String,
    },
    /// A recovered frame contradicts what is known of its stream.
    #[error("WAL frame at lsn {lsn}: {field} is {found}, expected {expected}")]
    BadFrame {
        /// Its position.
        lsn: Lsn,
        /// The field of the frame's head.
        field: &'static str,
        /// What it holds.
        found: u64,
        /// What it should hold.
        expected: u64,
    },
    /// A recovered frame was written by a newer version.
    #[error("WAL frame at lsn {lsn} has {field} {found}: written by a newer version")]
    NewerFrame {
        /// Its position.
        lsn: Lsn,
        /// The field of the frame's head.
        field: &'static str,
        /// What it holds.
        found: u64,
    },
    /// The write-ahead log refused or failed.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The object tier refused or failed.
    #[error(transparent)]
    Tier(TierError),
    /// The metadata log refused or failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl From<TierError> for StoreError {
    /// A trim that the metadata know and the tail not yet is the caller's matter, not the tier's.
    fn from(error: TierError) -> Self {
        match error {
            TierError::OutOfRange {
                stream,
                offset,
                start,
                end,
            } => Self::OutOfRange {
                stream,
                offset,
                start,
                end,
            },
            error => Self::Tier(error),
        }
    }
}

impl StoreError {
    /// What the caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. }
            | Self::NoStream { .. }
            | Self::Owned { .. }
            | Self::OutOfRange { .. }
            | Self::OffsetsExhausted { .. }
            | Self::TooLarge { .. }
            | Self::ForeignWal { .. }
            | Self::NewerFrame { .. } => ErrorKind::Invalid,
            Self::Released { .. } => ErrorKind::Fenced,
            Self::Full { .. } => ErrorKind::Full,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::BadFrame { .. } => ErrorKind::Corrupt,
            Self::Wal(error) => error.kind(),
            Self::Tier(error) => error.kind(),
            Self::Meta(error) => error.kind(),
        }
    }

    /// Whether the append is larger than the store or its WAL ever takes.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. } | Self::Wal(WalError::FrameTooLarge { .. })
        )
    }

    /// Whether the data belongs to another cluster or node, or was written by a newer version.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        match self {
            Self::ForeignWal { .. } | Self::NewerFrame { .. } | Self::Owned { .. } => true,
            Self::Wal(
                WalError::ForeignCluster { .. }
                | WalError::ForeignNode { .. }
                | WalError::ForeignWal { .. }
                | WalError::NewerFormat { .. },
            ) => true,
            Self::Meta(error) | Self::Tier(TierError::Meta(error)) => {
                matches!(error, MetaError::Unsupported { .. })
            }
            Self::Tier(error) => matches!(error, TierError::Unsupported { .. }),
            _ => false,
        }
    }

    /// Whether acknowledged data is missing or is not what was written.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        let lost = matches!(
            self,
            Self::Wal(WalError::Missing { .. } | WalError::SuperblocksDamaged { .. })
        );
        lost || (self.kind() == ErrorKind::Corrupt && !self.is_foreign())
    }
}
