//! From a disk to the start of a new life.
//!
//! *Owns*: making durable what was read, the new epoch.
//! *Does not own*: judging what is there (`judge.rs`), walking the groups (`scan.rs`), proving
//! damage (`damage.rs`), making a new WAL (`create.rs`).
//!
//! Invariants
//! 1. Nothing is changed before it is certain that no durable frame is missing.
//! 2. Nothing is handed out as recovered before it is durable.
//! 3. The new epoch is durable in both slots before its first group is written.
//! 4. The new life writes nothing where a late write of the last life may still land.
//!
//! *Format: docs/formats/wal.md* · *IO: through the disk port*

pub(crate) mod create;
mod damage;
mod epoch;
pub(crate) mod judge;
pub(crate) mod reader;
pub(crate) mod scan;
mod superblocks;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use tidewater_types::{Env, Epoch, Lsn, WalId, mutant, sometimes};

use crate::buffer::AlignedBuf;
use crate::config::{DeviceWalConfig, Identity, OpenMode};
use crate::core::Start;
use crate::error::WalError;
use crate::format::superblock::Superblock;
use crate::format::{Flaw, group, round_up};
use crate::index::Index;
use crate::io::DiskIo;
use crate::ring::{Geometry, Ring};
use epoch::enter_epoch;
use judge::{Findings, geometry};
use scan::Scanned;
use superblocks::write_slot;

/// What recovery found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The WAL.
    pub wal: WalId,
    /// Epoch of the new life.
    pub epoch: Epoch,
    /// Trim point: frames below were not delivered.
    pub trimmed: Lsn,
    /// LSN behind the last frame recovered; the next frame gets it.
    pub end: Lsn,
    /// Groups read, marks and skips included.
    pub num_groups: u64,
    /// Frames delivered.
    pub num_frames: u64,
    /// Bytes of groups read, with padding.
    pub num_bytes: u64,
    /// Byte position of the first group that was not valid.
    pub stop_position: u64,
    /// What was wrong with it.
    pub stop_reason: &'static str,
    /// Epochs recorded, the new one included.
    pub num_epochs: usize,
    /// The superblock slot that was damaged, and repaired.
    pub damaged_slot: Option<usize>,
    /// Whether the last life ended cleanly.
    pub sealed: bool,
    /// Bytes written again because nothing proved them durable.
    pub num_bytes_rewritten: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Everything the engine and its handle begin with.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) start: Start,
    pub(crate) index: Index,
    pub(crate) report: RecoveryReport,
}

/// Opens or creates the WAL on `io`.
pub(crate) async fn recover(
    io: &mut DiskIo,
    env: &dyn Env,
    config: &DeviceWalConfig,
    identity: &Identity,
    mode: OpenMode,
    on_frame: &mut (dyn FnMut(Lsn, Bytes) + Send),
) -> Result<Recovered, WalError> {
    let begun = env.now();
    if mode == OpenMode::Create || (io.num_bytes() == 0 && mutant!(53)) {
        create::create(io, env, config, identity).await?;
    }
    let mut findings = Findings::default();
    match judge::superblocks(io, Some(identity), &mut findings).await {
        Err(WalError::ForeignWal { .. } | WalError::ForeignCluster { .. }) if mutant!(53) => {
            create::write(io, env, config, identity).await?;
            judge::superblocks(io, Some(identity), &mut findings).await?;
        }
        other => other?,
    }
    let damaged_slot = findings.damaged_slot();
    warn_of(io.path(), &findings);
    let mut on_frame = on_frame;
    judge::walk(io, config.recovery_read_bytes, &mut findings, &mut on_frame).await?;
    let (superblock, chosen, scanned) = findings.into_parts();
    let old = geometry(&superblock);
    let existing = segments_existing(io, &old, &scanned);
    let new = next_geometry(config, old, existing)?;
    let num_bytes_rewritten = make_durable(io, &scanned, &old).await?;
    let sizes = Sizes { old, new, existing };
    let (start, num_epochs) = begin_epoch(io, superblock, chosen, sizes, &scanned).await?;
    let report = RecoveryReport {
        wal: start.superblock.wal,
        epoch: start.epoch,
        trimmed: start.superblock.trim.lsn,
        end: start.lsn,
        num_groups: scanned.num_groups,
        num_frames: scanned.num_frames,
        num_bytes: scanned.num_bytes,
        stop_position: scanned.position,
        stop_reason: scanned.reason,
        num_epochs,
        damaged_slot,
        sealed: scanned.sealed,
        num_bytes_rewritten,
        duration: env.now().since(begun),
    };
    let mut index = scanned.index;
    index.trim(start.superblock.trim.lsn);
    Ok(Recovered {
        start,
        index,
        report,
    })
}

fn warn_of(path: &str, findings: &Findings) {
    if let Some(slot) = findings.damaged_slot() {
        sometimes!("wal: one superblock slot was damaged");
        let flaw = findings.slots[slot].as_ref().err();
        let flaw = flaw.map_or("", |flaw| flaw.describe());
        tracing::warn!(
            path,
            slot,
            flaw,
            "superblock slot is damaged; using the other one"
        );
    }
}

/// Makes what was read durable. Bytes of the last life that no group states as durable may sit
/// in a cache that a failed flush has marked clean: they are written again, then flushed.
async fn make_durable(
    io: &mut DiskIo,
    scanned: &Scanned,
    geometry: &Geometry,
) -> Result<u64, WalError> {
    if mutant!(52) || scanned.sealed {
        return Ok(0);
    }
    match rewrite_tail(io, scanned, geometry).await {
        Err(WalError::Io {
            operation: "flush", ..
        }) => {
            sometimes!("wal: the flush of recovery failed");
            rewrite_tail(io, scanned, geometry).await
        }
        other => other,
    }
}

async fn rewrite_tail(
    io: &mut DiskIo,
    scanned: &Scanned,
    geometry: &Geometry,
) -> Result<u64, WalError> {
    let mut num_bytes = 0;
    for entry in scanned.index.unproven(scanned.durable) {
        let buf = io
            .read(
                entry.position,
                usize::try_from(entry.num_bytes).expect("a group"),
            )
            .await?;
        let whole = group::decode(buf.as_slice());
        let expected = (entry.lsn, entry.position);
        let is_same = |header: group::GroupHeader| {
            (header.lsn, header.position) == expected || mutant!(8) || mutant!(9)
        };
        if !whole.is_ok_and(is_same) {
            return Err(WalError::Corrupt {
                path: io.path().to_owned(),
                position: entry.position,
                lsn: entry.lsn,
                expected: "the group read a moment ago".to_owned(),
                found: whole
                    .err()
                    .map_or("another group", Flaw::describe)
                    .to_owned(),
            });
        }
        io.write(entry.position, buf).await?;
        num_bytes += entry.num_bytes;
    }
    io.flush().await?;
    debug_assert!(num_bytes <= geometry.window_bytes + 2 * geometry.segment_bytes);
    Ok(num_bytes)
}

/// The sizes of the last life and of the new one, and how many segments there are.
struct Sizes {
    old: Geometry,
    new: Geometry,
    existing: u32,
}

/// Records the new epoch in both slots; answers where the new life begins.
async fn begin_epoch(
    io: &mut DiskIo,
    mut superblock: Superblock,
    chosen: usize,
    sizes: Sizes,
    scanned: &Scanned,
) -> Result<(Start, usize), WalError> {
    let Sizes {
        old,
        new: geometry,
        existing,
    } = sizes;
    // The flush of the last life that wrote this slot may have failed: then it sits in a
    // cache only, marked clean, and tearing the other slot now would leave none.
    write_slot(io, &superblock, chosen).await?;
    let (position, entered) = first_position(&old, scanned, existing);
    let mut chain = scanned.chain.clone();
    chain.extend(entered);
    if scanned.lsn <= superblock.trim.lsn {
        // No frame is wanted: what leads up to here is not either.
        chain = [geometry.segment(position)].into();
    }
    make_readable(io, position, &old).await?;
    let epoch = enter_epoch(io.path(), &mut superblock, scanned, position)?;
    let count = superblock.epochs.len();
    superblock.segment_count = geometry.segment_count;
    superblock.window_bytes = geometry.window_bytes;
    superblock.seal = None;
    for slot in [1 - chosen, chosen] {
        superblock.sequence += 1;
        write_slot(io, &superblock, slot).await?;
    }
    let quarantine = !scanned.sealed;
    let ring = Ring::new(geometry, chain, position, existing, quarantine);
    let (path, lsn) = (io.path().to_owned(), scanned.lsn);
    let newest_slot = chosen;
    let start = Start {
        path,
        superblock,
        newest_slot,
        geometry,
        ring,
        epoch,
        lsn,
    };
    Ok((start, count))
}

/// Sees to it that the next life can look where this one begins, should it leave nothing there: a
/// block that cannot be read can be written. The flush of the next slot covers it.
async fn make_readable(io: &mut DiskIo, position: u64, old: &Geometry) -> Result<(), WalError> {
    let block = usize::try_from(old.block_bytes).expect("a block");
    if io.read(position, block).await.is_ok() {
        return Ok(());
    }
    sometimes!("wal: the first block of a life could not be read");
    let mut zeros = AlignedBuf::new(block, block);
    zeros.pad_to(block);
    io.write(position, zeros).await
}

/// Segments that are there. A file may be shorter than the segments in use: its length is not
/// always as durable as what lies in it.
fn segments_existing(io: &DiskIo, old: &Geometry, scanned: &Scanned) -> u32 {
    let highest = scanned.index.highest_position();
    let used = highest.map_or(0, |position| old.segment(position) + 1);
    old.segments_in(io.num_bytes()).max(used)
}

/// The sizes of the new life: what is recorded stays, the ring may grow.
fn next_geometry(
    config: &DeviceWalConfig,
    old: Geometry,
    existing: u32,
) -> Result<Geometry, WalError> {
    let wanted = u32::try_from(config.capacity_bytes / old.segment_bytes).unwrap_or(u32::MAX);
    let geometry = Geometry {
        segment_count: wanted.max(existing).max(2),
        window_bytes: config.window_bytes,
        ..old
    };
    if geometry.window_bytes > geometry.segment_bytes {
        let value = geometry.window_bytes;
        return Err(WalError::Config {
            field: "window_bytes",
            value,
            expected: "at most the segment recorded",
        });
    }
    judge::check_settings(config, &geometry)?;
    Ok(geometry)
}

/// Where the new life's first group goes, and the segment it enters for that.
///
/// After an unclean end, writes of the last life may still land within one window behind
/// the stop, so the new life begins beyond it where there is room.
fn first_position(old: &Geometry, scanned: &Scanned, existing: u32) -> (u64, Option<u32>) {
    let stop = scanned.position;
    if scanned.sealed || mutant!(7) || old.segment(stop) >= existing {
        return (stop, None);
    }
    let behind = stop + round_up(old.window_bytes, old.block_bytes);
    let end = old.segment_end(stop);
    if behind + old.block_bytes <= end {
        return (behind, None);
    }
    let is_free = |segment: &u32| *segment < existing && !scanned.chain.contains(segment);
    let named = scanned.next.filter(is_free);
    match named.or_else(|| (0..existing).find(is_free)) {
        Some(segment) => {
            let rest = round_up(old.window_bytes.saturating_sub(end - stop), old.block_bytes);
            (old.start(segment) + rest, Some(segment))
        }
        None => {
            sometimes!("wal: no room beyond the window");
            (stop, None)
        }
    }
}
