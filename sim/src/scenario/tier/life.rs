//! One life of a node: it takes streams over, appends, trims, compacts and sweeps.
//!
//! *Owns*: the workload, and which errors are excused.
//! *Does not own*: its end; the life can be cut off at any await.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use tidewater_bucket::Bucket;
use tidewater_s3stream::{MetaError, MetaOp, Rejection, Tier, TierError, Uploader};
use tidewater_types::{Env, Epoch, ErrorKind, NodeId, Offset, StreamId, sometimes};

use super::keys::Keys;
use super::owner::Owner;
use super::tail::LifeTail;
use super::world::{Log, World};
use crate::check::keyed::KeyedModel;
use crate::check::{Violation, excuse};
use crate::env::SimEnv;
use crate::exec::Tag;
use crate::rng::Rng;
use crate::scenario::gate::Gate;

/// Behind so many of 1,000 steps the bucket is checked.
const BUSY_CHECKS: u32 = 5;

/// A node that is up.
pub(super) struct Node {
    pub(super) world: Arc<World>,
    pub(super) tag: Tag,
    pub(super) id: NodeId,
    pub(super) epoch: Epoch,
    pub(super) tier: Tier,
    pub(super) tail: Arc<LifeTail>,
    pub(super) uploader: Uploader,
}

/// The streams of the run, made before any fault.
pub(super) async fn create_streams(world: &Arc<World>) -> Result<(), Violation> {
    let tag = world.next_tag();
    let faults = world.plan.bucket;
    world.bucket.set_faults(crate::bucket::BucketFaults {
        way_ns: faults.way_ns,
        ..Default::default()
    });
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(world.handle.clone(), world.plan.seed, tag, 0));
    let wrong = |error: TierError| Violation::new("open", error.to_string());
    let bucket = Arc::new(world.bucket.clone());
    let tier = Tier::open(bucket, env, world.config.clone())
        .await
        .map_err(wrong)?;
    for number in 1..=world.num_streams {
        let stream = StreamId(number);
        let made = tier
            .metadata()
            .propose(vec![MetaOp::CreateStream { stream }]);
        made.await.map_err(|error| wrong(error.into()))?;
        let keys = world.keys.filter(|keys| keys.stream == stream);
        let retention = |keys: Keys| keys.policy.delete_retention_ms;
        let log = Log {
            keyed: keys.map(|keys| KeyedModel::new(retention(keys))),
            ..Log::default()
        };
        world.model.lock().streams.insert(stream, log);
    }
    world.bucket.set_faults(faults);
    Ok(())
}

/// A whole life; it may end before this does.
pub(super) async fn body(world: Arc<World>, tag: Tag, id: NodeId, gate: Gate) {
    let seed = world.model.lock().rng.next_u64();
    let node = match open(&world, tag, id, Arc::new(gate)).await {
        Ok(node) => node,
        Err(error) => return excuse(&world, "open", &error),
    };
    let mut rng = Rng::new(seed, "life");
    loop {
        let stream = StreamId(rng.between(1, world.num_streams));
        let result = match rng.below(20) {
            0 | 1 => node.take_over(stream).await,
            2 if world.plan.trim => node.trim(&mut rng).await,
            3 => node.compact().await,
            4 => node.sweep().await,
            5 => node.tier.metadata().refresh().await.map_err(Into::into),
            _ => {
                node.append(&mut rng);
                Ok(())
            }
        };
        if let Err(error) = result {
            excuse(&world, "work", &error);
            if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Closed) {
                return;
            }
        }
        world.check_bucket(BUSY_CHECKS);
        let ways = rng.below(3);
        let pause = Duration::from_nanos(ways * world.plan.bucket.way_ns + 1_000);
        world.handle.sleep(pause).await;
    }
}

/// Opens the metadata and registers the node.
pub(super) async fn open(
    world: &Arc<World>,
    tag: Tag,
    id: NodeId,
    bucket: Arc<dyn Bucket>,
) -> Result<Node, TierError> {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(world.handle.clone(), world.plan.seed, tag, 0));
    let tier = Tier::open(bucket, Arc::clone(&env), world.config.clone()).await?;
    let epoch = loop {
        let known = |state: &tidewater_s3stream::MetaState| state.node(id).map(|node| node.epoch);
        let known = tier.metadata().read(known).unwrap_or_default();
        let epoch = known.next().expect("few epochs");
        let register = MetaOp::RegisterNode { node: id, epoch };
        match tier.metadata().propose(vec![register]).await {
            Ok(()) => break epoch,
            Err(MetaError::Rejected {
                reason: Rejection::NodeEpochNotNext { .. },
                ..
            }) => {}
            Err(error) => return Err(error.into()),
        }
    };
    let tail = Arc::new(LifeTail::new(Arc::clone(world), env));
    let uploader = tier.start_uploader(id, epoch, tail.clone());
    Ok(Node {
        world: Arc::clone(world),
        tag,
        id,
        epoch,
        tier,
        tail,
        uploader,
    })
}

impl Node {
    pub(super) async fn take_over(&self, stream: StreamId) -> Result<(), TierError> {
        let metadata = self.tier.metadata();
        let known = metadata.read(|state| state.stream(stream).map(|known| known.epoch));
        let epoch = known.and_then(Epoch::next).expect("created before");
        let open = MetaOp::OpenStream {
            stream,
            node: self.id,
            node_epoch: self.epoch,
            epoch,
        };
        match metadata.propose(vec![open]).await {
            Ok(()) => {}
            Err(MetaError::Rejected {
                reason: Rejection::StreamEpochStale { .. },
                ..
            }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let end = metadata.read(|state| state.stream(stream).map(|known| known.end));
        let end = end.expect("never deleted");
        if let Some(keys) = self.world.keys.filter(|keys| keys.stream == stream) {
            let owner = Owner::new(&self.world, &keys);
            self.tier.set_key_owner(stream, Some(owner));
        }
        if let Some(entries) = self.world.took_over(stream, self.tag, epoch, end) {
            self.tail.took_over(stream, epoch, entries);
        }
        Ok(())
    }

    fn append(&self, rng: &mut Rng) {
        let owned = self.tail.owned();
        if owned.is_empty() {
            return;
        }
        let (stream, _) = owned[rng.index(owned.len())];
        self.append_to(stream);
    }

    pub(super) fn append_to(&self, stream: StreamId) {
        if let Some(entry) = self.world.append(stream, self.tag, self.tail.env.wall_ms()) {
            self.tail.push(stream, entry);
        }
    }

    async fn trim(&self, rng: &mut Rng) -> Result<(), TierError> {
        let owned = self.tail.owned();
        if owned.is_empty() {
            return Ok(());
        }
        let (stream, epoch) = owned[rng.index(owned.len())];
        let metadata = self.tier.metadata();
        let known =
            metadata.read(|state| state.stream(stream).map(|known| (known.start, known.end)));
        let (start, mut end) = known.expect("never deleted");
        if rng.chance(200) {
            // Nobody has to keep what is not committed yet.
            end = self.world.model.lock().streams[&stream].end();
        }
        let most = [12, 200][rng.index(2)];
        let ahead = end.0.saturating_sub(start.0).min(most);
        let start = Offset(start.0 + rng.below(ahead + 1));
        let asked = |world: &World| {
            let mut model = world.model.lock();
            let log = model.streams.get_mut(&stream).expect("created before");
            log.model.trim_asked(start.0);
        };
        asked(&self.world);
        let trim = MetaOp::TrimStream {
            stream,
            epoch,
            start,
        };
        match metadata.propose(vec![trim]).await {
            Ok(()) => {}
            Err(MetaError::Rejected {
                reason: Rejection::StreamEpochStale { .. },
                ..
            }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let (handle, from) = (&self.world.handle, start.0);
        handle.line(|| format!("tier  trim stream={stream} up_to={from}"));
        let done = {
            let mut model = self.world.model.lock();
            let log = model.streams.get_mut(&stream).expect("created before");
            log.model.trim_done(start.0)
        };
        self.world.check(done);
        Ok(())
    }

    async fn compact(&self) -> Result<(), TierError> {
        let steps = self.tier.compact_until_done(self.id, self.epoch).await?;
        if steps > 0 {
            sometimes!("tier: compacted on request");
        }
        Ok(())
    }

    /// In the background: it waits longer than a life lasts where deletion is patient.
    async fn sweep(&self) -> Result<(), TierError> {
        let (tier, world) = (self.tier.clone(), Arc::clone(&self.world));
        let sweep = async move {
            if let Err(error) = tier.sweep_orphans().await {
                excuse(&world, "sweep", &error);
            }
        };
        self.world.handle.spawn(self.tag, "sweep", Box::pin(sweep));
        Ok(())
    }
}

/// An error that nothing excuses is a violation.
pub(super) fn excuse(world: &World, what: &str, error: &TierError) {
    world.handle.line(|| format!("tier  {what}: {error}"));
    if !excuse::tier_call(error, world.facts()) {
        world.fail(Violation::new("error", format!("{what}: {error}")));
    }
}
