//! `VersionRange`: an inclusive range of message versions.
//!
//! *Owns*: the range and its test.
//!
//! *Does not own*: which versions a message has (`messages`, `ApiKey::versions`).
//!
//! *IO: none*

use std::fmt;

/// The versions `min..=max`; both ends are included, as in Kafka's ApiVersions response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The first version.
    pub min: i16,
    /// The last version.
    pub max: i16,
}

impl VersionRange {
    /// Whether `version` lies in the range.
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}
