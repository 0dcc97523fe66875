//! The scenario `broker`: clients on a network, and a broker that restarts, on every crate's real
//! code.
//!
//! *Owns*: the lives of the broker, the trouble between them.
//! *Does not own*: what clients do (producer.rs, consumer.rs, member.rs, admin.rs); the lives of several
//! brokers (hosts.rs).
//!
//! Invariants
//! 1. Clients outlive the broker; every request has an answer or is sent again.
//! 2. Every run ends: heal, let every client finish, write to every partition and read everything,
//!    restart, do so again, fsck.
//!
//! *IO: none*

mod admin;
mod batch;
mod conn;
mod consumer;
mod hosts;
mod lives;
mod member;
mod node;
mod offsets;
mod oracle;
mod producer;
mod stray;
mod unacked;
mod world;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tidewater_types::sometimes;

use crate::check::Violation;
use crate::disk::Device;
use crate::exec::{Executor, Stop, Tag};
use crate::plan::{BrokerLife, End, Plan};
use crate::rng::Rng;
use crate::scenario::common::{LIMITS, fsck};
use crate::scenario::gate::Cut;
use lives::{
    CLOSE_TIME_MAX, HEALED_TIME_MAX, begin, falls_asleep, heal, leave, read_all, serving, within,
};
use node::Leave;
use world::{NODE, World};

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
    let running = serving(&world, 0, false).await?;
    within(&world, HEALED_TIME_MAX, world.all_ended()).await?;
    read_all(&world).await?;
    leave(&world, running, Leave::Close).await?;
    let running = serving(&world, 0, false).await?;
    read_all(&world).await?;
    leave(&world, running, Leave::Flush).await?;
    let tag = world.next_tag();
    fsck(&world.handle, world.plan.seed, tag, &world.bucket).await
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
        stray::stays(world, 0, tag, Duration::from_micros(life.after_us));
        zombies.push(tag);
    } else if life.zombie && !ended && !on_device {
        falls_asleep(world, 0, tag, life);
        zombies.push(tag);
    } else {
        world.end(0, tag, life.end);
    }
    world
        .handle
        .sleep(Duration::from_micros(life.down_us))
        .await;
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
        let (client, life) = (world.some_client(), world.latest(0));
        let time = Duration::from_micros(rng.latency(mean));
        match rng.below(8) {
            0 => world.net.block(client, NODE),
            1 => world.net.block(NODE, client),
            2 => world.net.part(client, NODE),
            // What follows disturbs nobody but a life that runs.
            _ if !world.handle.is_running(life) => continue,
            3 => {
                let what = [Cut::Requests, Cut::Answers, Cut::Both][rng.index(3)];
                world.cut_from_bucket(0, what, time);
                continue;
            }
            4 => {
                world.handle.slow_down(life, time).await;
                continue;
            }
            _ => {
                sometimes!("broker: a life is paused");
                world.handle.pause(life, time).await;
                continue;
            }
        }
        world.handle.sleep(time).await;
        world.net.heal();
    }
}
