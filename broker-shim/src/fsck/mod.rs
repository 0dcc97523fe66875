//! `tidewater fsck`: is everything that was acknowledged there, and is it what was written?
//!
//! *Owns*: whether a running broker is asked or the data is looked at from here; the end that a
//! report gets.
//! *Does not own*: the check (`tidewater_stream_store::Fsck`), the report's forms (`report.rs`).
//!
//! Invariants
//! 1. Data that a broker uses is checked by that broker, which knows what is under way.
//! 2. Nothing is changed without `--repair`, and with it nothing while a broker holds the data
//!    directory.
//!
//! *IO: driver* (`driver.rs`)

mod driver;

use crate::config::ServeConfig;
use crate::exit::{Code, Exit};
use crate::printer::Printer;
use crate::report;

pub(crate) use driver::How;

/// What is checked.
#[derive(Debug)]
pub(crate) enum Subject {
    /// The broker that answers here checks its own data.
    Broker(String),
    /// The bucket and the write-ahead log that a broker with these settings would use.
    Data(Box<ServeConfig>),
}

/// A check that was asked for.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) subject: Subject,
    pub(crate) how: How,
    pub(crate) json: bool,
}

/// Checks, prints the report, and ends as the worst finding says. `note` takes what is worth
/// saying beside the report.
///
/// # Errors
/// Code 1 for warnings, 5 for damage, 3 or 4 for what cannot be checked.
pub(crate) fn run(job: &Job, out: &mut Printer, note: &mut dyn FnMut(&str)) -> Result<(), Exit> {
    let report = match &job.subject {
        Subject::Broker(address) => driver::ask(address, job.how)?,
        Subject::Data(config) => match driver::hold(&config.data_dir)? {
            driver::Held::Free(_lock) => driver::check(config, job.how)?,
            driver::Held::Used(_) if job.how.repair => {
                return Err(Exit::new(
                    Code::Environment,
                    "cannot repair",
                    config.data_dir.display(),
                    "data that no broker uses",
                    "a data directory in use",
                ));
            }
            driver::Held::Used(address) => {
                note(&format!("a broker uses this data; {address} checks it"));
                driver::ask(&address, job.how)?
            }
        },
    };
    let text = if job.json {
        format!("{report}\n")
    } else {
        report::as_text(&report)
    };
    let _ = out.put(text);
    report::end(&report)
}
