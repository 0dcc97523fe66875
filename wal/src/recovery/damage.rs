//! Torn tail or damage: what the stop of the walk means.
//!
//! *Owns*: the proofs that a durable frame is missing.
//! *Does not own*: the walk.
//!
//! Invariants
//! 1. Only reads.
//! 2. A stop is damage if something durable states more: the trim point, a later epoch, the
//!    seal, or a group of the last epoch within two windows that knew of a durable LSN past it.
//!    The first such group lies within one window. A second one is looked for because a write
//!    that went astray takes what it hit and itself, and no write is longer than a window.
//!
//! *Format: docs/formats/wal.md* · *IO: through the disk port*

use tidewater_types::{Lsn, mutant, sometimes};

use super::reader::Reader;
use super::scan::Scanned;
use crate::error::WalError;
use crate::format::group::{self, GroupHeader};
use crate::format::round_up;
use crate::format::superblock::Superblock;
use crate::io::DiskIo;
use crate::ring::Geometry;

/// Refuses a log that stops in front of something durable.
pub(super) async fn check(
    io: &mut DiskIo,
    superblock: &Superblock,
    geometry: &Geometry,
    scanned: &Scanned,
) -> Result<(), WalError> {
    if mutant!(10) {
        return Ok(());
    }
    let stated = [
        Some(("the trim point", superblock.trim.lsn)),
        superblock
            .epochs
            .last()
            .map(|last| ("the start of the last epoch", last.lsn)),
        superblock.seal.map(|seal| ("the clean end", seal.lsn)),
    ];
    for (what, lsn) in stated.into_iter().flatten() {
        if lsn > scanned.lsn {
            return Err(corrupt(io, scanned, lsn, what));
        }
    }
    if scanned.sealed {
        return Ok(());
    }
    let windows = 2 * round_up(geometry.window_bytes, geometry.block_bytes);
    let end = geometry.segment_end(scanned.position);
    let behind = scanned.position + windows;
    look(
        io,
        superblock,
        geometry,
        scanned,
        scanned.position..end.min(behind + geometry.block_bytes),
    )
    .await?;
    let rest = (behind + geometry.block_bytes).saturating_sub(end);
    if rest == 0 {
        return Ok(());
    }
    // The last one may be there in part.
    let existing = (geometry.segments_in(io.num_bytes()) + 1).min(geometry.segment_count);
    for segment in (0..existing).filter(|segment| !scanned.chain.contains(segment)) {
        let start = geometry.start(segment);
        let rest = rest.min(geometry.segment_bytes);
        if scanned.next == Some(segment)
            || goes_on_here(io, superblock, geometry, scanned, start).await
        {
            look(io, superblock, geometry, scanned, start..start + rest).await?;
        }
    }
    Ok(())
}

/// Whether groups of the last epoch from at or past the stop lie where the segment at `start`
/// begins, though they may have been meant for another place: then it is worth a look. The group that
/// named the segment may be the one that is missing; and if no group named any, the one that is missing
/// may reach to the segment's own first groups.
async fn goes_on_here(
    io: &mut DiskIo,
    superblock: &Superblock,
    geometry: &Geometry,
    scanned: &Scanned,
    start: u64,
) -> bool {
    let reach = match scanned.next {
        Some(_) => geometry.block_bytes,
        None => round_up(geometry.window_bytes, geometry.block_bytes),
    };
    let mut reader = Reader::new(io, *geometry, reach);
    let mut position = start;
    while position < start + reach {
        if let Some(header) = group_at(&mut reader, position).await
            && header.wal == superblock.wal
            && header.epoch == scanned.epoch
            && header.lsn >= scanned.lsn
        {
            return true;
        }
        position += geometry.block_bytes;
    }
    false
}

/// The group at `position`. What cannot be read proves nothing, after a second attempt.
async fn group_at(reader: &mut Reader<'_>, position: u64) -> Option<GroupHeader> {
    for _ in 0..2 {
        if let Ok(group) = reader.group(position).await {
            return group.and_then(group::decode).ok();
        }
    }
    sometimes!("wal: a place behind the end could not be read");
    None
}

/// Looks at every block in `place` for a group that proves damage.
async fn look(
    io: &mut DiskIo,
    superblock: &Superblock,
    geometry: &Geometry,
    scanned: &Scanned,
    place: std::ops::Range<u64>,
) -> Result<(), WalError> {
    let mut reader = Reader::ahead(
        io,
        *geometry,
        round_up(geometry.window_bytes, geometry.block_bytes),
    );
    let mut position = place.start;
    while position < place.end {
        let mut num_bytes = geometry.block_bytes;
        if let Some(header) = group_at(&mut reader, position).await
            && (header.wal, header.position) == (superblock.wal, position)
        {
            let live = header.epoch == scanned.epoch && header.lsn >= scanned.lsn;
            if live && header.durable > scanned.lsn {
                sometimes!("wal: damage in front of a durable point was found");
                return Err(corrupt(io, scanned, header.durable, "a later group"));
            }
            num_bytes = round_up(header.num_bytes() as u64, geometry.block_bytes);
        }
        position += num_bytes;
    }
    Ok(())
}

fn corrupt(io: &DiskIo, scanned: &Scanned, durable: Lsn, what: &str) -> WalError {
    WalError::Corrupt {
        path: io.path().to_owned(),
        position: scanned.position,
        lsn: scanned.lsn,
        expected: format!(
            "a group, as {what} states that everything below lsn {durable} is durable"
        ),
        found: scanned.reason.to_owned(),
    }
}
