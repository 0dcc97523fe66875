//! A device that lies: a flush that makes nothing durable, a read of what was there a life before.
//!
//! *Owns*: these two kinds of damage, and what the log itself still proves behind them.
//! *Does not own*: other damage, the judgement of an opening (noticed.rs).
//!
//! The lie of a flush shows when power fails. Groups that were written later state what was durable
//! by then: if one of them is there, recovery misses what it stands for and refuses. What nothing
//! there speaks of is the tail, and cannot be told from frames that were never acknowledged. The
//! same holds for a block that recovery reads as it was: what proves it is what else is read.
//!
//! Invariants
//! 1. What a whole group states is found by its position, the log's id and its checksum, wherever
//!    in the ring it lies: recovery, which looks at less, must find no less.
//!
//! *Format: docs/formats/wal.md* · *IO: none*

use std::sync::Arc;

use tidewater_types::{Lsn, WalId, crc32c};

use super::lives::live;
use super::noticed::{GROUP_MAGIC, RING, is_noticed};
use super::world::{Work, World};
use crate::check::Violation;
use crate::disk::faults::Fault;
use crate::disk::image::Image;
use crate::plan::{Damage, End, Life};

/// Groups begin on one of these, whatever the blocks of the device.
const STEP: u64 = 512;
const HEADER_BYTES: usize = 80;

/// Lets the device lie and opens; `true` if the WAL refused, as it may.
pub(super) async fn tell(
    world: &Arc<World>,
    damage: Damage,
    calm: Life,
) -> Result<bool, Violation> {
    if damage == Damage::LyingFlush {
        let powerless = Life {
            end: End::PowerLoss,
            ..calm
        };
        live(world, powerless, Work::LyingFlush).await?;
        world.device.lie_next(false);
        let there = world.device.image();
        // What was durable before is: nobody lied about it.
        let known = world.model.lock().lied_from;
        let wal = world.identity().wal;
        let has_lied = world.device.has_struck(Fault::LyingFlush);
        let proven = || has_lied.then(|| proven(&there, wal).max(known));
        return is_noticed(world, damage, proven).await;
    }
    let older = world.device.image();
    let killed = Life {
        end: End::Kill,
        ..calm
    };
    live(world, killed, Work::Healed).await?;
    let there = world.device.image();
    world.device.show_older(Some(older.clone()));
    let read = || {
        let mut read = there;
        let at = world.device.stale_at()?;
        let block = world.plan.disk.block_bytes;
        read.write(at, &older.bytes(at, block));
        Some(proven(&read, world.identity().wal))
    };
    let noticed = is_noticed(world, damage, read).await;
    world.device.show_older(None);
    noticed
}

/// Up to where the groups in `image` state that everything is durable.
pub(super) fn proven(image: &Image, wal: Option<WalId>) -> Lsn {
    let starts = (RING..image.num_bytes()).step_by(usize::try_from(STEP).expect("small"));
    let stated = starts.filter_map(|position| stated_at(image, position, wal));
    stated.max().unwrap_or(Lsn(0))
}

/// The durable LSN of the group at `position`, if a whole one lies there.
fn stated_at(image: &Image, position: u64, wal: Option<WalId>) -> Option<Lsn> {
    let header = image.bytes(position, HEADER_BYTES);
    if header.len() < HEADER_BYTES || !header.starts_with(GROUP_MAGIC) {
        return None;
    }
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let half = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let len = HEADER_BYTES + usize::try_from(half(12)).expect("small");
    let group = image.bytes(position, len);
    let is_ours = word(24) == position && wal.is_none_or(|wal| header[64..80] == wal.0);
    let is_whole = group.len() == len && crc32c(&[&group[..8], &group[12..]]) == half(8);
    (is_ours && is_whole).then(|| Lsn(word(48)))
}

#[cfg(test)]
mod tests;
