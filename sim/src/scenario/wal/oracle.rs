//! What is asked at every acknowledgement, and the forks of the disk.
//!
//! *Owns*: the durability oracle (does the disk hold these bytes after the worst
//! crash?) and the crash fork (does a recovery of a crashed copy serve what it must?).
//! *Does not own*: the models.
//!
//! Invariants
//! 1. The oracle is no lottery: it looks at the durable image alone.
//! 2. A fork runs on an executor of its own and changes nothing in the run.
//!
//! *IO: none*

use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_types::{Env, Lsn};
use tidewater_wal::{DeviceWal, OpenMode, Wal};

use super::world::{World, identity};
use crate::check::frames::FrameModel;
use crate::check::watermarks::WatermarkModel;
use crate::check::{Violation, durable, fork};
use crate::disk::{CrashStyle, Device};
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};
use crate::plan::Plan;
use crate::scenario::common::{LIMITS, failure_of, wal_config};

impl World {
    /// The frame of `value` was accepted.
    pub(super) fn appended(&self, value: u64, lsn: Lsn) {
        self.handle
            .line(|| format!("wal   append value={value} lsn={lsn}"));
        self.model.lock().frames.appended(value, lsn);
    }

    /// The frame of `value` was acknowledged.
    pub(super) fn acked(
        &self,
        wal: &DeviceWal,
        marks: &Mutex<WatermarkModel>,
        value: u64,
        lsn: Lsn,
        bytes: &[u8],
    ) {
        self.handle
            .line(|| format!("wal   ack value={value} lsn={lsn}"));
        let result = {
            let mut marks = marks.lock();
            let seen = marks.seen(wal.watermarks());
            seen.and_then(|()| marks.acked(lsn))
        };
        self.check(result);
        let lied = self.model.lock().lied;
        if !lied {
            self.check(self.must_be_durable(wal, lsn, bytes));
            if let Some(detail) = self.device.violation() {
                self.fail(Violation::new("rewrite", detail));
            }
        }
        let fork = {
            let mut model = self.model.lock();
            model.frames.acked(value);
            let fork = model.rng.chance(self.plan.forks) && !lied;
            fork.then(|| {
                model.num_forks += 1;
                (model.num_forks, model.frames.clone())
            })
        };
        if let Some((number, frames)) = fork {
            self.check(fork_and_recover(&self.plan, &self.device, number, frames));
        }
    }

    /// The frame survives the worst crash.
    fn must_be_durable(&self, wal: &DeviceWal, lsn: Lsn, bytes: &[u8]) -> Result<(), Violation> {
        let is_wanted = self.model.lock().frames.is_wanted(lsn);
        let Some(range) = durable::place_of(lsn, wal.locate(lsn), is_wanted)? else {
            return Ok(());
        };
        let len = usize::try_from(range.end - range.start).unwrap_or(0);
        let found = self.device.durable_bytes(range.start, len);
        durable::survives(&found, bytes, || {
            format!(
                "frame at {lsn} is promised, and a crash now would lose it: {} bytes at {range:?}",
                bytes.len()
            )
        })?;
        let mut model = self.model.lock();
        // It may have been trimmed before its acknowledgement was heard of.
        if model.frames.is_wanted(lsn) {
            self.device.protect(range.start, range.end);
            model.places.insert(lsn, range);
        }
        Ok(())
    }

    /// Everything that the recovery served survives the worst crash.
    pub(super) fn served_must_be_durable(
        &self,
        wal: &DeviceWal,
        served: &[(Lsn, Vec<u8>)],
    ) -> Result<(), Violation> {
        let wanted = |lsn: Lsn| self.model.lock().frames.is_wanted(lsn);
        for (lsn, bytes) in served.iter().filter(|(lsn, _)| wanted(*lsn)) {
            self.must_be_durable(wal, *lsn, bytes)?;
        }
        Ok(())
    }

    /// Frames below `lsn` may go: their blocks may be written again.
    pub(super) fn trimmed(&self, lsn: Lsn) {
        self.handle.line(|| format!("wal   trim up_to={lsn}"));
        let mut model = self.model.lock();
        model.frames.trimmed(lsn);
        model.places = model.places.split_off(&lsn);
        self.device.unprotect_all();
        for range in model.places.values() {
            self.device.protect(range.start, range.end);
        }
    }
}

/// Recovers a copy of the disk after a power failure now, and checks what it serves.
fn fork_and_recover(
    plan: &Plan,
    device: &Device,
    number: u64,
    mut frames: FrameModel,
) -> Result<(), Violation> {
    let seed = plan.seed ^ (number << 32);
    let style = [CrashStyle::None, CrashStyle::Writes, CrashStyle::Sectors]
        [usize::try_from(number % 3).unwrap_or(0)];
    let executor = Executor::new(seed);
    let fork = device.fork(executor.handle(), seed, style);
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(executor.handle(), seed, Tag(1), 0));
    let config = wal_config(plan, plan.lives[0].sync);
    let identity = identity(plan.seed);
    let served = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&served);
    let outcome = executor.run(LIMITS, async move {
        let disk = fork.open().expect("a fork is free");
        let on_frame =
            Box::new(move |lsn, bytes: bytes::Bytes| sink.lock().push((lsn, bytes.to_vec())));
        let opened = DeviceWal::open_on(
            Box::new(disk),
            env,
            config,
            identity,
            OpenMode::Existing,
            on_frame,
        )
        .await;
        match opened {
            Ok(_) => Ok(()),
            Err(error) => Err(fork::refused(&format!("recovery after {style:?}"), &error)),
        }
    });
    if let Some(violation) = failure_of(outcome) {
        return Err(violation);
    }
    let served = std::mem::take(&mut *served.lock());
    fork::after(&style, frames.recovered(&served))
}
