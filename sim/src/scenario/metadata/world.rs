//! What outlives the processes: the bucket, the models, randomness.
//!
//! *Owns*: the settings, what is asked at each answer, the first violation.
//! *Does not own*: the workload.
//!
//! Invariants
//! 1. At an acknowledgement no lottery: whoever opened the bucket as it is now, without
//!    faults, would find the transaction.
//! 2. Two states after the same log entry are equal, whoever shows them.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_s3stream::{MetaConfig, MetaState, Metadata};
use tidewater_types::{Env, StreamId};

use crate::bucket::SimBucket;
use crate::check::registers::RegisterModel;
use crate::check::state::StateModel;
use crate::check::{Violation, delay, durable, fork};
use crate::env::SimEnv;
use crate::exec::{Executor, Handle, Tag};
use crate::plan::{Damage, Plan};
use crate::rng::Rng;
use crate::scenario::common::oracle::{Oracle, Scope, fsck_copy};
use crate::scenario::common::{LIMITS, failure_of};

/// At so many of 1,000 acknowledgements the bucket is checked.
const ACK_CHECKS: u32 = 20;
/// Lists that are the values of keys.
pub(super) const KEYS: u64 = 3;
/// The stream whose ranges are a list, too.
pub(super) const STREAM: StreamId = StreamId(1);

pub(super) struct World {
    pub(super) handle: Handle,
    pub(super) plan: Plan,
    pub(super) bucket: SimBucket,
    pub(super) config: MetaConfig,
    pub(super) model: Mutex<Model>,
    oracle: Mutex<Oracle>,
}

pub(super) struct Model {
    pub(super) registers: RegisterModel,
    pub(super) next_id: u64,
    states: StateModel<MetaState>,
    rng: Rng,
    next_tag: u32,
    num_forks: u64,
    pub(super) failure: Option<Violation>,
}

impl World {
    pub(super) fn new(handle: Handle, plan: &Plan) -> Self {
        let mut rng = Rng::new(plan.seed, "metadata");
        let config = config(&mut rng, plan);
        let model = Model {
            registers: RegisterModel::default(),
            next_id: 0,
            states: StateModel::default(),
            rng,
            next_tag: 0,
            num_forks: 0,
            failure: None,
        };
        Self {
            bucket: SimBucket::new(handle.clone(), plan.seed, plan.bucket),
            handle,
            plan: plan.clone(),
            config,
            model: Mutex::new(model),
            oracle: Mutex::new(Oracle::new(plan.seed)),
        }
    }

    /// Processes at a time: two to five, and eight in one plan of six.
    pub(super) fn num_nodes(&self) -> u32 {
        match self.plan.writers {
            6.. => 8,
            few => u32::try_from(few.max(2)).expect("few"),
        }
    }

    pub(super) fn next_tag(&self) -> Tag {
        let mut model = self.model.lock();
        model.next_tag += 1;
        Tag(model.next_tag)
    }

    /// No process runs any more.
    pub(super) fn kill_all(&self) {
        let last = self.model.lock().next_tag;
        (1..=last).for_each(|tag| self.handle.kill(Tag(tag)));
    }

    pub(super) fn next_rng(&self, label: &'static str) -> Rng {
        Rng::new(self.model.lock().rng.next_u64(), label)
    }

    /// How long a process is held up: from some requests to several deletions.
    pub(super) fn draw_pause(&self) -> Duration {
        let mut model = self.model.lock();
        let most = [1, 3, 10][model.rng.index(3)];
        let unit = u64::try_from(self.config.delete_delay.as_nanos()).expect("short");
        Duration::from_nanos(model.rng.below(most * unit))
    }

    pub(super) fn draw_chance(&self, per_mille: u32) -> bool {
        self.model.lock().rng.chance(per_mille)
    }

    /// In some plans a bit of the newest snapshot flips where it is stored, now and then. An older one
    /// and the log behind it are there, or all of the log: whoever opens passes it over.
    pub(super) fn newest_snapshot_rots(&self) {
        let rots = matches!(self.plan.damage, Some(Damage::BitRot | Damage::SlotRot));
        if !rots || !self.draw_chance(500) {
            return;
        }
        let keys = self.bucket.keys();
        let newest = keys.iter().rfind(|key| key.starts_with("meta/snap/"));
        let Some(number) = newest.and_then(|key| key.rsplit('/').next()) else {
            return;
        };
        // Its head, or one of its parts.
        let whole: Vec<&String> = keys
            .iter()
            .filter(|key| key.starts_with("meta/") && !key.starts_with("meta/log/"))
            .filter(|key| {
                key.rsplit('/')
                    .next()
                    .is_some_and(|name| name.starts_with(number))
            })
            .collect();
        let (key, bit) = {
            let rng = &mut self.model.lock().rng;
            (whole[rng.index(whole.len())], rng.next_u64())
        };
        let mut bytes = self.bucket.object(key).expect("listed").to_vec();
        let at = usize::try_from(bit >> 3).unwrap_or(0) % bytes.len();
        bytes[at] ^= 1 << (bit & 7);
        self.handle.strike("damage_snapshot_rot");
        self.handle
            .line(|| format!("meta  byte {at} of {key} rots"));
        self.bucket.put(key, Some(Bytes::from(bytes)));
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

    /// In so many of 1,000 calls the log and its snapshots are looked at as they are now.
    pub(super) fn check_bucket(&self, per_mille: u32) {
        let drawn = self.oracle.lock().draw(per_mille);
        if let Some(seed) = drawn {
            self.check(fsck_copy(&self.bucket, seed, Scope::Metadata));
        }
    }

    pub(super) fn outcome(&self) -> Result<(), Violation> {
        self.model.lock().failure.take().map_or(Ok(()), Err)
    }

    /// A process shows its state; `begun` if it looked at the store since that moment.
    pub(super) fn shown(&self, state: &MetaState, begun: Option<u64>) {
        let mut model = self.model.lock();
        let result = model.states.shown(state.seq(), state);
        let result = result.and_then(|()| model.registers.read_all(&lists(state), begun));
        drop(model);
        self.check(result);
    }

    /// The transaction `id` was acknowledged: it must be there for whoever opens now.
    pub(super) fn acked(&self, id: u64, of: &[String]) {
        self.handle.line(|| format!("meta  ack id={id}"));
        self.check_bucket(ACK_CHECKS);
        let number = {
            let mut model = self.model.lock();
            model.registers.acked(id);
            // One in three is asked: an opening takes time.
            if !model.rng.chance(330) {
                return;
            }
            model.num_forks += 1;
            model.num_forks
        };
        match self.opened_now(number) {
            Ok(state) => {
                self.check(durable::found(&lists(&state), id, of));
                // The bucket holds no less than any process knows.
                self.shown(&state, None);
            }
            Err(violation) => self.fail(violation),
        }
    }

    /// What an opening of the bucket as it is now finds.
    fn opened_now(&self, number: u64) -> Result<MetaState, Violation> {
        let seed = self.plan.seed ^ (number << 32);
        let executor = Executor::new(seed);
        let fork = Arc::new(self.bucket.fork(executor.handle(), seed));
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(executor.handle(), seed, Tag(1), 0));
        let config = self.config.clone();
        let found = Arc::new(Mutex::new(None));
        let sink = Arc::clone(&found);
        let outcome = executor.run(LIMITS, async move {
            match Metadata::open(fork.clone(), env.clone(), config.clone()).await {
                Ok(metadata) => *sink.lock() = Some(metadata.read(Clone::clone)),
                Err(error) => return Err(fork::refused("opening", &error)),
            }
            if number.is_multiple_of(4) {
                refuses_another_delay(fork, env, config).await?;
            }
            Ok(())
        });
        match failure_of(outcome) {
            Some(violation) => Err(violation),
            None => Ok(found.lock().take().expect("it was opened")),
        }
    }

    /// Everything is over: this is the state.
    pub(super) fn ends(&self, state: &MetaState) {
        let result = self.model.lock().registers.check_final(&lists(state));
        self.check(result);
    }
}

/// What processes may believe follows from one deletion delay: whoever has another one stays out.
async fn refuses_another_delay(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    mut config: MetaConfig,
) -> Result<(), Violation> {
    config.delete_delay *= 3;
    delay::opened(Metadata::open(bucket, env, config).await.map(drop))
}

/// All lists of a state: the values of keys, and the ranges of the stream.
pub(super) fn lists(state: &MetaState) -> BTreeMap<String, Vec<u64>> {
    let values = state.keys_with_prefix("list/");
    let mut lists: BTreeMap<String, Vec<u64>> = values
        .map(|(key, value, _)| (key.to_owned(), ids(value)))
        .collect();
    if let Some(stream) = state.stream(STREAM) {
        let nonces = stream.ranges().map(|(_, range)| range.object.nonce);
        lists.insert("stream".to_owned(), nonces.collect());
    }
    lists
}

/// The ids in a value.
pub(super) fn ids(value: &Bytes) -> Vec<u64> {
    let (words, _) = value.as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

/// Small snapshots, short delays: so that numbers are used, deleted and used again.
fn config(rng: &mut Rng, plan: &Plan) -> MetaConfig {
    let way = Duration::from_nanos(plan.bucket.way_ns);
    let delays = [20, 60, 200];
    let delay = way * delays[rng.index(3)];
    MetaConfig {
        snapshot_entries: rng.between(2, 8),
        snapshot_entries_max: 8,
        snapshot_part_bytes: [256, 1 << 10, 64 << 10][rng.index(3)],
        entry_bytes_max: 64 << 10,
        queue_bytes_max: 64 << 10,
        delete_delay: delay.max(Duration::from_millis(4)),
        poll_min: (way * 4).max(Duration::from_millis(1)),
        poll_max: (way * 40).max(Duration::from_millis(10)),
        read_parallel: 4,
        read_attempts: 20,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
    }
}
