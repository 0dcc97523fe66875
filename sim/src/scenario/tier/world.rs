//! What outlives the nodes: the bucket, the streams' durable tails, the models, randomness.
//!
//! *Owns*: the state that the parts of the scenario share, the first violation, the settings.
//! *Does not own*: what the parts do.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_s3stream::{Entry, MetaConfig, TierConfig, UploadConfig};
use tidewater_types::{Epoch, Offset, StreamId};

use super::keys::Keys;
use crate::bucket::SimBucket;
use crate::check::excuse::Facts;
use crate::check::keyed::{KeyedModel, SeenEntry, keyed_payload};
use crate::check::snapshot::Newest;
use crate::check::streams::{Seen, StreamModel};
use crate::check::{Violation, payload, values_in, values_word};
use crate::exec::{Handle, Tag};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::scenario::common::oracle::{Oracle, Scope, fsck_copy};
use crate::scenario::progress::Progress;

pub(super) struct World {
    pub(super) handle: Handle,
    pub(super) plan: Plan,
    pub(super) bucket: SimBucket,
    pub(super) config: TierConfig,
    /// Streams, from 1 on.
    pub(super) num_streams: u64,
    /// The stream that is compacted by key, if there is one.
    pub(super) keys: Option<Keys>,
    /// Whether a dead object outlives every fetch: then no reader may miss one.
    pub(super) is_patient: bool,
    pub(super) progress: Progress,
    pub(super) model: Mutex<Model>,
    oracle: Mutex<Oracle>,
}

pub(super) struct Model {
    pub(super) streams: BTreeMap<StreamId, Log>,
    pub(super) rng: Rng,
    pub(super) is_healed: bool,
    /// A stream is taken from a node that works on: what it uploads of it is dropped.
    pub(super) is_moving: bool,
    /// Fetches of each reader that began when all was healed, and ended.
    pub(super) healed_reads: BTreeMap<u64, u64>,
    pub(super) failure: Option<Violation>,
    next_value: u64,
    next_tag: u32,
}

/// A stream as its owners see it: what was appended is durable.
#[derive(Default)]
pub(super) struct Log {
    pub(super) model: StreamModel,
    pub(super) entries: Vec<Entry>,
    /// The states that its owners stored beside it.
    pub(super) states: Newest,
    /// If it is compacted by key.
    pub(super) keyed: Option<KeyedModel>,
    /// Who may append: the life that opened the stream under this epoch.
    pub(super) owner: Option<Tag>,
    pub(super) epoch: Epoch,
}

impl Log {
    /// As `StreamModel::read`, of whatever kind the stream is.
    pub(super) fn read(
        &mut self,
        offset: u64,
        seen: &[Seen],
        now_ms: i64,
    ) -> Result<(), Violation> {
        match &self.keyed {
            Some(keyed) => keyed.read(offset, &entries_of(seen), now_ms),
            None => {
                let high_watermark = self.model.high_watermark();
                self.model.read(offset, seen, high_watermark, 0)
            }
        }
    }

    /// As `StreamModel::final_read`, of whatever kind the stream is; compacted by key below `cleaned`.
    pub(super) fn final_read(
        &mut self,
        start: u64,
        seen: &[Seen],
        (end, now_ms, cleaned): (u64, i64, u64),
    ) -> Result<(), Violation> {
        let Some(keyed) = &self.keyed else {
            return self.model.final_read(start, seen, end);
        };
        self.model.seen_start(start)?;
        self.model
            .seen_high_watermark(end, self.model.high_watermark())?;
        let reached = seen.last().map_or(start, |last| last.base + last.count);
        if reached != end {
            let detail = format!("the final read ends at {reached}, the high watermark is {end}");
            return Err(Violation::new("keys", detail));
        }
        keyed.final_read(start, &entries_of(seen), (now_ms, cleaned))
    }

    pub(super) fn end(&self) -> Offset {
        self.entries
            .last()
            .map_or(Offset(0), |entry| entry.end_offset())
    }
}

fn entries_of(seen: &[Seen]) -> Vec<SeenEntry<'_>> {
    let entries = seen.iter();
    let entries = entries.map(|entry| (entry.base, entry.count, &entry.bytes[..]));
    entries.collect()
}

impl World {
    pub(super) fn new(handle: Handle, plan: &Plan) -> Self {
        let mut rng = Rng::new(plan.seed, "tier");
        let is_patient = rng.chance(500);
        let mut config = config(&mut rng, is_patient);
        // In one of six, enough for sets that have no stream in common.
        let more = Rng::new(plan.seed, "tier: streams").chance(160);
        let num_streams = plan.streams + if more { 6 } else { 1 };
        let keys = Keys::draw(plan, &mut config, num_streams);
        configure_reads(&mut config, &mut Rng::new(plan.seed, "tier: reads"));
        configure_splits(&mut config, &mut Rng::new(plan.seed, "tier: splits"));
        configure_limits(&mut config, &mut Rng::new(plan.seed, "tier: limits"));
        let model = Model {
            streams: BTreeMap::new(),
            rng,
            is_healed: false,
            is_moving: false,
            healed_reads: BTreeMap::new(),
            failure: None,
            next_value: 0,
            next_tag: 0,
        };
        Self {
            bucket: SimBucket::new(handle.clone(), plan.seed, plan.bucket),
            handle,
            plan: plan.clone(),
            config,
            num_streams,
            keys,
            is_patient,
            progress: Progress::default(),
            model: Mutex::new(model),
            oracle: Mutex::new(Oracle::new(plan.seed)),
        }
    }

    pub(super) fn next_tag(&self) -> Tag {
        let mut model = self.model.lock();
        model.next_tag += 1;
        Tag(model.next_tag)
    }

    pub(super) fn all_tags(&self) -> Vec<Tag> {
        (1..=self.model.lock().next_tag).map(Tag).collect()
    }

    /// How long a zombie sleeps before it goes on.
    pub(super) fn draw_pause(&self) -> Duration {
        let mut model = self.model.lock();
        let most = [0, 10, 100, 400][model.rng.index(4)];
        let ways = model.rng.below(most + 1);
        Duration::from_nanos(ways * self.plan.bucket.way_ns)
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

    /// What explains an error.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            planned: !self.model.lock().is_healed,
            impatient: !self.is_patient,
            ..Facts::default()
        }
    }

    /// In so many of 1,000 calls the bucket is looked at as it is now.
    pub(super) fn check_bucket(&self, per_mille: u32) {
        let drawn = self.oracle.lock().draw(per_mille);
        if let Some(seed) = drawn {
            self.check(fsck_copy(&self.bucket, seed, Scope::Objects));
        }
    }

    pub(super) fn failure(&self) -> Result<(), Violation> {
        self.model.lock().failure.take().map_or(Ok(()), Err)
    }

    /// The stream was opened by `tag`; what its tail holds above `end`. `None` if somebody
    /// opened it later.
    pub(super) fn took_over(
        &self,
        stream: StreamId,
        tag: Tag,
        epoch: Epoch,
        end: Offset,
    ) -> Option<Vec<Entry>> {
        let mut model = self.model.lock();
        let log = model.streams.get_mut(&stream)?;
        if epoch <= log.epoch {
            return None;
        }
        (log.owner, log.epoch) = (Some(tag), epoch);
        let above = log.entries.iter();
        Some(
            above
                .filter(|entry| entry.base_offset >= end)
                .cloned()
                .collect(),
        )
    }

    /// What is appended is durable, wherever it came from.
    fn tell_appended(&self, stream: StreamId, entry: &Entry) {
        let values = || values_word(&values_in(&entry.payload));
        let (base, end) = (entry.base_offset, entry.end_offset());
        self.handle.line(|| {
            format!(
                "tier  append stream={stream} base={base} end={end} {}",
                values()
            )
        });
        self.handle
            .line(|| format!("tier  ack stream={stream} {}", values()));
    }

    /// Appends an entry if `tag` owns the stream: it is durable and acknowledged at once.
    pub(super) fn append(&self, stream: StreamId, tag: Tag, now_ms: i64) -> Option<Entry> {
        let most = self.plan.payload_bytes_max;
        let mut model = self.model.lock();
        let model = &mut *model;
        let log = model.streams.get_mut(&stream)?;
        if log.owner != Some(tag) {
            return None;
        }
        let value = model.next_value + 1;
        let (base, count) = (log.end(), model.rng.between(1, 4));
        let len = usize::try_from(model.rng.between(16, most.max(17))).expect("small");
        let mut timestamp_ms_max = i64::try_from(value).expect("small");
        let payload = match (&mut log.keyed, &self.keys) {
            (Some(keyed), Some(keys)) => {
                model.next_value += count;
                timestamp_ms_max = now_ms;
                let records = keys.records(&mut model.rng, value, count);
                keyed.written(base.0, &records, now_ms);
                keyed.allow(base.0.saturating_sub(model.rng.below(6)));
                keyed_payload(None, &records)
            }
            _ => {
                model.next_value += 1;
                payload(value, len)
            }
        };
        let entry = Entry {
            base_offset: base,
            record_count: u32::try_from(count).expect("small"),
            timestamp_ms_max,
            payload: Bytes::from(payload),
        };
        self.tell_appended(stream, &entry);
        log.entries.push(entry.clone());
        log.model.given(value, base.0, count);
        let acked = log.model.acked(value);
        if let Err(violation) = acked {
            model.failure.get_or_insert(violation);
        }
        Some(entry)
    }
}

/// Small objects and short delays, so that compactors, sweepers and readers meet.
fn config(rng: &mut Rng, is_patient: bool) -> TierConfig {
    let meta = MetaConfig {
        snapshot_entries: 50,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(50),
        read_attempts: 20,
        ..MetaConfig::default()
    };
    let mut config = TierConfig {
        meta,
        upload_bytes: 2 << 10,
        upload_age: Duration::from_millis(rng.between(1, 8)),
        block_bytes: 512,
        stream_object_bytes: 2 << 10,
        block_cache_bytes: 64 << 10,
        index_cache_bytes: 64 << 10,
        delete_delay: if is_patient {
            Duration::from_secs(30)
        } else {
            Duration::from_millis(rng.below(20))
        },
        ..TierConfig::default()
    };
    config.compact.objects_min = [2, 3, 5][rng.index(3)];
    config.compact.growth_min = 2;
    config.compact.copy_bytes = [0, 1 << 10, 64 << 10][rng.index(3)];
    config.compact.step_bytes = [1 << 10, 4 << 10, 64 << 10][rng.index(3)];
    config.compact.object_bytes = [2 << 10, 8 << 10, 32 << 10][rng.index(3)];
    config.compact.read_bytes = 2 << 10;
    config.compact.pause = Duration::from_millis(1);
    config.compact.orphan_age = Duration::from_millis(rng.below(10));
    config.compact.background = rng.chance(700);
    // Several batches under way, objects in parts or whole, at a pace or at once.
    config.upload = UploadConfig {
        batches_parallel: [1, 2, 4][rng.index(3)],
        pace_percent: [0, 150][rng.index(2)],
        multipart_bytes: [1 << 10, 1 << 20][rng.index(2)],
        part_bytes: [64, 700][rng.index(2)],
    };
    config.stream_set_streams = [2, 3, 6][rng.index(3)];
    config
}

/// Few requests at a time or many, all of them sent twice or none; little that may be read ahead.
fn configure_reads(config: &mut TierConfig, rng: &mut Rng) {
    config.read.hedge_percent = [0, 5, 100][rng.index(3)];
    config.read.hedge_delay_min = Duration::from_millis(1);
    config.read.request_bytes_max = 4 << 10;
    config.read.ahead_percent = [0, 10, 50][rng.index(3)];
    config.pace.catch_up_parallel = [1, 2, 32][rng.index(3)];
}

/// Sets that are split after few uploads, in one commit or many, or that are only joined.
fn configure_splits(config: &mut TierConfig, rng: &mut Rng) {
    config.compact.split_window_bytes = [0, 16 << 10, 1 << 20][rng.index(3)];
    config.compact.split_joined = rng.chance(500);
    config.compact.split_read_bytes_min = [64, 512][rng.index(2)];
    config.compact.split_percent = 100;
    if config.compact.split_window_bytes > 0 {
        // What a split makes of a stream must fit.
        config.compact.object_bytes = config.compact.object_bytes.max(8 << 10);
    }
    if rng.chance(300) {
        // Objects of streams go whole.
        config.upload.part_bytes = 8 << 10;
    }
    config.compact.split_commit_bytes = [1, 4 << 10, 1 << 20][rng.index(3)];
}

/// Now and then limits that hold up whoever comes last.
fn configure_limits(config: &mut TierConfig, rng: &mut Rng) {
    config.pace.requests_per_s = [0, 0, 0, 500][rng.index(4)];
    config.pace.bytes_in_per_s = [0, 0, 0, 256 << 10][rng.index(4)];
    config.pace.bytes_out_per_s = [0, 0, 0, 256 << 10][rng.index(4)];
    config.pace.compaction_floor_percent = [0, 10, 50][rng.index(3)];
}
