//! What outlives the node's lives: device, bucket, models, randomness.
//!
//! *Owns*: the state that the parts of the scenario share, the first violation, the settings.
//! *Does not own*: what the parts do.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_s3stream::{MetaConfig, TierConfig, UploadConfig};
use tidewater_stream_store::StoreConfig;
use tidewater_types::{ClusterId, StreamId};

use super::owners::{NODE, Owners};
use crate::bucket::SimBucket;
use crate::cache_disk::CacheImage;
use crate::check::Violation;
use crate::check::streams::StreamModel;
use crate::disk::{CrashStyle, Device};
use crate::exec::{Handle, Tag};
use crate::plan::{End, Plan};
use crate::rng::Rng;
use crate::scenario::progress::Progress;

/// How long a life that should end by itself may take, in virtual time.
pub(super) const LIFE_TIME_MAX: Duration = Duration::from_secs(600);

/// What a life is given.
pub(super) struct Began {
    pub(super) tag: Tag,
    pub(super) work: Work,
    pub(super) bucket: Arc<dyn Bucket>,
}

/// What outlives the node's lives.
pub(super) struct World {
    pub(super) handle: Handle,
    pub(super) plan: Plan,
    pub(super) device: Device,
    pub(super) bucket: SimBucket,
    pub(super) cache: Option<CacheImage>,
    pub(super) progress: Progress,
    pub(super) model: Mutex<Model>,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) streams: BTreeMap<StreamId, StreamModel>,
    pub(super) rng: Option<Rng>,
    /// Those that acknowledged an append since all was healed.
    pub(super) healed_acks: BTreeSet<StreamId>,
    pub(super) next_value: u64,
    pub(super) next_tag: u32,
    pub(super) num_forks: u64,
    pub(super) cluster: Option<ClusterId>,
    pub(super) owners: Owners,
    pub(super) zombies: Vec<Tag>,
    /// The life under way was asked to close.
    pub(super) closing: bool,
    pub(super) failure: Option<Violation>,
}

/// What a life does after it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// As planned; the end may come at any moment.
    Planned,
    /// Every append must be acknowledged, every upload must end, everything is read.
    Healed,
    /// Everything is read.
    ReadAll,
    /// The WAL is gone: the store must refuse to open.
    Wiped,
    /// The WAL is gone, and its loss accepted: everything was uploaded before.
    ReadAllWithoutWal,
}

impl World {
    pub(super) fn next_tag(&self) -> Tag {
        let mut model = self.model.lock();
        model.next_tag += 1;
        Tag(model.next_tag)
    }

    /// A number of the workload.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.model
            .lock()
            .rng
            .as_mut()
            .map_or(0, |rng| rng.below(bound))
    }

    pub(super) fn end(&self, tag: Tag, end: End) {
        let styles = [
            CrashStyle::None,
            CrashStyle::All,
            CrashStyle::Writes,
            CrashStyle::Sectors,
        ];
        let style = styles[usize::try_from(self.below(4)).expect("small")];
        match end {
            End::PowerLoss => {
                self.handle.kill(tag);
                self.device.power_loss(style);
                self.cache.iter().for_each(CacheImage::power_loss);
            }
            End::Kill | End::Close => {
                self.device.kill();
                self.handle.kill(tag);
            }
        }
    }

    /// Keeps the first violation.
    pub(super) fn fail(&self, violation: Violation) {
        self.handle.line(|| format!("FAIL  {violation}"));
        self.model.lock().failure.get_or_insert(violation);
    }

    pub(super) fn check(&self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.fail(violation);
        }
    }

    /// Whether nothing on the disk was ever planned to fail, be it slow or not.
    pub(super) fn disk_is_fine(&self) -> bool {
        self.plan.disk_faults.are_harmless()
    }
}

/// Settings of the store: small, so that uploads, snapshots and full queues are common.
pub(crate) fn store_config(plan: &Plan, accept_data_loss: bool) -> StoreConfig {
    let small = plan.seed.is_multiple_of(3);
    let meta = MetaConfig {
        snapshot_entries: if small { 5 } else { 50 },
        snapshot_part_bytes: if small { 256 } else { 64 << 10 },
        delete_delay: Duration::from_millis(if small { 30 } else { 500 }),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(50),
        read_attempts: 20,
        ..MetaConfig::default()
    };
    let mut tier = TierConfig {
        meta,
        upload_bytes: if small { 2 << 10 } else { 32 << 10 },
        upload_age: Duration::from_millis(if small { 2 } else { 40 }),
        block_bytes: 1 << 10,
        stream_object_bytes: 8 << 10,
        stream_set_streams: 2,
        block_cache_bytes: 64 << 10,
        index_cache_bytes: 64 << 10,
        upload: upload_config(plan),
        ..TierConfig::default()
    };
    tier.compact.objects_min = 4;
    tier.compact.growth_min = 2;
    tier.compact.object_bytes = 64 << 10;
    tier.compact.step_bytes = 16 << 10;
    tier.read.request_bytes_max = 4 << 10;
    tier.read.disk_segment_bytes = 16 << 10;
    tier.read.disk_keep_at = if plan.seed.is_multiple_of(4) { 2 } else { 1 };
    let mut rng = Rng::new(plan.seed, "limits");
    tier.pace.requests_per_s = [0, 0, 0, 2_000][rng.index(4)];
    tier.pace.bytes_out_per_s = [0, 0, 0, 1 << 20][rng.index(4)];
    // What fills all room is a quarter of a second on its way through that limit, and its log before.
    let is_limited = tier.pace.bytes_out_per_s > 0;
    StoreConfig {
        node: NODE,
        tier,
        waiting_bytes_max: 256 << 10,
        tail_cache_bytes_max: if small { 4 << 10 } else { 64 << 10 },
        append_bytes_max: 16 << 10,
        append_wait_ms_max: if is_limited { 1_000 } else { 100 },
        accept_data_loss,
    }
}

/// One upload or several under way, objects whole or in parts, at a pace or at once.
fn upload_config(plan: &Plan) -> UploadConfig {
    let mut rng = Rng::new(plan.seed, "upload");
    UploadConfig {
        batches_parallel: [1, 2, 4][rng.index(3)],
        pace_percent: [0, 110, 200][rng.index(3)],
        multipart_bytes: if rng.chance(500) { 2 << 10 } else { 1 << 20 },
        part_bytes: [700, 2 << 10, 4 << 10][rng.index(3)],
    }
}
