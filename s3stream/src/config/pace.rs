//! Configuration of the pace of requests.
//!
//! *Owns*: the values and the check that they are usable. *Does not own*: where they come from.
//!
//! Invariants
//! 1. `validate` refuses; nothing is clamped.
//!
//! *IO: none*

use std::time::Duration;

use super::range::{ConfigError, check};

/// Who may ask the bucket for how much. Appends, commits and readers at the tail come first, then
/// readers that catch up, then compaction, deletion and checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaceConfig {
    /// Requests in a second. Default 0, which is no limit; to 1,000,000.
    pub requests_per_s: u64,
    /// Bytes read in a second. Default 0, which is no limit; else 64 KiB to 1 TiB.
    pub bytes_in_per_s: u64,
    /// Bytes written in a second. Default 0, which is no limit; else 64 KiB to 1 TiB.
    pub bytes_out_per_s: u64,
    /// What compaction gets of each limit in any case, in percent. Default 10; 0 to 50.
    ///
    /// Without compaction the metadata grows and reads get dearer, so a tier that is always busy
    /// must not starve it.
    pub compaction_floor_percent: u32,
    /// What the object WAL gets of each limit at most, in percent. Default 50; 10 to 90.
    ///
    /// Its requests wait for each other alone: what they take the others make up for. All that it is
    /// sent is sent once more, by an upload, so more than half would not last; a log that may send no
    /// more slows producers.
    pub wal_percent: u32,
    /// Requests of readers that catch up, under way at a time. Default 32; 1 to 4,096.
    pub catch_up_parallel: usize,
    /// Requests of compaction, deletion and checks, under way at a time. Default 16; 1 to 4,096.
    pub compaction_parallel: usize,
    /// First pause on a key prefix that the store throttles; it doubles with each further answer
    /// of that kind, up to `throttle_wait_max`. Default 50 ms; 1 ms to 1 min.
    pub throttle_wait_min: Duration,
    /// Longest such pause. Default 5 s; `throttle_wait_min` to 10 min.
    pub throttle_wait_max: Duration,
}

impl Default for PaceConfig {
    fn default() -> Self {
        Self {
            requests_per_s: 0,
            bytes_in_per_s: 0,
            bytes_out_per_s: 0,
            compaction_floor_percent: 10,
            wal_percent: 50,
            catch_up_parallel: 32,
            compaction_parallel: 16,
            throttle_wait_min: Duration::from_millis(50),
            throttle_wait_max: Duration::from_secs(5),
        }
    }
}

impl PaceConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let bytes = |rate: u64| rate == 0 || (64 << 10..=1 << 40).contains(&rate);
        let parallel = 1..=4_096;
        let first = Duration::from_millis(1)..=Duration::from_secs(60);
        check(
            self.requests_per_s <= 1_000_000,
            "pace.requests_per_s",
            "0 (no limit) to 1,000,000",
        )?;
        check(
            bytes(self.bytes_in_per_s),
            "pace.bytes_in_per_s",
            "0 (no limit), or 64 KiB to 1 TiB",
        )?;
        check(
            bytes(self.bytes_out_per_s),
            "pace.bytes_out_per_s",
            "0 (no limit), or 64 KiB to 1 TiB",
        )?;
        check(
            self.compaction_floor_percent <= 50,
            "pace.compaction_floor_percent",
            "0 to 50",
        )?;
        check(
            (10..=90).contains(&self.wal_percent),
            "pace.wal_percent",
            "10 to 90",
        )?;
        check(
            parallel.contains(&self.catch_up_parallel),
            "pace.catch_up_parallel",
            "1 to 4,096",
        )?;
        check(
            parallel.contains(&self.compaction_parallel),
            "pace.compaction_parallel",
            "1 to 4,096",
        )?;
        check(
            first.contains(&self.throttle_wait_min),
            "pace.throttle_wait_min",
            "1 ms to 1 min",
        )?;
        check(
            (self.throttle_wait_min..=Duration::from_secs(600)).contains(&self.throttle_wait_max),
            "pace.throttle_wait_max",
            "throttle_wait_min to 10 min",
        )
    }
}
