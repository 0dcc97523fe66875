//! What outlives the node's lives: device, models, randomness.
//!
//! *Owns*: the state that the parts of the scenario share, and the first violation.
//! *Does not own*: what the parts do.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::ops::Range;

use parking_lot::Mutex;
use tidewater_types::{ClusterId, Lsn, NodeId, WalId};
use tidewater_wal::{Identity, OpenMode};

use crate::check::Violation;
use crate::check::excuse::Facts;
use crate::check::frames::FrameModel;
use crate::check::removed::RemovedModel;
use crate::disk::{CrashStyle, Device, SimDisk};
use crate::exec::{Handle, Tag};
use crate::plan::{End, Plan};
use crate::rng::Rng;
use crate::scenario::common::{open_when_free, reads_fail};

/// What outlives the node's lives.
pub(super) struct World {
    pub(super) handle: Handle,
    pub(super) plan: Plan,
    pub(super) device: Device,
    pub(super) model: Mutex<Model>,
}

pub(super) struct Model {
    pub(super) frames: FrameModel,
    pub(super) removed: RemovedModel,
    /// Where promised frames lie.
    pub(super) places: BTreeMap<Lsn, Range<u64>>,
    pub(super) rng: Rng,
    pub(super) next_value: u64,
    pub(super) next_tag: u32,
    /// Whether an open ever succeeded: from then on the WAL must be there.
    pub(super) created: bool,
    /// Whether a creation began that may have left something.
    pub(super) began: bool,
    /// The disk broke its contract: acknowledgements prove nothing until the next open.
    pub(super) lied: bool,
    /// What was durable when a flush was told to lie.
    pub(super) lied_from: Lsn,
    pub(super) num_forks: u64,
    pub(super) failure: Option<Violation>,
}

/// What a life does after it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Writers and a trimmer, as planned; the end may come at any moment.
    Planned,
    /// A few writers; each append must be acknowledged.
    Healed,
    /// Writers, while the next write of the disk goes astray.
    Misdirected,
    /// Writers, while one flush makes nothing durable.
    LyingFlush,
    /// Nothing but the checks.
    Nothing,
}

impl World {
    /// Opens the device as soon as its lock is free.
    pub(super) async fn open_device(&self) -> SimDisk {
        open_when_free(&self.device, &self.handle).await
    }

    /// What is left of a creation goes: nothing was promised, and the operator starts over.
    pub(super) fn start_over(&self) {
        self.device.wipe();
        self.model.lock().began = false;
    }

    pub(super) fn next_tag(&self) -> Tag {
        let mut model = self.model.lock();
        model.next_tag += 1;
        Tag(model.next_tag)
    }

    pub(super) fn end(&self, tag: Tag, end: End) {
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

    pub(super) fn crash_style(&self) -> CrashStyle {
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
    pub(super) fn fail(&self, violation: Violation) {
        self.handle.line(|| format!("FAIL  {violation}"));
        self.model.lock().failure.get_or_insert(violation);
    }

    pub(super) fn check(&self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.fail(violation);
        }
    }

    /// What explains an error in a life that does `work`.
    pub(super) fn facts(&self, work: Work) -> Facts {
        let faults = &self.plan.disk_faults;
        Facts {
            planned: work == Work::Planned,
            disk_fails: !faults.are_harmless(),
            reads_fail: reads_fail(faults),
            ..Facts::default()
        }
    }

    pub(super) fn identity(&self) -> Identity {
        identity(self.plan.seed)
    }
}

/// Who the WAL belongs to in the run `seed`.
pub(super) fn identity(seed: u64) -> Identity {
    let wal = u128::from(seed) << 8 | 0x5a;
    Identity {
        cluster: ClusterId([7; 16]),
        node: NodeId(1),
        wal: Some(WalId(wal.to_le_bytes())),
    }
}

/// How the WAL is asked to open.
pub(super) fn open_mode(created: bool) -> OpenMode {
    if created {
        OpenMode::Existing
    } else {
        OpenMode::Create
    }
}
