//! Where a setting's value is looked for, in order.
//!
//! *Owns*: the names of all settings; flag before environment before file.
//! *Does not own*: defaults and ranges (`serve`); telling flag from environment
//! (the command line parser does).
//!
//! *IO: none*

use std::collections::BTreeMap;

use super::error::Source;
use super::file::FileValues;

/// Every setting, by the name of its flag. The file's keys are the same.
pub(crate) const SETTINGS: &[&str] = &[
    "listen",
    "advertise",
    "data-dir",
    "bucket",
    "wal",
    "wal-mode",
    "wal-bytes",
    "node-id",
    "default-partitions",
    "auto-create-topics",
    "ready-file",
    "log-format",
    "log-level",
    "accept-data-loss",
    "upload-interval-ms",
    "upload-bytes",
    "delete-delay-ms",
    "bucket-requests-per-s",
    "bucket-bytes-in-per-s",
    "bucket-bytes-out-per-s",
    "memory",
    "cache-dir",
    "cache-dir-bytes",
    "max-connections",
    "max-request-bytes",
];

/// Values of the command line and of its environment mirror, by name.
pub(crate) type Given = BTreeMap<&'static str, (String, Source)>;

/// All sources together.
pub(crate) struct Layers {
    pub(crate) given: Given,
    pub(crate) file: FileValues,
}

impl Layers {
    /// The value of `name` and where it stands, unless the default holds.
    pub(crate) fn get(&self, name: &'static str) -> Option<(&str, Source)> {
        debug_assert!(SETTINGS.contains(&name), "{name} is no setting");
        if let Some((value, source)) = self.given.get(name) {
            return Some((value, source.clone()));
        }
        let value = self.file.values.get(name)?;
        let (path, key) = (self.file.path.clone(), name.to_owned());
        Some((value, Source::File { path, key }))
    }
}
