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
use tidewater_stream_store::{ObjectWalOpener, StoreError, WalOpener};
use tidewater_types::{Env, ErrorKind, NodeId};
use tidewater_wal::ObjectWalConfig;
use tokio::sync::oneshot;

use super::world::{NODE, World};
use crate::check::Violation;
use crate::env::SimEnv;
use crate::exec::Tag;
use crate::plan::BrokerLife;
use crate::scenario::common::{unreadable, wal_config};
use crate::scenario::gate::Gate;
use crate::scenario::store::opener::SimOpener;
use crate::scenario::store::world::store_config;

/// A whole life; it may end before this does. `stop` completes when it is asked to close.
pub(super) async fn body(
    world: Arc<World>,
    tag: Tag,
    life: BrokerLife,
    stop: oneshot::Receiver<()>,
) {
    // As in production the address is taken first; clients queue up.
    let listener = world.net.listen(NODE, tag, world.address());
    world.listens(tag);
    let gate = Gate::new(world.handle.clone(), world.bucket.clone());
    world.reaches_bucket_by(gate.clone());
    let (env, parts) = parts(&world, tag, life, gate);
    let broker = match EmbeddedBroker::open(parts).await {
        Ok(broker) => broker,
        Err(OpenError::Store(error)) => return excuse(&world, tag, "open", &error),
        Err(error @ OpenError::Topic { .. }) => {
            return world.fail(Violation::new("damage", error.to_string()));
        }
    };
    world.serves(tag, broker.store().node_epoch());
    world.handle.line(|| format!("broker {} serves", tag.0));
    let limits = Limits {
        stop_grace: Duration::from_secs(1),
        ..Limits::default()
    };
    let (stopping, stopped) = oneshot::channel::<()>();
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
    let asked = Box::pin(async {
        // A zombie is not asked any more, and runs on.
        if stop.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let failure = match select(asked, Box::pin(broker.failed())).await {
        Either::Left(_) => None,
        Either::Right((failure, _)) => Some(failure),
    };
    drop(stopping);
    drop(served.await);
    if let Some(failure) = failure {
        return excuse(&world, tag, "serve", &failure);
    }
    if let Err(error) = broker.close().await {
        excuse(&world, tag, "close", &error);
    }
}

/// The environment of a life, and what its broker is opened from.
fn parts(world: &World, tag: Tag, life: BrokerLife, gate: Gate) -> (Arc<dyn Env>, Parts) {
    let seed = world.plan.seed;
    let env: Arc<dyn Env> = Arc::new(
        SimEnv::new(world.handle.clone(), seed, tag, life.wall_shift_ms)
            .with_clock(world.plan.clock),
    );
    let bucket = Arc::new(Metered::new(Arc::new(gate)));
    let parts = Parts {
        env: Arc::clone(&env),
        bucket: Arc::clone(&bucket),
        wal: wal_opener(world, life, &env, bucket),
        device_wal: None,
        config: store_config(&world.plan, false),
        facts: Facts {
            node_id: 1,
            host: world.address().ip().to_string(),
            port: world.address().port(),
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
    life: BrokerLife,
    env: &Arc<dyn Env>,
    bucket: Arc<Metered>,
) -> Box<dyn WalOpener> {
    let env = Arc::clone(env);
    if world.plan.broker.object_wal {
        return Box::new(ObjectWalOpener {
            bucket,
            node: NodeId(1),
            config: ObjectWalConfig {
                reserve_ms_max: 100,
                ..ObjectWalConfig::default()
            },
            env,
        });
    }
    Box::new(SimOpener {
        device: world.device.clone(),
        env,
        config: wal_config(&world.plan, life.sync),
        opened: Arc::new(Mutex::new(None)),
    })
}

/// A refusal that the faults of the plan do not explain is a violation.
fn excuse(world: &World, tag: Tag, what: &'static str, error: &StoreError) {
    world
        .handle
        .line(|| format!("broker {} {what} refused: {error}", tag.0));
    let planned = !world.is_healed();
    let excused = match error.kind() {
        ErrorKind::Retry | ErrorKind::Full => planned,
        // The WAL is poisoned by a disk that fails, or a zombie took over.
        ErrorKind::Closed => planned && (!world.plan.disk_faults.are_harmless() || zombies(world)),
        ErrorKind::Fenced => planned && zombies(world),
        ErrorKind::Corrupt => {
            planned && matches!(error, StoreError::Wal(error) if unreadable(&world.plan, error))
        }
        ErrorKind::Invalid => false,
    };
    if !excused {
        let detail = format!("{what} of life {}: {error}", tag.0);
        world.fail(Violation::new("refused", detail));
    }
}

/// Whether there may be several lives at a time.
fn zombies(world: &World) -> bool {
    world.plan.broker.lives.iter().any(|life| life.zombie)
}
