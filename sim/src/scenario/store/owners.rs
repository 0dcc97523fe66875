//! Lives of a store whose WAL lies in the bucket: they take it from each other, and some run on.
//!
//! *Owns*: the end of such a life, who owns the WAL now, the durability oracle for its frames.
//! *Does not own*: the workload (life.rs), the models.
//!
//! Invariants
//! 1. Who owns the WAL is told by its epoch: a life may open after a later owner did.
//! 2. What an owner accepted after a later one had opened is never given to the model: if it is
//!    acknowledged or shown, that is a violation.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_stream_store::{ObjectWalConfig, ObjectWalOpener};
use tidewater_types::{Env, Lsn, sometimes};
use tidewater_wal::{Identity, ObjectWal, OpenMode};
use tokio::sync::oneshot;

use super::life;
use super::world::{NODE, Work, World};
use super::{Began, LIFE_TIME_MAX};
use crate::check::Violation;
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};
use crate::plan::{End, Life, Plan};
use crate::rng::Rng;
use crate::scenario::common::{LIMITS, failure_of, holds};
use crate::scenario::gate::Gate;

/// Who has, and who had, the WAL in the bucket.
#[derive(Debug, Default)]
pub(super) struct Owners {
    latest: Tag,
    /// Lives that have not opened yet; a zombie among them would be the later owner.
    opening: BTreeSet<Tag>,
    /// Lives that began while another one was opening.
    crowded: BTreeSet<Tag>,
    /// Epochs of the WAL.
    epochs: BTreeMap<Tag, u64>,
    owner: u64,
}

impl Owners {
    fn begin(&mut self, tag: Tag) {
        self.latest = tag;
        if !self.opening.is_empty() {
            self.crowded.insert(tag);
        }
        self.opening.insert(tag);
    }

    /// The life `tag` was told that the WAL is its own.
    pub(super) fn opened(&mut self, tag: Tag, epoch: u64) {
        self.opening.remove(&tag);
        self.epochs.insert(tag, epoch);
        if epoch < self.owner {
            sometimes!("store: opened after a later owner");
        }
        self.owner = self.owner.max(epoch);
    }

    /// The life `tag` ended before it opened.
    pub(super) fn gave_up(&mut self, tag: Tag) {
        self.opening.remove(&tag);
    }

    /// Whether nobody has opened the WAL after `tag` did. A device has no other owner.
    pub(super) fn is_owner(&self, tag: Tag) -> bool {
        self.epochs.get(&tag).is_none_or(|of| *of == self.owner)
    }

    /// Whether somebody may have fenced `tag`, told so or not.
    pub(super) fn is_contested(&self, tag: Tag) -> bool {
        tag < self.latest || self.crowded.contains(&tag)
    }
}

/// One life on the WAL in the bucket. One that ends in `Kill` runs on, as a zombie that may sleep.
pub(super) async fn live(world: &Arc<World>, life: Life, work: Work) -> Result<(), Violation> {
    let tag = world.next_tag();
    world.model.lock().closing = false;
    world.model.lock().owners.begin(tag);
    let gate = Gate::new(world.handle.clone(), world.bucket.clone());
    let (sender, done) = oneshot::channel();
    let began = Began {
        tag,
        work,
        bucket: Arc::new(gate.clone()),
    };
    let body = life::body(Arc::clone(world), began, life);
    world
        .handle
        .line(|| format!("life  {} in the bucket, {life:?} {work:?}", tag.0));
    let body = async move {
        body.await;
        _ = sender.send(());
    };
    world.handle.spawn(tag, "life", Box::pin(body));
    let time = if work == Work::Planned && life.end != End::Close {
        time_of(world, life)
    } else {
        LIFE_TIME_MAX
    };
    let over = Box::pin(world.handle.sleep(time));
    let ended = matches!(select(done, over).await, Either::Left(_));
    if !ended && time == LIFE_TIME_MAX {
        let detail = format!(
            "{work:?} did not end in {} s of virtual time",
            time.as_secs()
        );
        world.fail(Violation::new("liveness", detail));
    }
    match life.end {
        End::PowerLoss | End::Close => world.handle.kill(tag),
        End::Kill => {
            let ways = world.below([1, 6, 60, 600][usize::try_from(tag.0 % 4).expect("small")]);
            let sleep = Duration::from_nanos(ways * world.plan.bucket.way_ns);
            world
                .handle
                .line(|| format!("life  {} is a zombie, sleeping {sleep:?}", tag.0));
            gate.sleep(sleep);
            world.model.lock().zombies.push(tag);
        }
    }
    world.model.lock().failure.take().map_or(Ok(()), Err)
}

/// How long a life lasts whose end does not wait for its work.
pub(super) fn time_of(world: &World, life: Life) -> Duration {
    let ops = life.after_ops.min(4_000);
    Duration::from_nanos(ops * world.plan.bucket.way_ns / 3)
}

impl World {
    /// From now on no zombie takes the WAL over; those that had it run on.
    pub(super) fn end_openings(&self) {
        let opening = std::mem::take(&mut self.model.lock().owners.opening);
        opening.into_iter().for_each(|tag| self.handle.kill(tag));
    }

    /// No zombie runs on; its requests under way may still land.
    pub(super) fn end_zombies(&self) {
        let zombies = std::mem::take(&mut self.model.lock().zombies);
        zombies.into_iter().for_each(|tag| self.handle.kill(tag));
    }

    pub(super) fn is_owner(&self, tag: Tag) -> bool {
        self.model.lock().owners.is_owner(tag)
    }

    /// Whether a takeover of the bucket as it is now would serve `bytes` at `lsn`; `None` if the
    /// frame was trimmed.
    ///
    /// # Errors
    /// The takeover is refused.
    pub(super) fn takeover_serves(
        &self,
        number: u64,
        lsn: Lsn,
        bytes: &[u8],
    ) -> Result<Option<bool>, Violation> {
        let seed = self.plan.seed ^ (number << 32);
        let executor = Executor::new(seed);
        let fork = self.bucket.fork(executor.handle(), seed);
        let env: Arc<dyn Env> = Arc::new(SimEnv::new(executor.handle(), seed, Tag(1), 0));
        let config = object_config(&self.plan);
        let cluster = self.model.lock().cluster.expect("a store opened");
        let identity = Identity {
            cluster,
            node: NODE,
            wal: None,
        };
        let found = Arc::new(Mutex::new(false));
        let (sink, wanted) = (Arc::clone(&found), bytes.to_vec());
        let on_frame = move |at, frame: bytes::Bytes| {
            *sink.lock() |= at == lsn && holds(&frame, &wanted);
        };
        let outcome = executor.run(LIMITS, async move {
            let (fork, mode) = (Arc::new(fork), OpenMode::Existing);
            let opened = ObjectWal::open(fork, env, config, identity, mode, on_frame).await;
            Ok(opened.map(|(_, report)| report.trimmed))
        });
        let refused = |why: String| Violation::new("fork", format!("takeover refused: {why}"));
        match outcome {
            Ok(Ok(Ok(trimmed))) if lsn < trimmed => Ok(None),
            Ok(Ok(Ok(_))) => Ok(Some(*found.lock())),
            Ok(Ok(Err(error))) => Err(refused(error.to_string())),
            other => Err(failure_of(other.map(|ended| ended.map(drop)))
                .unwrap_or_else(|| refused("no answer".to_owned()))),
        }
    }
}

/// How a life in the bucket gets its WAL: as a store does in production.
pub(super) fn opener(bucket: Arc<dyn Bucket>, env: Arc<dyn Env>, plan: &Plan) -> ObjectWalOpener {
    ObjectWalOpener {
        bucket,
        node: NODE,
        config: object_config(plan),
        env,
    }
}

/// Small windows and short waits, so that takers and zombies meet.
fn object_config(plan: &Plan) -> ObjectWalConfig {
    let mut rng = Rng::new(plan.seed, "store: object wal");
    let window = u32::try_from(rng.between(1, 6)).expect("small");
    let depth = u32::try_from(rng.between(1, window.into())).expect("small");
    ObjectWalConfig {
        window,
        depth,
        linger_ms_max: rng.below(3),
        hedge_ms: rng.below(2) * 5,
        attempt_ms_max: [15, 40][rng.index(2)],
        give_up_ms: 60_000,
        reserve_ms_max: 10_000,
        trim_idle_ms: rng.below(4),
        delete_delay_ms: rng.below(3),
        pool_bytes: 256 << 10,
        object_bytes_max: plan.payload_bytes_max.max(1024),
        ..ObjectWalConfig::tiny()
    }
}

/// The epoch of the WAL, as it tells the operator.
pub(super) fn epoch_of(description: &str) -> u64 {
    let (_, epoch) = description.rsplit_once(' ').expect("object store, epoch N");
    epoch.parse().expect("object store, epoch N")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_contested_once_another_begins_or_while_one_was_opening() {
        let mut owners = Owners::default();
        owners.begin(Tag(1));
        assert!(!owners.is_contested(Tag(1)));
        owners.begin(Tag(2));
        assert!(owners.is_contested(Tag(1)) && owners.is_contested(Tag(2)));
        owners.opened(Tag(2), 2);
        owners.opened(Tag(1), 1);
        assert!(owners.is_owner(Tag(2)) && !owners.is_owner(Tag(1)));
        owners.begin(Tag(3));
        owners.opened(Tag(3), 3);
        assert!(!owners.is_contested(Tag(3)));
        assert!(!owners.is_owner(Tag(2)));
    }

    #[test]
    fn whatever_has_no_epoch_is_its_own_owner() {
        assert!(Owners::default().is_owner(Tag(7)));
    }

    #[test]
    fn the_epoch_is_read_off_the_description() {
        assert_eq!(epoch_of("object store, epoch 12"), 12);
    }
}
