//! How a life of a broker begins and ends, whoever plans it, and what is asked of all of them in the end.
//!
//! *Owns*: spawning a life, asking it to leave, healing, the final read.
//! *Does not own*: what happens in a life (node.rs), when which one begins (broker.rs, hosts.rs).
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use super::conn::Client;
use super::node::{self, Began, Leave, Opened};
use super::world::{World, partitions};
use super::{admin, consumer, offsets, producer, stray};
use crate::bucket::BucketFaults;
use crate::check::{Violation, liveness};
use crate::disk::DiskFaults;
use crate::exec::Tag;
use crate::net::NetFaults;
use crate::plan::{BrokerLife, End};
use crate::scenario::common::open_when_free;

/// How long everything may take once nothing fails, in virtual time.
pub(super) const HEALED_TIME_MAX: Duration = Duration::from_secs(600);
/// How long a broker that is asked to close may take before it is killed.
pub(super) const CLOSE_TIME_MAX: Duration = Duration::from_secs(20);

/// A life that nothing disturbs.
pub(super) fn calm_life(world: &World) -> BrokerLife {
    BrokerLife {
        end: End::Close,
        zombie: false,
        ..world.plan.broker.lives[0]
    }
}

/// Nothing fails from now on, and nobody but the next life runs.
pub(super) fn heal(world: &World, zombies: &[Tag]) {
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

/// A life under way.
pub(super) struct Running {
    pub(super) node: usize,
    pub(super) tag: Tag,
    pub(super) opened: oneshot::Receiver<Opened>,
    pub(super) stop: oneshot::Sender<Leave>,
    pub(super) done: oneshot::Receiver<()>,
}

pub(super) async fn begin(
    world: &Arc<World>,
    node: usize,
    life: BrokerLife,
    by_force: bool,
) -> Running {
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

/// How the opening of a life that nothing disturbs ended; one that serves is in charge.
pub(super) async fn opened(world: &World, running: &mut Running) -> Result<Opened, Violation> {
    let time = Box::pin(world.handle.sleep(HEALED_TIME_MAX));
    let opened = match select(&mut running.opened, time).await {
        Either::Left((Ok(opened), _)) => Ok(opened),
        _ => Err(Violation::new(
            "liveness",
            "a broker neither opens nor is refused",
        )),
    };
    world.failed()?;
    if opened == Ok(Opened::Serves) {
        liveness::in_charge(running.tag, world.life())?;
    }
    opened
}

/// A life that nothing disturbs, and that must serve.
pub(super) async fn serving(
    world: &Arc<World>,
    node: usize,
    by_force: bool,
) -> Result<Running, Violation> {
    let mut running = begin(world, node, calm_life(world), by_force).await;
    match opened(world, &mut running).await? {
        Opened::Serves => Ok(running),
        opened => {
            let detail = format!("node {node} does not serve once all is healed: {opened:?}");
            Err(Violation::new("liveness", detail))
        }
    }
}

/// The life is stopped, and wakes up in a later one.
pub(super) fn falls_asleep(world: &Arc<World>, node: usize, tag: Tag, life: BrokerLife) {
    world.handle.strike("zombie");
    world.handle.stop(tag);
    let most_us = [2 * life.after_us, life.after_us / 5][usize::from(world.below(2) == 0)];
    let asleep_ns = world.below(most_us) * 1_000;
    stray::stays(world, node, tag, Duration::from_nanos(2 * asleep_ns));
    let handle = world.handle.clone();
    world
        .handle
        .call_after(asleep_ns, move || handle.resume(tag));
}

/// Asks a broker to leave, and waits until it has.
pub(super) async fn leave(
    world: &Arc<World>,
    running: Running,
    how: Leave,
) -> Result<(), Violation> {
    _ = running.stop.send(how);
    let done = async {
        drop(running.done.await);
    };
    within(world, HEALED_TIME_MAX, done).await?;
    world.end(running.node, running.tag, End::Close);
    world.failed()
}

pub(super) async fn within(
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

/// Writes to every partition, reads each from start to end, and every committed offset, and looks at
/// every topic.
pub(super) async fn read_all(world: &Arc<World>) -> Result<(), Violation> {
    within(world, HEALED_TIME_MAX, producer::fresh(world)).await?;
    let mut client = Client::new(world, "final read");
    read_partitions(&mut client).await?;
    if world.plan.broker.members > 0 {
        let all: Vec<i32> = partitions(world).collect();
        while offsets::committed(&mut client, &all).await.is_none() {
            world.failed()?;
            client.pause(Duration::from_millis(10)).await;
        }
    }
    within(world, HEALED_TIME_MAX, admin::look_at_all(world)).await
}

async fn read_partitions(client: &mut Client) -> Result<(), Violation> {
    let world = &Arc::clone(&client.world);
    let mut positions: BTreeMap<i32, i64> = partitions(world).map(|index| (index, 0)).collect();
    let mut read: BTreeMap<i32, Vec<_>> = BTreeMap::new();
    let deadline = world.handle.now().after(HEALED_TIME_MAX);
    while !positions.is_empty() {
        world.failed()?;
        if world.handle.now() >= deadline {
            let detail = format!("the final read does not get beyond {positions:?}");
            return Err(Violation::new("liveness", detail));
        }
        let Ok(looks) = consumer::fetch(client, &positions, Duration::ZERO).await else {
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
    world.failed()
}
