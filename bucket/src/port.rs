//! The bucket port: one call is one attempt on an object store.
//!
//! *Owns*: the trait, its outcomes, and the purposes its callers name.
//! *Does not own*: retries, hedging, read-back; they live above, where the
//! simulator sees each attempt.
//!
//! Invariants
//! 1. One call sends at most one request.
//! 2. `create` never replaces: of several creates of one key exactly one is applied.
//!    `complete_multipart` does not either, where the store can be asked to refuse; see there.
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

/// What a store takes when an object is sent in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultipartLimits {
    /// Least bytes of a part that is not the last one.
    pub part_bytes_min: u64,
    /// Most bytes of a part.
    pub part_bytes_max: u64,
    /// Most parts of an object; at least 1.
    pub parts_max: u32,
}

/// The store's name of an object that is being sent in parts. Nothing else is to be read into it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MultipartId(pub String);

/// Which part of which object a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The key that the whole object will have.
    pub key: &'a str,
    /// The upload it belongs to.
    pub upload: &'a MultipartId,
    /// Its place, from 1.
    pub number: u32,
}

/// The store's receipt for a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartTag {
    /// The part's place, from 1.
    pub number: u32,
    /// What the store wants to see again when the object is completed.
    pub tag: String,
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

    /// Waits until one more request may begin: at once, unless somebody between limits requests. Only
    /// who must not count the wait as part of a request asks for a turn; everybody else's requests
    /// wait for theirs when they are made.
    fn turn(&self, _purpose: Purpose) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// What the store takes in parts; `None` if it takes objects only whole.
    fn multipart(&self) -> Option<MultipartLimits> {
        None
    }

    /// Begins an object in parts. It is not there before it is completed.
    ///
    /// After an `Unknown` outcome an upload may be left over that nobody knows the id of; it costs
    /// what its parts hold until the store's own rule for such uploads removes it.
    fn create_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<MultipartId, BucketError>> {
        Box::pin(async move { Err(only_whole(key)) })
    }

    /// Sends one part, instead of an earlier one of this number. [`BucketError::Absent`] if the
    /// upload was completed or aborted.
    fn put_part<'a>(
        &'a self,
        _purpose: Purpose,
        part: Part<'a>,
        _body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(async move { Err(only_whole(part.key)) })
    }

    /// Takes `range` of the object `source` as a part, without its bytes passing through here.
    /// [`BucketError::Absent`] if the source is absent, or the upload completed or aborted;
    /// [`BucketError::Refused`] or [`BucketError::Short`] if the source does not reach that far.
    fn copy_part<'a>(
        &'a self,
        _purpose: Purpose,
        part: Part<'a>,
        _source: &'a str,
        _range: Range<u64>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(async move { Err(only_whole(part.key)) })
    }

    /// Makes the object of the parts, in ascending order of their numbers, unless the key is taken.
    ///
    /// Repeated, stores differ: `Ok` again, [`BucketError::Exists`], or [`BucketError::Absent`],
    /// which means that there is no such upload, as it was completed or aborted. After an `Unknown`
    /// outcome the object at `key` tells which.
    ///
    /// A store that does not know the condition replaces what has the key; so a key whose object
    /// comes in parts must never be used by anybody else.
    fn complete_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        _upload: &'a MultipartId,
        _parts: &'a [PartTag],
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move { Err(only_whole(key)) })
    }

    /// Gives the parts up. [`BucketError::Absent`] if the upload was completed or aborted before
    /// (some stores answer `Ok`); the object, if it was completed, stays.
    fn abort_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        _upload: &'a MultipartId,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move { Err(only_whole(key)) })
    }
}

fn only_whole(key: &str) -> BucketError {
    let cause = "the store takes objects only whole".to_owned();
    BucketError::Refused {
        key: key.to_owned(),
        cause,
    }
}
