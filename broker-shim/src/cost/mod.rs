//! `tidewater cost`: requests a GiB and money a month.
//!
//! *Owns*: where the numbers come from, the report's two forms.
//! *Does not own*: the arithmetic (`model.rs`), prices (`prices.rs`), asking a broker (`stats`).
//!
//! *IO: driver* (reads files through `stats` and what it is given)

mod compaction;
mod model;
mod prices;
#[cfg(test)]
mod tests;
mod text;
mod usage;

use std::path::PathBuf;

use serde_json::Value;
use tidewater_stream_store::TierConfig;

use crate::exit::{Code, Exit};
use crate::stats::{self, Target};

pub(crate) use model::{Workload, mib};
pub(crate) use prices::Prices;
pub(crate) use usage::MONTH_S;
use usage::Usage;

/// Where the numbers come from.
#[derive(Debug)]
pub(crate) enum Numbers {
    /// A workload that is described, and the engine's settings.
    Described(Workload, Box<TierConfig>),
    /// The counters of a running broker.
    Broker(Target),
    /// What `tidewater stats --json` printed, and if given an earlier print of it.
    Printed {
        stats: PathBuf,
        earlier: Option<PathBuf>,
    },
}

/// A cost that was asked for.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) numbers: Numbers,
    /// The stores to compare.
    pub(crate) prices: Vec<Prices>,
    /// GiB that are stored, where the numbers do not say.
    pub(crate) stored_gib: Option<f64>,
    pub(crate) json: bool,
}

/// What the numbers come to. `read` gives the text of a file.
///
/// # Errors
/// Code 2 for numbers that are none, 3 if no broker answers.
pub(crate) fn run(
    job: &Job,
    read: &dyn Fn(&std::path::Path) -> Result<String, String>,
) -> Result<String, Exit> {
    let mut compacted = None;
    let mut month = match &job.numbers {
        Numbers::Described(workload, tier) => {
            compacted = Some(model::compacted(workload, tier).for_a_month());
            model::usage(workload, tier).for_a_month()
        }
        Numbers::Broker(target) => {
            counted(&parse(&stats::run(target, true)?, "the broker")?, None)?
        }
        Numbers::Printed { stats, earlier } => {
            let load = |path: &PathBuf| {
                let place = path.display().to_string();
                let text = read(path).map_err(|cause| refuse(&place, "a file", &cause))?;
                parse(&text, &place)
            };
            let earlier = earlier.as_ref().map(load).transpose()?;
            counted(&load(stats)?, earlier.as_ref())?
        }
    };
    if let Some(gib) = job.stored_gib {
        month.stored_bytes = gib * usage::GIB;
    }
    // Counters know its requests and bytes, and not which commits and deletions are its.
    let mut compacted = compacted.unwrap_or_else(|| month.of_purpose("compaction"));
    compacted.stored_bytes = 0.0;
    Ok(if job.json {
        format!("{}\n", text::as_json(&month, &compacted, &job.prices))
    } else {
        text::as_text(&month, &compacted, &job.prices)
    })
}

fn parse(text: &str, place: &str) -> Result<Value, Exit> {
    serde_json::from_str(text)
        .map_err(|cause| refuse(place, "the JSON of `tidewater stats --json`", &cause))
}

fn counted(stats: &Value, earlier: Option<&Value>) -> Result<Usage, Exit> {
    let expected = "the counters of a broker, the earlier ones first";
    let usage = Usage::of_counters(stats, earlier);
    match usage {
        Some(usage) if usage.seconds > 0.0 => Ok(usage.for_a_month()),
        Some(usage) => Err(refuse(
            "counters",
            expected,
            &format!("{} s between them", usage.seconds),
        )),
        None => Err(refuse("counters", expected, &"some that are missing")),
    }
}

fn refuse(place: &str, expected: &str, found: &dyn std::fmt::Display) -> Exit {
    Exit::new(Code::Usage, "no cost", place, expected, found)
}
