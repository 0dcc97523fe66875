//! What outlives the nodes' lives: devices, bucket, models, randomness.
//!
//! *Owns*: the state that the parts of the scenario share, who is the latest owner of a stream,
//! the first violation.
//! *Does not own*: what the parts do.
//!
//! Invariants
//! 1. The owner of a stream is whoever opened it with the highest epoch; what others know is old.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tidewater_stream_store::Stream;
use tidewater_types::{Epoch, NodeId, Offset, StreamId, sometimes};

use crate::bucket::{BucketFaults, SimBucket};
use crate::check::deleted::DeletedModel;
use crate::check::streams::StreamModel;
use crate::check::{Violation, theft};
use crate::disk::{CrashStyle, Device};
use crate::exec::{Handle, Tag};
use crate::plan::{End, Plan};
use crate::rng::Rng;
use crate::scenario::common::oracle::Oracle;
use crate::scenario::gate::Gate;
use crate::scenario::progress::Progress;

/// What a life does after it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// As planned; the end may come at any moment.
    Planned,
    /// Every append is acknowledged; everything that the node has is given up.
    Healed,
    /// Takes a stream of the node with this number, which is dead, and gives it up again.
    Steal(usize),
    /// Everything is read.
    ReadAll,
    /// The WALs are gone, and their loss accepted: everything was given up before.
    ReadAllWithoutWal,
}

/// What outlives the lives.
pub(super) struct World {
    pub(super) handle: Handle,
    pub(super) plan: Plan,
    /// The device of each node.
    pub(super) devices: Vec<Device>,
    pub(super) bucket: SimBucket,
    pub(super) progress: Progress,
    pub(super) oracle: Mutex<Oracle>,
    model: Mutex<Model>,
}

struct Model {
    streams: BTreeMap<StreamId, StreamModel>,
    /// The highest epoch under which each stream was opened, and by which node.
    owners: BTreeMap<StreamId, (Epoch, usize)>,
    deleted: DeletedModel,
    rng: Rng,
    next_value: u64,
    next_tag: u32,
    /// The latest life of each node.
    running: BTreeMap<usize, (Tag, Gate)>,
    zombies: BTreeSet<Tag>,
    /// Nodes of which some life was ever stopped.
    slept: BTreeSet<usize>,
    thief: Thief,
    /// What the thief set out to take and has not opened, as far as anybody was told, and where it was
    /// committed to before.
    loot: Option<(StreamId, Offset)>,
    healed: bool,
    failure: Option<Violation>,
}

/// The id of the node with this number.
pub(super) fn id_of(node: usize) -> NodeId {
    NodeId(u32::try_from(node).expect("few") + 1)
}

/// What the node has that takes streams of dead ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thief {
    Idle,
    /// Nothing, as its log may not even have a name yet.
    Opening,
    /// A stream that it did not give up, or may have.
    AtWork,
    /// Nothing any more; its life is not over.
    Done,
}

impl Work {
    /// Whether the faults of the plan may strike.
    pub(super) fn is_planned(self) -> bool {
        matches!(self, Self::Planned | Self::Steal(_))
    }
}

impl World {
    pub(super) fn new(handle: Handle, plan: &Plan) -> Self {
        let seed = plan.seed;
        let device = |node: usize| {
            let seed = seed ^ (node as u64) << 48;
            Device::new(handle.clone(), seed, plan.disk, plan.disk_faults)
        };
        Self {
            // That of the thief is the last one.
            devices: (0..=plan.cluster.nodes.len()).map(device).collect(),
            bucket: SimBucket::new(handle.clone(), seed, plan.bucket),
            plan: plan.clone(),
            oracle: Mutex::new(Oracle::new(seed)),
            progress: Progress::default(),
            model: Mutex::new(Model {
                streams: BTreeMap::new(),
                owners: BTreeMap::new(),
                deleted: DeletedModel::default(),
                rng: Rng::new(seed, "workload"),
                next_value: 0,
                next_tag: 0,
                running: BTreeMap::new(),
                zombies: BTreeSet::new(),
                slept: BTreeSet::new(),
                thief: Thief::Idle,
                loot: None,
                healed: false,
                failure: None,
            }),
            handle,
        }
    }

    /// Whether no request to the bucket is planned to fail.
    pub(super) fn bucket_is_fine(&self) -> bool {
        let planned = self.plan.bucket;
        let fine = BucketFaults {
            way_ns: planned.way_ns,
            page_keys: planned.page_keys,
            completion_replaces: planned.completion_replaces,
            parts_equal: planned.parts_equal,
            ..BucketFaults::default()
        };
        planned == fine
    }

    pub(super) fn num_nodes(&self) -> usize {
        self.plan.cluster.nodes.len()
    }

    /// The node that takes streams of dead ones.
    pub(super) fn thief_node(&self) -> usize {
        self.num_nodes()
    }

    /// Whether a stream of `node`, which is dead, may be stolen: nobody acts for it any more, and the
    /// thief has nothing of its own. Until the thief is done there is no other theft.
    pub(super) fn begins_theft(&self, node: usize) -> bool {
        let mut model = self.model.lock();
        let rate = self.plan.cluster.thefts;
        let may = rate > 0 && model.thief == Thief::Idle && !model.slept.contains(&node);
        let begins = may && model.rng.chance(rate);
        if begins {
            model.thief = Thief::Opening;
        }
        begins
    }

    pub(super) fn thief(&self) -> Thief {
        self.model.lock().thief
    }

    pub(super) fn thief_is(&self, thief: Thief) {
        self.model.lock().thief = thief;
    }

    /// The thief takes `stream`, which is committed up to `committed`, by force; whether it has may be
    /// told by a later life of it, or the metadata.
    pub(super) fn steals(&self, stream: StreamId, committed: Offset) {
        self.model.lock().loot = Some((stream, committed));
    }

    /// What the thief set out to take and may have.
    pub(super) fn loot(&self) -> Option<StreamId> {
        self.model.lock().loot.map(|(stream, _)| stream)
    }

    /// It is known what became of `stream`: where it ends for the thief, or that the thief never gets it.
    pub(super) fn theft_ends(&self, stream: StreamId, end: Option<Offset>) {
        let loot = self.model.lock().loot.take_if(|(loot, _)| *loot == stream);
        if let (Some((_, committed)), Some(end)) = (loot, end) {
            self.stolen(stream, committed, end);
        }
    }

    /// A stream was taken by force: what its objects do not hold is lost.
    fn stolen(&self, id: StreamId, committed: Offset, end: Offset) {
        sometimes!("cluster: a stream is taken by force");
        self.handle.strike("theft");
        self.handle
            .line(|| format!("node  stream={id} is stolen, lost from {end} on"));
        self.check(theft::taken(id, committed, end));
        self.stream(id, |model| model.lost_from(end.0));
    }

    pub(super) fn fault_counts(&self) -> Vec<(&'static str, u64)> {
        let devices = self.devices.iter().flat_map(Device::fault_counts);
        devices.chain(self.bucket.fault_counts()).collect()
    }

    pub(super) fn next_tag(&self) -> Tag {
        let mut model = self.model.lock();
        model.next_tag += 1;
        Tag(model.next_tag)
    }

    pub(super) fn next_value(&self) -> u64 {
        let mut model = self.model.lock();
        model.next_value += 1;
        model.next_value
    }

    /// A number of the workload.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.model.lock().rng.below(bound)
    }

    /// `tag` is the latest life of `node`.
    pub(super) fn runs(&self, node: usize, tag: Tag, gate: Gate) {
        self.model.lock().running.insert(node, (tag, gate));
    }

    /// The latest life of `node`.
    pub(super) fn running(&self, node: usize) -> Option<(Tag, Gate)> {
        self.model.lock().running.get(&node).cloned()
    }

    pub(super) fn becomes_zombie(&self, node: usize, tag: Tag) {
        let mut model = self.model.lock();
        model.zombies.insert(tag);
        model.slept.insert(node);
    }

    /// Whether a life of `node` other than `tag` may have taken its WAL.
    pub(super) fn is_contested(&self, node: usize, tag: Tag) -> bool {
        let lives = self.plan.cluster.nodes.get(node);
        let model = self.model.lock();
        let latest = model
            .running
            .get(&node)
            .is_some_and(|(last, _)| *last == tag);
        !latest || lives.is_some_and(|lives| lives.iter().any(|life| life.zombie))
    }

    /// All is well from now on; answers the zombies.
    pub(super) fn heal(&self) -> BTreeSet<Tag> {
        let mut model = self.model.lock();
        model.healed = true;
        std::mem::take(&mut model.zombies)
    }

    pub(super) fn is_healed(&self) -> bool {
        self.model.lock().healed
    }

    /// Ends the life `tag` of `node` without its consent.
    pub(super) fn end(&self, node: usize, tag: Tag, end: End) {
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
                self.devices[node].power_loss(style);
            }
            End::Kill | End::Close => {
                self.devices[node].kill();
                self.handle.kill(tag);
            }
        }
        self.check_bucket();
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

    /// The first violation, if there is one.
    pub(super) fn failed(&self) -> Result<(), Violation> {
        self.model.lock().failure.clone().map_or(Ok(()), Err)
    }

    /// `node` has opened `stream`: it shows everything that was acknowledged, by whatever node.
    pub(super) fn opened(&self, node: usize, stream: &Stream) {
        let (id, epoch) = (stream.id(), stream.epoch());
        if node == self.thief_node() {
            self.theft_ends(id, Some(stream.high_watermark()));
        }
        let (start, high_watermark) = (stream.start().0, stream.high_watermark().0);
        let result = {
            let mut model = self.model.lock();
            let last = model.owners.get(&id).copied();
            if last.is_some_and(|(last, _)| last >= epoch) {
                // It was held up, and somebody opened the stream behind it.
                return;
            }
            if last.is_some_and(|(_, last)| last != node) {
                sometimes!("cluster: a stream moved to another node");
            }
            model.owners.insert(id, (epoch, node));
            let known = model.streams.entry(id).or_default();
            let floor = known.high_watermark();
            known
                .seen_high_watermark(high_watermark, floor)
                .and_then(|()| known.seen_start(start))
        };
        self.handle
            .line(|| format!("node  {node} opened stream={id} epoch={epoch} end={high_watermark}"));
        self.check(result);
    }

    /// Whether nobody has opened the stream behind this handle.
    pub(super) fn is_owner(&self, stream: &Stream) -> bool {
        let model = self.model.lock();
        let owner = model.owners.get(&stream.id());
        owner.is_some_and(|(epoch, _)| *epoch == stream.epoch())
    }

    /// What is known of a stream.
    pub(super) fn stream<R>(&self, id: StreamId, look: impl FnOnce(&mut StreamModel) -> R) -> R {
        look(self.model.lock().streams.entry(id).or_default())
    }

    /// What each stream must serve, but for one that is being stolen; none while the thief opens, whose
    /// log may have no name yet.
    pub(super) fn promised(&self) -> Option<BTreeMap<StreamId, StreamModel>> {
        let model = self.model.lock();
        let all = model.streams.iter();
        let promised = all.filter(|(id, _)| {
            let is_there = model.owners.contains_key(id) && !model.deleted.may_be_gone(**id);
            is_there && model.loot.is_none_or(|(loot, _)| loot != **id)
        });
        let promised = promised.map(|(id, known)| (*id, known.clone()));
        (model.thief != Thief::Opening).then(|| promised.collect())
    }

    /// Somebody sets out to delete a stream: from now on it may be there or not.
    pub(super) fn deletes(&self, id: StreamId) {
        self.model.lock().deleted.begins(id);
    }

    /// The deletion was answered.
    pub(super) fn has_deleted(&self, id: StreamId) {
        self.model.lock().deleted.done(id);
    }

    /// Whoever just read the metadata lists these streams.
    pub(super) fn lists(&self, streams: Vec<StreamId>) {
        let result = self.model.lock().deleted.listed(streams);
        self.check(result);
    }

    /// Whether the stream may be gone.
    pub(super) fn may_be_gone(&self, id: StreamId) -> bool {
        self.model.lock().deleted.may_be_gone(id)
    }

    /// The streams that anybody has opened and nobody deleted.
    pub(super) fn known(&self) -> BTreeSet<StreamId> {
        let model = self.model.lock();
        let there = model.owners.keys().copied();
        there.filter(|id| !model.deleted.may_be_gone(*id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use tidewater_types::{Offset, StreamId};

    use super::World;
    use crate::exec::Executor;
    use crate::plan::{Plan, Scenario};

    const STREAM: StreamId = StreamId(1);

    /// A world in which a value is acknowledged at 0..3, and the stream is being stolen.
    fn world() -> World {
        let plan = Plan::new(1, Scenario::Cluster);
        let world = World::new(Executor::new(1).handle(), &plan);
        world.stream(STREAM, |model| {
            model.given(1, 0, 3);
            model.acked(1).unwrap();
        });
        world.steals(STREAM, Offset(2));
        world
    }

    fn end(world: &World) -> u64 {
        world.stream(STREAM, |model| model.high_watermark())
    }

    #[test]
    fn a_theft_that_never_comes_loses_nothing() {
        let world = world();
        world.theft_ends(STREAM, None);
        assert_eq!((world.loot(), end(&world)), (None, 3));
        // The thief takes it later as anybody may.
        world.theft_ends(STREAM, Some(Offset(0)));
        assert_eq!((world.failed(), end(&world)), (Ok(()), 3));
    }

    #[test]
    fn a_theft_loses_what_was_not_committed_alone() {
        let world = world();
        world.theft_ends(StreamId(2), Some(Offset(0)));
        assert_eq!(world.loot(), Some(STREAM));
        world.theft_ends(STREAM, Some(Offset(2)));
        assert_eq!((world.failed(), end(&world)), (Ok(()), 2));
        world.steals(STREAM, Offset(2));
        world.theft_ends(STREAM, Some(Offset(1)));
        assert_eq!(world.failed().unwrap_err().checker, "log");
    }
}
