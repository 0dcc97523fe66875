//! One life of a node: opens its store, takes streams, works on them, gives them up.
//!
//! *Owns*: which streams the node has when.
//! *Does not own*: what is done with them (work.rs); the end of the life, at any await.
//!
//! *IO: none*

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};
use tidewater_bucket::Bucket;
use tidewater_stream_store::{StoreConfig, StoreError, Stream, StreamStore};
use tidewater_types::{Env, Offset, StreamId, sometimes};
use tokio::sync::oneshot;

use super::node::{Node, OpenedWal, excuse};
use super::ports::{Ports, opener};
use super::work;
use super::world::{Thief, Work, World, id_of};
use crate::check::liveness;
use crate::env::SimEnv;
use crate::exec::Tag;
use crate::plan::ClusterLife;
use crate::rng::Rng;
use crate::scenario::common::oracle::all_let_go;
use crate::scenario::gate::Gate;
use crate::scenario::store::world::store_config;
use crate::scenario::told::told;

/// What a life is given.
pub(super) struct Began {
    pub(super) tag: Tag,
    pub(super) node: usize,
    pub(super) work: Work,
    pub(super) gate: Gate,
}

/// A whole life; it may end before this does. `stop` completes when it is asked to close.
pub(super) async fn body(
    world: Arc<World>,
    began: Began,
    life: ClusterLife,
    stop: oneshot::Receiver<()>,
) {
    let Began {
        tag,
        node,
        work,
        gate,
    } = began;
    let (seed, shift) = (world.plan.seed, life.wall_shift_ms);
    let env: Arc<dyn Env> =
        Arc::new(SimEnv::new(world.handle.clone(), seed, tag, shift).with_clock(world.plan.clock));
    let bucket: Arc<dyn Bucket> = Arc::new(gate);
    let opened = OpenedWal::default();
    let ports = Ports {
        env: Arc::clone(&env),
        bucket: Arc::clone(&bucket),
        device: world.devices[node].clone(),
    };
    let wal = opener(&world.plan, id_of(node), ports, Arc::clone(&opened));
    let wal = told(&world.handle, id_of(node), wal);
    let by_force = matches!(work, Work::ReadAllWithoutWal | Work::Steal(_));
    let config = StoreConfig {
        node: id_of(node),
        ..store_config(&world.plan, by_force)
    };
    let store = match StreamStore::open(env, bucket, wal, config).await {
        Ok(store) => store,
        Err(error) => {
            let life = (node, tag, false);
            return excuse(&world, life, work, "open", &error);
        }
    };
    let node = Node {
        world,
        store,
        wal: opened,
        tag,
        node,
        work,
        held: Arc::default(),
        closing: Arc::default(),
    };
    node.work(stop).await;
    node.closing.store(true, Ordering::Relaxed);
    if let Err(error) = node.store.close().await {
        node.excuse("close", &error);
    }
}

impl Node {
    /// What the life is for; `stop` completes when it is asked to close.
    async fn work(&self, stop: oneshot::Receiver<()>) {
        match self.work {
            Work::Planned => {
                work::start(self);
                let asked = Box::pin(async {
                    // A zombie is not asked any more, and runs on.
                    if stop.await.is_err() {
                        std::future::pending::<()>().await;
                    }
                });
                drop(select(asked, Box::pin(self.trade())).await);
            }
            Work::Healed => self.healed().await,
            Work::Steal(victim) => self.steal(victim).await,
            Work::ReadAll | Work::ReadAllWithoutWal => {
                self.world.lists(self.listed());
                let all: Vec<StreamId> = self.world.known().into_iter().collect();
                for id in all {
                    self.take(id).await;
                }
                work::read_all(self).await;
            }
        }
    }

    /// All that a node does once nothing fails any more.
    async fn healed(&self) {
        self.world.lists(self.listed());
        self.take_own().await;
        if self.node == self.world.thief_node()
            && let Some(loot) = self.world.loot()
        {
            // Whatever earlier lives of the thief sent, this one has fenced it.
            self.world.theft_ends(loot, None);
        }
        if self.held.lock().is_empty() {
            self.take_any().await;
        }
        self.delete_new().await;
        let num_acked = work::append_some(self).await;
        self.world.check(liveness::done(num_acked > 0, || {
            let node = self.node;
            format!("no append of node {node} is acknowledged though nothing fails")
        }));
        self.give_all_up().await;
        self.let_go().await;
    }

    /// The streams in the metadata, as this node knows them.
    fn listed(&self) -> Vec<StreamId> {
        let metadata = self.store.metadata();
        metadata.read(|state| state.streams().map(|(id, _)| id).collect())
    }

    /// Takes a stream that nobody has, or a new one.
    async fn take_any(&self) {
        let free = self.store.metadata().read(|state| {
            let mut streams = state.streams();
            let is_free = |id, owner: Option<_>| owner.is_none() && !self.world.may_be_gone(id);
            let free = streams.find(|(id, stream)| is_free(*id, stream.owner));
            free.map(|(id, _)| id)
        });
        if let Some(id) = free {
            match self.store.open_stream(id).await {
                Ok(stream) => return self.holds(stream),
                // What a dead node had sent was faster.
                Err(StoreError::Owned { .. }) => {}
                Err(error) => return self.excuse("take", &error),
            }
        }
        match self.store.create().await {
            Ok(id) => self.take(id).await,
            Err(error) => self.excuse("create", &error),
        }
    }

    fn holds(&self, stream: Stream) {
        self.world.opened(self.node, &stream);
        self.held.lock().insert(stream.id(), stream);
    }

    /// Takes streams that nobody has and gives some up, until the life ends or is asked to close.
    async fn trade(&self) {
        let mut rng = Rng::new(self.world.below(u64::MAX), "trade");
        self.take_own().await;
        loop {
            match rng.below(4) {
                0 => {
                    let held: Vec<StreamId> = self.held.lock().keys().copied().collect();
                    if !held.is_empty() {
                        self.give_up(held[rng.index(held.len())]).await;
                    }
                }
                1 if rng.chance(300) => self.delete_new().await,
                1 => self.create().await,
                _ => self.take_some(&mut rng).await,
            }
            let pause = rng.latency(self.world.plan.cluster.move_us);
            self.world.handle.sleep(Duration::from_micros(pause)).await;
            let failed = Box::pin(self.store.failed());
            let now = Box::pin(std::future::ready(()));
            if let Either::Left((failure, _)) = select(failed, now).await {
                return self.excuse("work", &failure);
            }
        }
    }

    /// Opens what the metadata say is this node's.
    async fn take_own(&self) {
        let own = Some(id_of(self.node));
        let own: Vec<StreamId> = self.store.metadata().read(|state| {
            let own = state.streams().filter(|(_, stream)| stream.owner == own);
            own.map(|(id, _)| id).collect()
        });
        for id in own.into_iter().filter(|id| !self.world.may_be_gone(*id)) {
            self.take(id).await;
        }
    }

    /// Looks for a stream that nobody has; now and then asks for one that another node has.
    async fn take_some(&self, rng: &mut Rng) {
        if let Err(error) = self.store.metadata().refresh().await {
            return self.excuse("refresh", &error.into());
        }
        let asks_any = rng.chance(200);
        let held = self.held.lock().keys().copied().collect::<Vec<_>>();
        let wanted: Vec<StreamId> = self.store.metadata().read(|state| {
            let free = state.streams().filter(|(id, stream)| {
                let is_free = asks_any || stream.owner.is_none();
                is_free && !held.contains(id) && !self.world.may_be_gone(*id)
            });
            free.map(|(id, _)| id).collect()
        });
        if !wanted.is_empty() {
            self.take(wanted[rng.index(wanted.len())]).await;
        }
    }

    async fn take(&self, id: StreamId) {
        match self.store.open_stream(id).await {
            Ok(stream) => self.holds(stream),
            Err(StoreError::Owned { owner, .. })
                if self.work == Work::Planned && owner != id_of(self.node) =>
            {
                sometimes!("cluster: a stream of another node is refused");
            }
            Err(error) => self.excuse("take", &error),
        }
    }

    /// Takes a stream of a dead node, appends a little and gives it up.
    async fn steal(&self, victim: usize) {
        self.world.thief_is(Thief::AtWork);
        let owner = Some(id_of(victim));
        let loot: Vec<(StreamId, Offset)> = self.store.metadata().read(|state| {
            let streams = state.streams();
            let loot = streams
                .filter(|(id, stream)| stream.owner == owner && !self.world.may_be_gone(*id));
            loot.map(|(id, stream)| (id, stream.end)).collect()
        });
        if loot.is_empty() {
            return self.world.thief_is(Thief::Done);
        }
        let bound = u64::try_from(loot.len()).expect("few");
        let (id, committed) = loot[usize::try_from(self.world.below(bound)).expect("few")];
        self.world.steals(id, committed);
        match self.store.open_stream(id).await {
            Ok(stream) => self.holds(stream),
            Err(error) => return self.excuse("steal", &error),
        }
        if self.world.below(2) == 0 {
            work::append_some(self).await;
        }
        self.held.lock().remove(&id);
        match self.store.release(id).await {
            Ok(()) => self.world.thief_is(Thief::Done),
            Err(error) => self.excuse("release", &error),
        }
    }

    /// Creates a stream if there are not enough.
    async fn create(&self) {
        let num_streams = self.store.metadata().read(|state| state.streams().count());
        if num_streams >= usize::try_from(self.world.plan.cluster.streams).expect("few") {
            return;
        }
        match self.store.create().await {
            Ok(id) => self.take(id).await,
            Err(error) => self.excuse("create", &error),
        }
    }

    /// Creates a stream, appends to it and deletes it, whether that is uploaded, on its way or not.
    async fn delete_new(&self) {
        let created = async {
            let id = self.store.create().await?;
            // Whatever becomes of it, nobody relies on it.
            self.world.deletes(id);
            self.store.open_stream(id).await
        };
        let stream = match created.await {
            Ok(stream) => stream,
            // Another node was faster, and may keep it.
            Err(StoreError::Owned { .. }) if self.work == Work::Planned => return,
            Err(error) => return self.excuse("create", &error),
        };
        work::append_to_lose(self, &stream).await;
        match self.store.delete(stream.id()).await {
            Ok(()) => {
                sometimes!("cluster: a stream is deleted with what it holds");
                self.world.has_deleted(stream.id());
            }
            Err(error) => self.excuse("delete", &error),
        }
    }

    async fn give_up(&self, id: StreamId) {
        // Until it is given up, writers and readers go on with it.
        match self.store.release(id).await {
            Ok(()) => self
                .world
                .handle
                .line(|| format!("node  {} released stream={id}", self.node)),
            Err(error) => self.excuse("release", &error),
        }
        self.held.lock().remove(&id);
    }

    /// Behind one upload that nothing disturbs no byte waits, what was appended to streams that are
    /// deleted included. It takes what is durable, and nobody waited for that of a deleted stream.
    async fn let_go(&self) {
        let is_durable = || {
            let watermarks = self.store.counters().watermarks;
            watermarks.durable == watermarks.accepted
        };
        while !is_durable() {
            self.world.handle.sleep(Duration::from_millis(1)).await;
        }
        // The streams hear of it a moment after the log.
        self.world.handle.sleep(Duration::from_millis(1)).await;
        match self.store.flush().await {
            Ok(()) => self.world.check(all_let_go(&self.store)),
            Err(error) => self.excuse("flush", &error),
        }
    }

    async fn give_all_up(&self) {
        let held: Vec<StreamId> = self.held.lock().keys().copied().collect();
        for id in held {
            self.give_up(id).await;
        }
    }
}
