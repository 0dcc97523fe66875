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
use tidewater_bucket::Metered;
use tidewater_s3stream::TierError;
use tidewater_stream_store::{MetaError, ObjectWalOpener, StoreConfig, StoreError, WalOpener};
use tidewater_types::{Env, Epoch, ErrorKind, NodeId, sometimes};
use tidewater_wal::{ObjectWalConfig, WalError};
use tokio::sync::oneshot;

use super::world::World;
use crate::check::Violation;
use crate::env::SimEnv;
use crate::exec::Tag;
use crate::net::SimListener;
use crate::plan::BrokerLife;
use crate::scenario::common::{unreadable, wal_config};
use crate::scenario::gate::Gate;
use crate::scenario::store::opener::SimOpener;
use crate::scenario::store::world::store_config;

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
    let gate = Gate::new(world.handle.clone(), world.bucket.clone());
    world.listens(node, tag, gate.clone());
    let (env, parts) = parts(&world, &began, gate);
    let Began { opened, stop, .. } = began;
    let broker = match EmbeddedBroker::open(parts).await {
        Ok(broker) => broker,
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
        Leave::Flush => return store.flush().await,
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

/// The environment of a life, and what its broker is opened from.
fn parts(world: &World, began: &Began, gate: Gate) -> (Arc<dyn Env>, Parts) {
    let (node, tag, life) = (began.node, began.tag, began.life);
    let seed = world.plan.seed;
    let address = World::address(node);
    let env: Arc<dyn Env> = Arc::new(
        SimEnv::new(world.handle.clone(), seed, tag, life.wall_shift_ms)
            .with_clock(world.plan.clock),
    );
    let bucket = Arc::new(Metered::new(Arc::new(gate)));
    let parts = Parts {
        env: Arc::clone(&env),
        bucket: Arc::clone(&bucket),
        wal: wal_opener(world, began, &env, bucket),
        device_wal: None,
        config: config(world, began),
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
    };
    (env, parts)
}

fn wal_opener(
    world: &World,
    began: &Began,
    env: &Arc<dyn Env>,
    bucket: Arc<Metered>,
) -> Box<dyn WalOpener> {
    let env = Arc::clone(env);
    if world.plan.broker.object_wal {
        return Box::new(ObjectWalOpener {
            bucket,
            node: id_of(began.node),
            config: ObjectWalConfig {
                reserve_ms_max: 100,
                ..ObjectWalConfig::default()
            },
            env,
        });
    }
    Box::new(SimOpener {
        device: world.devices[began.node].clone(),
        env,
        config: wal_config(&world.plan, began.life.sync),
        opened: Arc::new(Mutex::new(None)),
    })
}

/// As a store's, and the offsets topic is compacted by key all the time.
fn config(world: &World, began: &Began) -> StoreConfig {
    let mut config = store_config(&world.plan, began.by_force);
    config.node = id_of(began.node);
    config.tier.compact.pause = Duration::from_millis(5);
    config.tier.compact.key_records_min = 1;
    config.tier.compact.key_map_bytes = if world.plan.long { 24 * 6 } else { 1 << 10 };
    config
}

/// A refusal that the faults of the plan do not explain is a violation.
fn excuse(world: &World, tag: Tag, what: &'static str, error: &StoreError) {
    world
        .handle
        .line(|| format!("broker {} {what} refused: {error}", tag.0));
    let planned = !world.is_healed();
    let excused = match error.kind() {
        ErrorKind::Retry | ErrorKind::Full => planned,
        // It read the metadata log while another node deleted it, within the milliseconds of a plan.
        _ if planned && outpaced(world, error) => true,
        // The WAL is poisoned by a disk that fails, or a zombie took over.
        ErrorKind::Closed => planned && (!world.plan.disk_faults.are_harmless() || zombies(world)),
        ErrorKind::Fenced => planned && zombies(world),
        ErrorKind::Corrupt => {
            planned && matches!(error, StoreError::Wal(error) if unreadable(&world.plan, error))
        }
        ErrorKind::Invalid => false,
    };
    let is_missing = matches!(error, StoreError::Wal(WalError::Missing { .. }));
    let is_missed = is_missing && world.logs_are_lost();
    if !excused && !is_missed {
        let detail = format!("{what} of life {}: {error}", tag.0);
        world.fail(Violation::new("refused", detail));
    }
}

/// Whether the log was deleted by another node under who read it; whoever starts then starts again.
fn outpaced(world: &World, error: &StoreError) -> bool {
    let has_others = world
        .plan
        .broker
        .others
        .iter()
        .any(|lives| !lives.is_empty());
    let (StoreError::Meta(cause) | StoreError::Tier(TierError::Meta(cause))) = error else {
        return false;
    };
    has_others && matches!(cause, MetaError::Outpaced { .. })
}

/// Whether there may be several lives at a time.
fn zombies(world: &World) -> bool {
    let plan = &world.plan.broker;
    let mut lives = plan.lives.iter().chain(plan.others.iter().flatten());
    lives.any(|life| life.zombie)
}
