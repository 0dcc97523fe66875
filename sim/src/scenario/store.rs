//! The scenario `store`: writers, readers, uploads, trims and crashes on a stream store.
//!
//! *Owns*: the lives of the node on one disk and one bucket, and the healing at the end.
//! *Does not own*: what happens inside a life (life.rs), the final read (verify.rs).
//!
//! Invariants
//! 1. A life begins only when the device's lock is free; requests of earlier lives may
//!    still land in the bucket.
//! 2. Every run ends: heal, open, write, upload all, read all; then once more without the
//!    WAL, from objects alone; then fsck.
//!
//! *IO: none*

mod life;
mod opener;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tidewater_s3stream::{MetaConfig, TierConfig};
use tidewater_stream_store::StoreConfig;
use tidewater_types::{NodeId, StreamId};
use tokio::sync::oneshot;

use crate::bucket::{BucketFaults, SimBucket};
use crate::check::Violation;
use crate::check::streams::StreamModel;
use crate::disk::{CrashStyle, Device, DiskFaults};
use crate::exec::{Executor, Handle, Stop, Tag};
use crate::plan::{End, Life, Plan};
use crate::rng::Rng;
use crate::scenario::LIMITS;

/// How long a life that should end by itself may take, in virtual time.
const LIFE_TIME_MAX: Duration = Duration::from_secs(600);

/// What outlives the node's lives.
struct World {
    handle: Handle,
    plan: Plan,
    device: Device,
    bucket: SimBucket,
    model: Mutex<Model>,
}

#[derive(Default)]
struct Model {
    streams: BTreeMap<StreamId, StreamModel>,
    rng: Option<Rng>,
    next_value: u64,
    next_tag: u32,
    num_forks: u64,
    /// The life under way was asked to close.
    closing: bool,
    failure: Option<Violation>,
}

type Outcome = (
    Result<Result<(), Violation>, Stop>,
    Vec<(&'static str, u64)>,
);

/// Runs `plan`; its end, and how often each fault struck.
pub(crate) fn run(executor: &Executor, plan: &Plan) -> Outcome {
    let handle = executor.handle();
    let device = Device::new(handle.clone(), plan.seed, plan.disk, plan.disk_faults);
    let bucket = SimBucket::new(handle.clone(), plan.seed, plan.bucket);
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
    live(&world, calm, Work::Healed).await?;
    // Late requests of earlier lives have landed by now; they must not have mattered.
    world.handle.sleep(Duration::from_secs(1)).await;
    live(&world, calm, Work::ReadAll).await?;
    world.device.wipe();
    live(&world, calm, Work::ReadAllWithoutWal).await?;
    verify::fsck(&world).await
}

/// What a life does after it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// As planned; the end may come at any moment.
    Planned,
    /// Every append must be acknowledged, every upload must end, everything is read.
    Healed,
    /// Everything is read.
    ReadAll,
    /// The WAL is gone, and its loss accepted: everything was uploaded before.
    ReadAllWithoutWal,
}

async fn live(world: &Arc<World>, life: Life, work: Work) -> Result<(), Violation> {
    while world.device.open().is_none() {
        world.handle.sleep(Duration::from_micros(20)).await;
    }
    let tag = world.next_tag();
    world.model.lock().closing = false;
    let (sender, done) = oneshot::channel();
    let body = life::body(Arc::clone(world), tag, life, work);
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

impl World {
    fn next_tag(&self) -> Tag {
        let mut model = self.model.lock();
        model.next_tag += 1;
        Tag(model.next_tag)
    }

    /// A number of the workload.
    fn below(&self, bound: u64) -> u64 {
        self.model
            .lock()
            .rng
            .as_mut()
            .map_or(0, |rng| rng.below(bound))
    }

    fn end(&self, tag: Tag, end: End) {
        let styles = [
            CrashStyle::None,
            CrashStyle::All,
            CrashStyle::Writes,
            CrashStyle::Sectors,
        ];
        let style = styles[usize::try_from(self.below(4)).expect("small")];
        match end {
            End::PowerLoss => {
                self.handle.kill(tag);
                self.device.power_loss(style);
            }
            End::Kill | End::Close => {
                self.device.kill();
                self.handle.kill(tag);
            }
        }
    }

    /// Keeps the first violation.
    fn fail(&self, violation: Violation) {
        self.handle.line(|| format!("FAIL  {violation}"));
        self.model.lock().failure.get_or_insert(violation);
    }

    fn check(&self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.fail(violation);
        }
    }

    /// Whether nothing on the disk was ever planned to fail.
    fn disk_is_fine(&self) -> bool {
        self.plan.disk_faults == DiskFaults::default()
    }
}

/// Settings of the store: small, so that uploads, snapshots and full queues are common.
fn store_config(plan: &Plan, accept_data_loss: bool) -> StoreConfig {
    let small = plan.seed.is_multiple_of(3);
    let meta = MetaConfig {
        snapshot_entries: if small { 5 } else { 50 },
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(50),
        read_attempts: 20,
        ..MetaConfig::default()
    };
    let tier = TierConfig {
        meta,
        upload_bytes: if small { 2 << 10 } else { 32 << 10 },
        upload_age: Duration::from_millis(if small { 2 } else { 40 }),
        block_bytes: 1 << 10,
        stream_object_bytes: 8 << 10,
        stream_set_streams: 2,
        block_cache_bytes: 64 << 10,
        index_cache_bytes: 64 << 10,
        ..TierConfig::default()
    };
    StoreConfig {
        node: NodeId(1),
        tier,
        waiting_bytes_max: 256 << 10,
        tail_cache_bytes_max: if small { 4 << 10 } else { 64 << 10 },
        append_bytes_max: 16 << 10,
        append_wait_ms_max: 100,
        accept_data_loss,
    }
}
