//! What a simulated device holds: the durable image, the cache above it, and the writes
//! that lie between them.
//!
//! *Owns*: the rules of completion, flush, DSYNC and power failure.
//! *Does not own*: time, latencies, which operation fails (device.rs).
//!
//! Invariants
//! 1. `durable` is what survives the worst crash, and nothing else.
//! 2. A flush covers the writes that completed before it was submitted; a write with
//!    `durable` set covers itself alone.
//! 3. A newer byte that became durable is never taken back by an older write's lottery.
//! 4. Writes that a failed flush should have covered are never covered by a later one.
//! 5. A write under way may land as its memory was at any moment since it was submitted; once
//!    completed, it is what the memory held then.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;

use super::faults::{CrashStyle, DiskShape};
use super::image::Image;
use crate::rng::Rng;

/// How far a write has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Submitted, not completed.
    InFlight,
    /// Completed as the n-th, not covered by a flush yet.
    Completed(u64),
    /// Failed, or lost to a failed flush: it may land in a crash, no flush covers it.
    Stray,
}

/// How firmly a file has the name it is found under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// It has none yet: whoever creates it anew begins with an empty one.
    Missing,
    /// A crash may take it away.
    Linked,
    /// Every crash leaves it. A raw device is always found.
    Durable,
}

#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) position: u64,
    pub(super) data: Arc<[u8]>,
    pub(super) stage: Stage,
    /// Sectors that may still land; a newer durable write takes its sectors away.
    live: Vec<bool>,
}

#[derive(Clone, Debug)]
pub(super) struct Layers {
    pub(super) durable: Image,
    pub(super) cache: Image,
    pub(super) writes: BTreeMap<u64, Write>,
    pub(super) name: Name,
    next_write: u64,
    next_completion: u64,
    sector_bytes: usize,
    /// First byte and end of blocks that hold acknowledged bytes.
    protected: BTreeMap<u64, u64>,
    pub(super) violation: Option<String>,
}

impl Layers {
    /// An empty raw device.
    pub(super) fn new(sector_bytes: usize) -> Self {
        Self {
            durable: Image::default(),
            cache: Image::default(),
            writes: BTreeMap::new(),
            name: Name::Durable,
            next_write: 0,
            next_completion: 0,
            sector_bytes,
            protected: BTreeMap::new(),
            violation: None,
        }
    }

    /// A device that holds `image`, all of it durable.
    pub(super) fn of_image(sector_bytes: usize, image: Image) -> Self {
        Self {
            cache: image.clone(),
            durable: image,
            ..Self::new(sector_bytes)
        }
    }

    /// An empty device of that shape; a file has no name yet.
    pub(super) fn blank(shape: &DiskShape) -> Self {
        let name = if shape.is_file {
            Name::Missing
        } else {
            Name::Durable
        };
        Self {
            name,
            ..Self::new(shape.sector_bytes)
        }
    }

    /// The device reads a write under way from memory, as it is now: the sectors that `choose`
    /// picks; the rest it read before.
    pub(super) fn transfer(
        &mut self,
        number: u64,
        memory: &[u8],
        mut choose: impl FnMut() -> bool,
    ) {
        let Some(write) = self.writes.get_mut(&number) else {
            return;
        };
        if *write.data == *memory {
            return;
        }
        let mut data = write.data.to_vec();
        let sectors = data.chunks_mut(self.sector_bytes);
        for (sector, now) in sectors.zip(memory.chunks(self.sector_bytes)) {
            if choose() {
                sector.copy_from_slice(now);
            }
        }
        write.data = data.into();
    }

    /// A write was submitted; its number.
    pub(super) fn submit(&mut self, position: u64, data: &[u8]) -> u64 {
        let number = self.next_write;
        self.next_write += 1;
        let live = vec![true; data.len().div_ceil(self.sector_bytes)];
        let write = Write {
            position,
            data: data.into(),
            stage: Stage::InFlight,
            live,
        };
        self.writes.insert(number, write);
        number
    }

    /// Where the write goes.
    pub(super) fn place(&self, number: u64) -> Option<u64> {
        self.writes.get(&number).map(|write| write.position)
    }

    /// The first `num_bytes` of the write arrive in the cache; the rest never was written.
    pub(super) fn complete(&mut self, number: u64, num_bytes: usize) {
        let order = self.next_completion;
        let Some(write) = self.writes.get_mut(&number) else {
            return;
        };
        self.next_completion += 1;
        write.stage = Stage::Completed(order);
        write.live.truncate(num_bytes.div_ceil(self.sector_bytes));
        if num_bytes < write.data.len() {
            write.data = write.data[..num_bytes].into();
        }
        self.cache.write(write.position, &write.data);
        if num_bytes == 0 {
            self.writes.remove(&number);
        }
    }

    /// The write failed; some of its sectors reached the cache all the same.
    pub(super) fn fail(&mut self, number: u64, rng: &mut Rng) {
        let Some(write) = self.writes.get_mut(&number) else {
            return;
        };
        write.stage = Stage::Stray;
        let share = u32::try_from(rng.below(3)).expect("small") * 500;
        for live in &mut write.live {
            *live = rng.chance(share);
        }
        let write = write.clone();
        land(&mut self.cache, &write, self.sector_bytes, |_| true);
    }

    /// The write never reaches the device.
    pub(super) fn cancel(&mut self, number: u64) {
        self.writes.remove(&number);
    }

    /// What a flush submitted now will cover.
    pub(super) fn flush_mark(&self) -> u64 {
        self.next_completion
    }

    /// A flush submitted at `mark` succeeded.
    pub(super) fn flush(&mut self, mark: u64) {
        let mut covered: Vec<(u64, u64)> = self
            .writes
            .iter()
            .filter_map(|(number, write)| match write.stage {
                Stage::Completed(order) if order < mark => Some((order, *number)),
                _ => None,
            })
            .collect();
        covered.sort_unstable();
        for (_, number) in covered {
            self.make_durable(number);
        }
    }

    /// A flush submitted at `mark` failed: each page it should have covered is clean now,
    /// written or not.
    pub(super) fn flush_failed(&mut self, mark: u64) {
        for write in self.writes.values_mut() {
            if matches!(write.stage, Stage::Completed(order) if order < mark) {
                write.stage = Stage::Stray;
            }
        }
    }

    /// Whether a flush submitted at `mark` has something to make durable.
    pub(super) fn is_due(&self, mark: u64) -> bool {
        let due = |write: &Write| matches!(write.stage, Stage::Completed(order) if order < mark);
        self.writes.values().any(due)
    }

    /// No flush ever covers the completed write.
    pub(super) fn disown(&mut self, number: u64) {
        if let Some(write) = self.writes.get_mut(&number) {
            write.stage = Stage::Stray;
        }
    }

    /// The completed write survives every crash from now on.
    pub(super) fn make_durable(&mut self, number: u64) {
        let Some(write) = self.writes.remove(&number) else {
            return;
        };
        land(&mut self.durable, &write, self.sector_bytes, |_| true);
        let sector = self.sector_bytes as u64;
        let end = write.position + write.data.len() as u64;
        for older in self.writes.values_mut() {
            let newer = match (older.stage, write.stage) {
                (Stage::InFlight, _) => true,
                (Stage::Completed(theirs), Stage::Completed(ours)) => theirs > ours,
                _ => false,
            };
            let older_end = older.position + older.data.len() as u64;
            if newer || older_end <= write.position || end <= older.position {
                continue;
            }
            for (index, live) in older.live.iter_mut().enumerate() {
                let at = older.position + index as u64 * sector;
                *live &= at + sector <= write.position || end <= at;
            }
        }
    }

    /// Power fails: each write that no flush covers lands as `style` says.
    pub(super) fn crash(&mut self, style: CrashStyle, rng: &mut Rng) {
        let mut writes: Vec<Write> = std::mem::take(&mut self.writes).into_values().collect();
        for place in (1..writes.len()).rev() {
            writes.swap(place, rng.index(place + 1));
        }
        // One share a crash: all crashes at one half would never lose little or keep little.
        let share = [100, 500, 900][rng.index(3)];
        for write in &writes {
            let whole = match style {
                CrashStyle::None => Some(false),
                CrashStyle::All => Some(true),
                CrashStyle::Writes => Some(rng.chance(share)),
                CrashStyle::Sectors => None,
            };
            land(&mut self.durable, write, self.sector_bytes, |_| {
                whole.unwrap_or_else(|| rng.chance(share))
            });
        }
        if self.name == Name::Linked {
            let kept = match style {
                CrashStyle::None => false,
                CrashStyle::All => true,
                CrashStyle::Writes | CrashStyle::Sectors => rng.chance(500),
            };
            self.name = if kept { Name::Durable } else { Name::Missing };
        }
        if self.name == Name::Missing {
            self.durable = Image::default();
        }
        self.cache = self.durable.clone();
    }

    /// From now on the blocks of `start..end` may not be changed.
    pub(super) fn protect(&mut self, start: u64, end: u64, block_bytes: usize) {
        let block = block_bytes as u64;
        let (start, end) = (start / block * block, end.div_ceil(block) * block);
        let known = self.protected.entry(start).or_insert(end);
        *known = end.max(*known);
    }

    /// No block is protected any more.
    pub(super) fn unprotect_all(&mut self) {
        self.protected.clear();
    }

    /// Notes a violation if writing `data` at `position` changes protected bytes.
    pub(super) fn check_protected(&mut self, position: u64, data: &[u8]) {
        let end = position + data.len() as u64;
        for (from, to) in self.protected.range(..end) {
            let (from, to) = ((*from).max(position), (*to).min(end));
            if from >= to || self.violation.is_some() {
                continue;
            }
            let at = usize::try_from(from - position).expect("inside the write");
            let len = usize::try_from(to - from).expect("inside the write");
            // The very same bytes again take nothing back, even if the write tears.
            if self.durable.bytes(from, len) != data[at..at + len] {
                self.violation = Some(format!(
                    "bytes {position}..{end} are written over block {from}..{to}, which holds acknowledged bytes"
                ));
            }
        }
    }
}

/// Writes the sectors of `write` that are live and chosen.
fn land(image: &mut Image, write: &Write, sector: usize, mut choose: impl FnMut(usize) -> bool) {
    for (index, bytes) in write.data.chunks(sector).enumerate() {
        if write.live[index] && choose(index) {
            image.write(write.position + (index * sector) as u64, bytes);
        }
    }
}

#[cfg(test)]
mod tests;
