//! The scenario `wal`: writers, a trimmer and crashes on a device WAL.
//!
//! *Owns*: the lives of the node, one after the other, and the healing at the end.
//! *Does not own*: what happens inside a life (life.rs), damage (damage.rs, lies.rs).
//!
//! Invariants
//! 1. A life begins only when the device's lock is free.
//! 2. Every run ends: heal, open, write, close, open, read everything.
//!
//! *IO: none*

mod damage;
mod lies;
mod life;
mod lives;
mod noticed;
mod oracle;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use tidewater_types::Lsn;

use crate::check::Violation;
use crate::check::frames::FrameModel;
use crate::check::removed::RemovedModel;
use crate::disk::{Device, DiskFaults};
use crate::exec::{Executor, Stop};
use crate::plan::{End, Life, Plan};
use crate::rng::Rng;
use crate::scenario::common::LIMITS;
use lives::live;
use world::{Model, Work, World};

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
        removed: RemovedModel::default(),
        places: BTreeMap::new(),
        rng: Rng::new(plan.seed, "workload"),
        next_value: 1,
        next_tag: 1,
        created: false,
        began: false,
        lied: false,
        lied_from: Lsn(u64::MAX),
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
    let outcome = executor.run(LIMITS, all_lives(Arc::clone(&world)));
    // A task may have seen a violation before the run stopped for another reason.
    let first = world.model.lock().failure.take();
    let outcome = first.map_or(outcome, |violation| Ok(Err(violation)));
    (outcome, world.device.fault_counts())
}

async fn all_lives(world: Arc<World>) -> Result<(), Violation> {
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
