//! The scenario `tier`: nodes that upload, compact, trim and sweep the same streams.
//!
//! *Owns*: the lives of the nodes, some of which run on as zombies, the readers beside them, and
//! the healing at the end.
//! *Does not own*: what happens inside a life (life.rs), the questions at the end (verify.rs).
//!
//! Invariants
//! 1. What waits for its upload is durable: it outlives every node, as a write-ahead log would.
//! 2. Every run ends: heal, take everything over, upload, compact, sweep; then everything is
//!    read, and the bucket holds what the metadata names and nothing else.
//!
//! *IO: none*

mod keys;
mod life;
mod owner;
mod reader;
mod tail;
mod verify;
mod world;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use tidewater_types::NodeId;
use tokio::sync::oneshot;

use crate::bucket::BucketFaults;
use crate::check::{Violation, liveness};
use crate::exec::{Executor, Limits, Stop, Tag};
use crate::plan::{End, Life, Plan};
use crate::scenario::common::LIMITS;
use crate::scenario::gate::Gate;
use world::World;

/// How long the healed node may take, in virtual time.
const HEALED_TIME_MAX: Duration = Duration::from_secs(900);
/// At so many of 1,000 ends of lives the bucket is checked.
const CHECKS: u32 = 300;
/// How long a reader may take to end what it began before all was healed, and two fetches more.
const READER_TIME_MAX: Duration = Duration::from_secs(60);

type Outcome = (
    Result<Result<(), Violation>, Stop>,
    Vec<(&'static str, u64)>,
);

/// Runs `plan`; its end, and how often each fault struck.
pub(crate) fn run(executor: &Executor, plan: &Plan) -> Outcome {
    let world = Arc::new(World::new(executor.handle(), plan));
    // Sweeps of several nodes over thousands of objects, three to a page.
    let polls = if plan.long { 3 } else { 1 } * LIMITS.polls;
    let limits = Limits { polls, ..LIMITS };
    let outcome = executor.run(limits, all_lives(Arc::clone(&world)));
    let first = world.model.lock().failure.take();
    let outcome = first.map_or(outcome, |violation| Ok(Err(violation)));
    (outcome, world.bucket.fault_counts())
}

async fn all_lives(world: Arc<World>) -> Result<(), Violation> {
    let plan = world.plan.clone();
    life::create_streams(&world).await?;
    let nodes = if plan.long { 3 } else { 2 };
    let mut readers = Vec::new();
    for number in 0..plan.readers {
        let tag = world.next_tag();
        let reader = reader::read(Arc::clone(&world), tag, number);
        world.handle.spawn(tag, "reader", Box::pin(reader));
        readers.push(tag);
    }
    let node = |number: usize| {
        let lives = plan.lives.iter().skip(number).step_by(nodes);
        // A node without a life of its own in the plan lives the first one.
        let lives: Vec<_> = lives.copied().collect();
        let lives = if lives.is_empty() {
            vec![plan.lives[0]]
        } else {
            lives
        };
        let id = NodeId(u32::try_from(number + 1).expect("few nodes"));
        let world = Arc::clone(&world);
        async move {
            for life in lives {
                live(&world, id, life).await;
            }
        }
    };
    join_all((0..nodes).map(node)).await;
    heal(&world, &readers).await;
    end_of_readers(&world, &readers).await?;
    world.failure()?;
    let (sender, done) = oneshot::channel();
    let tag = world.next_tag();
    let verified = verify::body(Arc::clone(&world), tag);
    world.handle.spawn(
        tag,
        "healed",
        Box::pin(async move { drop(sender.send(verified.await)) }),
    );
    let time = Box::pin(world.handle.sleep(HEALED_TIME_MAX));
    let result = match select(done, time).await {
        Either::Left((Ok(result), _)) => result,
        _ => liveness::done(false, || "the healed node did not end".to_owned()),
    };
    world.failure()?;
    result?;
    verify::fsck(&world).await
}

/// One life of a node. One that ends in `Kill` runs on, as a zombie that may sleep.
async fn live(world: &Arc<World>, node: NodeId, life: Life) {
    let tag = world.next_tag();
    let gate = Gate::new(world.handle.clone(), world.bucket.clone());
    let (sender, mut done) = oneshot::channel();
    let body = life::body(Arc::clone(world), tag, node, gate.clone());
    world
        .handle
        .line(|| format!("life  {} node {node} {life:?}", tag.0));
    world.handle.spawn(
        tag,
        "life",
        Box::pin(async move {
            body.await;
            _ = sender.send(());
        }),
    );
    let ways = 60 + life.after_ops.min(2_000) * 2;
    let time = Duration::from_nanos(ways * world.plan.bucket.way_ns);
    world.handle.sleep(time).await;
    match life.end {
        End::PowerLoss | End::Close => world.handle.kill(tag),
        End::Kill => {
            if done.try_recv().is_err() {
                world.handle.strike("zombie");
            }
            gate.sleep(world.draw_pause());
        }
    }
    world.check_bucket(CHECKS);
}

/// All but the readers die, the bucket recovers, and late requests land.
async fn heal(world: &Arc<World>, readers: &[Tag]) {
    for tag in world.all_tags() {
        if !readers.contains(&tag) {
            world.handle.kill(tag);
        }
    }
    world.model.lock().is_healed = true;
    world.bucket.set_faults(BucketFaults {
        way_ns: 100_000,
        ..BucketFaults::default()
    });
    world.handle.sleep(Duration::from_secs(2)).await;
}

/// No reader waits for ever.
async fn end_of_readers(world: &Arc<World>, readers: &[Tag]) -> Result<(), Violation> {
    let until = world.handle.now().after(READER_TIME_MAX);
    let num_done = || {
        let model = world.model.lock();
        let done = model.healed_reads.values().filter(|reads| **reads >= 2);
        done.count()
    };
    while num_done() < readers.len() {
        liveness::done(world.handle.now() <= until, || {
            "a reader waits for ever".to_owned()
        })?;
        world.handle.sleep(Duration::from_millis(100)).await;
        world.failure()?;
    }
    readers.iter().for_each(|tag| world.handle.kill(*tag));
    Ok(())
}
