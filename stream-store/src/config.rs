//! What can be set, with units, defaults and ranges.
//!
//! *Owns*: `StoreConfig` and its `validate`. *Does not own*: the tier's and the WAL's settings.
//!
//! *IO: none*

use tidewater_s3stream::TierConfig;
use tidewater_types::NodeId;

/// Settings of a store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The node this process is; unique in the cluster.
    pub node: NodeId,
    /// Settings of the object tier.
    pub tier: TierConfig,
    /// Bytes of memory that entries may take which wait for their upload, before appends wait: of
    /// small ones most is not payload, and a thirty-second is kept for uploads of many streams; 64 KiB
    /// or more. Default 256 MiB.
    ///
    /// An upload is due when a third of it is taken by what is in no upload yet: a larger
    /// `TierConfig::upload_bytes` is never reached.
    pub waiting_bytes_max: u64,
    /// Bytes of memory of committed entries that are kept for readers at the tail. Default 64 MiB.
    pub tail_cache_bytes_max: u64,
    /// Largest payload of one append; at most half of `waiting_bytes_max`. Default 16 MiB.
    pub append_bytes_max: u64,
    /// How long an append waits for room before it is refused as full, in milliseconds;
    /// 1 … 600,000. Default 5,000.
    pub append_wait_ms_max: u64,
    /// Whether a WAL that the metadata names but that is missing, wiped or foreign may be replaced
    /// by an empty one. Acknowledged data is lost then. Default `false`.
    pub accept_data_loss: bool,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            node: NodeId(1),
            tier: TierConfig::default(),
            waiting_bytes_max: 256 << 20,
            tail_cache_bytes_max: 64 << 20,
            append_bytes_max: 16 << 20,
            append_wait_ms_max: 5_000,
            accept_data_loss: false,
        }
    }
}

/// A setting out of its range: its name, what was given, what is allowed.
pub(crate) struct OutOfRange {
    pub(crate) field: &'static str,
    pub(crate) found: u64,
    pub(crate) expected: &'static str,
}

impl StoreConfig {
    pub(crate) fn check(&self) -> Result<(), OutOfRange> {
        let refuse = |field, found, expected| {
            Err(OutOfRange {
                field,
                found,
                expected,
            })
        };
        if self.waiting_bytes_max < 64 << 10 || self.waiting_bytes_max > 1 << 40 {
            return refuse(
                "waiting_bytes_max",
                self.waiting_bytes_max,
                "64 KiB … 1 TiB",
            );
        }
        if self.append_bytes_max == 0 || self.append_bytes_max > self.waiting_bytes_max / 2 {
            let expected = "1 … half of waiting_bytes_max";
            return refuse("append_bytes_max", self.append_bytes_max, expected);
        }
        if self.append_bytes_max > 1 << 30 {
            return refuse("append_bytes_max", self.append_bytes_max, "at most 1 GiB");
        }
        if !(1..=600_000).contains(&self.append_wait_ms_max) {
            return refuse("append_wait_ms_max", self.append_wait_ms_max, "1 … 600000");
        }
        Ok(())
    }
}
