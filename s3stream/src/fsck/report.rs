//! What fsck found.
//!
//! *Owns*: findings and their names in reports, how far a check has come.
//! *Does not own*: JSON; callers write it.
//!
//! *IO: none*

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidewater_types::{ClusterId, OffsetRange, StreamId};

use crate::meta::state::MetaState;
use crate::object_id::ObjectId;

/// How thorough a check is.
#[derive(Clone, Debug, Default)]
pub struct FsckOptions {
    /// Read every block and every log entry and check its checksum, not only sizes and indices.
    pub verify_checksums: bool,
    /// Where the check says how far it has come.
    pub progress: FsckProgress,
}

/// How far a check has come, in bytes of objects. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FsckProgress {
    shared: Arc<[AtomicU64; 2]>,
}

impl FsckProgress {
    /// Bytes that were checked.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.shared[0].load(Ordering::Relaxed)
    }

    /// Bytes that are to be checked; 0 until that is known.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.shared[1].load(Ordering::Relaxed)
    }

    pub(crate) fn advance(&self, num_bytes: u64) {
        self.shared[0].fetch_add(num_bytes, Ordering::Relaxed);
    }

    pub(crate) fn expect(&self, num_bytes: u64) {
        self.shared[1].fetch_add(num_bytes, Ordering::Relaxed);
    }
}

/// An object in the bucket that the metadata does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its key.
    pub key: String,
    /// Whose it is; `None` for a key that is not one of ours.
    pub id: Option<ObjectId>,
    /// What it holds, by its own index; empty if that cannot be read.
    pub ranges: Vec<(StreamId, OffsetRange)>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong; worth knowing.
    Info,
    /// Something is wrong and nothing is lost by it.
    Warning,
    /// Data or metadata is damaged.
    Error,
}

impl Severity {
    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What kind of thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// Offsets that no object holds.
    Hole,
    /// Offsets that two ranges hold.
    Overlap,
    /// An object nobody references.
    Orphan,
    /// Bytes that are not what was written.
    Checksum,
    /// A referenced object or log entry that is not there.
    Missing,
    /// Sound bytes that contradict the metadata or are of a newer version.
    Format,
}

impl FindingKind {
    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hole => "hole",
            Self::Overlap => "overlap",
            Self::Orphan => "orphan",
            Self::Checksum => "checksum",
            Self::Missing => "missing",
            Self::Format => "format",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is.
    pub what: FindingKind,
    /// The stream it concerns.
    pub stream: Option<StreamId>,
    /// The offsets it concerns.
    pub range: Option<OffsetRange>,
    /// Key of the object it concerns.
    pub object: Option<String>,
    /// For people.
    pub detail: String,
}

impl Finding {
    /// A finding that names nothing yet.
    #[must_use]
    pub fn new(severity: Severity, what: FindingKind, detail: String) -> Self {
        Self {
            severity,
            what,
            stream: None,
            range: None,
            object: None,
            detail,
        }
    }

    /// Names the object.
    #[must_use]
    pub fn object(mut self, key: String) -> Self {
        self.object = Some(key);
        self
    }

    pub(crate) fn stream(mut self, stream: StreamId) -> Self {
        self.stream = Some(stream);
        self
    }

    /// Names the stream and the offsets.
    #[must_use]
    pub fn range(mut self, stream: StreamId, range: OffsetRange) -> Self {
        (self.stream, self.range) = (Some(stream), Some(range));
        self
    }
}

/// The outcome of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// The cluster, if its metadata could be opened.
    pub cluster: Option<ClusterId>,
    /// Streams in the metadata.
    pub streams: u64,
    /// Objects in the metadata, dead ones that wait for their deletion included.
    pub objects: u64,
    /// Bytes of objects that were read and checked.
    pub bytes_checked: u64,
    /// What was found.
    pub findings: Vec<Finding>,
    /// The orphans among the findings, with what they hold.
    pub orphans: Vec<Orphan>,
    /// The metadata that the objects were checked against.
    pub metadata: Option<MetaState>,
}

impl FsckReport {
    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The worst finding.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}
