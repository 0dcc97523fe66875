//! The bucket port: one call is one attempt on an object store.
//!
//! *Owns*: the trait, its outcomes, and the purposes its callers name.
//! *Does not own*: retries, hedging, read-back; they live above, where the
//! simulator sees each attempt.
//!
//! Invariants
//! 1. One call sends at most one request (a multi-part adapter would say so).
//! 2. `create` never replaces: of several creates of one key exactly one is applied.
//! 3. `Ok` from `create` means the object and its name survive a power failure.
//! 4. `Unknown` means the request may have been applied, or may be applied later.
//!
//! *IO: none* (adapters are drivers)

use std::ops::Range;

use bytes::Bytes;
use tidewater_types::{BoxFuture, ErrorKind};

/// What a request is for; counters are kept per purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Write-ahead log entries.
    Wal,
    /// The metadata log and its snapshots.
    Meta,
    /// Upload of sealed ranges.
    Upload,
    /// Reads for consumers.
    Read,
    /// Reads and writes of compaction.
    Compaction,
    /// Deletion of dead objects and sweeping of orphans.
    Gc,
    /// Checks by an operator.
    Fsck,
}

impl Purpose {
    /// The name used in counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Meta => "meta",
            Self::Upload => "upload",
            Self::Read => "read",
            Self::Compaction => "compaction",
            Self::Gc => "gc",
            Self::Fsck => "fsck",
        }
    }
}

/// Why an attempt did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// `create` found the key taken. It may be this very writer's earlier attempt.
    #[error("object {key} exists")]
    Exists {
        /// The key.
        key: String,
    },
    /// No object has this key now. After an `Unknown` create this proves nothing.
    #[error("object {key} is absent")]
    Absent {
        /// The key.
        key: String,
    },
    /// The store asks for a slower pace, or is busy with a racing change; nothing was applied.
    #[error("the store throttles requests on {key}")]
    Throttled {
        /// The key.
        key: String,
    },
    /// The outcome is unknown: no answer, a lost answer, a server error.
    #[error("outcome of a request on {key} is unknown: {cause}")]
    Unknown {
        /// The key.
        key: String,
        /// What was seen.
        cause: String,
    },
    /// The store has no room; nothing was applied.
    #[error("no space for {key}: {cause}")]
    NoSpace {
        /// The key.
        key: String,
        /// What the store said.
        cause: String,
    },
    /// The store refuses for good: permission, credentials, a key it cannot hold.
    #[error("the store refuses a request on {key}: {cause}")]
    Refused {
        /// The key.
        key: String,
        /// What the store said.
        cause: String,
    },
    /// The object is shorter than the range that was asked for.
    #[error("object {key} ends at {size}, range {start}..{end} was asked for")]
    Short {
        /// The key.
        key: String,
        /// Its size in bytes, as far as known.
        size: u64,
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
    },
}

impl BucketError {
    /// What the caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Throttled { .. } | Self::Unknown { .. } => ErrorKind::Retry,
            Self::Exists { .. } | Self::Absent { .. } | Self::Refused { .. } => ErrorKind::Invalid,
            Self::NoSpace { .. } => ErrorKind::Full,
            Self::Short { .. } => ErrorKind::Corrupt,
        }
    }
}

/// One object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The whole key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
}

/// One page of a listing, ascending by key. Pages are not one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The objects.
    pub entries: Vec<ListEntry>,
    /// Whether more keys follow the last entry.
    pub more: bool,
}

/// A flat store of immutable objects.
///
/// Keys are relative, `/`-separated, of ASCII letters, digits, `.`, `-`, `_`, at most 512 bytes.
pub trait Bucket: Send + Sync + 'static {
    /// Creates the object `key` with the concatenation of `body` unless the key is taken.
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>>;

    /// Reads the whole object, or exactly the bytes of `range`.
    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>>;

    /// Size of the object in bytes.
    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>>;

    /// Deletes the object. [`BucketError::Absent`] if there is none (some stores answer `Ok`).
    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>>;

    /// Lists keys that start with `prefix` and sort after `after`, ascending, one page.
    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>>;
}
