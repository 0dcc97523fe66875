//! Settings of the object WAL.
//!
//! *Owns*: every setting with its unit, default and range.
//! *Does not own*: what the settings do; the store's credentials and endpoint (the bucket's).
//!
//! Invariants
//! 1. `validate` refuses; nothing is clamped.
//!
//! *IO: none*

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::format::entry::WINDOW_MAX;
use super::put::Pace;
use crate::config::ConfigError;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// A setting, its value, from and to, and that in words.
type Rule = (&'static str, u64, u64, u64, &'static str);

/// Settings of a WAL on an object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectWalConfig {
    /// How long an object collects frames while others are under way, in milliseconds; a frame
    /// that comes alone goes at once. Default 250; 0 to 60,000.
    pub linger_ms_max: u64,
    /// Bytes of frames after which an object is sent before that time. A larger frame gets an
    /// object of its own. Default 8 MiB; 1 KiB to 1 GiB.
    pub object_bytes_max: u64,
    /// Objects under way at a time. Default 8; 1 to `window`.
    pub depth: u32,
    /// Objects past the last durable one that may be under way, stated when the WAL is opened:
    /// how far a later owner puts its barrier. Default 16; 1 to 1,024.
    pub window: u32,
    /// Bytes of frames accepted and not yet durable; bounds the largest frame. Default 64 MiB;
    /// 4 KiB to 2 GiB.
    pub pool_bytes: u64,
    /// How long `reserve` waits for room, in milliseconds. Default 5,000; 0 to 600,000.
    pub reserve_ms_max: u64,
    /// How long one attempt may take, in milliseconds, beside the time that its bytes may take.
    /// Default 5,000; 1 to 600,000.
    pub attempt_ms_max: u64,
    /// The slowest link that an attempt is waited for, in bytes a second: an object of 8 MiB gets
    /// 32 s more than one of nothing. Default 256 KiB; 1 KiB to 1 GiB.
    pub attempt_bytes_per_s_min: u64,
    /// How long all attempts on one object may take, in milliseconds, beside the time that its
    /// bytes may take once; then the WAL gives up and must be opened anew. A store that refuses
    /// (credentials that ran out, say) is asked again for as long; while the WAL is opened it is
    /// not. Default 60,000; 1 to 3,600,000.
    pub give_up_ms: u64,
    /// An attempt without an answer gets a twin after this or the slowest in a hundred of late,
    /// whichever is longer, in milliseconds; 0 for never. Default 500; 0 to 600,000.
    pub hedge_ms: u64,
    /// First wait between attempts, in milliseconds; it doubles. Default 20; 1 to 60,000.
    pub retry_ms_min: u64,
    /// Longest wait between attempts, in milliseconds. Default 1,000; `retry_ms_min` to 60,000.
    pub retry_ms_max: u64,
    /// How long nothing is appended before a trim is stated in an object of its own, in
    /// milliseconds. Default 1,000; 0 to 3,600,000.
    pub trim_idle_ms: u64,
    /// How long after a trim is durable the objects below it are deleted, in milliseconds.
    /// Default 1,000; 0 to 3,600,000.
    pub delete_delay_ms: u64,
    /// Bytes of the entries from the trim point on that an opening may hold in memory; a longer
    /// log is refused. Default 4 GiB; 1 MiB to 1 TiB.
    pub takeover_bytes_max: u64,
}

impl Default for ObjectWalConfig {
    fn default() -> Self {
        Self {
            linger_ms_max: 250,
            object_bytes_max: 8 * MIB,
            depth: 8,
            window: 16,
            pool_bytes: 64 * MIB,
            reserve_ms_max: 5_000,
            attempt_ms_max: 5_000,
            attempt_bytes_per_s_min: 256 * KIB,
            give_up_ms: 60_000,
            hedge_ms: 500,
            retry_ms_min: 20,
            retry_ms_max: 1_000,
            trim_idle_ms: 1_000,
            delete_delay_ms: 1_000,
            takeover_bytes_max: 4096 * MIB,
        }
    }
}

impl ObjectWalConfig {
    /// Small objects, a small window, short waits: for simulation and tests.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            linger_ms_max: 2,
            object_bytes_max: 4 * KIB,
            depth: 3,
            window: 4,
            pool_bytes: 64 * KIB,
            reserve_ms_max: 50,
            attempt_ms_max: 20,
            attempt_bytes_per_s_min: MIB,
            give_up_ms: 2_000,
            hedge_ms: 5,
            retry_ms_min: 1,
            retry_ms_max: 10,
            trim_idle_ms: 3,
            delete_delay_ms: 1,
            takeover_bytes_max: 64 * MIB,
        }
    }

    /// Refuses a setting outside its range.
    ///
    /// # Errors
    /// [`ConfigError`] names the first such setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rules = self.sizes().into_iter().chain(self.times());
        let mut broken = rules.filter(|(_, value, from, to, _)| value < from || value > to);
        match broken.next() {
            None => Ok(()),
            Some((field, value, _, _, expected)) => Err(ConfigError {
                field,
                value,
                expected,
            }),
        }
    }

    fn sizes(&self) -> [Rule; 6] {
        let (object, pool, log) = (
            self.object_bytes_max,
            self.pool_bytes,
            self.takeover_bytes_max,
        );
        let (depth, window) = (u64::from(self.depth), u64::from(self.window));
        let (rate, gib) = (self.attempt_bytes_per_s_min, 1024 * MIB);
        [
            ("object_bytes_max", object, KIB, gib, "1 KiB to 1 GiB"),
            ("window", window, 1, WINDOW_MAX.into(), "1 to 1024"),
            ("depth", depth, 1, window, "1 to window"),
            ("pool_bytes", pool, 4 * KIB, 2 * gib - 1, "4 KiB to 2 GiB"),
            ("attempt_bytes_per_s_min", rate, KIB, gib, "1 KiB to 1 GiB"),
            ("takeover_bytes_max", log, MIB, 1024 * gib, "1 MiB to 1 TiB"),
        ]
    }

    fn times(&self) -> [Rule; 9] {
        let (minute, hour) = (60_000, 3_600_000);
        let (long, to_hour) = (10 * minute, "0 to 3600000");
        let retry = (self.retry_ms_min, self.retry_ms_max);
        let retry_expected = "retry_ms_min to 60000";
        [
            ("linger_ms_max", self.linger_ms_max, 0, minute, "0 to 60000"),
            (
                "reserve_ms_max",
                self.reserve_ms_max,
                0,
                long,
                "0 to 600000",
            ),
            (
                "attempt_ms_max",
                self.attempt_ms_max,
                1,
                long,
                "1 to 600000",
            ),
            ("give_up_ms", self.give_up_ms, 1, hour, "1 to 3600000"),
            ("hedge_ms", self.hedge_ms, 0, long, "0 to 600000"),
            ("retry_ms_min", retry.0, 1, minute, "1 to 60000"),
            ("retry_ms_max", retry.1, retry.0, minute, retry_expected),
            ("trim_idle_ms", self.trim_idle_ms, 0, hour, to_hour),
            ("delete_delay_ms", self.delete_delay_ms, 0, hour, to_hour),
        ]
    }

    pub(crate) fn pace(&self) -> Pace {
        Pace {
            hedge: Duration::from_millis(self.hedge_ms),
            retry_min: Duration::from_millis(self.retry_ms_min),
            retry_max: Duration::from_millis(self.retry_ms_max),
            give_up: Duration::from_millis(self.give_up_ms),
            bears_refusals: false,
            bytes_per_s_min: self.attempt_bytes_per_s_min,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ObjectWalConfig;

    #[test]
    fn defaults_and_tiny_are_in_range() {
        assert_eq!(ObjectWalConfig::default().validate(), Ok(()));
        assert_eq!(ObjectWalConfig::tiny().validate(), Ok(()));
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_name() {
        let tiny = ObjectWalConfig::tiny;
        let depth = ObjectWalConfig { depth: 5, ..tiny() };
        assert_eq!(depth.validate().unwrap_err().field, "depth");
        let retry_ms_max = 0;
        let retry = ObjectWalConfig {
            retry_ms_max,
            ..tiny()
        };
        assert_eq!(retry.validate().unwrap_err().field, "retry_ms_max");
        let window = ObjectWalConfig {
            window: 2_000,
            ..tiny()
        };
        assert_eq!(window.validate().unwrap_err().field, "window");
        let rate = ObjectWalConfig {
            attempt_bytes_per_s_min: 0,
            ..tiny()
        };
        assert_eq!(
            rate.validate().unwrap_err().field,
            "attempt_bytes_per_s_min"
        );
        let log = ObjectWalConfig {
            takeover_bytes_max: 0,
            ..tiny()
        };
        assert_eq!(log.validate().unwrap_err().field, "takeover_bytes_max");
    }
}
