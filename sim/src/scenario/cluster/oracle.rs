//! What is asked at acknowledgements and when lives end.
//!
//! *Owns*: whether an acknowledged value survives the worst crash; the fork, stores on copies of devices
//! and bucket that must serve everything; fsck of the bucket as it is.
//! *Does not own*: the models.
//!
//! Invariants
//! 1. At an acknowledgement no lottery: the place of the frame on the device, or an object, holds it.
//! 2. A fork runs on an executor of its own and changes nothing in the run.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;

use tidewater_bucket::Bucket;
use tidewater_stream_store::{StoreConfig, StoreError, Stream, StreamStore};
use tidewater_types::{Env, Lsn, NodeId, Offset, StreamId};

use super::node::Node;
use super::ports::{Ports, opener};
use super::world::{World, id_of};
use crate::check::streams::{Seen, StreamModel};
use crate::check::{Violation, fork};
use crate::disk::{CrashStyle, Device};
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};
use crate::plan::Plan;
use crate::scenario::common::oracle::{Scope, fsck_copy, is_in_bucket};
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
    if !survives(node, lsn, bytes) {
        let detail =
            format!("value {value} at lsn {lsn} is acknowledged, and a crash now would lose it");
        world.fail(Violation::new("durable", detail));
    }
    let drawn = world.oracle.lock().draw(world.plan.forks / 2);
    if let Some(seed) = drawn {
        world.check(fork_and_read(world, seed));
    }
}

/// Whether the bytes survive the worst crash: in the write-ahead log, or in an object already.
fn survives(node: &Node, lsn: Lsn, bytes: &[u8]) -> bool {
    let world = &node.world;
    let in_log = match node.wal.lock().as_ref() {
        Some(wal) => wal.locate(lsn).is_some_and(|range| {
            let len = usize::try_from(range.end - range.start).unwrap_or(0);
            let durable = world.devices[node.node].durable_bytes(range.start, len);
            holds(&durable, bytes)
        }),
        None => is_in_bucket(&world.bucket, "wal/", bytes),
    };
    in_log || is_in_bucket(&world.bucket, "data/", bytes)
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

/// Power fails everywhere and the nodes are opened again: everything that was acknowledged or shown is
/// served by whoever has it.
fn fork_and_read(world: &World, seed: u64) -> Result<(), Violation> {
    let Some(streams) = world.promised() else {
        return Ok(());
    };
    fsck_copy(&world.bucket, seed, world.scope())?;
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
            let seen = seen_of(&stream).await;
            let seen = seen.map_err(|error| fork::refused("fetch", &error))?;
            model.final_read(stream.start().0, &seen, stream.high_watermark().0)?;
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

/// Everything that the stream serves.
async fn seen_of(stream: &Stream) -> Result<Vec<Seen>, StoreError> {
    let (mut next, end) = (stream.start(), stream.high_watermark());
    let mut seen = Vec::new();
    while next < end {
        let fetched = stream.fetch(Offset(next.0), 1 << 20).await?;
        let Some(last) = fetched.entries.last() else {
            break;
        };
        next = last.end_offset();
        seen.extend(fetched.entries.iter().map(|entry| Seen {
            base: entry.base_offset.0,
            count: entry.record_count.into(),
            bytes: entry.payload.to_vec(),
        }));
    }
    Ok(seen)
}
