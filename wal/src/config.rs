//! Settings of the device WAL.
//!
//! *Owns*: every setting with its unit, default and range; whose WAL is opened and how.
//! *Does not own*: what the settings do.
//!
//! Invariants
//! 1. `validate` refuses; nothing is clamped.
//!
//! *IO: none*

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tidewater_types::{ClusterId, NodeId, WalId};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// How bytes become durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalMode {
    /// What was measured on the device; before that `RingSync` where the kernel and the file
    /// system allow it, else `Portable`.
    #[default]
    Auto,
    /// `io_uring` and `O_DIRECT`: several writes, then one `fdatasync`.
    RingSync,
    /// `io_uring` and `O_DIRECT`: writes that are durable by themselves (`RWF_DSYNC`).
    RingDsync,
    /// `pwrite` and `fdatasync` from a thread.
    Portable,
}

impl WalMode {
    /// The name used in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::RingSync => "ring-sync",
            Self::RingDsync => "ring-dsync",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for WalMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WalMode {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Auto, Self::RingSync, Self::RingDsync, Self::Portable]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or(ConfigError {
                field: "mode",
                value: 0,
                expected: "auto, ring-sync, ring-dsync or portable",
            })
    }
}

/// Whether the WAL must be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Make a new one; refuse if there is one.
    Create,
    /// Open the one that is there; refuse if there is none.
    Existing,
}

/// Whose WAL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Cluster it belongs to.
    pub cluster: ClusterId,
    /// Node it belongs to.
    pub node: NodeId,
    /// The WAL itself. On `Create`: the identifier to give it (`None` draws one). On
    /// `Existing`: the one expected (`None` adopts what is there).
    pub wal: Option<WalId>,
}

/// Settings of a device WAL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceWalConfig {
    /// Largest size of the ring in bytes; the file grows to it only as far as needed.
    /// Default 1 GiB; at least two segments.
    pub capacity_bytes: u64,
    /// Bytes of a segment, the unit of growth and of recycling. Fixed at creation.
    /// Default 8 MiB; a power of two from 64 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// Bytes of buffers for frames that are not written yet, counted as allocated: room for about
    /// a third of that in frames, whatever their sizes. Memory is taken as it is needed.
    /// Default 64 MiB; at least three windows and `depth` + 2 groups, below 2 GiB.
    pub pool_bytes: u64,
    /// Writes under way at a time. Default 8; 1 to 64.
    pub depth: usize,
    /// Bytes after which a group is written although more is waiting. A larger frame gets a
    /// group of its own. Default 1 MiB; 4 KiB to `window_bytes` less 16 KiB.
    pub group_bytes_max: u64,
    /// Bytes of ring that may be written and not yet durable, and so how far recovery looks
    /// beyond the end; bounds the largest frame. Default 4 MiB; 32 KiB to `segment_bytes`.
    pub window_bytes: u64,
    /// How long `reserve` waits for room, in milliseconds. Default 5,000; 0 to 600,000.
    pub reserve_ms_max: u64,
    /// How long nothing happens before the end is marked as durable, in milliseconds.
    /// Default 20; 0 to 60,000.
    pub mark_idle_ms: u64,
    /// How long to wait before a write that found no space is tried again, in milliseconds.
    /// Default 100; 1 to 60,000.
    pub retry_ms: u64,
    /// A write or flush that takes this long is counted as slow, in milliseconds. Default 1,000;
    /// 1 to 600,000.
    pub slow_op_ms: u64,
    /// Segments kept ready in front of the head. Default 1; 1 to 64.
    pub zero_ahead: usize,
    /// Bytes recovery reads at a time. Default 1 MiB; a power of two from 32 KiB to 64 MiB.
    pub recovery_read_bytes: u64,
    /// How bytes become durable. Default `auto`.
    pub mode: WalMode,
    /// With the mode `auto` and no measurement beside the WAL: how long after opening the device
    /// is measured for the next time, in milliseconds. Default 5,000; 0 for never, to 3,600,000.
    pub calibrate_after_ms: u64,
    /// On creation: whether what lies on a block device may be lost. Default false.
    pub destroy: bool,
}

impl Default for DeviceWalConfig {
    fn default() -> Self {
        Self {
            capacity_bytes: 1024 * MIB,
            segment_bytes: 8 * MIB,
            pool_bytes: 64 * MIB,
            depth: 8,
            group_bytes_max: MIB,
            window_bytes: 4 * MIB,
            reserve_ms_max: 5_000,
            mark_idle_ms: 20,
            retry_ms: 100,
            slow_op_ms: 1_000,
            zero_ahead: 1,
            recovery_read_bytes: MIB,
            mode: WalMode::Auto,
            calibrate_after_ms: 5_000,
            destroy: false,
        }
    }
}

/// A setting outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} = {value}, must be {expected}")]
pub struct ConfigError {
    /// The setting.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// What it must be.
    pub expected: &'static str,
}

impl DeviceWalConfig {
    /// The smallest sensible setting: 64 KiB segments, for simulation and tests.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            capacity_bytes: 8 * 64 * KIB,
            segment_bytes: 64 * KIB,
            pool_bytes: 256 * KIB,
            depth: 4,
            group_bytes_max: 8 * KIB,
            window_bytes: 32 * KIB,
            reserve_ms_max: 50,
            mark_idle_ms: 1,
            retry_ms: 1,
            slow_op_ms: 100,
            zero_ahead: 1,
            recovery_read_bytes: 32 * KIB,
            mode: WalMode::Auto,
            calibrate_after_ms: 0,
            destroy: false,
        }
    }

    /// Refuses a setting outside its range.
    ///
    /// # Errors
    /// [`ConfigError`] names the first such setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let broken = self.size_rules().into_iter().chain(self.count_rules());
        match broken.into_iter().find(|(_, _, holds, _)| !holds) {
            None => Ok(()),
            Some((field, value, _, expected)) => Err(ConfigError {
                field,
                value,
                expected,
            }),
        }
    }

    fn size_rules(&self) -> [Rule; 6] {
        let (segment, window) = (self.segment_bytes, self.window_bytes);
        let (group, read) = (self.group_bytes_max, self.recovery_read_bytes);
        let (capacity, pool) = (self.capacity_bytes, self.pool_bytes);
        let power = |value: u64, from: u64, to: u64| {
            value.is_power_of_two() && (from..=to).contains(&value)
        };
        let segment_fits = power(segment, 64 * KIB, 1024 * MIB);
        let capacity_fits = capacity / segment.max(1) >= 2 && capacity < 1 << 50;
        let window_fits = (32 * KIB..=segment).contains(&window) && window.is_multiple_of(16 * KIB);
        let group_fits = group >= 4 * KIB && group.saturating_add(16 * KIB) <= window;
        let read_fits = power(read, 32 * KIB, 64 * MIB);
        let groups = (self.depth as u64).saturating_add(2).saturating_mul(group);
        let pool_least = window.saturating_mul(3).saturating_add(groups);
        let pool_fits = (pool_least..1 << 31).contains(&pool);
        [
            (
                "segment_bytes",
                segment,
                segment_fits,
                "a power of two from 64 KiB to 1 GiB",
            ),
            (
                "capacity_bytes",
                capacity,
                capacity_fits,
                "at least two segments and below 1 PiB",
            ),
            (
                "window_bytes",
                window,
                window_fits,
                "a multiple of 16 KiB from 32 KiB to segment_bytes",
            ),
            (
                "group_bytes_max",
                group,
                group_fits,
                "4 KiB to window_bytes less 16 KiB",
            ),
            (
                "recovery_read_bytes",
                read,
                read_fits,
                "a power of two from 32 KiB to 64 MiB",
            ),
            (
                "pool_bytes",
                pool,
                pool_fits,
                "three windows and depth + 2 groups, below 2 GiB",
            ),
        ]
    }

    fn count_rules(&self) -> [Rule; 7] {
        let (depth, ahead) = (self.depth as u64, self.zero_ahead as u64);
        let (reserve, mark, retry) = (self.reserve_ms_max, self.mark_idle_ms, self.retry_ms);
        let small = 1..=64;
        [
            ("depth", depth, small.contains(&depth), "1 to 64"),
            ("zero_ahead", ahead, small.contains(&ahead), "1 to 64"),
            ("reserve_ms_max", reserve, reserve <= 600_000, "0 to 600000"),
            ("mark_idle_ms", mark, mark <= 60_000, "0 to 60000"),
            (
                "calibrate_after_ms",
                self.calibrate_after_ms,
                self.calibrate_after_ms <= 3_600_000,
                "0 to 3600000",
            ),
            (
                "retry_ms",
                retry,
                (1..=60_000).contains(&retry),
                "1 to 60000",
            ),
            (
                "slow_op_ms",
                self.slow_op_ms,
                (1..=600_000).contains(&self.slow_op_ms),
                "1 to 600000",
            ),
        ]
    }
}

/// A setting, its value, whether it holds, and what it must be.
type Rule = (&'static str, u64, bool, &'static str);

#[cfg(test)]
mod tests {
    use super::{DeviceWalConfig, WalMode};

    #[test]
    fn defaults_and_tiny_are_in_range() {
        assert_eq!(DeviceWalConfig::default().validate(), Ok(()));
        assert_eq!(DeviceWalConfig::tiny().validate(), Ok(()));
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_name() {
        let config = DeviceWalConfig {
            window_bytes: 1,
            ..DeviceWalConfig::tiny()
        };
        assert_eq!(config.validate().unwrap_err().field, "window_bytes");
        let config = DeviceWalConfig {
            capacity_bytes: 0,
            ..DeviceWalConfig::tiny()
        };
        assert_eq!(config.validate().unwrap_err().field, "capacity_bytes");
    }

    #[test]
    fn modes_parse_by_the_name_they_print() {
        for mode in [
            WalMode::Auto,
            WalMode::RingSync,
            WalMode::RingDsync,
            WalMode::Portable,
        ] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("ring".parse::<WalMode>().unwrap_err().field, "mode");
    }
}
