//! What can go wrong in a write-ahead log, and what the caller does about it.
//!
//! *Owns*: `WalError` and its reactions; what may be full.
//! *Does not own*: when each is raised.
//!
//! *IO: none*

use std::fmt;
use std::io;
use std::sync::Arc;

use tidewater_bucket::BucketError;
use tidewater_types::{ClusterId, Epoch, ErrorKind, Lsn, NodeId, WalId};

/// What a write-ahead log may have no room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// The buffers for frames that are not written yet: the device is slower than the callers.
    Pool,
    /// The ring: every segment holds frames that are not trimmed.
    Ring,
    /// The device or its file system.
    Disk,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pool => "its buffers wait for the device",
            Self::Ring => "its ring waits for a trim",
            Self::Disk => "the device has no space left",
        })
    }
}

/// Why a WAL operation did not happen.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// No room; nothing was accepted.
    #[error("the write-ahead log is full: {what}")]
    Full {
        /// What there is no room in.
        what: Resource,
    },
    /// A frame that never fits.
    #[error("a frame of {num_bytes} bytes exceeds the largest possible, {max}")]
    FrameTooLarge {
        /// Length asked for, in bytes.
        num_bytes: usize,
        /// Largest length this WAL takes, in bytes.
        max: usize,
    },
    /// A write or a sync failed; what lies on the device is unknown until it is opened anew.
    #[error("the write-ahead log is poisoned: {cause}")]
    Poisoned {
        /// The failure that did it.
        cause: Arc<WalError>,
    },
    /// The WAL was closed or dropped.
    #[error("the write-ahead log is closed")]
    Closed,
    /// Another process has it open.
    #[error("{path} is in use by another process")]
    Busy {
        /// The file.
        path: String,
    },
    /// There is none, though one was expected.
    #[error("no write-ahead log at {path}")]
    Missing {
        /// The file.
        path: String,
    },
    /// What is there is not what can be used.
    #[error("{path} is {found}, expected {expected}")]
    WrongKind {
        /// The path.
        path: String,
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Something else uses the block device; nothing was changed.
    #[error("{path} is in use: {what} {by}")]
    DeviceInUse {
        /// The device.
        path: String,
        /// How it is used.
        what: &'static str,
        /// By whom, or where.
        by: String,
    },
    /// Something lies on the block device; nothing was changed.
    #[error(
        "{path} holds {found} at position {position}: expected a device with nothing but zeros in \
         its first and last MiB"
    )]
    DeviceNotEmpty {
        /// The device.
        path: String,
        /// Byte position.
        position: u64,
        /// What lies there.
        found: &'static str,
    },
    /// There is one, though none was expected.
    #[error("a write-ahead log exists at {path}")]
    Exists {
        /// The file.
        path: String,
    },
    /// It belongs to another cluster.
    #[error("{path} belongs to cluster {found}, expected {expected}")]
    ForeignCluster {
        /// The file.
        path: String,
        /// Cluster asked for.
        expected: ClusterId,
        /// Cluster recorded.
        found: ClusterId,
    },
    /// It belongs to another node.
    #[error("{path} belongs to node {found}, expected {expected}")]
    ForeignNode {
        /// The file.
        path: String,
        /// Node asked for.
        expected: NodeId,
        /// Node recorded.
        found: NodeId,
    },
    /// It is another WAL of the same node.
    #[error("{path} is write-ahead log {found}, expected {expected}")]
    ForeignWal {
        /// The file.
        path: String,
        /// WAL asked for.
        expected: WalId,
        /// WAL recorded.
        found: WalId,
    },
    /// Written by a newer release.
    #[error("{path} has format version {found}, this release reads up to {supported}")]
    NewerFormat {
        /// The file.
        path: String,
        /// Version recorded.
        found: u16,
        /// Newest version this release reads.
        supported: u16,
    },
    /// Neither superblock can be read; nothing was changed.
    #[error("both superblocks of {path} are damaged: first: {first}; second: {second}")]
    SuperblocksDamaged {
        /// The file.
        path: String,
        /// What is wrong with the first slot.
        first: &'static str,
        /// What is wrong with the second slot.
        second: &'static str,
    },
    /// Damage in front of bytes that were durable; nothing was changed.
    #[error(
        "{path} is damaged at position {position} (lsn {lsn}): expected {expected}, found {found}"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// Byte position of the damaged group.
        position: u64,
        /// LSN the group should have.
        lsn: Lsn,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The frame was trimmed.
    #[error("lsn {lsn} is trimmed")]
    Trimmed {
        /// LSN asked for.
        lsn: Lsn,
    },
    /// No frame begins there.
    #[error("no frame begins at lsn {lsn}")]
    NoFrame {
        /// LSN asked for.
        lsn: Lsn,
    },
    /// The superblock has no room for another epoch: trim before restarting again.
    #[error("{path} holds {count} epochs and has no room for another before a trim")]
    EpochsFull {
        /// The file.
        path: String,
        /// Epochs recorded.
        count: usize,
    },
    /// A later owner has taken this WAL over: nothing more is acknowledged.
    #[error("{key} belongs to epoch {by}, which took over from epoch {epoch}")]
    Fenced {
        /// The object found where this owner wanted to write.
        key: String,
        /// Epoch of this owner.
        epoch: Epoch,
        /// Epoch of the one that took over.
        by: Epoch,
    },
    /// What is not trimmed is more than a takeover may hold in memory.
    #[error(
        "the log at {path} holds {num_bytes} bytes from its trim point on, more than \
         takeover_bytes_max = {max}"
    )]
    LogTooLarge {
        /// What its keys begin with.
        path: String,
        /// Bytes of its entries.
        num_bytes: u64,
        /// The setting.
        max: u64,
    },
    /// The object store does not answer, or refuses; what became of the object is unknown.
    #[error("{key}: {cause}")]
    Bucket {
        /// The object.
        key: String,
        /// The last outcome.
        cause: BucketError,
    },
    /// The operating system refused an operation.
    #[error("{operation} of {path} at position {position} failed: {cause}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: String,
        /// Byte position; 0 where there is none.
        position: u64,
        /// The refusal.
        cause: Arc<io::Error>,
    },
    /// A setting outside its range.
    #[error("{field} = {value}, must be {expected}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        expected: &'static str,
    },
}

impl WalError {
    /// What the caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Full { .. } | Self::EpochsFull { .. } => ErrorKind::Full,
            Self::Busy { .. } | Self::DeviceInUse { .. } => ErrorKind::Retry,
            Self::Fenced { .. } => ErrorKind::Fenced,
            Self::Bucket { cause, .. } => cause.kind(),
            Self::Poisoned { .. } | Self::Closed | Self::Io { .. } => ErrorKind::Closed,
            Self::SuperblocksDamaged { .. } | Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::FrameTooLarge { .. }
            | Self::Missing { .. }
            | Self::WrongKind { .. }
            | Self::DeviceNotEmpty { .. }
            | Self::Exists { .. }
            | Self::ForeignCluster { .. }
            | Self::ForeignNode { .. }
            | Self::ForeignWal { .. }
            | Self::NewerFormat { .. }
            | Self::Trimmed { .. }
            | Self::NoFrame { .. }
            | Self::LogTooLarge { .. }
            | Self::Config { .. } => ErrorKind::Invalid,
        }
    }

    /// An I/O refusal with its place.
    pub(crate) fn io(operation: &'static str, path: &str, position: u64, cause: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_owned(),
            position,
            cause: Arc::new(cause),
        }
    }
}
