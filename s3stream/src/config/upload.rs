//! How uploads are spread over time and over requests.
//!
//! *Owns*: the values and their ranges. *Does not own*: when an upload is due (`TierConfig`).
//!
//! *IO: none*

use super::range::{ConfigError, check};

/// How uploads are spread over time and over requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadConfig {
    /// Uploads under way at a time. Default 4; 1 to 16.
    ///
    /// They are committed strictly in the order they were sealed, so more of them hide the time of
    /// requests and cost the memory of a batch each: `upload_bytes` and what is beside small entries,
    /// as far as the tail lets them.
    pub batches_parallel: usize,
    /// How fast objects are sent, in percent of the rate at which data comes in. Default 150;
    /// 0 (as fast as it goes) or 110 to 1,000.
    ///
    /// Below 110 an upload would not catch up with its input. Nothing waits while memory runs
    /// short, while somebody flushes, or while all `batches_parallel` uploads are under way.
    pub pace_percent: u32,
    /// An object of this many bytes is sent in parts, where the store takes them. Default 32 MiB;
    /// 1 KiB to 1 GiB.
    pub multipart_bytes: u64,
    /// Bytes of a part. Default 8 MiB; 64 B to 1 GiB, and within what the store takes.
    ///
    /// A lost connection costs a part, not the object.
    pub part_bytes: u64,
}

impl Default for UploadConfig {
    fn default() -> Self {
        Self {
            batches_parallel: 4,
            pace_percent: 150,
            multipart_bytes: 32 << 20,
            part_bytes: 8 << 20,
        }
    }
}

impl UploadConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check(
            (1..=16).contains(&self.batches_parallel),
            "upload.batches_parallel",
            "1 to 16",
        )?;
        check(
            self.pace_percent == 0 || (110..=1_000).contains(&self.pace_percent),
            "upload.pace_percent",
            "0 or 110 to 1,000",
        )?;
        check(
            (1 << 10..=1 << 30).contains(&self.multipart_bytes),
            "upload.multipart_bytes",
            "1 KiB to 1 GiB",
        )?;
        check(
            (64..=1 << 30).contains(&self.part_bytes),
            "upload.part_bytes",
            "64 B to 1 GiB",
        )
    }
}
