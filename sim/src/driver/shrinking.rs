//! `shrink`: the smallest plan that fails in the same way.
//!
//! *Owns*: what "the same way" means: the checker, and the finding without its numbers.
//! *Does not own*: the search (plan/shrink.rs).
//!
//! *IO: driver*

use std::fs;
use std::process::ExitCode;

use serde::Serialize;

use super::finding::{Finding, told};
use super::report::key_of;
use super::{header, quietly, refused, write_json};
use crate::plan::Plan;
use crate::plan::saved::Found;
use crate::plan::shrink::shrink;
use crate::scenario::{RunReport, run_plan};

/// What a search made of a plan.
#[derive(Serialize)]
struct Outcome<'a> {
    plan: &'a str,
    checker: &'a str,
    key: &'a str,
    tried: u64,
    accepted: u64,
    num_events: [u64; 2],
    json_bytes: [usize; 2],
}

/// Shrinks `plan` and saves the result at `out`.
pub(super) fn run(
    plan: &Plan,
    mutant: u16,
    tries_max: u64,
    out: &str,
    json: Option<&str>,
) -> ExitCode {
    header(
        plan.seed,
        plan.scenario.name(),
        mutant,
        &format!("shrink tries={tries_max}"),
    );
    let before = quietly(|| run_plan(plan, mutant, false));
    let Some(found) = found(&before) else {
        eprintln!("the plan ends well: there is nothing to shrink");
        return ExitCode::from(2);
    };
    eprintln!("keeps: {}", found.key);
    let fails = |plan: &Plan| {
        let report = quietly(|| run_plan(plan, mutant, false));
        // With a seeded bug: what fails without it shows something else.
        let is_same = self::found(&report).as_ref() == Some(&found);
        is_same && (mutant == 0 || quietly(|| run_plan(plan, 0, false)).failure.is_none())
    };
    let shrunk = shrink(plan, tries_max, fails);
    let report = told(&shrunk.plan, mutant);
    let finding = Finding {
        plan: &shrunk.plan,
        mutant,
        report: &report,
    };
    eprint!("{}", finding.lanes());
    let outcome = Outcome {
        plan: out,
        checker: &found.checker,
        key: &found.key,
        tried: shrunk.tried,
        accepted: shrunk.accepted,
        num_events: [before.num_events, report.num_events],
        json_bytes: [plan, &shrunk.plan].map(|plan| {
            let text = serde_json::to_string(plan);
            text.map_or(0, |text| text.len())
        }),
    };
    eprintln!(
        "{} of {} smaller plans fail alike; {} events before, {} now; saved as {out}",
        outcome.accepted, outcome.tried, outcome.num_events[0], outcome.num_events[1]
    );
    if let Err(why) = fs::write(out, finding.saved().text()) {
        return refused("write", out, &why);
    }
    if let Some(path) = json
        && let Err(why) = write_json(&outcome, path)
    {
        return refused("write", path, &why);
    }
    ExitCode::SUCCESS
}

fn found(report: &RunReport) -> Option<Found> {
    let violation = report.failure.as_ref()?;
    Some(Found {
        checker: violation.checker.to_owned(),
        key: key_of(violation),
    })
}
