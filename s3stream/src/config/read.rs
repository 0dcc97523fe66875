//! Configuration of reads.
//!
//! *Owns*: the values and the check that they are usable. *Does not own*: where they come from.
//!
//! Invariants
//! 1. `validate` refuses; nothing is clamped.
//!
//! *IO: none*

use std::time::Duration;

use super::range::{ConfigError, check};

/// How requests for blocks are joined, repeated and made ahead of their reader, and what the cache
/// on a disk keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadConfig {
    /// Neighbouring blocks are read by one request up to this many bytes. Default 4 MiB; 4 KiB to
    /// 64 MiB. A larger block is read whole.
    ///
    /// A request costs money and a round trip. Blocks that came by one share its bytes until they
    /// are read again, so a larger request also means coarser use of the memory for blocks.
    pub request_bytes_max: u64,
    /// Bytes between two missing blocks that are read for nothing, so that one request does.
    /// Default 64 KiB; 0 to 16 MiB.
    pub gap_bytes_max: u64,
    /// Second requests for what is slow to come, in percent of all requests. Default 5; 0 (never)
    /// to 100.
    pub hedge_percent: u32,
    /// No second request before this, however fast the bucket is. Default 20 ms; 1 ms to 1 min.
    ///
    /// Above it, a second request is sent when the first takes longer than 95 % of late.
    pub hedge_delay_min: Duration,
    /// Bytes that are read ahead of one sequential reader, at most. Default 16 MiB; 0 (never) to
    /// 1 GiB.
    pub ahead_bytes_max: u64,
    /// What is read ahead of all readers together, in percent of the memory for blocks. Default 50;
    /// 0 (never) to 100. What does not stay there until it is read is read twice.
    pub ahead_percent: u32,
    /// How far ahead, in the reader's own time: a reader that takes 10 MB in a second and a horizon
    /// of 2 s make 20 MB. Default 2 s; 1 ms to 10 min.
    pub ahead_horizon: Duration,
    /// Which request for a block from the bucket makes the disk cache keep it. Default 2, so that a
    /// single scan leaves no trace; 1 (keep everything) to 2.
    pub disk_keep_at: u32,
    /// The disk cache is written and let go of in pieces of this many bytes; it has at least four.
    /// Default 16 MiB; 16 KiB to 1 GiB. A larger block stays out of it.
    pub disk_segment_bytes: u64,
    /// Blocks that wait to be written to the disk cache, in bytes; what comes on top stays out.
    /// Default 32 MiB; 0 to 1 GiB.
    pub disk_waiting_bytes_max: u64,
    /// A disk that takes longer to read a block is passed over. Default 500 ms; 1 ms to 1 min.
    pub disk_wait_max: Duration,
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self {
            request_bytes_max: 4 << 20,
            gap_bytes_max: 64 << 10,
            hedge_percent: 5,
            hedge_delay_min: Duration::from_millis(20),
            ahead_bytes_max: 16 << 20,
            ahead_percent: 50,
            ahead_horizon: Duration::from_secs(2),
            disk_keep_at: 2,
            disk_segment_bytes: 16 << 20,
            disk_waiting_bytes_max: 32 << 20,
            disk_wait_max: Duration::from_millis(500),
        }
    }
}

impl ReadConfig {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// Names the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ms = Duration::from_millis(1);
        let minute = ms..=Duration::from_secs(60);
        check(
            (4 << 10..=64 << 20).contains(&self.request_bytes_max),
            "read.request_bytes_max",
            "4 KiB to 64 MiB",
        )?;
        check(
            self.gap_bytes_max <= 16 << 20,
            "read.gap_bytes_max",
            "0 to 16 MiB",
        )?;
        check(self.hedge_percent <= 100, "read.hedge_percent", "0 to 100")?;
        check(
            minute.contains(&self.hedge_delay_min),
            "read.hedge_delay_min",
            "1 ms to 1 min",
        )?;
        check(
            self.ahead_bytes_max <= 1 << 30,
            "read.ahead_bytes_max",
            "0 to 1 GiB",
        )?;
        check(self.ahead_percent <= 100, "read.ahead_percent", "0 to 100")?;
        check(
            (ms..=Duration::from_secs(600)).contains(&self.ahead_horizon),
            "read.ahead_horizon",
            "1 ms to 10 min",
        )?;
        check(
            (1..=2).contains(&self.disk_keep_at),
            "read.disk_keep_at",
            "1 to 2",
        )?;
        check(
            (16 << 10..=1 << 30).contains(&self.disk_segment_bytes),
            "read.disk_segment_bytes",
            "16 KiB to 1 GiB",
        )?;
        check(
            self.disk_waiting_bytes_max <= 1 << 30,
            "read.disk_waiting_bytes_max",
            "0 to 1 GiB",
        )?;
        check(
            minute.contains(&self.disk_wait_max),
            "read.disk_wait_max",
            "1 ms to 1 min",
        )
    }
}
