//! The scenario `object-wal`: owners that take one WAL in a bucket from each other.
//!
//! *Owns*: the lives of the node, some of which run on as zombies, and the healing at the end.
//! *Does not own*: what happens inside a life (life.rs), the questions at each answer (oracle.rs),
//! damage that nothing excuses (damage.rs).
//!
//! Invariants
//! 1. Every run ends: heal, open, write, close, open, read everything; or, after damage, in a
//!    refusal.
//!
//! *IO: none*

mod damage;
mod life;
mod oracle;
mod world;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use crate::bucket::BucketFaults;
use crate::check::{Violation, liveness};
use crate::exec::{Executor, Stop};
use crate::plan::{End, Life, Plan};
use crate::scenario::common::LIMITS;
use crate::scenario::gate::Gate;
use life::Work;
use world::World;

/// How long a life without faults may take, in virtual time.
const HEALED_TIME_MAX: Duration = Duration::from_secs(60);

type Outcome = (
    Result<Result<(), Violation>, Stop>,
    Vec<(&'static str, u64)>,
);

/// Runs `plan`; its end, and how often each fault struck.
pub(crate) fn run(executor: &Executor, plan: &Plan) -> Outcome {
    let world = Arc::new(World::new(executor.handle(), plan));
    let outcome = executor.run(LIMITS, all_lives(Arc::clone(&world)));
    // A task may have seen a violation before the run stopped for another reason.
    let first = world.model.lock().failure.take();
    let outcome = first.map_or(outcome, |violation| Ok(Err(violation)));
    (outcome, world.bucket.fault_counts())
}

async fn all_lives(world: Arc<World>) -> Result<(), Violation> {
    for life in world.plan.lives.clone() {
        live(&world, life, Work::Planned).await?;
    }
    world.end_openings();
    world.bucket.set_faults(BucketFaults {
        way_ns: world.plan.bucket.way_ns,
        ..BucketFaults::default()
    });
    let calm = Life {
        end: End::Close,
        after_ops: u64::MAX,
        idle: true,
        ..world.plan.lives[0]
    };
    live(&world, calm, Work::Healed).await?;
    if let Some(damage) = world.plan.damage {
        let stopped = damage::inflict(&world, damage).await?;
        if stopped {
            return Ok(());
        }
    }
    live(&world, calm, Work::Nothing).await
}

/// One life: open, work, end. One that ends in `Kill` runs on, as a zombie that may sleep.
async fn live(world: &Arc<World>, life: Life, work: Work) -> Result<(), Violation> {
    let tag = world.next_tag();
    let mut gate = Gate::new(world.handle.clone(), world.bucket.clone());
    if life.naps {
        let most_ns = 60 * world.plan.bucket.way_ns;
        gate = gate.with_naps(world.plan.seed ^ u64::from(tag.0), most_ns);
    }
    let (sender, done) = oneshot::channel();
    let body = life::body(Arc::clone(world), tag, life, work, gate.clone());
    world
        .handle
        .line(|| format!("life  {} {life:?} {work:?}", tag.0));
    world.handle.spawn(
        tag,
        "life",
        Box::pin(async move {
            body.await;
            _ = sender.send(());
        }),
    );
    let time = if work == Work::Planned {
        let ops = life.after_ops.min(2_000);
        Duration::from_nanos(ops * world.plan.bucket.way_ns / 3)
    } else {
        HEALED_TIME_MAX
    };
    let over = Box::pin(world.handle.sleep(time));
    let is_done = matches!(select(done, over).await, Either::Left(_));
    let result = liveness::done(is_done || work == Work::Planned, || {
        "a life without faults did not end".to_owned()
    });
    world.check(result);
    match life.end {
        End::PowerLoss | End::Close => world.handle.kill(tag),
        End::Kill => {
            let sleep = world.draw_pause();
            if !is_done {
                world.handle.strike("zombie");
                world
                    .handle
                    .line(|| format!("life  {} is a zombie, sleeping {sleep:?}", tag.0));
            }
            gate.sleep(sleep);
        }
    }
    world.model.lock().failure.take().map_or(Ok(()), Err)
}
