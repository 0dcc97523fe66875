//! Damage beyond the disk's contract: the WAL must notice it and stop, never truncate.
//!
//! *Owns*: rot, a sector that cannot be read, a misdirected write, a log that is gone or is another
//! one.
//! *Does not own*: lies (lies.rs), what no log can notice. Each case goes idle first, so that a mark covers
//! everything acknowledged; if that mark itself is what went astray, nothing is left to tell.
//!
//! Invariants
//! 1. Opening a damaged log serves every promised frame, or is refused by name.
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_types::{Lsn, WalId, sometimes};
use tidewater_wal::{Identity, OpenMode};

use super::lies;
use super::lives::live;
use super::noticed::{GROUP_MAGIC, RING, is_noticed, open};
use super::world::{Work, World};
use crate::check::Violation;
use crate::check::damage::{self, Harm};
use crate::disk::faults::Fault;
use crate::plan::{Damage, End, Life};

/// Byte positions of the superblock slots (docs/formats/wal.md).
const SLOTS: [u64; 2] = [0, 32 * 1024];
/// Segments and blocks in bytes (`DeviceWalConfig::tiny`).
const SEGMENT: u64 = 64 * 1024;
const BLOCK: u64 = 4096;

/// Does the damage and opens; `true` if the WAL refused, as it may.
pub(super) async fn inflict(
    world: &Arc<World>,
    damage: Damage,
    calm: Life,
) -> Result<bool, Violation> {
    let killed = Life {
        end: End::Kill,
        ..calm
    };
    let mut has_struck = true;
    match damage {
        Damage::BitRot => {
            live(world, killed, Work::Healed).await?;
            has_struck = rot(world);
        }
        Damage::SlotRot => {
            live(world, killed, Work::Healed).await?;
            rot_a_slot(world);
        }
        Damage::Unreadable => {
            live(world, killed, Work::Healed).await?;
            return unreadable(world).await;
        }
        Damage::Misdirected => {
            live(world, killed, Work::Misdirected).await?;
            world.device.misdirect_next(false);
            has_struck = world.device.has_struck(Fault::MisdirectedWrite);
            let groups = world.device.heads_since_astray();
            if has_struck && !groups.contains(GROUP_MAGIC) {
                sometimes!("the last group of all went astray");
                // Nothing was written behind it that would tell of it.
                let there = world.device.image();
                let proven = || Some(lies::proven(&there, world.identity().wal));
                return is_noticed(world, damage, proven).await;
            }
        }
        Damage::Foreign => {
            live(world, calm, Work::Healed).await?;
            return foreign(world).await.map(|()| true);
        }
        Damage::LyingFlush | Damage::StaleRead => return lies::tell(world, damage, calm).await,
        // Of objects.
        Damage::Truncated | Damage::Swapped | Damage::Lost => return Ok(false),
    }
    is_noticed(world, damage, || has_struck.then_some(Lsn(u64::MAX))).await
}

/// Flips one bit of a promised frame, if there is one.
fn rot(world: &World) -> bool {
    let target = {
        let mut model = world.model.lock();
        let places: Vec<_> = model.places.values().cloned().collect();
        (!places.is_empty()).then(|| {
            let range = places[model.rng.index(places.len())].clone();
            // Often at the head, where header and first frames lie: much of a group is padding.
            let len = range.end - range.start;
            let near = if model.rng.chance(700) {
                len.min(200)
            } else {
                len
            };
            let position = range.start + model.rng.below(near);
            (position, u8::try_from(model.rng.below(8)).expect("small"))
        })
    };
    if let Some((position, bit)) = target {
        world.device.rot(position, bit);
    }
    target.is_some()
}

/// Flips one bit at the head of one superblock slot; the other is whole.
fn rot_a_slot(world: &World) {
    let (position, bit) = {
        let rng = &mut world.model.lock().rng;
        (SLOTS[rng.index(2)] + rng.below(256), rng.below(8))
    };
    world
        .device
        .rot(position, u8::try_from(bit).expect("small"));
}

/// A sector that cannot be read: behind the end of the log it hides nothing; where a promised
/// frame lies, it is refused by name. `true` if it was.
async fn unreadable(world: &Arc<World>) -> Result<bool, Violation> {
    let (position, promised) = {
        let mut model = world.model.lock();
        let places: Vec<_> = model.places.values().cloned().collect();
        let Some(last) = places.last().cloned() else {
            return Ok(false);
        };
        if model.rng.chance(400) {
            let range = &places[model.rng.index(places.len())];
            let position = range.start + model.rng.below(range.end - range.start);
            (position, true)
        } else {
            // The mark of the idle end takes the next block, and the log ends with the one behind.
            let position = last.end + BLOCK * (2 + model.rng.below(8));
            let segment = |at: u64| (at - RING) / SEGMENT;
            if segment(position) != segment(last.start) {
                return Ok(false);
            }
            (position, false)
        }
    };
    world.device.spoil(position);
    world.handle.strike(Damage::Unreadable.fault());
    world.device.unprotect_all();
    match open(world, world.identity(), OpenMode::Existing).await {
        Ok(served) => {
            sometimes!("a bad sector was harmless");
            world.model.lock().frames.recovered(&served)?;
            Ok(false)
        }
        Err(error) => {
            damage::bad_sector(position, promised, &Err(error.clone()))?;
            sometimes!("a bad sector was refused");
            match open(world, world.identity(), OpenMode::Existing).await {
                Ok(_) => Err(damage::wrong(
                    &Damage::Unreadable,
                    &format!("an open log, after {error}"),
                )),
                Err(again) => damage::bad_sector(position, promised, &Err(again)).map(|_| true),
            }
        }
    }
}

/// The log is gone, or another stands in its place: both are refused.
async fn foreign(world: &Arc<World>) -> Result<(), Violation> {
    drop(world.open_device().await);
    world.device.wipe();
    world.handle.strike(Damage::Foreign.fault());
    let mine = world.identity();
    if world.model.lock().rng.chance(500) {
        let other = Identity {
            wal: Some(WalId([9; 16])),
            ..mine
        };
        let created = open(world, other, OpenMode::Create).await;
        created
            .map_err(|error| damage::wrong(&format_args!("the creation of another log"), &error))?;
    }
    for what in ["a missing or foreign log", "one that was refused before"] {
        let opened = open(world, mine, OpenMode::Existing).await.map(drop);
        damage::ended(&format_args!("{what}"), Harm::Foreign, &opened)?;
    }
    Ok(())
}
