//! What fsck found.
//!
//! *Owns*: findings and their names in reports.
//! *Does not own*: JSON; callers write it.
//!
//! *IO: none*

use tidewater_types::{ClusterId, OffsetRange, StreamId};

/// How thorough a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsckOptions {
    /// Read every block and every log entry and check its checksum, not only sizes and indices.
    pub verify_checksums: bool,
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
    pub(crate) fn new(severity: Severity, what: FindingKind, detail: String) -> Self {
        Self {
            severity,
            what,
            stream: None,
            range: None,
            object: None,
            detail,
        }
    }

    pub(crate) fn object(mut self, key: String) -> Self {
        self.object = Some(key);
        self
    }

    pub(crate) fn stream(mut self, stream: StreamId) -> Self {
        self.stream = Some(stream);
        self
    }

    pub(crate) fn range(mut self, stream: StreamId, range: OffsetRange) -> Self {
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
}

impl FsckReport {
    pub(crate) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The worst finding.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}
