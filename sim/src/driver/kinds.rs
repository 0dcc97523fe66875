//! The kinds of failures of a campaign, each shown as soon as its first seed fails.
//!
//! *Owns*: which kinds were shown, how much of them, and what is told of those that were not.
//! *Does not own*: what a kind is (report.rs), what its files look like (finding.rs).
//!
//! Invariants
//! 1. A kind that is not shown in full is counted, and what is left out is said.
//!
//! *IO: driver*

use std::collections::BTreeMap;
use std::path::Path;

use super::finding::{Finding, told};
use super::report::{Failure, Origin, Sums};
use crate::check::Violation;
use crate::plan::Plan;

/// Kinds whose swim lanes are printed.
const LANES_MAX: usize = 5;
/// Kinds whose timeline and plan are written.
const FILES_MAX: usize = 100;

/// The kinds that were met.
#[derive(Default)]
pub(super) struct Kinds {
    /// Scenario and key; the seed whose files are written, if any are.
    met: BTreeMap<(String, String), Option<u64>>,
}

impl Kinds {
    /// Whether no failure of this kind was met before.
    pub(super) fn is_new(&self, failure: &Failure) -> bool {
        !self.met.contains_key(&kind_of(failure))
    }

    /// Shows the first failure of a kind.
    pub(super) fn meet(&mut self, failure: &Failure, folder: &Path) {
        let number = self.met.len();
        let written = (number < FILES_MAX).then_some(failure.seed);
        self.met.insert(kind_of(failure), written);
        if written.is_some() {
            eprintln!("\n{}\nreplay: {}", failure.key, failure.replay);
            show(failure, number < LANES_MAX, folder);
        }
    }

    /// Tells all kinds with their fastest seeds, and writes the files of those that came later.
    pub(super) fn tell_all(&self, sums: &Sums, folder: &Path) {
        let distinct = sums.distinct();
        for (fastest, count) in distinct.iter().take(FILES_MAX) {
            eprintln!(
                "\n{} ({count} seeds)\nreplay: {}",
                fastest.key, fastest.replay
            );
            let written = self.met.get(&kind_of(fastest)).copied().flatten();
            if written.is_some_and(|seed| seed != fastest.seed) {
                show(fastest, false, folder);
            }
        }
        for line in left_out(distinct.len()) {
            eprintln!("{line}");
        }
    }
}

fn kind_of(failure: &Failure) -> (String, String) {
    (failure.scenario.clone(), failure.key.clone())
}

/// What a person is told of so many kinds that were not all shown.
fn left_out(kinds: usize) -> Vec<String> {
    let over = |max: usize| kinds.saturating_sub(max);
    let lanes = format!(
        "swim lanes of {} more kinds of failures are left out; their replay shows them",
        over(LANES_MAX)
    );
    let files = format!(
        "timelines and plans of {} more kinds are left out; the summary has a replay line of each",
        over(FILES_MAX)
    );
    let lines = [(lanes, LANES_MAX), (files, FILES_MAX)].into_iter();
    lines
        .filter_map(|(line, max)| (over(max) > 0).then_some(line))
        .collect()
}

/// Runs a failed seed again and shows it.
fn show(failure: &Failure, lanes: bool, folder: &Path) {
    let scenario = failure.scenario.parse();
    let plan = Plan::new(failure.seed, scenario.expect("a scenario that ran"));
    let mut report = told(&plan, failure.mutant);
    if failure.checker == "determinism" {
        // One run alone cannot show it.
        report.failure = Some(Violation::new("determinism", failure.detail.clone()));
    }
    let finding = Finding {
        plan: &plan,
        mutant: failure.mutant,
        origin: Origin::Seed,
        report: &report,
    };
    if lanes {
        eprint!("{}", finding.lanes());
    }
    finding.leave(folder);
}

#[cfg(test)]
mod tests {
    use super::left_out;

    #[test]
    fn what_is_left_out_is_counted() {
        assert!(left_out(5).is_empty());
        let some = left_out(7);
        assert!(some.len() == 1 && some[0].contains("of 2 more kinds"));
        let many = left_out(103);
        assert!(many[0].contains("98 more") && many[1].contains("3 more"));
    }
}
