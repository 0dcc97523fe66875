//! One process: opens the metadata, appends to lists, reads, watches.
//!
//! *Owns*: the workload. *Does not own*: its end; the life can be cut off at any await, or run
//! on after others took over.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tidewater_s3stream::{
    MetaError, MetaOp, MetaState, Metadata, NewObject, NewRange, ObjectId, ObjectKind, Watch,
    Watched,
};
use tidewater_types::{Env, Epoch, ErrorKind, NodeId, Offset, sometimes};

use super::process::Process;
use super::world::{KEYS, STREAM, World, ids, lists};
use crate::check::excuse::{self, Facts};
use crate::check::state::{dropped, holds_own};
use crate::check::watch::told;
use crate::check::{Violation, liveness};
use crate::rng::Rng;

/// What each writer of a life without faults does.
const HEALED_OPS: u64 = 12;

/// What a process does after it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// As planned; the end may come at any moment.
    Planned,
    /// Every transaction must be decided.
    Healed,
    /// Everything is read and judged.
    ReadAll,
}

#[derive(Clone)]
struct Life {
    world: Arc<World>,
    process: Process,
    metadata: Metadata,
    work: Work,
}

/// A whole life; it may end before this does.
pub(super) async fn body(world: Arc<World>, process: Process, work: Work) {
    let env: Arc<dyn Env> = process.env.clone();
    let bucket = Arc::new(process.gate.clone());
    let begun = world.model.lock().registers.now();
    let metadata = match Metadata::open(bucket, env, world.config.clone()).await {
        Ok(metadata) => metadata,
        Err(error) => return refused(&world, work, "open", &error),
    };
    let life = Life {
        world,
        process,
        metadata,
        work,
    };
    life.show(Some(begun));
    if work != Work::ReadAll {
        life.work_through().await;
    }
    if work != Work::Planned {
        let begun = life.world.model.lock().registers.now();
        match life.metadata.refresh().await {
            Ok(()) => life.show(Some(begun)),
            Err(error) => refused(&life.world, work, "refresh", &error),
        }
    }
    if work == Work::ReadAll {
        life.world.ends(&life.state());
    }
}

/// An error that nothing excuses.
fn refused(world: &World, work: Work, what: &str, error: &MetaError) {
    world
        .handle
        .line(|| format!("meta  {what} failed: {error}"));
    let facts = Facts {
        planned: work == Work::Planned,
        ..Facts::default()
    };
    if !excuse::metadata_call(error, facts) {
        let detail = format!("{what} without a reason: {error}");
        world.fail(Violation::new("refused", detail));
    }
}

impl Life {
    fn state(&self) -> MetaState {
        self.metadata.read(Clone::clone)
    }

    fn show(&self, begun: Option<u64>) {
        self.world.shown(&self.state(), begun);
    }

    async fn work_through(&self) {
        let mut rng = self.world.next_rng("life");
        if self.work == Work::Planned && rng.chance(700) {
            let (process, sandman) = (self.process.clone(), self.world.next_rng("sandman"));
            let task = hold_up(Arc::clone(&self.world), process, sandman);
            let (handle, tag) = (&self.world.handle, self.process.tag);
            handle.spawn(tag, "sandman", Box::pin(task));
        }
        let owner = self.own_stream().await;
        let most = if self.world.plan.long { 60 } else { 25 };
        let writers = (0..rng.between(1, 3)).map(|number| {
            let rng = Rng::new(rng.next_u64() ^ number, "writer");
            let count = match self.work {
                Work::Planned => most / 2 + number,
                Work::Healed | Work::ReadAll => HEALED_OPS,
            };
            self.writer(rng, count, owner.filter(|_| number == 0))
        });
        join_all(writers.collect::<Vec<_>>()).await;
        if self.work == Work::Healed {
            match self.write(&mut rng, owner).await {
                Ok(()) => self.show(None),
                Err(error) => refused(&self.world, self.work, "proposal", &error),
            }
        }
    }

    /// One more id and one more range, which nothing but late requests of dead lives stand in the way of.
    async fn write(&self, rng: &mut Rng, owner: Option<(Epoch, Epoch)>) -> Result<(), MetaError> {
        let mut is_appended = false;
        for _ in 0..20 {
            is_appended = is_appended || self.append(rng, None).await?;
        }
        let is_committed = match owner {
            Some(epochs) => self.upload(epochs, HEALED_OPS + 1).await?,
            None => false,
        };
        self.world.check(liveness::done(is_appended, || {
            "no id is acknowledged though nothing fails".to_owned()
        }));
        self.world.check(liveness::done(is_committed, || {
            "no range is committed though nothing fails".to_owned()
        }));
        Ok(())
    }

    /// Registers the node anew and takes the stream over. The epochs, if that went well.
    async fn own_stream(&self) -> Option<(Epoch, Epoch)> {
        let node = NodeId(self.process.node);
        for _ in 0..20 {
            let state = self.state();
            let node_epoch = state.node(node).map_or(Epoch(0), |node| node.epoch);
            let node_epoch = node_epoch.next().expect("few");
            let mut txn = vec![MetaOp::RegisterNode {
                node,
                epoch: node_epoch,
            }];
            let stream = state.stream(STREAM);
            if stream.is_none() {
                txn.push(MetaOp::CreateStream { stream: STREAM });
            }
            let epoch = stream.map_or(Epoch(0), |stream| stream.epoch);
            let epoch = epoch.next().expect("few");
            txn.push(MetaOp::OpenStream {
                stream: STREAM,
                node,
                node_epoch,
                epoch,
            });
            match self.metadata.propose(txn).await {
                Ok(()) => return Some((node_epoch, epoch)),
                Err(MetaError::Rejected { .. }) => {}
                Err(error) => {
                    refused(&self.world, self.work, "registration", &error);
                    return None;
                }
            }
        }
        None
    }

    async fn writer(&self, mut rng: Rng, count: u64, owner: Option<(Epoch, Epoch)>) {
        let mut watch = rng
            .chance(300)
            .then(|| self.metadata.watch(vec![Watched::Keys("list/".to_owned())]));
        let mut counter = 0;
        for _ in 0..count {
            let done = match (rng.below(10), owner) {
                (0..=2, Some(epochs)) => {
                    counter += 1;
                    self.upload(epochs, counter).await.map(drop)
                }
                (3, _) => self.look().await,
                (4, _) => self.put().await,
                _ => self.append(&mut rng, watch.as_mut()).await.map(drop),
            };
            self.show(None);
            if let Err(error) = done {
                return refused(&self.world, self.work, "proposal", &error);
            }
            if rng.chance(300) {
                let ways = rng.below(20);
                let pause = Duration::from_nanos(ways * self.world.plan.bucket.way_ns);
                self.world.handle.sleep(pause).await;
            }
        }
    }

    /// Looks for what others wrote; the state then holds what was acknowledged before.
    async fn look(&self) -> Result<(), MetaError> {
        let begun = self.world.model.lock().registers.now();
        match self.metadata.refresh().await {
            Ok(()) => self.show(Some(begun)),
            Err(error) if self.may_try_again(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Requests may fail still, and this one did.
    fn may_try_again(&self, error: &MetaError) -> bool {
        self.work == Work::Planned && error.kind() == ErrorKind::Retry
    }

    /// Sets a key whatever its version: applied twice, the version would tell.
    async fn put(&self) -> Result<(), MetaError> {
        let put = MetaOp::PutKey {
            key: "blind".to_owned(),
            value: Bytes::from(self.next_id().to_string()),
            expected_version: None,
        };
        match self.metadata.propose(vec![put]).await {
            Err(error) if !self.may_try_again(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Appends an id to one or two lists by compare-and-set; whether that was granted.
    async fn append(&self, rng: &mut Rng, watch: Option<&mut Watch>) -> Result<bool, MetaError> {
        let id = self.next_id();
        let first = rng.below(KEYS);
        let mut of = vec![format!("list/{first}")];
        if rng.chance(400) {
            of.push(format!("list/{}", (first + 1) % KEYS));
        }
        let state = self.state();
        let ops = of.iter().map(|key| {
            let (value, version) = state
                .key(key)
                .map_or((Bytes::new(), 0), |(value, version)| {
                    (value.clone(), version)
                });
            let mut value = ids(&value);
            value.push(id);
            let value: Vec<u8> = value.into_iter().flat_map(u64::to_le_bytes).collect();
            MetaOp::PutKey {
                key: key.clone(),
                value: Bytes::from(value),
                expected_version: Some(version),
            }
        });
        let txn = ops.collect();
        self.begins(id, &of);
        let is_granted = self.decided(id, &of, None, self.metadata.propose(txn).await)?;
        if let (Some(watch), true) = (watch, self.holds(id, &of)) {
            let changes = watch.next().await?;
            self.world.check(told(id, &of, &changes));
        }
        Ok(is_granted)
    }

    /// Commits a range whose object has the id for its nonce; whether it is there.
    async fn upload(
        &self,
        (node_epoch, epoch): (Epoch, Epoch),
        counter: u64,
    ) -> Result<bool, MetaError> {
        let id = self.next_id();
        let node = NodeId(self.process.node);
        let state = self.state();
        let start = state.stream(STREAM).map_or(Offset(0), |stream| stream.end);
        let object = NewObject {
            id: ObjectId {
                node,
                epoch: node_epoch,
                counter,
                nonce: id,
            },
            kind: ObjectKind::Stream,
            size: 100,
            index_position: 50,
            footer_crc: 0,
        };
        let range = NewRange {
            stream: STREAM,
            epoch,
            start,
            end: Offset(start.0 + 1),
            timestamp_ms_max: 0,
            object: 0,
        };
        let of = ["stream".to_owned()];
        self.begins(id, &of);
        let commit = MetaOp::CommitUpload {
            node,
            node_epoch,
            objects: vec![object],
            ranges: vec![range],
            snapshots: vec![],
        };
        let verdict = self.metadata.propose(vec![commit]).await;
        self.decided(id, &of, Some(epoch), verdict)
    }

    fn next_id(&self) -> u64 {
        let mut model = self.world.model.lock();
        model.next_id += 1;
        model.next_id
    }

    fn begins(&self, id: u64, of: &[String]) {
        self.world
            .handle
            .line(|| format!("meta  node {} proposes id={id} {of:?}", self.process.node));
        let registers = &mut self.world.model.lock().registers;
        registers.begins(id, of.iter().cloned());
    }

    fn holds(&self, id: u64, of: &[String]) -> bool {
        let lists = lists(&self.state());
        of.iter()
            .all(|list| lists.get(list).is_some_and(|ids| ids.contains(&id)))
    }

    /// The verdict on `id` came, a range of an owner of `epoch` if there is one: whether it was granted
    /// and is there. An error that ends the life is passed on.
    fn decided(
        &self,
        id: u64,
        of: &[String],
        epoch: Option<Epoch>,
        verdict: Result<(), MetaError>,
    ) -> Result<bool, MetaError> {
        let registers =
            || parking_lot::MutexGuard::map(self.world.model.lock(), |model| &mut model.registers);
        match verdict {
            Ok(()) => {
                let is_there = self.holds(id, of);
                match epoch {
                    // A range of a stream that went on is dropped, and its upload granted all the same.
                    Some(epoch) if !is_there => {
                        sometimes!("metadata: a stale range is dropped");
                        let current = self.state().stream(STREAM).map(|stream| stream.epoch);
                        registers().refused(id);
                        self.world.check(dropped(id, epoch, current));
                    }
                    _ => match holds_own(id, is_there) {
                        Ok(()) => self.world.acked(id, of),
                        Err(violation) => self.world.fail(violation),
                    },
                }
                Ok(is_there)
            }
            Err(MetaError::Rejected { .. }) => {
                registers().refused(id);
                Ok(false)
            }
            Err(error) if self.may_try_again(&error) => {
                registers().refused(id);
                Ok(false)
            }
            // Held up for too long: the outcome is not known.
            Err(error) => Err(error),
        }
    }
}

/// Holds the process up now and then, its clock sometimes too.
async fn hold_up(world: Arc<World>, process: Process, mut rng: Rng) {
    loop {
        let ways = rng.below(200);
        let pause = Duration::from_nanos(ways * world.plan.bucket.way_ns);
        world.handle.sleep(pause).await;
        let time = world.draw_pause();
        process.hold_up(time, rng.chance(400));
        world.handle.sleep(time).await;
    }
}
