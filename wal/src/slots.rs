//! Writing the superblock: one slot, a flush, the other slot, a flush.
//!
//! *Owns*: the steps of one update, and which slot is next.
//! *Does not own*: the operations themselves; `core.rs` submits them.
//!
//! Invariants
//! 1. A slot is written only while the other one holds the newest content that is durable.
//! 2. An update is done when both slots hold it durably.
//!
//! *IO: none*

use tidewater_types::mutant;

use crate::format::round_up;
use crate::format::superblock::{SLOT_BYTES, SLOT_POSITIONS, Seal, Superblock, TrimPoint};

/// How far the write of a slot (or of zeros) has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// To be written.
    Due,
    /// Handed to the device.
    Writing,
    /// Completed, not durable.
    Written,
    /// A flush under way covers it.
    Covering,
}

#[derive(Debug)]
struct Update {
    stage: Stage,
    rounds_left: u8,
    trim: TrimPoint,
    seal: Option<Seal>,
}

/// The superblock and the update under way.
#[derive(Debug)]
pub(crate) struct Slots {
    content: Superblock,
    newest: usize,
    update: Option<Update>,
}

impl Slots {
    /// Both slots hold `content` durably; slot `newest` was written last.
    pub(crate) fn new(content: Superblock, newest: usize) -> Self {
        Self {
            content,
            newest,
            update: None,
        }
    }

    /// What the newest slot holds.
    pub(crate) fn content(&self) -> &Superblock {
        &self.content
    }

    /// Whether an update is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.update.is_some()
    }

    /// How far the update under way has come.
    pub(crate) fn stage(&self) -> Option<Stage> {
        self.update.as_ref().map(|update| update.stage)
    }

    /// Begins to record a trim point, and the clean end of this life.
    pub(crate) fn begin(&mut self, trim: TrimPoint, seal: Option<Seal>) {
        assert!(self.update.is_none(), "one update at a time");
        self.update = Some(Update {
            stage: Stage::Due,
            rounds_left: 2,
            trim,
            seal,
        });
    }

    /// The slot to write now: its position and its bytes, padded to whole blocks.
    pub(crate) fn write(&mut self) -> Option<(u64, Vec<u8>)> {
        let update = self
            .update
            .as_mut()
            .filter(|update| update.stage == Stage::Due)?;
        update.stage = Stage::Writing;
        self.content.sequence += 1;
        self.content.trim = update.trim;
        self.content.seal = update.seal;
        drop_trimmed_epochs(&mut self.content);
        if !mutant!(12) {
            self.newest = 1 - self.newest;
        }
        let position = SLOT_POSITIONS[self.newest];
        Some((position, padded(&self.content, position)))
    }

    /// The slot was written.
    pub(crate) fn written(&mut self) {
        self.set_stage(Stage::Written);
    }

    /// A flush that covers the slot begins.
    pub(crate) fn cover(&mut self) {
        if self.stage() == Some(Stage::Written) {
            self.set_stage(Stage::Covering);
        }
    }

    /// The slot is durable. Answers what both slots hold now, if they do.
    pub(crate) fn durable(&mut self) -> Option<(TrimPoint, Option<Seal>)> {
        let update = self.update.as_mut().expect("an update under way");
        update.rounds_left -= 1;
        update.stage = Stage::Due;
        if update.rounds_left > 0 && !mutant!(54) {
            return None;
        }
        self.update.take().map(|update| (update.trim, update.seal))
    }

    fn set_stage(&mut self, stage: Stage) {
        self.update.as_mut().expect("an update under way").stage = stage;
    }
}

/// The bytes of a slot, padded to whole blocks.
pub(crate) fn padded(content: &Superblock, position: u64) -> Vec<u8> {
    let mut bytes = content.encode(position);
    let num_bytes = round_up(bytes.len() as u64, u64::from(content.block_bytes));
    bytes.resize(
        usize::try_from(num_bytes)
            .expect("a slot's length")
            .min(SLOT_BYTES),
        0,
    );
    bytes
}

/// Forgets epochs all of whose LSNs are trimmed, but never the last one.
pub(crate) fn drop_trimmed_epochs(content: &mut Superblock) {
    let trim = content.trim.group_lsn;
    let gone = content
        .epochs
        .windows(2)
        .take_while(|two| two[1].lsn <= trim && two[1].epoch <= content.trim.epoch);
    let gone = gone.count();
    content.epochs.drain(..gone);
}
