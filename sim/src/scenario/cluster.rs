//! The scenario `cluster`: nodes on one bucket, each with a WAL of its own, that hand streams to
//! each other.
//!
//! *Owns*: the lives of the nodes side by side, the trouble between them, the healing and the final
//! read.
//! *Does not own*: what happens inside a life (life.rs).
//!
//! Invariants
//! 1. A stream has one owner at a time, and moves when its owner gives it up.
//! 2. Every run ends: heal, every node writes and gives up what it has, one node reads everything,
//!    once more without any WAL, then fsck.
//!
//! *IO: none*

mod life;
mod node;
mod oracle;
mod ports;
mod work;
mod world;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use tidewater_types::{StreamId, sometimes};
use tokio::sync::oneshot;

use crate::bucket::BucketFaults;
use crate::check::Violation;
use crate::disk::DiskFaults;
use crate::exec::{Executor, Stop, Tag};
use crate::plan::{ClusterLife, End, Plan};
use crate::rng::Rng;
use crate::scenario::common::{LIMITS, fsck, open_when_free};
use crate::scenario::gate::{Cut, Gate};
use life::Began;
use world::{Thief, Work, World, id_of};

/// How long a life may take once nothing fails, in virtual time.
const HEALED_TIME_MAX: Duration = Duration::from_secs(300);
/// How long a life that is asked to close may take before it is killed.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);
/// Half of the thieves are killed within so many ways to the bucket.
const THEFT_WAYS_MAX: u64 = 100;

type Outcome = (
    Result<Result<(), Violation>, Stop>,
    Vec<(&'static str, u64)>,
);

/// Runs `plan`; its end, and how often each fault struck.
pub(crate) fn run(executor: &Executor, plan: &Plan) -> Outcome {
    let world = Arc::new(World::new(executor.handle(), plan));
    let outcome = executor.run(LIMITS, all(Arc::clone(&world)));
    // A task may have seen a violation before the run stopped for another reason.
    let outcome = match world.failed() {
        Err(violation) => Ok(Err(violation)),
        Ok(()) => outcome,
    };
    (outcome, world.fault_counts())
}

async fn all(world: Arc<World>) -> Result<(), Violation> {
    let trouble = world.handle.clone();
    trouble.spawn(Tag(0), "trouble", Box::pin(troubles(Arc::clone(&world))));
    let hosts = (0..world.num_nodes()).map(|node| {
        let (sender, done) = oneshot::channel();
        let lives = host(Arc::clone(&world), node);
        let task = async move {
            lives.await;
            _ = sender.send(());
        };
        world.handle.spawn(Tag(0), "host", Box::pin(task));
        done
    });
    drop(join_all(hosts.collect::<Vec<_>>()).await);
    world.failed()?;
    heal(&world);
    for node in 0..world.num_nodes() {
        calm(&world, node, Work::Healed).await?;
    }
    if world.thief() == Thief::AtWork {
        calm(&world, world.thief_node(), Work::Healed).await?;
    }
    calm(&world, 0, Work::ReadAll).await?;
    // What dead lives sent arrives before their logs are taken away.
    world.handle.sleep(all_arrived(&world)).await;
    for device in &world.devices {
        device.wipe();
    }
    world.bucket.wipe("wal/");
    calm(&world, 0, Work::ReadAllWithoutWal).await?;
    let tag = world.next_tag();
    fsck(&world.handle, world.plan.seed, tag, &world.bucket).await
}

/// Nothing fails from now on, and no zombie runs on.
fn heal(world: &World) {
    let zombies = world.heal();
    zombies.into_iter().for_each(|tag| world.handle.kill(tag));
    for device in &world.devices {
        device.set_faults(DiskFaults::default());
    }
    world.bucket.set_faults(BucketFaults {
        way_ns: 100_000,
        ..BucketFaults::default()
    });
}

/// The lives of one node, one behind the other.
async fn host(world: Arc<World>, node: usize) {
    for life in world.plan.cluster.nodes[node].clone() {
        if world.failed().is_err() {
            return;
        }
        planned(&world, node, life).await;
        if world.begins_theft(node) {
            theft(&world, node).await;
        }
        let down = Duration::from_micros(life.down_us);
        world.handle.sleep(down).await;
    }
}

/// A life under way.
struct Running {
    tag: Tag,
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

async fn begin(world: &Arc<World>, node: usize, life: ClusterLife, work: Work) -> Running {
    if !world.plan.cluster.object_wal {
        drop(open_when_free(&world.devices[node], &world.handle).await);
    }
    let tag = world.next_tag();
    let gate = Gate::new(world.handle.clone(), world.bucket.clone());
    world.runs(node, tag, gate.clone());
    world
        .handle
        .line(|| format!("life  {} of node {node} {life:?} {work:?}", tag.0));
    let (stop, stopping) = oneshot::channel();
    let (sender, done) = oneshot::channel();
    let began = Began {
        tag,
        node,
        work,
        gate,
    };
    let body = life::body(Arc::clone(world), began, life, stopping);
    let body = async move {
        body.await;
        _ = sender.send(());
    };
    world.handle.spawn(tag, "life", Box::pin(body));
    Running { tag, stop, done }
}

async fn planned(world: &Arc<World>, node: usize, life: ClusterLife) {
    let running = begin(world, node, life, Work::Planned).await;
    let (tag, mut done) = (running.tag, running.done);
    let time = Box::pin(world.handle.sleep(Duration::from_micros(life.after_us)));
    let ended = matches!(select(&mut done, time).await, Either::Left(_));
    if life.zombie && !ended {
        world.handle.strike("zombie");
        world.handle.stop(tag);
        let asleep_ns = world.below(2 * life.after_us) * 1_000;
        let handle = world.handle.clone();
        world
            .handle
            .call_after(asleep_ns, move || handle.resume(tag));
        world.becomes_zombie(node, tag);
        return;
    }
    if !ended && life.end == End::Close {
        _ = running.stop.send(());
        let time = Box::pin(world.handle.sleep(CLOSE_TIME_MAX));
        drop(select(done, time).await);
    }
    world.end(node, tag, life.end);
}

/// A life that takes a stream of a dead node by force; it may fail at any step.
async fn theft(world: &Arc<World>, victim: usize) {
    let (thief, life) = (world.thief_node(), a_life(world, 0));
    let running = begin(world, thief, life, Work::Steal(victim)).await;
    let soon = Duration::from_nanos(world.below(THEFT_WAYS_MAX * world.plan.bucket.way_ns));
    let time = [soon, CLOSE_TIME_MAX][usize::from(world.below(2) == 0)];
    let time = Box::pin(world.handle.sleep(time));
    drop(select(running.done, time).await);
    world.end(thief, running.tag, End::Kill);
    if world.thief() != Thief::AtWork {
        world.thief_is(Thief::Idle);
    }
    if let Some(loot) = world.loot() {
        let fate = loot_found(Arc::clone(world), loot);
        world.handle.spawn(Tag(0), "loot", Box::pin(fate));
    }
}

/// The thief died before it was told whether it has `loot`: once its requests arrived the metadata say.
async fn loot_found(world: Arc<World>, loot: StreamId) {
    world.handle.sleep(all_arrived(&world)).await;
    match oracle::owner_now(&world, loot) {
        Ok((owner, end)) => {
            let is_taken = owner == Some(id_of(world.thief_node()));
            world.theft_ends(loot, is_taken.then_some(end));
        }
        Err(violation) => world.fail(violation),
    }
}

/// After this time what dead lives sent has arrived.
fn all_arrived(world: &World) -> Duration {
    Duration::from_nanos(10 * world.plan.bucket.timeout_ns)
}

/// A life that nothing disturbs.
fn a_life(world: &World, node: usize) -> ClusterLife {
    let lives = world.plan.cluster.nodes.get(node);
    ClusterLife {
        end: End::Close,
        zombie: false,
        ..lives.unwrap_or(&world.plan.cluster.nodes[0])[0]
    }
}

/// A life without faults: it must do all of its work and close.
async fn calm(world: &Arc<World>, node: usize, work: Work) -> Result<(), Violation> {
    let running = begin(world, node, a_life(world, node), work).await;
    _ = running.stop.send(());
    let time = Box::pin(world.handle.sleep(HEALED_TIME_MAX));
    if let Either::Right(_) = select(running.done, time).await {
        let detail = format!("{work:?} of node {node} does not end");
        world.fail(Violation::new("liveness", detail));
    }
    world.end(node, running.tag, End::Close);
    world.failed()
}

/// Nodes are parted from the bucket, paused and slow, until all is healed.
async fn troubles(world: Arc<World>) {
    let mean = world.plan.cluster.trouble_us;
    let mut rng = Rng::new(world.plan.seed, "trouble");
    if mean == 0 {
        return;
    }
    loop {
        let wait = Duration::from_micros(rng.latency(mean));
        world.handle.sleep(wait).await;
        if world.is_healed() {
            return;
        }
        let (tag, gate) = match world.running(rng.index(world.num_nodes())) {
            Some((tag, gate)) if world.handle.is_running(tag) => (tag, gate),
            _ => continue,
        };
        let time = Duration::from_micros(rng.latency(mean));
        match rng.below(5) {
            0 => gate.cut(Cut::Requests, time),
            1 => gate.cut(Cut::Answers, time),
            2 => gate.cut(Cut::Both, time),
            3 => {
                sometimes!("cluster: a node is paused");
                world.handle.pause(tag, time).await;
            }
            _ => world.handle.slow_down(tag, time).await,
        }
    }
}
