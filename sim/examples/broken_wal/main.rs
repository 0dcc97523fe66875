//! A worked example: a write-ahead log of one's own, with a bug, under crashes.
//!
//! `log.rs` implements the port `Wal` on the port `Disk`. With the bug it acknowledges a frame when
//! its write has completed, before the flush. On a disk that is well nothing shows it, and the
//! conformance suite has no complaint. This scenario opens it life after life on a simulated disk,
//! ends each life by a kill or a power failure, and tells the model `FrameModel` what was appended,
//! acknowledged and served. The campaign finds the frame that was promised and is not there, makes
//! the plan small, and shows it.
//!
//! ```text
//! cargo run -p tidewater-sim --example broken_wal                # finds the bug
//! cargo run -p tidewater-sim --example broken_wal -- --seed 3    # shows one seed
//! cargo run -p tidewater-sim --example broken_wal -- --repaired  # finds nothing
//! ```
//!
//! *Owns*: the scenario. *Does not own*: the log (log.rs).
//!
//! *IO: driver* (prints)

mod log;
#[path = "../repaired/mod.rs"]
mod repaired;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_sim::{
    CrashStyle, Device, DiskFaults, DiskShape, FrameModel, Handle, Rng, SimEnv, Tag, Trial,
    Violation, WatermarkModel, payload, value_of,
};
use tidewater_types::{BoxFuture, Lsn};
use tidewater_wal::{Frame, Wal};

use log::BlockWal;

/// One life of the process.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// Frames that it appends.
    frames: u64,
    /// When it ends.
    after_us: u64,
    /// How the power fails; `None` is a kill.
    power_loss: Option<CrashStyle>,
}

/// What a seed decides.
#[derive(Clone, Debug)]
struct Plan {
    lives: Vec<Life>,
    faults: DiskFaults,
}

/// The scenario.
struct Crashes {
    hasty: bool,
}

impl Trial for Crashes {
    type Plan = Plan;

    fn name(&self) -> &str {
        if self.hasty {
            "hasty-wal"
        } else {
            "repaired-wal"
        }
    }

    fn replay(&self, seed: u64) -> String {
        repaired::replay(self.hasty, seed)
    }

    fn plan(&self, seed: u64) -> Plan {
        let mut rng = Rng::new(seed, "plan");
        let lives = (0..rng.between(1, 4)).map(|_| Life {
            frames: rng.between(1, 20),
            after_us: rng.between(50, 3_000),
            power_loss: rng.chance(600).then(|| {
                let styles = [CrashStyle::None, CrashStyle::Writes, CrashStyle::Sectors];
                styles[rng.index(styles.len())]
            }),
        });
        let lives = lives.collect();
        // Half of the seeds have a disk that fails now and then.
        let mut rate = || if rng.chance(500) { 20 } else { 0 };
        let faults = DiskFaults {
            write_eio: rate(),
            flush_eio: rate(),
            slow: rate(),
            ..DiskFaults::default()
        };
        Plan { lives, faults }
    }

    fn run(
        &self,
        handle: Handle,
        seed: u64,
        plan: &Plan,
    ) -> BoxFuture<'static, Result<(), Violation>> {
        let shape = DiskShape {
            block_bytes: 512,
            sector_bytes: 512,
            write_ns: 20_000,
            flush_ns: 80_000,
            is_file: false,
        };
        let device = Device::new(handle.clone(), seed, shape, plan.faults);
        let world = Arc::new(World {
            handle,
            seed,
            device,
            hasty: self.hasty,
            model: Mutex::default(),
        });
        let lives = plan.lives.clone();
        Box::pin(async move {
            let outcome = world.all(lives).await;
            // So that the campaign can tell how often each fault of the disk struck.
            for (fault, count) in world.device.fault_counts() {
                (0..count).for_each(|_| world.handle.strike(fault));
            }
            outcome
        })
    }

    /// A life less, then half of the frames of a life, then a disk that is well.
    fn smaller(&self, plan: &Plan) -> Vec<Plan> {
        let mut smaller = Vec::new();
        for place in 0..plan.lives.len() {
            let mut less = plan.clone();
            less.lives.remove(place);
            smaller.push(less);
        }
        for (place, life) in plan.lives.iter().enumerate() {
            for frames in [life.frames / 2, life.frames.saturating_sub(1)] {
                let mut less = plan.clone();
                less.lives[place].frames = frames;
                smaller.extend((frames < life.frames).then_some(less));
            }
        }
        if plan.faults != DiskFaults::default() {
            let faults = DiskFaults::default();
            smaller.push(Plan {
                faults,
                ..plan.clone()
            });
        }
        smaller
    }
}

/// What outlives the lives.
struct World {
    handle: Handle,
    seed: u64,
    device: Device,
    hasty: bool,
    model: Mutex<Model>,
}

#[derive(Default)]
struct Model {
    frames: FrameModel,
    next_value: u64,
    violation: Option<Violation>,
}

impl World {
    async fn all(self: &Arc<Self>, lives: Vec<Life>) -> Result<(), Violation> {
        let mut next_tag = 1;
        for life in lives {
            self.live(Tag(next_tag), life).await?;
            next_tag += 1;
        }
        // All is healed: it must open, take frames, close, and give everything back.
        self.device.set_faults(DiskFaults::default());
        for frames in [3, 0] {
            let wal = self.open(Tag(next_tag)).await?;
            let refused = |why| Violation::new("refused", format!("{why}"));
            self.append(Tag(next_tag), &wal, frames)
                .await
                .map_err(refused)?;
            wal.close().await.map_err(refused)?;
            self.verdict()?;
            next_tag += 1;
        }
        Ok(())
    }

    /// A life that ends by a crash, whatever it is in the middle of.
    async fn live(self: &Arc<Self>, tag: Tag, life: Life) -> Result<(), Violation> {
        let world = Arc::clone(self);
        let body = async move {
            match world.open(tag).await {
                // A disk that fails may end both; the next life finds what was promised.
                Ok(wal) => drop(world.append(tag, &wal, life.frames).await),
                Err(violation) if violation.checker == "refused" => {}
                Err(violation) => world.fail(violation),
            }
        };
        self.handle.spawn(tag, "life", Box::pin(body));
        self.handle
            .sleep(Duration::from_micros(life.after_us))
            .await;
        match life.power_loss {
            Some(style) => {
                self.handle.kill(tag);
                self.device.power_loss(style);
            }
            None => {
                self.device.kill();
                self.handle.kill(tag);
            }
        }
        self.verdict()
    }

    /// Opens the log as the life `tag`, and holds what it serves against what was promised.
    async fn open(&self, tag: Tag) -> Result<BlockWal, Violation> {
        let disk = loop {
            // A write of the life before may be under way, and hold the device.
            match self.device.open() {
                Some(disk) => break disk,
                None => self.handle.sleep(Duration::from_micros(20)).await,
            }
        };
        let env = Arc::new(SimEnv::new(self.handle.clone(), self.seed, tag, 0));
        let mut served = Vec::new();
        let on_frame = |lsn: Lsn, frame: Bytes| served.push((lsn, frame.to_vec()));
        let opened = BlockWal::open(Box::new(disk), env, self.hasty, on_frame).await;
        let wal = opened.map_err(|why| Violation::new("refused", why.to_string()))?;
        self.handle.line(|| {
            let values = served.iter().filter_map(|(_, frame)| value_of(frame));
            let values: Vec<String> = values.map(|value| value.to_string()).collect();
            format!("wal   read values={}", values.join(","))
        });
        self.model.lock().frames.recovered(&served)?;
        Ok(wal)
    }

    /// Appends frames, several under way at a time; ends when all are acknowledged.
    async fn append(
        self: &Arc<Self>,
        tag: Tag,
        wal: &BlockWal,
        frames: u64,
    ) -> Result<(), tidewater_wal::WalError> {
        let mut marks = WatermarkModel::default();
        let mut rng = Rng::new(self.seed ^ u64::from(tag.0), "frames");
        let mut appends = Vec::new();
        for _ in 0..frames {
            let len = usize::try_from(rng.between(16, 3_000)).unwrap_or(16);
            let permit = wal.reserve(len).await?;
            let mut model = self.model.lock();
            let value = model.next_value;
            model.next_value += 1;
            let frame = Frame::from(Bytes::from(payload(value, len)));
            let append = wal.append(permit, frame)?;
            let lsn = append.lsn();
            model.frames.appended(value, lsn);
            self.handle
                .line(|| format!("wal   append value={value} lsn={lsn}"));
            appends.push((value, append));
        }
        for (value, append) in appends {
            append.await?;
            self.handle.line(|| format!("wal   ack value={value}"));
            self.model.lock().frames.acked(value);
            if let Err(violation) = marks.seen(wal.watermarks()) {
                self.fail(violation);
            }
        }
        Ok(())
    }

    /// Keeps the first violation.
    fn fail(&self, violation: Violation) {
        self.handle.line(|| format!("FAIL  {violation}"));
        self.model.lock().violation.get_or_insert(violation);
    }

    fn verdict(&self) -> Result<(), Violation> {
        self.model.lock().violation.take().map_or(Ok(()), Err)
    }
}

fn main() -> ExitCode {
    repaired::main(|hasty| Crashes { hasty })
}
