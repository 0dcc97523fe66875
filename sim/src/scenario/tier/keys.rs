//! The stream whose records have keys: how it is compacted, and what is written to it.
//!
//! *Owns*: the settings of key compaction in a run, the records.
//! *Does not own*: the answers of its owner (`owner`), what may be missing (`check::keyed`).
//!
//! *IO: none*

use tidewater_s3stream::TierConfig;
use tidewater_s3stream::keyed::KeyPolicy;
use tidewater_types::StreamId;

use crate::check::keyed::Keyed;
use crate::plan::Plan;
use crate::rng::Rng;

/// How a run compacts by key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    /// The stream; the others have no keys.
    pub(super) stream: StreamId,
    pub(super) policy: KeyPolicy,
    num_keys: u64,
}

impl Keys {
    /// In three of five runs the last of the streams is such a one.
    pub(super) fn draw(plan: &Plan, config: &mut TierConfig, num_streams: u64) -> Option<Self> {
        let mut rng = Rng::new(plan.seed, "tier: keys");
        config.compact.key_map_bytes = 24 * rng.between(2, 14);
        config.compact.key_records_min = rng.between(1, 12);
        let keys = Self {
            stream: StreamId(num_streams),
            policy: KeyPolicy {
                lag_ms_min: [0, 0, 3][rng.index(3)],
                lag_ms_max: [10, i64::MAX][rng.index(2)],
                dirty_permille: [0, 200, 500][rng.index(3)],
                few_ms_max: [0, 20][rng.index(2)],
                delete_retention_ms: [0, 15, 3_600_000][rng.index(3)],
            },
            num_keys: rng.between(2, 12),
        };
        rng.chance(600).then_some(keys)
    }

    /// The records of the next entry, of the values from `value` on.
    pub(super) fn records(&self, rng: &mut Rng, value: u64, count: u64) -> Vec<Keyed> {
        let records = (0..count).map(|delta| Keyed {
            delta: u8::try_from(delta).expect("few records"),
            key: u8::try_from(rng.below(self.num_keys)).expect("few keys"),
            is_tombstone: rng.chance(200),
            value: value + delta,
        });
        records.collect()
    }
}
