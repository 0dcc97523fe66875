//! How the opening of a damaged log may end: in a refusal by name, never in a shorter log.
//!
//! *Owns*: which end fits which damage. *Does not own*: the damage, and what a log that opens must
//! serve (`frames`).
//!
//! Invariants
//! 1. One bad superblock of two is no damage: the other one is whole.
//! 2. A log that was refused once is refused again.
//!
//! *IO: none*

use std::fmt::{Debug, Display};

use tidewater_stream_store::StoreError;
use tidewater_types::ErrorKind;
use tidewater_wal::WalError;

use super::Violation;

const CHECKER: &str = "damage";

/// What became of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// None: what was planned never struck.
    Nothing,
    /// Bytes of it are others; that may hit what nobody needs.
    Altered,
    /// One of the two superblocks is bad.
    OneSlot,
    /// A part that proves itself is missing.
    Lost,
    /// It is gone, or another one stands in its place.
    Foreign,
}

/// How it ended, if it ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The log opened: the model looks at what it served.
    Opened,
    /// The damage was noticed.
    Refused,
}

type Opened = Result<(), WalError>;

/// Nothing else may come of the damage `what`.
pub(crate) fn wrong(what: &dyn Debug, end: &dyn Display) -> Violation {
    Violation::new(CHECKER, format!("{what:?} ended in: {end}"))
}

/// A log was opened after the damage `what`.
///
/// # Errors
/// It opened without what must be missed, or was refused by another name or without a reason.
pub(crate) fn ended(what: &dyn Debug, harm: Harm, ended: &Opened) -> Result<End, Violation> {
    match (harm, ended) {
        (Harm::Nothing | Harm::Altered | Harm::OneSlot, Ok(())) => Ok(End::Opened),
        (Harm::Foreign, Ok(())) => Err(wrong(what, &"an open log")),
        (Harm::Lost, Ok(())) => Err(wrong(what, &"an open log without a promised frame")),
        (Harm::Foreign, Err(WalError::Missing { .. } | WalError::ForeignWal { .. })) => {
            Ok(End::Refused)
        }
        (Harm::Altered | Harm::Lost, Err(error)) if error.kind() == ErrorKind::Corrupt => {
            Ok(End::Refused)
        }
        (_, Err(error)) => Err(wrong(what, error)),
    }
}

/// A log with a sector at `position` that cannot be read was opened; `promised` if a promised frame
/// lies there.
///
/// # Errors
/// It was refused although the sector hides nothing, or by another name.
pub(crate) fn bad_sector(position: u64, promised: bool, ended: &Opened) -> Result<End, Violation> {
    match ended {
        Ok(()) => Ok(End::Opened),
        Err(error)
            if promised && matches!(error.kind(), ErrorKind::Closed | ErrorKind::Corrupt) =>
        {
            Ok(End::Refused)
        }
        Err(error) => {
            let detail =
                format!("a bad sector at {position}, promised: {promised}, ended in: {error}");
            Err(Violation::new(CHECKER, detail))
        }
    }
}

/// What was refused with `first` was opened once more.
///
/// # Errors
/// It is not refused again as corrupt.
pub(crate) fn again(what: &dyn Debug, first: &WalError, ended: &Opened) -> Result<(), Violation> {
    match ended {
        Err(again) if again.kind() == ErrorKind::Corrupt => Ok(()),
        Err(again) => Err(wrong(what, &format!("{again}, after {first}"))),
        Ok(()) => Err(wrong(what, &format!("an open log, after {first}"))),
    }
}

/// A store without the log that its metadata name was opened, and the loss not accepted: the log is
/// missed.
///
/// # Errors
/// It opened, or was refused for anything else.
pub(crate) fn without_log<T>(opened: &Result<T, StoreError>) -> Result<(), Violation> {
    let end = match opened {
        Err(error) if error.is_damage() => return Ok(()),
        Err(error) => format!("was refused: {error}"),
        Ok(_) => "opened".to_owned(),
    };
    let detail = format!("a store without the WAL that its metadata name {end}");
    Err(Violation::new(CHECKER, detail))
}

#[cfg(test)]
mod tests;
