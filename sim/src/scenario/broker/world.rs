//! What outlives the broker's lives: device, bucket, network, models, clients.
//!
//! *Owns*: the state that the parts of the scenario share, the first violation.
//! *Does not own*: what the parts do.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_broker::EmbeddedBroker;
use tidewater_types::{Epoch, sometimes};
use tokio::sync::Notify;

use crate::bucket::SimBucket;
use crate::check::group::GroupModel;
use crate::check::partition::{PartitionModel, Value};
use crate::check::processed::ProcessedModel;
use crate::check::producers::ProducerIds;
use crate::check::topics::TopicModel;
use crate::check::{Violation, values_word};
use crate::disk::{CrashStyle, Device};
use crate::exec::{Handle, Tag};
use crate::net::{Host, SimNet};
use crate::plan::{End, Plan};
use crate::rng::Rng;
use crate::scenario::common::oracle::Oracle;
use crate::scenario::gate::{Cut, Gate};
use crate::scenario::progress::Progress;

/// The first broker's host; clients have the numbers behind it.
pub(super) const NODE: Host = Host(1);
/// The hosts of the other brokers have the numbers behind this one.
const OTHERS: u32 = 100_000;
/// The topic that everybody writes and reads.
pub(super) const TOPIC: &str = "orders";
/// The group that consumes it.
pub(super) const GROUP: &str = "billing";

/// What outlives the lives.
pub(super) struct World {
    pub(super) handle: Handle,
    pub(super) plan: Plan,
    /// The device of each node.
    pub(super) devices: Vec<Device>,
    pub(super) bucket: SimBucket,
    pub(super) net: SimNet,
    pub(super) model: Mutex<Model>,
    /// Brokers that are open, in a run that is told.
    shown: Mutex<Vec<Weak<EmbeddedBroker>>>,
    progress: Progress,
    pub(super) oracle: Mutex<Oracle>,
    /// A client ended, all is healed, or something is wrong.
    changed: Notify,
}

pub(super) struct Model {
    pub(super) partitions: BTreeMap<i32, PartitionModel>,
    pub(super) group: GroupModel,
    /// How far the group has processed each partition.
    pub(super) processed: ProcessedModel,
    pub(super) producer_ids: ProducerIds,
    pub(super) topics: TopicModel,
    pub(super) next_commit: u64,
    /// The latest life of each node that listens, and how it reaches the bucket.
    latest: BTreeMap<usize, (Tag, Gate)>,
    rng: Rng,
    next_tag: u32,
    next_client: u32,
    /// The life in charge: the one that opened the streams with the highest epoch, or, while there
    /// are none, with the highest epoch of the node. What others say may be old.
    life: Tag,
    rank: (Epoch, Epoch),
    /// Whether the topic of everybody exists.
    is_prepared: bool,
    first_ended: bool,
    /// Clients at work, by what they do.
    working: BTreeMap<&'static str, u32>,
    healed: bool,
    logs_are_lost: bool,
    failure: Option<Violation>,
}

/// The partitions of the topic.
pub(super) fn partitions(world: &World) -> impl Iterator<Item = i32> + use<> {
    0..i32::try_from(world.plan.broker.partitions).expect("few")
}

impl World {
    pub(super) fn new(handle: Handle, plan: &Plan) -> Self {
        let seed = plan.seed;
        let device = |node: usize| {
            let seed = seed ^ (node as u64) << 48;
            Device::new(handle.clone(), seed, plan.disk, plan.disk_faults)
        };
        Self {
            devices: (0..=plan.broker.others.len()).map(device).collect(),
            bucket: SimBucket::new(handle.clone(), seed, plan.bucket),
            net: SimNet::new(handle.clone(), seed, plan.broker.net),
            plan: plan.clone(),
            oracle: Mutex::new(Oracle::new(seed)),
            model: Mutex::new(Model {
                partitions: BTreeMap::new(),
                group: GroupModel::default(),
                processed: ProcessedModel::default(),
                producer_ids: ProducerIds::default(),
                topics: TopicModel::default(),
                next_commit: 0,
                latest: BTreeMap::new(),
                rng: Rng::new(seed, "workload"),
                next_tag: 0,
                next_client: NODE.0,
                life: Tag(0),
                rank: (Epoch(0), Epoch(0)),
                is_prepared: false,
                first_ended: false,
                working: BTreeMap::new(),
                healed: false,
                logs_are_lost: false,
                failure: None,
            }),
            shown: Mutex::default(),
            progress: Progress::default(),
            changed: Notify::new(),
            handle,
        }
    }

    pub(super) fn num_nodes(&self) -> usize {
        self.devices.len()
    }

    /// Where the broker of a node listens.
    pub(super) fn address(node: usize) -> SocketAddr {
        let last = u8::try_from(node + 1).expect("few");
        SocketAddr::from(([10, 0, 0, last], 9092))
    }

    pub(super) fn host_of(node: usize) -> Host {
        let behind = u32::try_from(node).expect("few");
        if node == 0 {
            NODE
        } else {
            Host(OTHERS + behind)
        }
    }

    pub(super) fn next_tag(&self) -> Tag {
        let mut model = self.model.lock();
        model.next_tag += 1;
        Tag(model.next_tag)
    }

    /// The host of another client, and the seed of what it does.
    pub(super) fn next_client(&self) -> (Host, u64) {
        let mut model = self.model.lock();
        model.next_client += 1;
        (Host(model.next_client), model.rng.next_u64())
    }

    /// Whether a connection that its client drops vanishes without a word.
    pub(super) fn may_vanish(&self, rng: &mut Rng) -> bool {
        self.plan.broker.net.reset > 0 && !self.is_healed() && rng.chance(100)
    }

    /// The longest pause of a client between two of its `rounds`, so that there is something to do
    /// in every life.
    pub(super) fn pause_of(&self, rounds: u32) -> Duration {
        let lives = &self.plan.broker.lives;
        let time_us: u64 = lives.iter().map(|life| life.after_us).sum();
        Duration::from_micros(2 * time_us / u64::from(rounds.max(1)))
    }

    /// A number of the workload.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.model.lock().rng.below(bound)
    }

    /// A host of a client, if there is any.
    pub(super) fn some_client(&self) -> Host {
        let mut model = self.model.lock();
        let clients = u64::from(model.next_client - NODE.0).max(1);
        let number = model.rng.between(1, clients);
        Host(NODE.0 + u32::try_from(number).expect("small"))
    }

    /// `life` of `node` listens from now on, and reaches the bucket by `gate`.
    pub(super) fn listens(&self, node: usize, life: Tag, gate: Gate) {
        self.model.lock().latest.insert(node, (life, gate));
    }

    /// Parts the latest life of `node` from the bucket for a while.
    pub(super) fn cut_from_bucket(&self, node: usize, what: Cut, time: Duration) {
        if let Some((_, gate)) = self.model.lock().latest.get(&node) {
            gate.cut(what, time);
        }
    }

    /// The latest life of `node` that listened.
    pub(super) fn latest(&self, node: usize) -> Tag {
        let model = self.model.lock();
        model.latest.get(&node).map_or(Tag(0), |(life, _)| *life)
    }

    /// The life in charge.
    pub(super) fn life(&self) -> Tag {
        self.model.lock().life
    }

    /// `life` has opened the streams, and its node, as these epochs, and serves. One that was held up
    /// may be behind another.
    pub(super) fn serves(&self, life: Tag, rank: (Epoch, Epoch)) {
        let mut model = self.model.lock();
        if rank > model.rank {
            if life < model.life {
                sometimes!("broker: a life that was held up while it opened is in charge");
            }
            (model.life, model.rank) = (life, rank);
        }
    }

    /// The topic of everybody exists from now on.
    pub(super) fn is_prepared(&self) -> bool {
        self.model.lock().is_prepared
    }

    pub(super) fn prepared(&self) {
        self.model.lock().is_prepared = true;
    }

    /// Whether the first node has lived all lives of its plan.
    pub(super) fn first_ended(&self) -> bool {
        self.model.lock().first_ended
    }

    pub(super) fn first_ends(&self) {
        self.model.lock().first_ended = true;
    }

    pub(super) fn heal(&self) {
        self.model.lock().healed = true;
        self.changed.notify_waiters();
    }

    /// Completes once all is healed, or something is wrong.
    pub(super) async fn until_healed(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_healed() || self.failed().is_err() {
                return;
            }
            changed.await;
        }
    }

    /// The write-ahead logs are gone; whoever had one misses it.
    pub(super) fn loses_logs(&self) {
        self.model.lock().logs_are_lost = true;
    }

    pub(super) fn logs_are_lost(&self) -> bool {
        self.model.lock().logs_are_lost
    }

    /// Whether nothing fails any more and the broker stays.
    pub(super) fn is_healed(&self) -> bool {
        self.model.lock().healed
    }

    /// Runs a client under the name of its work; nothing is healed before all have ended.
    pub(super) fn spawn(
        &self,
        work: &'static str,
        client: impl Future<Output = ()> + Send + 'static,
    ) where
        Self: Sized,
    {
        self.handle.spawn(Tag(0), work, Box::pin(client));
    }

    pub(super) fn begins(&self, work: &'static str) {
        *self.model.lock().working.entry(work).or_default() += 1;
    }

    pub(super) fn ends(&self, work: &'static str) {
        let mut model = self.model.lock();
        let left = model.working.get_mut(work).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            model.working.remove(work);
        }
        drop(model);
        self.changed.notify_waiters();
    }

    /// Whether anybody does `work`.
    pub(super) fn works(&self, work: &'static str) -> bool {
        self.model.lock().working.contains_key(work)
    }

    /// Who is at work, in words; empty if nobody is.
    pub(super) fn at_work(&self) -> String {
        let model = self.model.lock();
        let names: Vec<String> = model
            .working
            .iter()
            .map(|(work, count)| format!("{count} {work}"))
            .collect();
        names.join(", ")
    }

    /// Completes once no client is at work, or something is wrong.
    pub(super) async fn all_ended(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let model = self.model.lock();
                if model.working.is_empty() || model.failure.is_some() {
                    return;
                }
            }
            changed.await;
        }
    }

    /// The device of `node` is detached from the life that has it, which runs on, for the next one.
    /// Whether any life has it.
    pub(super) fn moves_volume(&self, node: usize) -> bool {
        let style = self.crash_style();
        self.devices[node].detach(style)
    }

    fn crash_style(&self) -> CrashStyle {
        let styles = [
            CrashStyle::None,
            CrashStyle::All,
            CrashStyle::Writes,
            CrashStyle::Sectors,
        ];
        styles[usize::try_from(self.below(4)).expect("small")]
    }

    /// Ends the life `tag` of `node` without its consent.
    pub(super) fn end(&self, node: usize, tag: Tag, end: End) {
        let style = self.crash_style();
        let device = &self.devices[node];
        match end {
            End::PowerLoss => {
                self.net.power_loss(Self::host_of(node), tag);
                self.handle.kill(tag);
                // A log in the bucket leaves the device alone.
                if !self.plan.broker.object_wal {
                    device.power_loss(style);
                }
            }
            End::Kill | End::Close => {
                device.kill();
                self.handle.kill(tag);
            }
        }
        self.check_bucket();
    }

    /// A replay tells how far the streams of `broker` are committed, as long as it lives.
    pub(super) fn shows(&self, broker: &Arc<EmbeddedBroker>) {
        if self.handle.is_told() {
            self.shown.lock().push(Arc::downgrade(broker));
        }
    }

    /// How far streams are committed, as open brokers know.
    pub(super) fn tell_progress(&self) {
        let shown = self.shown.lock();
        for broker in shown.iter().filter_map(Weak::upgrade) {
            let metadata = broker.store().metadata();
            self.progress.tell(&self.handle, metadata);
        }
    }

    /// What a client did with these values.
    pub(super) fn tell(&self, what: &dyn Display, partition: i32, values: &[Value]) {
        self.handle.line(|| {
            let numbers: Vec<u64> = values.iter().map(|value| value.number()).collect();
            let values = values_word(&numbers);
            format!("client {what} partition={partition} {values}")
        });
    }

    /// Keeps the first violation.
    pub(super) fn fail(&self, violation: Violation) {
        self.handle.line(|| format!("FAIL  {violation}"));
        self.model.lock().failure.get_or_insert(violation);
        self.changed.notify_waiters();
    }

    pub(super) fn check(&self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.fail(violation);
        }
    }

    /// The first violation, if there is one.
    pub(super) fn failed(&self) -> Result<(), Violation> {
        self.model.lock().failure.clone().map_or(Ok(()), Err)
    }

    /// What is known of a partition of the topic.
    pub(super) fn partition<R>(
        &self,
        index: i32,
        look: impl FnOnce(&mut PartitionModel) -> R,
    ) -> R {
        look(self.model.lock().partitions.entry(index).or_default())
    }
}
