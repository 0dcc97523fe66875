//! `tidewater wal`: looking at a write-ahead log without opening it, measuring its device.
//!
//! *Owns*: which exit code a verdict gets, how groups and frames are printed.
//! *Does not own*: the verdict and its forms (`tidewater_stream_store::wal_inspect`).
//!
//! Invariants
//! 1. Groups and frames are printed as they are found: memory does not grow with the log.
//! 2. Every tool that looks ends with the code of the verdict, so that no script takes damage for an end.
//!
//! *Format: docs/wal-tools.md* · *IO: none*

mod calibrate;
mod dump;
mod groups;
mod look;

use std::ops::ControlFlow;
use std::path::PathBuf;

use tidewater_stream_store::WalError;
use tidewater_stream_store::wal_inspect::Inspection;

use crate::exit::{Code, Exit};
use crate::printer::Printer;

pub(crate) use dump::{Dump, Form};
use look::{json, look};

/// What to do with which WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The file or block device.
    pub(crate) path: PathBuf,
    pub(crate) tool: Tool,
}

/// One of the tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Shows what is there.
    Inspect {
        json: bool,
        groups: bool,
        segments: bool,
    },
    /// Says in one line whether a broker would open it.
    Verify { json: bool },
    /// Prints frames.
    Dump(Dump),
    /// Measures the device.
    Calibrate { json: bool, destroy: bool },
}

/// Does the job. `note` takes what is worth saying beside the output.
///
/// # Errors
/// The verdict if it is not fine, or what keeps the WAL from being looked at or measured.
pub(crate) fn run(job: &Job, out: &mut Printer, note: &mut dyn FnMut(&str)) -> Result<(), Exit> {
    let inspection = match &job.tool {
        Tool::Inspect { json, groups, .. } if *groups => groups::print(&job.path, *json, out)?,
        Tool::Inspect { .. } | Tool::Verify { .. } => {
            look(&job.path, &mut |_| ControlFlow::Continue(()))?
        }
        Tool::Dump(dump) => dump::print(&job.path, dump, out, note)?,
        Tool::Calibrate { json, destroy } => {
            return calibrate::print(&job.path, *json, *destroy, out);
        }
    };
    let _ = match &job.tool {
        Tool::Inspect {
            json: true, groups, ..
        } if !groups => out.put(json(&inspection) + "\n"),
        Tool::Verify { json: true } => out.put(json(&inspection) + "\n"),
        Tool::Inspect {
            json: false,
            segments: true,
            ..
        } => out.put(format!("{inspection:#}")),
        Tool::Inspect { json: false, .. } => out.put(inspection.to_string()),
        Tool::Verify { json: false } => out.put(inspection.summary() + "\n"),
        Tool::Inspect { .. } | Tool::Dump(_) | Tool::Calibrate { .. } => ControlFlow::Continue(()),
    };
    judge(&inspection)
}

/// The exit code of a verdict.
fn judge(inspection: &Inspection) -> Result<(), Exit> {
    let code = if inspection.is_unsettled() {
        Code::Environment
    } else {
        match (inspection.refusal(), inspection.damaged_slot()) {
            (None, None) => return Ok(()),
            (None, Some(_)) => Code::Wrong,
            (Some(WalError::NewerFormat { .. }), _) => Code::Foreign,
            (
                Some(
                    WalError::Corrupt { .. }
                    | WalError::SuperblocksDamaged { .. }
                    | WalError::Missing { .. },
                ),
                _,
            ) => Code::Damage,
            (Some(_), _) => Code::Environment,
        }
    };
    Err(Exit::because(code, inspection.summary()))
}
