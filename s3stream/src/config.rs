//! Configuration: plain data with unit, default and range for every field.
//!
//! *Owns*: the values and the check that they are usable.
//! *Does not own*: where they come from.
//!
//! Invariants
//! 1. `validate` refuses; nothing is clamped.
//!
//! *IO: none*

mod compact;
mod pace;
mod range;
mod read;
mod upload;

use std::time::Duration;

pub(crate) use compact::CompactConfig;
pub(crate) use pace::PaceConfig;
pub(crate) use range::ConfigError;
use range::check;
pub(crate) use read::ReadConfig;
pub use upload::UploadConfig;

/// How the metadata log behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaConfig {
    /// A snapshot is written after this many log entries at the earliest, once the log since the
    /// last one is half its size. Default 1,000; 1 to 1,000,000.
    pub snapshot_entries: u64,
    /// A snapshot is written after this many log entries at the latest: each costs a request when
    /// opening. Default 10,000; `snapshot_entries` to 1,000,000.
    pub snapshot_entries_max: u64,
    /// Size in bytes at which a part of a snapshot is closed: a larger state is stored in several
    /// objects, one in memory at a time. Default 8 MiB; 256 B to 64 MiB.
    pub snapshot_part_bytes: usize,
    /// Greatest size of one log entry in bytes. Default 4 MiB; 4 KiB to 64 MiB.
    ///
    /// The commit of an object with a range and a snapshot of 40,000 streams fits.
    pub entry_bytes_max: usize,
    /// Time between the durable announcement that log entries and snapshots may go and their
    /// deletion. Default 1 h; 1 ms to 30 days.
    ///
    /// It must outlast the reading of a snapshot and the log by whoever opens. A commit more than
    /// half of it after the last one (or the last look at the log) costs one request more.
    pub delete_delay: Duration,
    /// Bytes of transactions that wait for their commit or are under way; callers wait for room.
    /// Default 64 MiB; `entry_bytes_max` to 1 GiB.
    pub queue_bytes_max: usize,
    /// Wait between two looks for what other nodes wrote, while they write and somebody watches.
    /// Default 250 ms; 1 ms to 1 min.
    pub poll_min: Duration,
    /// The same when they have been idle for long: waits double up to it. Default 10 s; `poll_min`
    /// to 1 h.
    pub poll_max: Duration,
    /// Log entries read at a time when opening. Default 16; 1 to 256.
    pub read_parallel: usize,
    /// Attempts of a read before it fails with a retryable error. Default 8; 1 to 100.
    pub read_attempts: u32,
    /// First wait between two attempts. Default 20 ms; 1 ms to 10 s.
    pub backoff_min: Duration,
    /// Longest wait between two attempts. Default 2 s; `backoff_min` to 5 min.
    pub backoff_max: Duration,
}

impl Default for MetaConfig {
    fn default() -> Self {
        Self {
            snapshot_entries: 1_000,
            snapshot_entries_max: 10_000,
            snapshot_part_bytes: 8 << 20,
            entry_bytes_max: 4 << 20,
            delete_delay: Duration::from_secs(3_600),
            queue_bytes_max: 64 << 20,
            poll_min: Duration::from_millis(250),
            poll_max: Duration::from_secs(10),
            read_parallel: 16,
            read_attempts: 8,
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(2),
        }
    }
}

impl MetaConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let backoff = Duration::from_millis(1)..=Duration::from_secs(10);
        let longest = self.backoff_min..=Duration::from_secs(300);
        check(
            (1..=1_000_000).contains(&self.snapshot_entries),
            "snapshot_entries",
            "1 to 1,000,000",
        )?;
        check(
            (256..=64 << 20).contains(&self.snapshot_part_bytes),
            "snapshot_part_bytes",
            "256 B to 64 MiB",
        )?;
        check(
            (4 << 10..=64 << 20).contains(&self.entry_bytes_max),
            "entry_bytes_max",
            "4 KiB to 64 MiB",
        )?;
        self.validate_log()?;
        check(
            (1..=256).contains(&self.read_parallel),
            "read_parallel",
            "1 to 256",
        )?;
        check(
            (1..=100).contains(&self.read_attempts),
            "read_attempts",
            "1 to 100",
        )?;
        check(
            backoff.contains(&self.backoff_min),
            "backoff_min",
            "1 ms to 10 s",
        )?;
        check(
            longest.contains(&self.backoff_max),
            "backoff_max",
            "backoff_min to 5 min",
        )
    }

    fn validate_log(&self) -> Result<(), ConfigError> {
        const MS: Duration = Duration::from_millis(1);
        check(
            (self.snapshot_entries..=1_000_000).contains(&self.snapshot_entries_max),
            "snapshot_entries_max",
            "snapshot_entries to 1,000,000",
        )?;
        check(
            (MS..=30 * 86_400_000 * MS).contains(&self.delete_delay),
            "delete_delay",
            "1 ms to 30 days",
        )?;
        check(
            (self.entry_bytes_max..=1 << 30).contains(&self.queue_bytes_max),
            "queue_bytes_max",
            "entry_bytes_max to 1 GiB",
        )?;
        check(
            (MS..=60_000 * MS).contains(&self.poll_min),
            "poll_min",
            "1 ms to 1 min",
        )?;
        check(
            (self.poll_min..=3_600_000 * MS).contains(&self.poll_max),
            "poll_max",
            "poll_min to 1 h",
        )
    }
}

/// How streams are uploaded, kept and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierConfig {
    /// The metadata log.
    pub meta: MetaConfig,
    /// Upload once this many bytes are pending, as objects have them. Default 64 MiB; 1 KiB to 1 GiB.
    pub upload_bytes: u64,
    /// Upload once the oldest pending byte is this old. Default 10 s; 1 ms to 1 day.
    ///
    /// Each upload costs two or three requests, and data that is not uploaded lives in the WAL
    /// and in memory. Nothing is requested while nothing is pending.
    pub upload_age: Duration,
    /// Upload once this many streams have pending data. Default 40,000; 1 to 1,000,000.
    ///
    /// As many as one commit can name: a broker of many idle partitions makes one object of them.
    pub upload_streams: usize,
    /// Objects of one upload that are sent at a time. Default 4; 1 to 64.
    pub upload_parallel: usize,
    /// Size of a data block in bytes at which it is closed. Default 512 KiB; 256 B to 64 MiB.
    pub block_bytes: usize,
    /// A stream with this many bytes in an upload gets an object of its own. Default 8 MiB;
    /// 1 KiB to 1 GiB.
    pub stream_object_bytes: u64,
    /// Most streams in one stream-set object. Default 40,000; 1 to 500,000.
    ///
    /// The commit of an object fits `meta.entry_bytes_max`, whatever this says.
    pub stream_set_streams: usize,
    /// Memory for data blocks, in bytes. Default 64 MiB; 64 KiB to 1 TiB.
    pub block_cache_bytes: u64,
    /// Memory for object indices, in bytes. Default 16 MiB; 64 KiB to 1 TiB.
    pub index_cache_bytes: u64,
    /// Blocks of one fetch that are read at a time. Default 4; 1 to 64.
    pub read_parallel: usize,
    /// Time between the death of an object and its deletion. Default 10 min; 0 to 30 days.
    ///
    /// It must outlast the longest fetch of a reader that planned with older metadata.
    pub delete_delay: Duration,
    /// How small objects become large ones.
    pub compact: CompactConfig,
    /// How uploads are spread over time and over requests.
    pub upload: UploadConfig,
    /// How requests are joined, repeated and made ahead of their reader.
    pub read: ReadConfig,
    /// Who may ask the bucket for how much.
    pub pace: PaceConfig,
}

impl Default for TierConfig {
    fn default() -> Self {
        Self {
            meta: MetaConfig::default(),
            upload_bytes: 64 << 20,
            upload_age: Duration::from_secs(10),
            upload_streams: 40_000,
            upload_parallel: 4,
            block_bytes: 512 << 10,
            stream_object_bytes: 8 << 20,
            stream_set_streams: 40_000,
            block_cache_bytes: 64 << 20,
            index_cache_bytes: 16 << 20,
            read_parallel: 4,
            delete_delay: Duration::from_secs(600),
            compact: CompactConfig::default(),
            upload: UploadConfig::default(),
            read: ReadConfig::default(),
            pace: PaceConfig::default(),
        }
    }
}

impl TierConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        const DAY: Duration = Duration::from_secs(86_400);
        let age = Duration::from_millis(1)..=DAY;
        let cache = 64 << 10..=1 << 40;
        self.meta.validate()?;
        self.compact.validate()?;
        self.upload.validate()?;
        self.read.validate()?;
        self.pace.validate()?;
        check(
            (1 << 10..=1 << 30).contains(&self.upload_bytes),
            "upload_bytes",
            "1 KiB to 1 GiB",
        )?;
        check(
            age.contains(&self.upload_age),
            "upload_age",
            "1 ms to 1 day",
        )?;
        check(
            (1..=1_000_000).contains(&self.upload_streams),
            "upload_streams",
            "1 to 1,000,000",
        )?;
        check(
            (1..=64).contains(&self.upload_parallel),
            "upload_parallel",
            "1 to 64",
        )?;
        check(
            (256..=64 << 20).contains(&self.block_bytes),
            "block_bytes",
            "256 B to 64 MiB",
        )?;
        check(
            (1 << 10..=1 << 30).contains(&self.stream_object_bytes),
            "stream_object_bytes",
            "1 KiB to 1 GiB",
        )?;
        check(
            (1..=500_000).contains(&self.stream_set_streams),
            "stream_set_streams",
            "1 to 500,000",
        )?;
        check(
            cache.contains(&self.block_cache_bytes),
            "block_cache_bytes",
            "64 KiB to 1 TiB",
        )?;
        check(
            cache.contains(&self.index_cache_bytes),
            "index_cache_bytes",
            "64 KiB to 1 TiB",
        )?;
        check(
            (1..=64).contains(&self.read_parallel),
            "read_parallel",
            "1 to 64",
        )?;
        check(
            self.delete_delay <= 30 * DAY,
            "delete_delay",
            "0 to 30 days",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{MetaConfig, TierConfig};

    #[test]
    fn defaults_are_valid() {
        TierConfig::default().validate().unwrap();
    }

    #[test]
    fn the_field_out_of_range_is_named() {
        let meta = MetaConfig {
            entry_bytes_max: 1,
            ..MetaConfig::default()
        };
        let config = TierConfig {
            meta,
            ..TierConfig::default()
        };
        assert_eq!(config.validate().unwrap_err().field, "entry_bytes_max");
        let config = TierConfig {
            upload_parallel: 0,
            ..TierConfig::default()
        };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "upload_parallel must be 1 to 64"
        );
    }
}
