//! Looking at a WAL without opening it: what is there, and what recovery would say.
//!
//! *Owns*: [`Inspection`], its JSON form (stable, docs/wal-tools.md) and its text form.
//! *Does not own*: the judgement (`recovery/judge.rs`), files (`driver/look.rs`).
//!
//! Invariants
//! 1. Nothing is written, and no lock is held while reading.
//! 2. The verdict is the one that opening the WAL would give.
//!
//! *Format: docs/wal-tools.md* · *IO: none* (`pass.rs` through the disk port)

mod names;
pub(crate) mod pass;
mod segments;
#[cfg(test)]
mod tests;
mod text;
mod views;

use bytes::Bytes;
use serde::Serialize;
use tidewater_types::{Epoch, Lsn};

pub use crate::driver::inspect;
use crate::error::WalError;
use views::{Marks, Refusal, Segments, Slot, SuperblockView, Verdict, WalkView};

/// What a WAL looks like. `Display` is for people, its alternate form (`{:#}`) lists every segment;
/// `Serialize` is for scripts and has stable names.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    path: String,
    num_bytes: u64,
    block_device: bool,
    in_use: bool,
    verdict: Verdict,
    refusal: Option<Refusal>,
    slots: [Slot; 2],
    superblock: Option<SuperblockView>,
    watermarks: Option<Marks>,
    walk: Option<WalkView>,
    segments: Option<Segments>,
    #[serde(skip)]
    error: Option<WalError>,
}

/// What a walk meets, in LSN order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A group that is valid where it lies; its frames follow.
    Group {
        /// Byte position.
        position: u64,
        /// Length with padding, in bytes.
        num_bytes: u64,
        /// `data`, `mark` or `skip`.
        kind: &'static str,
        /// LSN of its first frame.
        lsn: Lsn,
        /// LSN behind its last frame; the same for marks and skips.
        end: Lsn,
        /// Epoch of the writer.
        epoch: Epoch,
        /// Number of frames.
        num_frames: u32,
        /// The durable LSN it states.
        durable: Lsn,
        /// Position of the segment that it names as the next one.
        next: Option<u64>,
    },
    /// A frame at or above the trim LSN.
    Frame {
        /// Its LSN.
        lsn: Lsn,
        /// The frame.
        bytes: Bytes,
    },
}

impl Inspection {
    /// Why opening the WAL is refused, if it is.
    #[must_use]
    pub fn refusal(&self) -> Option<&WalError> {
        self.error.as_ref()
    }

    /// The superblock slot that is damaged although the other one speaks: opening the WAL
    /// repairs it.
    #[must_use]
    pub fn damaged_slot(&self) -> Option<usize> {
        self.superblock.as_ref()?;
        self.slots.iter().position(|slot| slot.flaw.is_some())
    }

    /// Whether a process holds the WAL's lock.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.in_use
    }

    /// Whether the WAL changed so fast that what was found is no judgement.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.verdict == Verdict::Unsettled
    }

    /// What there is to complain about; two looks at a WAL at rest complain alike.
    pub(crate) fn complaint(&self) -> Option<String> {
        match (&self.error, self.damaged_slot()) {
            (Some(error), _) => Some(error.to_string()),
            (None, Some(slot)) => Some(format!("slot {slot}: {:?}", self.slots[slot].flaw)),
            (None, None) => None,
        }
    }

    /// The complaints of several looks differ.
    pub(crate) fn unsettle(&mut self) {
        self.verdict = Verdict::Unsettled;
    }
}
