//! Lives of a store whose WAL lies in the bucket: they take it from each other, and some run on.
//!
//! *Owns*: the beginning and the end of such a life, the durability oracle for its frames.
//! *Does not own*: its inside (life.rs), who owns the WAL (owners.rs).
//!
//! *IO: none*

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tidewater_types::{Env, Lsn};
use tidewater_wal::{Identity, ObjectWal, OpenMode};
use tokio::sync::oneshot;

use super::life;
use super::owners::{NODE, object_config, time_of};
use super::world::{Began, LIFE_TIME_MAX, Work, World};
use crate::check::{Violation, fork};
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};
use crate::plan::{End, Life};
use crate::scenario::common::{LIMITS, failure_of};
use crate::scenario::gate::Gate;

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
        time_of(&world.plan, life)
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
            if !ended {
                world.handle.strike("zombie");
                world
                    .handle
                    .line(|| format!("life  {} is a zombie, sleeping {sleep:?}", tag.0));
            }
            gate.sleep(sleep);
            world.model.lock().zombies.push(tag);
        }
    }
    world.model.lock().failure.take().map_or(Ok(()), Err)
}

impl World {
    /// From now on no zombie takes the WAL over; those that had it run on.
    pub(super) fn end_openings(&self) {
        let opening = self.model.lock().owners.end_openings();
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

    /// What a takeover of the bucket as it is now would serve at `lsn`; `None` if the frame was
    /// trimmed.
    ///
    /// # Errors
    /// The takeover is refused.
    pub(super) fn takeover_serves(
        &self,
        number: u64,
        lsn: Lsn,
    ) -> Result<Option<Vec<u8>>, Violation> {
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
        let found = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&found);
        let on_frame = move |at, frame: bytes::Bytes| {
            if at == lsn {
                sink.lock().extend_from_slice(&frame);
            }
        };
        let outcome = executor.run(LIMITS, async move {
            let (fork, mode) = (Arc::new(fork), OpenMode::Existing);
            let opened = ObjectWal::open(fork, env, config, identity, mode, on_frame).await;
            Ok(opened.map(|(_, report)| report.trimmed))
        });
        let refused = |why: &dyn Display| fork::refused("takeover", why);
        match outcome {
            Ok(Ok(Ok(trimmed))) if lsn < trimmed => Ok(None),
            Ok(Ok(Ok(_))) => Ok(Some(std::mem::take(&mut *found.lock()))),
            Ok(Ok(Err(error))) => Err(refused(&error)),
            other => Err(failure_of(other.map(|ended| ended.map(drop)))
                .unwrap_or_else(|| refused(&"no answer"))),
        }
    }
}
