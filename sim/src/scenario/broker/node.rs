//! One life of the broker: the code that `tidewater serve` runs, on simulated ports.
//!
//! *Owns*: opening, serving and closing, and which refusals are excused.
//! *Does not own*: the end of the life; it can be cut off at any await.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tidewater_broker::{EmbeddedBroker, Facts, Limits, OpenError, Parts};
use tidewater_bucket::{Bucket, Metered};
use tidewater_stream_store::{ObjectWalOpener, StoreConfig, StoreError, WalOpener};
use tidewater_types::{Env, Epoch, NodeId, sometimes};
use tidewater_wal::ObjectWalConfig;
use tokio::sync::oneshot;

use super::world::World;
use crate::check::{Violation, excuse};
use crate::disk::Device;
use crate::env::SimEnv;
use crate::exec::Tag;
use crate::net::SimListener;
use crate::plan::{BrokerLife, Plan, Sync};
use crate::scenario::common::oracle::all_let_go;
use crate::scenario::common::{reads_fail, wal_config};
use crate::scenario::gate::Gate;
use crate::scenario::store::opener::SimOpener;
use crate::scenario::store::world::store_config;
use crate::scenario::told::told;

/// How a broker is asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Close,
    /// Gives all streams up first, so that another node may open them.
    Release,
    /// Uploads everything first, and keeps its streams.
    Flush,
}

/// How the opening of a broker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    Serves,
    /// Another node has the streams.
    Owned(NodeId),
    Refused,
}

/// What a life is given.
pub(super) struct Began {
    pub(super) node: usize,
    pub(super) tag: Tag,
    pub(super) life: BrokerLife,
    /// Whether streams are taken from nodes that did not give them up.
    pub(super) by_force: bool,
    /// Told once how the opening ended.
    pub(super) opened: oneshot::Sender<Opened>,
    /// Completes when it is asked to leave.
    pub(super) stop: oneshot::Receiver<Leave>,
}

/// A whole life; it may end before this does.
pub(super) async fn body(world: Arc<World>, began: Began) {
    let (node, tag) = (began.node, began.tag);
    // As in production the address is taken first; clients queue up.
    let listener = world
        .net
        .listen(World::host_of(node), tag, World::address(node));
    let gate = gate(&world, tag);
    world.listens(node, tag, gate.clone());
    let env = env(&world, &began);
    let ports = Ports {
        env: Arc::clone(&env),
        bucket: Arc::new(gate),
        device: world.devices[node].clone(),
    };
    let mut parts = parts(&world.plan, (node, began.life.sync, began.by_force), ports);
    parts.wal = told(&world.handle, id_of(node), parts.wal);
    let Began { opened, stop, .. } = began;
    let broker = match EmbeddedBroker::open(parts).await {
        Ok(broker) => Arc::new(broker),
        Err(OpenError::Store(StoreError::Owned { owner, .. })) if world.num_nodes() > 1 => {
            sometimes!("brokers: a broker of another node is refused");
            _ = opened.send(Opened::Owned(owner));
            return;
        }
        Err(OpenError::Store(error)) => {
            _ = opened.send(Opened::Refused);
            return excuse(&world, tag, "open", &error);
        }
        Err(error @ OpenError::Topic { .. }) => {
            return world.fail(Violation::new("damage", error.to_string()));
        }
    };
    world.shows(&broker);
    world.serves(tag, rank(&world, &broker).await);
    world.handle.line(|| format!("broker {} serves", tag.0));
    _ = opened.send(Opened::Serves);
    let (stopping, stopped) = oneshot::channel::<()>();
    let served = serve(&broker, &env, listener, stopped);
    let asked = Box::pin(async {
        match stop.await {
            Ok(leave) => leave,
            // A zombie is not asked any more, and runs on.
            Err(_) => std::future::pending().await,
        }
    });
    let ending = match select(asked, Box::pin(broker.failed())).await {
        Either::Left((leave, _)) => Ok(leave),
        Either::Right((failure, _)) => Err(failure),
    };
    drop(stopping);
    drop(served.await);
    if broker.store().counters().tier.key_records_dropped > 0 {
        sometimes!("broker: superseded offsets are gone");
    }
    let leave = match ending {
        Ok(leave) => leave,
        Err(failure) => return excuse(&world, tag, "serve", &failure),
    };
    if let Err(error) = give_up(&world, &broker, node, leave).await {
        excuse(&world, tag, "release", &error);
    }
    if let Err(error) = broker.close().await {
        excuse(&world, tag, "close", &error);
    }
}

/// How a life reaches the bucket. One of several brokers may fall asleep between what it knew and what
/// it asks for: others give up or take over meanwhile.
fn gate(world: &World, tag: Tag) -> Gate {
    let gate = Gate::new(world.handle.clone(), world.bucket.clone());
    let trouble_us = world.plan.broker.trouble_us.min(20_000);
    if world.num_nodes() == 1 || world.is_healed() || trouble_us == 0 || world.below(3) > 0 {
        return gate;
    }
    gate.with_naps(world.plan.seed ^ u64::from(tag.0), 1_000 * trouble_us)
}

/// Serves the listener until `stopped` completes; completes once it has ended.
fn serve(
    broker: &EmbeddedBroker,
    env: &Arc<dyn Env>,
    listener: SimListener,
    stopped: oneshot::Receiver<()>,
) -> oneshot::Receiver<()> {
    let limits = Limits {
        stop_grace: Duration::from_secs(1),
        ..Limits::default()
    };
    let stopped = async { drop(stopped.await) };
    let serving = broker.serve(listener, limits, stopped);
    let (sender, served) = oneshot::channel();
    env.spawn(
        "serve",
        Box::pin(async move {
            serving.await;
            _ = sender.send(());
        }),
    );
    served
}

/// The epoch of the first stream, if there are several brokers that take it from each other, and of
/// the node.
async fn rank(world: &World, broker: &EmbeddedBroker) -> (Epoch, Epoch) {
    let store = broker.store();
    let node_epoch = store.node_epoch();
    let first = store
        .metadata()
        .read(|state| state.streams().next().map(|(id, _)| id));
    let Some(first) = first.filter(|_| world.num_nodes() > 1) else {
        return (Epoch(0), node_epoch);
    };
    // It is open here: this tells the epoch that it was opened with.
    match store.open_stream(first).await {
        Ok(stream) => (stream.epoch(), node_epoch),
        Err(_) => (Epoch(0), Epoch(0)),
    }
}

/// What is done of leaving while nobody is served any more.
async fn give_up(
    world: &World,
    broker: &EmbeddedBroker,
    node: usize,
    leave: Leave,
) -> Result<(), StoreError> {
    let store = broker.store();
    match leave {
        Leave::Close => return Ok(()),
        Leave::Flush => {
            store.flush().await?;
            world.check(all_let_go(store));
            return Ok(());
        }
        Leave::Release => {}
    }
    let own = store.metadata().read(|state| {
        let own = state
            .streams()
            .filter(|(_, stream)| stream.owner == Some(id_of(node)));
        own.map(|(id, _)| id).collect::<Vec<_>>()
    });
    for id in own {
        match store.release(id).await {
            Ok(()) => {}
            // A topic whose deletion, or creation, was under way.
            Err(StoreError::NoStream { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    sometimes!("brokers: a broker gave all of its streams up");
    world.handle.line(|| format!("node  {node} gave all up"));
    Ok(())
}

/// The id of the node with this number.
pub(super) fn id_of(node: usize) -> NodeId {
    NodeId(u32::try_from(node).expect("few") + 1)
}

/// What a broker runs on.
pub(super) struct Ports {
    pub(super) env: Arc<dyn Env>,
    pub(super) bucket: Arc<dyn Bucket>,
    pub(super) device: Device,
}

fn env(world: &World, began: &Began) -> Arc<dyn Env> {
    let (handle, shift_ms) = (world.handle.clone(), began.life.wall_shift_ms);
    let env = SimEnv::new(handle, world.plan.seed, began.tag, shift_ms);
    Arc::new(env.with_clock(world.plan.clock))
}

/// What the broker of a node is opened from: how its device WAL makes bytes durable, and whether it
/// takes streams by force.
pub(super) fn parts(
    plan: &Plan,
    (node, sync, by_force): (usize, Sync, bool),
    ports: Ports,
) -> Parts {
    let Ports {
        env,
        bucket,
        device,
    } = ports;
    let address = World::address(node);
    let bucket = Arc::new(Metered::new(bucket));
    let wal: Box<dyn WalOpener> = if plan.broker.object_wal {
        Box::new(ObjectWalOpener {
            bucket: bucket.clone(),
            node: id_of(node),
            config: object_config(),
            env: Arc::clone(&env),
        })
    } else {
        Box::new(SimOpener {
            device,
            env: Arc::clone(&env),
            config: wal_config(plan, sync),
            opened: Arc::new(Mutex::new(None)),
        })
    };
    Parts {
        env,
        bucket,
        wal,
        device_wal: None,
        config: config(plan, node, by_force),
        facts: Facts {
            node_id: i32::try_from(id_of(node).0).expect("few"),
            host: address.ip().to_string(),
            port: address.port(),
            cluster_id: String::new(),
            default_partitions: 1,
            offsets_partitions: 2,
            response_bytes_max: 64 << 10,
            auto_create_topics: false,
        },
    }
}

/// The settings of a WAL in the bucket.
pub(super) fn object_config() -> ObjectWalConfig {
    ObjectWalConfig {
        reserve_ms_max: 100,
        ..ObjectWalConfig::default()
    }
}

/// As a store's, and the offsets topic is compacted by key all the time.
fn config(plan: &Plan, node: usize, by_force: bool) -> StoreConfig {
    let mut config = store_config(plan, by_force);
    config.node = id_of(node);
    config.tier.compact.pause = Duration::from_millis(5);
    config.tier.compact.key_records_min = 1;
    config.tier.compact.key_map_bytes = if plan.long { 24 * 6 } else { 1 << 10 };
    config
}

/// A refusal that the faults of the plan do not explain is a violation.
fn excuse(world: &World, tag: Tag, what: &'static str, error: &StoreError) {
    world
        .handle
        .line(|| format!("broker {} {what} refused: {error}", tag.0));
    let mut others = world.plan.broker.others.iter();
    let facts = excuse::Facts {
        planned: !world.is_healed(),
        disk_fails: !world.plan.disk_faults.are_harmless(),
        reads_fail: reads_fail(&world.plan.disk_faults),
        contested: zombies(world),
        outpaced: others.any(|lives| !lives.is_empty()),
        logs_lost: world.logs_are_lost(),
        ..excuse::Facts::default()
    };
    if !excuse::broker_call(error, facts) {
        let detail = format!("{what} of life {}: {error}", tag.0);
        world.fail(Violation::new("refused", detail));
    }
}

/// Whether there may be several lives at a time.
fn zombies(world: &World) -> bool {
    let plan = &world.plan.broker;
    let mut lives = plan.lives.iter().chain(plan.others.iter().flatten());
    lives.any(|life| life.zombie)
}
