//! A device that lies: a flush that covers nothing, a read of what is there no more.
//!
//! *Owns*: these two faults beyond the contract, as a scenario arms them; each strikes once.
//! *Does not own*: when they are armed, and what the code under test must make of them.
//!
//! Invariants
//! 1. What a lying flush should have covered reads back until power fails, and no later flush
//!    covers it.
//! 2. A stale read gives one block as it was; the next read gives it as it is.
//!
//! *IO: none*

use super::device::Device;
use super::faults::Fault;
use super::image::Image;
use super::ops::State;

impl Device {
    /// Whether the next flush, or DSYNC write, is answered without making anything durable.
    pub(crate) fn lie_next(&self, armed: bool) {
        self.lock().lie_next = armed;
    }

    /// From now on one of the next reads that meet a block which differs from `older` gives it
    /// as it was there; `None` disarms.
    pub(crate) fn show_older(&self, older: Option<Image>) {
        let mut state = self.lock();
        state.older = older;
        state.stale_at = None;
    }

    /// Where the block lies that was read as it had been.
    pub(crate) fn stale_at(&self) -> Option<u64> {
        self.lock().stale_at
    }

    /// Whether `fault` struck.
    pub(crate) fn has_struck(&self, fault: Fault) -> bool {
        self.lock().counts.contains_key(&fault)
    }

    /// What a read gives now.
    pub(crate) fn image(&self) -> Image {
        self.lock().layers.cache.clone()
    }
}

impl State {
    /// Whether what asks to be durable now is answered and forgotten.
    pub(super) fn lies(&mut self) -> bool {
        let lies = std::mem::take(&mut self.lie_next);
        if lies {
            self.count(Fault::LyingFlush);
        }
        lies
    }

    /// Puts one block of what was read back to what it was.
    pub(super) fn age_a_block(&mut self, position: u64, read: &mut [u8]) {
        let Some(older) = &self.older else {
            return;
        };
        let block = self.shape.block_bytes;
        let old = |at: usize| older.bytes(position + at as u64, block);
        let differs = |at: &usize| {
            let old = old(*at);
            old.len() == block && read[*at..].len() >= block && old != read[*at..*at + block]
        };
        let changed: Vec<usize> = (0..read.len()).step_by(block).filter(differs).collect();
        if changed.is_empty() || !self.rng.chance(400) {
            return;
        }
        let at = changed[self.rng.index(changed.len())];
        read[at..at + block].copy_from_slice(&old(at));
        self.older = None;
        self.stale_at = Some(position + at as u64);
        self.count(Fault::StaleRead);
    }
}
