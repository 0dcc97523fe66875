//! Several brokers of different node ids on one network and one bucket: one serves, the others are
//! refused until it has given its streams up.
//!
//! *Owns*: the lives of the brokers side by side, the trouble between them, who must serve at the end.
//! *Does not own*: a single life (node.rs), what clients do.
//!
//! Invariants
//! 1. Whoever is refused is told who has the streams, and disturbs nobody.
//! 2. Every run ends: heal, one serves until every client has finished while the others are refused,
//!    each of the others takes over in turn and reads everything, the last by force where no
//!    write-ahead log is left.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use tidewater_types::sometimes;
use tokio::sync::oneshot;

use super::lives::{
    CLOSE_TIME_MAX, HEALED_TIME_MAX, Running, begin, calm_life, falls_asleep, heal, leave, opened,
    read_all, serving, within,
};
use super::node::{Leave, Opened, id_of};
use super::world::World;
use crate::check::Violation;
use crate::exec::Tag;
use crate::plan::{BrokerLife, End};
use crate::rng::Rng;
use crate::scenario::common::fsck;
use crate::scenario::gate::Cut;

/// How often a broker that is refused tries again before it lets a life of its plan be.
const REFUSALS_MAX: u32 = 12;

pub(super) async fn all(world: Arc<World>) -> Result<(), Violation> {
    let trouble = world.handle.clone();
    trouble.spawn(Tag(0), "trouble", Box::pin(troubles(Arc::clone(&world))));
    let hosts = (0..world.num_nodes()).map(|node| {
        let (sender, done) = oneshot::channel();
        let lives = host(Arc::clone(&world), node);
        let task = async move {
            // Whoever waits sees the zombies of all.
            _ = sender.send(lives.await);
        };
        world.handle.spawn(Tag(0), "host", Box::pin(task));
        done
    });
    let ended = join_all(hosts.collect::<Vec<_>>()).await;
    world.failed()?;
    let zombies: Vec<Tag> = ended.into_iter().flatten().flatten().collect();
    heal(&world, &zombies);
    let running = one_serves(&world).await?;
    within(&world, HEALED_TIME_MAX, world.all_ended()).await?;
    all_others_are_refused(&world, running.node).await?;
    read_all(&world).await?;
    let last = in_turn(&world, running).await?;
    by_force(&world, last).await?;
    let tag = world.next_tag();
    fsck(&world.handle, world.plan.seed, tag, &world.bucket).await
}

/// The lives of one node, one behind the other. Its zombies.
async fn host(world: Arc<World>, node: usize) -> Vec<Tag> {
    let plan = &world.plan.broker;
    let lives = match node {
        0 => plan.lives.clone(),
        other => plan.others[other - 1].clone(),
    };
    let mut zombies = Vec::new();
    // The first one makes the topic: on a bucket without topics nobody has anything.
    while node > 0 && !world.is_prepared() {
        if world.first_ended() || world.failed().is_err() {
            return zombies;
        }
        world.handle.sleep(Duration::from_millis(5)).await;
    }
    let all_us: u64 = plan.lives.iter().map(|life| life.after_us).sum();
    let pause_us = (all_us / 6).max(1_000);
    for life in lives {
        for _ in 0..REFUSALS_MAX {
            if world.failed().is_err() {
                return zombies;
            }
            let refused = planned(&world, node, life, &mut zombies).await;
            if !refused {
                break;
            }
            let pause = Duration::from_micros(world.below(pause_us) + 100);
            world.handle.sleep(pause).await;
        }
        let down = Duration::from_micros(life.down_us);
        world.handle.sleep(down).await;
    }
    if node == 0 {
        world.first_ends();
    }
    zombies
}

/// One life as planned. Whether another node has the streams.
async fn planned(
    world: &Arc<World>,
    node: usize,
    life: BrokerLife,
    zombies: &mut Vec<Tag>,
) -> bool {
    let mut running = begin(world, node, life, false).await;
    let tag = running.tag;
    let ops = world.devices[node].after_ops(life.after_ops);
    let time = world.handle.sleep(Duration::from_micros(life.after_us));
    let over = select(Box::pin(time), ops);
    let ended = matches!(select(&mut running.done, over).await, Either::Left(_));
    if ended && matches!(running.opened.try_recv(), Ok(Opened::Owned(_))) {
        world.end(node, tag, End::Kill);
        return true;
    }
    let on_device = !world.plan.broker.object_wal;
    if !ended && (life.releases || life.end == End::Close) {
        let how = if life.releases {
            Leave::Release
        } else {
            Leave::Close
        };
        _ = running.stop.send(how);
        if life.zombie && life.releases {
            // Stopped in the middle of it, others go on meanwhile.
            let pause = Duration::from_micros(world.below(life.after_us.min(20_000)));
            world.handle.sleep(pause).await;
            if !on_device {
                sometimes!("brokers: a broker falls asleep while it gives its streams up");
                falls_asleep(world, node, tag, life);
                zombies.push(tag);
                return false;
            }
            world.handle.stop(tag);
            let asleep = Duration::from_micros(world.below(2 * life.after_us));
            world.handle.sleep(asleep).await;
            world.handle.resume(tag);
        }
        let time = Box::pin(world.handle.sleep(CLOSE_TIME_MAX));
        drop(select(running.done, time).await);
        let end = if life.releases { End::Kill } else { life.end };
        world.end(node, tag, end);
        return false;
    }
    if life.zombie && !ended && !on_device {
        falls_asleep(world, node, tag, life);
        zombies.push(tag);
    } else {
        world.end(node, tag, life.end);
    }
    false
}

/// Nothing fails any more: whoever has the streams serves, and nobody else.
async fn one_serves(world: &Arc<World>) -> Result<Running, Violation> {
    let mut told = Vec::new();
    for node in 0..world.num_nodes() {
        let mut running = begin(world, node, calm_life(world), false).await;
        match opened(world, &mut running).await? {
            Opened::Serves => return Ok(running),
            opened => told.push((node, opened)),
        }
        world.end(node, running.tag, End::Kill);
    }
    let detail = format!("no broker serves once all is healed: {told:?}");
    Err(Violation::new("liveness", detail))
}

async fn all_others_are_refused(world: &Arc<World>, serving: usize) -> Result<(), Violation> {
    for node in (0..world.num_nodes()).filter(|node| *node != serving) {
        let mut running = begin(world, node, calm_life(world), false).await;
        let opened = opened(world, &mut running).await?;
        if opened != Opened::Owned(id_of(serving)) {
            let detail = format!("node {node} opens beside node {serving}: {opened:?}");
            return Err(Violation::new("refused", detail));
        }
        world.end(node, running.tag, End::Kill);
    }
    Ok(())
}

/// Each of the others takes over what the one before gives up, is written to and reads everything.
async fn in_turn(world: &Arc<World>, first: Running) -> Result<Running, Violation> {
    let (from, mut serving) = (first.node, first);
    for node in (0..world.num_nodes()).filter(|node| *node != from) {
        leave(world, serving, Leave::Release).await?;
        serving = takes_over(world, node, false).await?;
        read_all(world).await?;
    }
    Ok(serving)
}

/// All is uploaded and every write-ahead log lost: who does not accept the loss is refused.
async fn by_force(world: &Arc<World>, serving: Running) -> Result<(), Violation> {
    let owner = serving.node;
    leave(world, serving, Leave::Flush).await?;
    // What dead lives sent arrives before their logs are taken away.
    let late = Duration::from_nanos(10 * world.plan.bucket.timeout_ns);
    world.handle.sleep(late).await;
    for device in &world.devices {
        device.wipe();
    }
    world.bucket.wipe("wal/");
    world.loses_logs();
    for node in 0..world.num_nodes() {
        must_be_refused(world, node).await?;
    }
    let node = (owner + 1) % world.num_nodes();
    let serving = takes_over(world, node, true).await?;
    read_all(world).await?;
    leave(world, serving, Leave::Close).await
}

/// Its log is lost, or another node has the streams: without consent it serves nobody.
async fn must_be_refused(world: &Arc<World>, node: usize) -> Result<(), Violation> {
    let mut running = begin(world, node, calm_life(world), false).await;
    let opened = opened(world, &mut running).await?;
    world.end(node, running.tag, End::Kill);
    if opened == Opened::Serves {
        let detail = format!("node {node} serves although logs are lost and nobody accepted that");
        return Err(Violation::new("refused", detail));
    }
    sometimes!("brokers: without its log and without consent a broker is refused");
    Ok(())
}

async fn takes_over(world: &Arc<World>, node: usize, by_force: bool) -> Result<Running, Violation> {
    let running = serving(world, node, by_force).await?;
    sometimes!("brokers: a broker of another node took over");
    Ok(running)
}

/// Partitions between clients, brokers and the bucket, pauses and slow times, until all is healed.
async fn troubles(world: Arc<World>) {
    let mean = world.plan.broker.trouble_us;
    let mut rng = Rng::new(world.plan.seed, "trouble");
    while mean > 0 && !world.is_healed() {
        let wait = Duration::from_micros(rng.latency(mean));
        world.handle.sleep(wait).await;
        if world.is_healed() {
            return;
        }
        let node = rng.index(world.num_nodes());
        let (client, host) = (world.some_client(), World::host_of(node));
        let life = world.latest(node);
        // One that never listened cannot be disturbed.
        if life == Tag(0) {
            continue;
        }
        let time = Duration::from_micros(rng.latency(mean));
        match rng.below(8) {
            0 => world.net.block(client, host),
            1 => world.net.block(host, client),
            2 => world.net.part(client, host),
            // What follows disturbs nobody but a life that runs.
            _ if !world.handle.is_running(life) => continue,
            3 | 4 => {
                let what = [Cut::Requests, Cut::Answers, Cut::Both][rng.index(3)];
                world.cut_from_bucket(node, what, time);
                continue;
            }
            5 => {
                world.handle.slow_down(life, time).await;
                continue;
            }
            _ => {
                sometimes!("brokers: one of several brokers is paused");
                world.handle.pause(life, time).await;
                continue;
            }
        }
        world.handle.sleep(time).await;
        world.net.heal();
    }
}
