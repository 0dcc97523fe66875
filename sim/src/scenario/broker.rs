//! The scenario `broker`: clients on a network, and a broker that restarts, on every crate's real
//! code.
//!
//! *Owns*: the lives of the broker, the trouble between them, the healing and the final read.
//! *Does not own*: what clients do (producer.rs, consumer.rs, member.rs, admin.rs); the lives of several
//! brokers (hosts.rs).
//!
//! Invariants
//! 1. Clients outlive the broker; every request has an answer or is sent again.
//! 2. Every run ends: heal, let every client finish, read everything, restart, read it again, fsck.
//!
//! *IO: none*

mod admin;
mod batch;
mod conn;
mod consumer;
mod hosts;
mod member;
mod node;
mod offsets;
mod producer;
mod unacked;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tidewater_types::sometimes;
use tokio::sync::oneshot;

use crate::bucket::BucketFaults;
use crate::check::Violation;
use crate::disk::{Device, DiskFaults};
use crate::exec::{Executor, Stop, Tag};
use crate::net::NetFaults;
use crate::plan::{BrokerLife, End, Plan};
use crate::rng::Rng;
use crate::scenario::common::{LIMITS, fsck, open_when_free};
use crate::scenario::gate::Cut;
use conn::Client;
use node::{Began, Leave, Opened};
use world::{NODE, World};

/// How long everything may take once nothing fails, in virtual time.
const HEALED_TIME_MAX: Duration = Duration::from_secs(600);
/// How long a broker that is asked to close may take before it is killed.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(20);

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
    let faults = [world.bucket.fault_counts(), world.net.fault_counts()];
    let devices = world.devices.iter().flat_map(Device::fault_counts);
    (outcome, devices.chain(faults.concat()).collect())
}

async fn all(world: Arc<World>) -> Result<(), Violation> {
    start_clients(&world);
    if world.num_nodes() > 1 {
        return hosts::all(world).await;
    }
    let trouble = world.handle.clone();
    trouble.spawn(Tag(0), "trouble", Box::pin(troubles(Arc::clone(&world))));
    let mut zombies = Vec::new();
    for life in world.plan.broker.lives.clone() {
        planned(&world, life, &mut zombies).await;
        world.failed()?;
    }
    heal(&world, &zombies);
    let running = begin(&world, 0, calm_life(&world), false).await;
    within(&world, HEALED_TIME_MAX, world.all_ended()).await?;
    read_all(&world).await?;
    leave(&world, running, Leave::Close).await?;
    let running = begin(&world, 0, calm_life(&world), false).await;
    read_all(&world).await?;
    leave(&world, running, Leave::Close).await?;
    let tag = world.next_tag();
    fsck(&world.handle, world.plan.seed, tag, &world.bucket).await
}

/// A life that nothing disturbs.
fn calm_life(world: &World) -> BrokerLife {
    BrokerLife {
        end: End::Close,
        zombie: false,
        ..world.plan.broker.lives[0]
    }
}

/// Nothing fails from now on, and nobody but the next life runs.
fn heal(world: &World, zombies: &[Tag]) {
    for zombie in zombies {
        world.handle.kill(*zombie);
    }
    world.heal();
    world.net.heal();
    world.net.set_faults(NetFaults::default());
    for device in &world.devices {
        device.set_faults(DiskFaults::default());
    }
    world.bucket.set_faults(BucketFaults {
        way_ns: 100_000,
        ..BucketFaults::default()
    });
}

fn start_clients(world: &Arc<World>) {
    let plan = &world.plan.broker;
    let counts = [
        (producer::WORK, plan.idempotent + plan.plain + plan.unacked),
        (consumer::WORK, plan.consumers),
        (member::WORK, plan.members),
        (admin::WORK, u32::from(plan.admin)),
    ];
    for (work, count) in counts {
        (0..count).for_each(|_| world.begins(work));
    }
    let starter = Arc::clone(world);
    world.spawn("clients", async move {
        admin::prepare(&starter).await;
        let plan = &starter.plan.broker;
        for number in 0..plan.idempotent + plan.plain {
            let idempotent = number < plan.idempotent;
            let client = producer::run(Arc::clone(&starter), number, idempotent);
            starter.spawn(producer::WORK, client);
        }
        for number in 0..plan.unacked {
            let number = plan.idempotent + plan.plain + number;
            starter.spawn(producer::WORK, unacked::run(Arc::clone(&starter), number));
        }
        for _ in 0..plan.consumers {
            starter.spawn(consumer::WORK, consumer::run(Arc::clone(&starter)));
        }
        for number in 0..plan.members {
            starter.spawn(member::WORK, member::run(Arc::clone(&starter), number));
        }
        if plan.admin {
            starter.spawn(admin::WORK, admin::run(Arc::clone(&starter)));
        }
    });
}

/// A life under way.
struct Running {
    node: usize,
    tag: Tag,
    opened: oneshot::Receiver<Opened>,
    stop: oneshot::Sender<Leave>,
    done: oneshot::Receiver<()>,
}

async fn begin(world: &Arc<World>, node: usize, life: BrokerLife, by_force: bool) -> Running {
    drop(open_when_free(&world.devices[node], &world.handle).await);
    let tag = world.next_tag();
    world
        .handle
        .line(|| format!("life  {} of node {node} {life:?}", tag.0));
    let (stop, stopping) = oneshot::channel();
    let (opening, opened) = oneshot::channel();
    let (sender, done) = oneshot::channel();
    let began = Began {
        node,
        tag,
        life,
        by_force,
        opened: opening,
        stop: stopping,
    };
    let body = node::body(Arc::clone(world), began);
    world.handle.spawn(
        tag,
        "life",
        Box::pin(async move {
            body.await;
            _ = sender.send(());
        }),
    );
    Running {
        node,
        tag,
        opened,
        stop,
        done,
    }
}

/// One life as planned, and the time behind it.
async fn planned(world: &Arc<World>, life: BrokerLife, zombies: &mut Vec<Tag>) {
    let running = begin(world, 0, life, false).await;
    let time = world.handle.sleep(Duration::from_micros(life.after_us));
    let ops = world.devices[0].after_ops(life.after_ops);
    let over = select(Box::pin(time), ops);
    let (tag, mut done) = (running.tag, running.done);
    let ended = matches!(select(&mut done, over).await, Either::Left(_));
    if !ended && life.end == End::Close {
        _ = running.stop.send(Leave::Close);
        let time = Box::pin(world.handle.sleep(CLOSE_TIME_MAX));
        drop(select(done, time).await);
    }
    // One that is stopped while it opens is the later owner once it wakes up.
    let on_device = !world.plan.broker.object_wal;
    // One that is still opening would open the device again.
    let has_opened = world.life() == tag;
    if life.zombie && !ended && on_device && has_opened && world.moves_volume(0) {
        zombies.push(tag);
    } else if life.zombie && !ended && !on_device {
        falls_asleep(world, tag, life);
        zombies.push(tag);
    } else {
        world.end(0, tag, life.end);
    }
    world
        .handle
        .sleep(Duration::from_micros(life.down_us))
        .await;
}

/// The life is stopped, and wakes up in a later one.
fn falls_asleep(world: &World, tag: Tag, life: BrokerLife) {
    world.handle.strike("zombie");
    world.handle.stop(tag);
    let most_us = [2 * life.after_us, life.after_us / 5][usize::from(world.below(2) == 0)];
    let asleep_ns = world.below(most_us) * 1_000;
    let handle = world.handle.clone();
    world
        .handle
        .call_after(asleep_ns, move || handle.resume(tag));
}

/// Asks a broker to leave, and waits until it has.
async fn leave(world: &Arc<World>, running: Running, how: Leave) -> Result<(), Violation> {
    _ = running.stop.send(how);
    let done = async {
        drop(running.done.await);
    };
    within(world, HEALED_TIME_MAX, done).await?;
    world.end(running.node, running.tag, End::Close);
    world.failed()
}

async fn within(
    world: &World,
    time: Duration,
    work: impl Future<Output = ()>,
) -> Result<(), Violation> {
    let over = world.handle.sleep(time);
    if let Either::Right(_) = select(Box::pin(work), Box::pin(over)).await {
        let detail = format!(
            "still at work {} s after everything was healed: {}",
            time.as_secs(),
            world.at_work()
        );
        world.fail(Violation::new("liveness", detail));
    }
    world.failed()
}

/// Reads every partition from start to end, and every committed offset.
async fn read_all(world: &Arc<World>) -> Result<(), Violation> {
    let mut client = Client::new(world, "final read");
    let mut positions: BTreeMap<i32, i64> = consumer::partitions(world)
        .map(|index| (index, 0))
        .collect();
    let mut read: BTreeMap<i32, Vec<_>> = BTreeMap::new();
    let deadline = world.handle.now().after(HEALED_TIME_MAX);
    while !positions.is_empty() {
        world.failed()?;
        if world.handle.now() >= deadline {
            let detail = format!("the final read does not get beyond {positions:?}");
            return Err(Violation::new("liveness", detail));
        }
        let Ok(looks) = consumer::fetch(&mut client, &positions, Duration::ZERO).await else {
            client.pause(Duration::from_millis(10)).await;
            continue;
        };
        for (index, look) in looks {
            let records = read.entry(index).or_default();
            let from = positions[&index];
            records.extend(look.records.into_iter().filter(|(at, _)| *at >= from));
            let next = records.last().map_or(0, |(at, _)| at + 1);
            positions.insert(index, next);
            if next >= look.high_watermark {
                positions.remove(&index);
                world.partition(index, |model| {
                    model.final_read(records, look.high_watermark)
                })?;
            }
        }
    }
    if world.plan.broker.members > 0 {
        let all: Vec<i32> = consumer::partitions(world).collect();
        while offsets::committed(&mut client, &all).await.is_none() {
            world.failed()?;
            client.pause(Duration::from_millis(10)).await;
        }
    }
    world.failed()
}

/// Partitions, from clients and from the bucket, pauses and slow times, until all is healed.
async fn troubles(world: Arc<World>) {
    let mean = world.plan.broker.trouble_us;
    let mut rng = Rng::new(world.plan.seed, "trouble");
    while mean > 0 && !world.is_healed() {
        world
            .handle
            .sleep(Duration::from_micros(rng.latency(mean)))
            .await;
        if world.is_healed() {
            return;
        }
        let client = world.some_client();
        let time = Duration::from_micros(rng.latency(mean));
        match rng.below(8) {
            0 => world.net.block(client, NODE),
            1 => world.net.block(NODE, client),
            2 => {
                world.net.block(client, NODE);
                world.net.block(NODE, client);
            }
            3 => {
                let what = [Cut::Requests, Cut::Answers, Cut::Both][rng.index(3)];
                world.cut_from_bucket(0, what, time);
                continue;
            }
            4 => {
                world.handle.slow_down(world.latest(0), time).await;
                continue;
            }
            _ => {
                sometimes!("broker: a life is paused");
                let life = world.latest(0);
                world.handle.stop(life);
                world.handle.sleep(time).await;
                world.handle.resume(life);
                continue;
            }
        }
        world.handle.sleep(time).await;
        world.net.heal();
    }
}
