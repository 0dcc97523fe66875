//! The scenario `metadata`: processes that write one metadata log, and shorten it.
//!
//! *Owns*: the lives of the processes, some of which are held up and wake later, and the healing
//! at the end.
//! *Does not own*: what happens inside a life (life.rs), the questions at each answer (world.rs).
//!
//! Invariants
//! 1. Several processes live at a time; each begins its next life on the same bucket.
//! 2. Every run ends: heal, open, write, shorten, open, read everything.
//!
//! *IO: none*

mod life;
mod process;
mod world;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use tokio::sync::oneshot;

use crate::bucket::BucketFaults;
use crate::check::{Violation, liveness};
use crate::exec::{Executor, Stop};
use crate::plan::{End, Life, Plan};
use crate::scenario::common::LIMITS;
use life::Work;
use process::Process;
use world::World;

/// At so many of 1,000 ends of lives the bucket is checked.
const CHECKS: u32 = 300;
/// How long a life without faults may take, in virtual time.
const HEALED_TIME_MAX: Duration = Duration::from_secs(120);

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
    let nodes = (1..=world.num_nodes()).map(|node| {
        let world = Arc::clone(&world);
        async move {
            for life in world.plan.lives.clone() {
                live(&world, node, life, Work::Planned).await;
                world.newest_snapshot_rots();
            }
        }
    });
    join_all(nodes).await;
    // Zombies run on for a while. Their requests outlive them.
    let pause = world.draw_pause();
    world.handle.sleep(pause).await;
    world.kill_all();
    world.outcome()?;
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
    live(&world, 1, calm, Work::Healed).await;
    world.kill_all();
    world.outcome()?;
    live(&world, 1, calm, Work::ReadAll).await;
    world.outcome()
}

/// One life of a node: open, work, end. One that ends in `Kill` runs on, as a zombie.
async fn live(world: &Arc<World>, node: u32, life: Life, work: Work) {
    let process = Process::new(world, node, life);
    let (sender, done) = oneshot::channel();
    let body = life::body(Arc::clone(world), process.clone(), work);
    world
        .handle
        .line(|| format!("life  {} of node {node}: {life:?} {work:?}", process.tag.0));
    world.handle.spawn(
        process.tag,
        "life",
        Box::pin(async move {
            body.await;
            _ = sender.send(());
        }),
    );
    let time = match work {
        // A commit takes some ways, more if others are faster.
        Work::Planned => {
            let ways = life.after_ops.min(400) * 4;
            Duration::from_nanos(ways * world.plan.bucket.way_ns)
        }
        Work::Healed | Work::ReadAll => HEALED_TIME_MAX,
    };
    let over = Box::pin(world.handle.sleep(time));
    let is_done = matches!(select(done, over).await, Either::Left(_));
    let result = liveness::done(is_done || work == Work::Planned, || {
        "a life without faults did not end".to_owned()
    });
    world.check(result);
    match life.end {
        End::PowerLoss | End::Close => world.handle.kill(process.tag),
        End::Kill => {
            let time = world.draw_pause();
            process.hold_up(time, world.draw_chance(500));
        }
    }
    world.check_bucket(CHECKS);
}
