//! Words for errors and kinds in the JSON.
//!
//! *Owns*: the table. *Does not own*: the errors.
//!
//! *Format: docs/wal-tools.md* · *IO: none*

use crate::error::WalError;
use crate::format::Flaw;
use crate::format::group::GroupKind;

/// The name of a refusal.
pub(super) fn of_error(error: &WalError) -> &'static str {
    match error {
        WalError::Missing { .. } => "empty",
        WalError::SuperblocksDamaged { first, second, .. } => {
            let foreign = [Flaw::Magic.describe(), Flaw::Blank.describe()];
            if foreign.contains(first) && foreign.contains(second) {
                "not_a_wal"
            } else {
                "superblocks_damaged"
            }
        }
        WalError::NewerFormat { .. } => "newer_format",
        WalError::Corrupt { .. } => "corrupt",
        WalError::EpochsFull { .. } => "epochs_full",
        WalError::Config { .. } => "geometry",
        _ => "io",
    }
}

/// The name of a kind of group.
pub(super) fn of_kind(kind: GroupKind) -> &'static str {
    match kind {
        GroupKind::Data => "data",
        GroupKind::Mark => "mark",
        GroupKind::Skip => "skip",
    }
}
