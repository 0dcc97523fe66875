//! The scenario `wal`: writers, a trimmer and crashes on a device WAL.
//!
//! *Owns*: the lives of the node, one after the other, and the healing at the end.
//! *Does not own*: what happens inside a life (life.rs), damage (damage.rs).
//!
//! Invariants
//! 1. A life begins only when the device's lock is free.
//! 2. Every run ends: heal, open, write, close, open, read everything.
//!
//! *IO: none*

mod damage;
mod life;
mod oracle;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tidewater_types::{ClusterId, Lsn, NodeId, WalId};
use tidewater_wal::{Identity, OpenMode};
use tokio::sync::oneshot;

use crate::check::Violation;
use crate::check::frames::FrameModel;
use crate::disk::{CrashStyle, Device, DiskFaults, SimDisk};
use crate::exec::{Executor, Handle, Stop, Tag};
use crate::plan::{End, Life, Plan};
use crate::rng::Rng;
use crate::scenario::LIMITS;

/// How long a close may take, in virtual time.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(30);

/// What outlives the node's lives.
struct World {
    handle: Handle,
    plan: Plan,
    device: Device,
    model: Mutex<Model>,
}

struct Model {
    frames: FrameModel,
    /// Where promised frames lie.
    places: BTreeMap<Lsn, Range<u64>>,
    rng: Rng,
    next_value: u64,
    next_tag: u32,
    /// Whether an open ever succeeded: from then on the WAL must be there.
    created: bool,
    /// The disk broke its contract: acknowledgements prove nothing until the next open.
    lied: bool,
    /// The last life went idle with everything durable, so that its last mark covers all.
    marked: bool,
    num_forks: u64,
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
    let model = Model {
        frames: FrameModel::default(),
        places: BTreeMap::new(),
        rng: Rng::new(plan.seed, "workload"),
        next_value: 1,
        next_tag: 1,
        created: false,
        lied: false,
        marked: false,
        num_forks: 0,
        failure: None,
    };
    let world = World {
        handle,
        plan: plan.clone(),
        device,
        model: Mutex::new(model),
    };
    let world = Arc::new(world);
    let outcome = executor.run(LIMITS, lives(Arc::clone(&world)));
    // A task may have seen a violation before the run stopped for another reason.
    let first = world.model.lock().failure.take();
    let outcome = first.map_or(outcome, |violation| Ok(Err(violation)));
    (outcome, world.device.fault_counts())
}

async fn lives(world: Arc<World>) -> Result<(), Violation> {
    for life in world.plan.lives.clone() {
        live(&world, life, Work::Planned).await?;
    }
    world.device.set_faults(DiskFaults::default());
    let calm = Life {
        end: End::Close,
        after_ops: u64::MAX,
        idle: true,
        ..world.plan.lives[0]
    };
    match world.plan.damage {
        None => {}
        Some(damage) => {
            let stopped = damage::inflict(&world, damage, calm).await?;
            if stopped {
                return Ok(());
            }
        }
    }
    live(&world, calm, Work::Healed).await?;
    live(&world, calm, Work::Nothing).await
}

/// What a life does after it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Writers and a trimmer, as planned; the end may come at any moment.
    Planned,
    /// A few writers; each append must be acknowledged.
    Healed,
    /// Writers, while the next write of the disk goes astray.
    Misdirected,
    /// Nothing but the checks.
    Nothing,
}

/// One life: open, work, end.
async fn live(world: &Arc<World>, life: Life, work: Work) -> Result<(), Violation> {
    let disk = world.open_device().await;
    if work != Work::Planned && !world.model.lock().created {
        // No life came as far as creating the log; a torn creation is in the way.
        world.device.wipe();
    }
    let tag = world.next_tag();
    let (sender, done) = oneshot::channel();
    let body = life::body(Arc::clone(world), tag, life, work, disk);
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
    if life.end == End::Close {
        let time = Box::pin(world.handle.sleep(CLOSE_TIME_MAX));
        if let Either::Right(_) = select(done, time).await {
            world.fail(Violation::new(
                "liveness",
                "a life that was to close did not end",
            ));
        }
    } else {
        let reached = world.device.after_ops(life.after_ops);
        drop(select(reached, done).await);
    }
    world.end(tag, life.end);
    world.model.lock().failure.take().map_or(Ok(()), Err)
}

impl World {
    /// Opens the device as soon as its lock is free.
    async fn open_device(&self) -> SimDisk {
        loop {
            if let Some(disk) = self.device.open() {
                return disk;
            }
            self.handle.sleep(Duration::from_micros(20)).await;
        }
    }

    fn next_tag(&self) -> Tag {
        let mut model = self.model.lock();
        model.next_tag += 1;
        Tag(model.next_tag)
    }

    fn end(&self, tag: Tag, end: End) {
        let style = self.crash_style();
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

    fn crash_style(&self) -> CrashStyle {
        let styles = [
            CrashStyle::None,
            CrashStyle::All,
            CrashStyle::Writes,
            CrashStyle::Sectors,
        ];
        let mut model = self.model.lock();
        // Torn sectors find the most.
        let place = if model.rng.chance(400) {
            3
        } else {
            model.rng.index(4)
        };
        styles[place]
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

    fn identity(&self) -> Identity {
        identity(self.plan.seed)
    }
}

/// Who the WAL belongs to in the run `seed`.
fn identity(seed: u64) -> Identity {
    let wal = u128::from(seed) << 8 | 0x5a;
    Identity {
        cluster: ClusterId([7; 16]),
        node: NodeId(1),
        wal: Some(WalId(wal.to_le_bytes())),
    }
}

/// How the WAL is asked to open.
fn open_mode(created: bool) -> OpenMode {
    if created {
        OpenMode::Existing
    } else {
        OpenMode::Create
    }
}
