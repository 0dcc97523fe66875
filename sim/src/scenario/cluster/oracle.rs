//! What is asked at acknowledgements and when lives end.
//!
//! *Owns*: whether an acknowledged value survives the worst crash; the fork, stores on copies of devices
//! and bucket that must serve everything; fsck of the bucket as it is.
//! *Does not own*: the models.
//!
//! Invariants
//! 1. At an acknowledgement no lottery: the place of the frame on the device holds it, or an object that
//!    is served.
//! 2. A fork runs on an executor of its own and changes nothing in the run.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_s3stream::Metadata;
use tidewater_stream_store::{StoreConfig, StoreError, Stream, StreamStore};
use tidewater_types::{Env, Lsn, NodeId, Offset, StreamId};

use super::node::Node;
use super::ports::{Ports, opener};
use super::world::{World, id_of};
use crate::check::streams::StreamModel;
use crate::check::{Violation, fork};
use crate::disk::{CrashStyle, Device};
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};
use crate::plan::Plan;
use crate::scenario::common::kept::{is_in_data, is_in_log};
use crate::scenario::common::oracle::{Scope, fsck_copy};
use crate::scenario::common::served::{all_of, seen_of};
use crate::scenario::common::{LIMITS, failure_of, holds};
use crate::scenario::store::owners::object_config;
use crate::scenario::store::world::store_config;

/// At so many of 1,000 ends of lives the bucket is checked.
const CHECKS: u32 = 150;

type Streams = BTreeMap<StreamId, StreamModel>;

/// The append of `value` was acknowledged.
pub(super) fn acked(node: &Node, id: StreamId, value: u64, lsn: Lsn, bytes: &[u8]) {
    let world = &node.world;
    world.check(world.stream(id, |model| model.acked(value)));
    world.check(must_be_durable(node, value, lsn, bytes));
    let drawn = world.oracle.lock().draw(world.plan.forks / 2);
    if let Some(seed) = drawn {
        world.check(fork_and_read(world, seed));
    }
}

/// The bytes survive the worst crash: in the write-ahead log, or in an object already.
fn must_be_durable(node: &Node, value: u64, lsn: Lsn, bytes: &[u8]) -> Result<(), Violation> {
    let world = &node.world;
    let (bucket, seed) = (&world.bucket, world.plan.seed);
    let wal = node.wal.lock().clone();
    let in_log = match wal {
        Some(wal) => wal.locate(lsn).is_some_and(|range| {
            let len = usize::try_from(range.end - range.start).unwrap_or(0);
            let durable = world.devices[node.node].durable_bytes(range.start, len);
            holds(&durable, bytes)
        }),
        None => is_in_log(bucket, seed, &object_config(&world.plan), bytes)?,
    };
    if in_log || is_in_data(bucket, seed, bytes)? {
        return Ok(());
    }
    let detail =
        format!("value {value} at lsn {lsn} is acknowledged, and a crash now would lose it");
    Err(Violation::new("durable", detail))
}

impl World {
    /// A life ended: now and then the bucket it leaves is looked at.
    pub(super) fn check_bucket(&self) {
        let drawn = self.oracle.lock().draw(CHECKS);
        if let Some(seed) = drawn {
            self.check(fsck_copy(&self.bucket, seed, self.scope()));
        }
    }

    fn scope(&self) -> Scope {
        if self.plan.cluster.object_wal {
            Scope::Logs(object_config(&self.plan))
        } else {
            Scope::Objects
        }
    }
}

/// Who has the stream, and where it is committed to, as the metadata in the bucket say now.
pub(super) fn owner_now(
    world: &World,
    id: StreamId,
) -> Result<(Option<NodeId>, Offset), Violation> {
    let seed = world.plan.seed;
    let executor = Executor::new(seed);
    let handle = executor.handle();
    let bucket: Arc<dyn Bucket> = Arc::new(world.bucket.fork(handle.clone(), seed));
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(handle, seed, Tag(1), 0));
    let config = store_config(&world.plan, false).tier.meta;
    let found = Arc::new(Mutex::new(None));
    let sink = Arc::clone(&found);
    let outcome = executor.run(LIMITS, async move {
        let metadata = Metadata::open(bucket, env, config).await;
        let metadata = metadata.map_err(|error| fork::refused("opening", &error))?;
        *sink.lock() = metadata.read(|state| {
            let stream = state.stream(id);
            stream.map(|stream| (stream.owner, stream.end))
        });
        Ok(())
    });
    failure_of(outcome).map_or(Ok(()), Err)?;
    let found = found.lock().take();
    found.ok_or_else(|| fork::refused("opening", &format_args!("no stream {id}")))
}

/// Power fails everywhere and the nodes are opened again: everything that was acknowledged or shown is
/// served by whoever has it.
fn fork_and_read(world: &World, seed: u64) -> Result<(), Violation> {
    fsck_copy(&world.bucket, seed, world.scope())?;
    let Some(streams) = world.promised() else {
        return Ok(());
    };
    let style = match seed >> 32 & 1 {
        0 => CrashStyle::Sectors,
        _ => CrashStyle::None,
    };
    let executor = Executor::new(seed);
    let handle = executor.handle();
    let copies = Fork {
        plan: world.plan.clone(),
        bucket: Arc::new(world.bucket.fork(handle.clone(), seed)),
        devices: (world.devices.iter())
            .map(|device| device.fork(handle.clone(), seed, style))
            .collect(),
        env: Arc::new(SimEnv::new(handle, seed, Tag(1), 0)),
        stores: BTreeMap::new(),
    };
    let outcome = executor.run(LIMITS, copies.read_all(streams));
    fork::after(&style, failure_of(outcome).map_or(Ok(()), Err))
}

/// Copies of devices and bucket, and the stores that were opened on them.
struct Fork {
    plan: Plan,
    bucket: Arc<dyn Bucket>,
    devices: Vec<Device>,
    env: Arc<dyn Env>,
    stores: BTreeMap<NodeId, StreamStore>,
}

impl Fork {
    async fn read_all(mut self, streams: Streams) -> Result<(), Violation> {
        for (id, mut model) in streams {
            let stream = self.stream(id).await;
            let stream = stream.map_err(|error| fork::refused("open", &error))?;
            let all = all_of(&stream).await;
            let all = all.map_err(|error| fork::refused("fetch", &error))?;
            let (start, end) = (stream.start().0, stream.high_watermark().0);
            model.final_read(start, &seen_of(&all), end)?;
        }
        Ok(())
    }

    /// The stream, by whoever has it; by the first node if nobody has.
    async fn stream(&mut self, id: StreamId) -> Result<Stream, StoreError> {
        let first = self.store(id_of(0)).await?;
        first.metadata().refresh().await?;
        let owner = first
            .metadata()
            .read(|state| state.stream(id).and_then(|stream| stream.owner));
        match owner {
            Some(owner) => self.store(owner).await?.open_stream(id).await,
            None => first.open_stream(id).await,
        }
    }

    async fn store(&mut self, node: NodeId) -> Result<StreamStore, StoreError> {
        if let Some(store) = self.stores.get(&node) {
            return Ok(store.clone());
        }
        let device = self.devices[usize::try_from(node.0).expect("few") - 1].clone();
        let ports = Ports {
            env: Arc::clone(&self.env),
            bucket: Arc::clone(&self.bucket),
            device,
        };
        let wal = opener(&self.plan, node, ports, Arc::default());
        let config = StoreConfig {
            node,
            ..store_config(&self.plan, false)
        };
        let (env, bucket) = (Arc::clone(&self.env), Arc::clone(&self.bucket));
        let store = StreamStore::open(env, bucket, wal, config).await?;
        self.stores.insert(node, store.clone());
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::fork_and_read;
    use crate::exec::Executor;
    use crate::plan::{Plan, Scenario};
    use crate::scenario::cluster::world::{Thief, World};

    #[test]
    fn a_bad_bucket_is_seen_while_the_thief_opens() {
        let plan = Plan::new(1, Scenario::Cluster);
        let world = World::new(Executor::new(1).handle(), &plan);
        world.thief_is(Thief::Opening);
        assert_eq!(fork_and_read(&world, 1), Ok(()));
        // An object of which no metadata are left to tell.
        let key = "data/00/1-1-1-0000000000000007";
        world.bucket.put(key, Some(Bytes::from_static(b"lost")));
        let violation = fork_and_read(&world, 2).unwrap_err();
        assert_eq!(violation.checker, "fsck");
    }
}
