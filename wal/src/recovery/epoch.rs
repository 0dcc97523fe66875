//! The epoch of a new life.
//!
//! *Owns*: which epoch it is, and what the superblock then says.
//! *Does not own*: making that durable, and where the life begins.
//!
//! *Format: docs/formats/wal.md* · *IO: none*

use tidewater_types::{Epoch, mutant};

use super::scan::Scanned;
use crate::error::WalError;
use crate::format::superblock::{EPOCHS_MAX, EpochStart, Superblock, TrimPoint};
use crate::slots::drop_trimmed_epochs;

/// Enters the epoch of the new life, which begins at `position`, into the superblock.
pub(super) fn enter_epoch(
    path: &str,
    superblock: &mut Superblock,
    scanned: &Scanned,
    position: u64,
) -> Result<Epoch, WalError> {
    let full = |count| WalError::EpochsFull {
        path: path.to_owned(),
        count,
    };
    let last = superblock.epochs.last().map_or(Epoch(0), |last| last.epoch);
    let mut epoch = last.next().ok_or(full(superblock.epochs.len()))?;
    if scanned.lsn <= superblock.trim.lsn {
        // No frame is wanted: what leads up to here is not either.
        superblock.trim = TrimPoint {
            lsn: scanned.lsn,
            group_lsn: scanned.lsn,
            position,
            epoch,
        };
    }
    if mutant!(7) && last > Epoch(0) {
        epoch = last;
    } else {
        superblock.epochs.retain(|entry| entry.lsn < scanned.lsn);
        superblock.epochs.push(EpochStart {
            epoch,
            lsn: scanned.lsn,
            position,
        });
    }
    drop_trimmed_epochs(superblock);
    let count = superblock.epochs.len();
    if count > EPOCHS_MAX {
        return Err(full(count - 1));
    }
    Ok(epoch)
}
