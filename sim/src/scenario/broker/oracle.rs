//! What is asked at acknowledgements and when lives end.
//!
//! *Owns*: whether the records of an acknowledged batch survive the worst crash; the fork, a broker on
//! copies of disks and bucket that must serve everything; fsck of the bucket as it is.
//! *Does not own*: the models.
//!
//! Invariants
//! 1. At an acknowledgement no lottery: a durable image holds the records, or an object that is served.
//! 2. A fork runs on an executor of its own and changes nothing in the run.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_broker::{EmbeddedBroker, OpenError};
use tidewater_bucket::Bucket;
use tidewater_stream_store::{StoreError, StreamStore};
use tidewater_types::{Env, StreamId};

use super::batch::{decode, records_of};
use super::node::{self, Ports};
use super::world::{TOPIC, World};
use crate::check::partition::{PartitionModel, Value};
use crate::check::{Violation, excuse, fork};
use crate::disk::{CrashStyle, Device};
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};
use crate::plan::Plan;
use crate::scenario::common::kept::{is_in_data, is_in_log};
use crate::scenario::common::oracle::{Scope, fsck_copy};
use crate::scenario::common::served::all_of;
use crate::scenario::common::{LIMITS, failure_of};

/// At so many of 1,000 ends of lives the bucket is checked.
const CHECKS: u32 = 150;

type Partitions = BTreeMap<i32, PartitionModel>;

impl World {
    /// The batch of `values` was acknowledged at `base`.
    pub(super) fn acked(&self, partition: i32, base: i64, values: &[Value], batch: &[u8]) {
        self.check(self.partition(partition, |model| model.acked(base, values)));
        self.check(self.must_be_durable(batch, values));
        let drawn = self.oracle.lock().draw(self.plan.forks);
        if let Some(seed) = drawn {
            self.check(self.fork_and_read(seed));
        }
    }

    /// The records survive the worst crash: in the write-ahead log, or in an object already.
    fn must_be_durable(&self, batch: &[u8], values: &[Value]) -> Result<(), Violation> {
        let (records, seed) = (records_of(batch), self.plan.seed);
        let in_log = if self.plan.broker.object_wal {
            is_in_log(&self.bucket, seed, &node::object_config(), records)?
        } else {
            self.oracle.lock().survive_on(&self.devices, records)
        };
        if in_log || is_in_data(&self.bucket, seed, records)? {
            return Ok(());
        }
        let detail = format!("{values:?} are acknowledged, and a crash now would lose them");
        Err(Violation::new("durable", detail))
    }

    /// A life ended: now and then the bucket it leaves is looked at.
    pub(super) fn check_bucket(&self) {
        let drawn = self.oracle.lock().draw(CHECKS);
        if let Some(seed) = drawn {
            self.check(fsck_copy(&self.bucket, seed, self.scope()));
        }
    }

    fn scope(&self) -> Scope {
        if self.plan.broker.object_wal {
            Scope::Logs(node::object_config())
        } else {
            Scope::Objects
        }
    }

    /// Power fails everywhere and the brokers are opened in turn, until one serves: what it has in the
    /// partitions is everything that was acknowledged or shown.
    fn fork_and_read(&self, seed: u64) -> Result<(), Violation> {
        fsck_copy(&self.bucket, seed, self.scope())?;
        let style = match seed >> 32 & 1 {
            0 => CrashStyle::Sectors,
            _ => CrashStyle::None,
        };
        let executor = Executor::new(seed);
        let handle = executor.handle();
        let bucket: Arc<dyn Bucket> = Arc::new(self.bucket.fork(handle.clone(), seed));
        let forked = |device: &Device| device.fork(handle.clone(), seed, style);
        let devices: Vec<_> = self.devices.iter().map(forked).collect();
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(handle, seed, Tag(1), 0));
        let (plan, partitions) = (self.plan.clone(), self.model.lock().partitions.clone());
        let facts = excuse::Facts {
            logs_lost: self.logs_are_lost(),
            ..excuse::Facts::default()
        };
        let outcome = executor.run(LIMITS, async move {
            let ports = devices.into_iter().map(|device| Ports {
                env: Arc::clone(&env),
                bucket: Arc::clone(&bucket),
                device,
            });
            let broker = first_that_serves(&plan, ports.collect(), facts).await?;
            read_all(broker.store(), partitions).await
        });
        fork::after(&style, failure_of(outcome).map_or(Ok(()), Err))
    }
}

async fn first_that_serves(
    plan: &Plan,
    ports: Vec<Ports>,
    facts: excuse::Facts,
) -> Result<EmbeddedBroker, Violation> {
    let mut told = Vec::new();
    let sync = plan.broker.lives[0].sync;
    for (node, ports) in ports.into_iter().enumerate() {
        let parts = node::parts(plan, (node, sync, false), ports);
        match EmbeddedBroker::open(parts).await {
            Ok(broker) => return Ok(broker),
            Err(OpenError::Store(StoreError::Owned { owner, .. })) => told.push(owner),
            // Whoever misses its log is refused, and another one has taken the streams by force.
            Err(OpenError::Store(error)) if excuse::broker_call(&error, facts) => {}
            Err(error) => return Err(fork::refused("open", &error)),
        }
    }
    let detail = format!("no broker serves; they are told that {told:?} have the streams");
    Err(Violation::new("fork", detail))
}

async fn read_all(store: &StreamStore, partitions: Partitions) -> Result<(), Violation> {
    let streams = streams_of_topic(store);
    for (index, mut model) in partitions {
        let stream = usize::try_from(index).ok().and_then(|at| streams.get(at));
        let Some(stream) = stream else {
            // Somebody has sent to it, and may have had no answer yet.
            model.final_read(&[], 0)?;
            continue;
        };
        let stream = store.open_stream(*stream).await;
        let stream = stream.map_err(|error| fork::refused("open_stream", &error))?;
        let all = all_of(&stream).await;
        let all = all.map_err(|error| fork::refused("fetch", &error))?;
        let mut records = Vec::new();
        for entry in &all {
            records.extend(decode(&entry.payload)?);
        }
        let end = stream.high_watermark().0;
        model.final_read(&records, i64::try_from(end).expect("small"))?;
    }
    Ok(())
}

/// The streams of the partitions of the topic that everybody writes, as the metadata name them
/// (docs/formats/broker-metadata.md).
fn streams_of_topic(store: &StreamStore) -> Vec<StreamId> {
    let key = format!("topic/{TOPIC}");
    let record: Option<Bytes> = store
        .metadata()
        .read(|state| state.key(&key).map(|(value, _)| value.clone()));
    let record = record.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let partitions = record
        .as_ref()
        .and_then(|record| record["partitions"].as_array());
    let ids = partitions.into_iter().flatten();
    ids.filter_map(|id| id.as_u64().map(StreamId)).collect()
}
