//! What every tool begins and ends with.
//!
//! *Owns*: the words for a WAL that cannot be looked at.
//! *Does not own*: what is found.
//!
//! *IO: none*

use std::ops::ControlFlow;
use std::path::Path;

use tidewater_stream_store::WalError;
use tidewater_stream_store::wal_inspect::{Found, Inspection, inspect};

use crate::exit::{Code, Exit};

/// Looks, or says why that is impossible.
pub(super) fn look(
    path: &Path,
    on_found: &mut (dyn FnMut(Found) -> ControlFlow<()> + Send),
) -> Result<Inspection, Exit> {
    inspect(path, on_found).map_err(|error| {
        let hint = match error {
            WalError::WrongKind { .. } if path.is_dir() => " (--data-dir names a data directory)",
            _ => "",
        };
        Exit::because(Code::Environment, format!("{error}{hint}"))
    })
}

/// The inspection as one line of JSON.
pub(super) fn json(inspection: &Inspection) -> String {
    serde_json::to_string(inspection).expect("numbers, texts and truths")
}
