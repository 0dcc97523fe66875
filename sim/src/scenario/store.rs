//! The scenario `store`: writers, readers, uploads, trims and crashes on a stream store.
//!
//! *Owns*: the lives of the node on one disk and one bucket, and the healing at the end.
//! *Does not own*: what happens inside a life (life.rs), the final read (verify.rs).
//!
//! Invariants
//! 1. A life on a device begins only when its lock is free; requests of earlier lives may
//!    still land in the bucket. Where the WAL lies in the bucket, earlier lives may run on.
//! 2. Every run ends: heal, open, write, upload all, read all; then once more without the
//!    WAL, from objects alone; then fsck.
//!
//! *IO: none*

mod life;
mod node;
pub(super) mod opener;
pub(super) mod owners;
mod verify;
pub(super) mod world;
mod zombies;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::bucket::{BucketFaults, SimBucket};
use crate::cache_disk::CacheImage;
use crate::check::Violation;
use crate::disk::{Device, DiskFaults};
use crate::exec::{Executor, Stop};
use crate::plan::{End, Life, Plan};
use crate::rng::Rng;
use crate::scenario::common::{LIMITS, open_when_free};
use crate::scenario::progress::Progress;
use world::{Began, LIFE_TIME_MAX, Model, Work, World};

type Outcome = (
    Result<Result<(), Violation>, Stop>,
    Vec<(&'static str, u64)>,
);

/// Runs `plan`; its end, and how often each fault struck.
pub(crate) fn run(executor: &Executor, plan: &Plan) -> Outcome {
    let handle = executor.handle();
    let device = Device::new(handle.clone(), plan.seed, plan.disk, plan.disk_faults);
    let bucket = SimBucket::new(handle.clone(), plan.seed, plan.bucket);
    let cache = (plan.cache).map(|faults| CacheImage::new(handle.clone(), plan.seed, faults));
    let rng = Some(Rng::new(plan.seed, "workload"));
    let model = Mutex::new(Model {
        rng,
        ..Model::default()
    });
    let world = Arc::new(World {
        handle,
        plan: plan.clone(),
        device,
        bucket,
        cache,
        progress: Progress::default(),
        model,
    });
    let outcome = executor.run(LIMITS, lives(Arc::clone(&world)));
    let first = world.model.lock().failure.take();
    let outcome = first.map_or(outcome, |violation| Ok(Err(violation)));
    let faults = [world.device.fault_counts(), world.bucket.fault_counts()].concat();
    (outcome, faults)
}

async fn lives(world: Arc<World>) -> Result<(), Violation> {
    for life in world.plan.lives.clone() {
        live(&world, life, Work::Planned).await?;
    }
    world.device.set_faults(DiskFaults::default());
    world.bucket.set_faults(BucketFaults {
        way_ns: 100_000,
        ..BucketFaults::default()
    });
    let calm = Life {
        end: End::Close,
        after_ops: u64::MAX,
        idle: true,
        ..world.plan.lives[0]
    };
    world.end_openings();
    live(&world, calm, Work::Healed).await?;
    world.end_zombies();
    // Late requests of earlier lives have landed by now; they must not have mattered.
    world.handle.sleep(Duration::from_secs(1)).await;
    live(&world, calm, Work::ReadAll).await?;
    world.device.wipe();
    world.bucket.wipe("wal/");
    world.handle.strike("wal_wiped");
    live(&world, calm, Work::Wiped).await?;
    live(&world, calm, Work::ReadAllWithoutWal).await?;
    verify::fsck(&world).await
}

async fn live(world: &Arc<World>, life: Life, work: Work) -> Result<(), Violation> {
    if world.plan.object_wal {
        return zombies::live(world, life, work).await;
    }
    drop(open_when_free(&world.device, &world.handle).await);
    let tag = world.next_tag();
    world.model.lock().closing = false;
    let (sender, done) = oneshot::channel();
    let bucket = Arc::new(world.bucket.clone());
    let body = life::body(Arc::clone(world), Began { tag, work, bucket }, life);
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
    let time = Box::pin(world.handle.sleep(LIFE_TIME_MAX));
    let ended = if life.end == End::Close {
        matches!(select(done, time).await, Either::Left(_))
    } else {
        let reached = world.device.after_ops(life.after_ops);
        matches!(select(select(reached, done), time).await, Either::Left(_))
    };
    if !ended {
        let detail = format!(
            "{work:?} did not end in {} s of virtual time",
            LIFE_TIME_MAX.as_secs()
        );
        world.fail(Violation::new("liveness", detail));
    }
    world.end(tag, life.end);
    world.model.lock().failure.take().map_or(Ok(()), Err)
}
