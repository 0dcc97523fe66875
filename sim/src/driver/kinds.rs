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
use super::report::{Failure, Kind, Origin, Sums, key_of};
use crate::check::Violation;
use crate::plan::Plan;

/// Kinds whose swim lanes are printed.
const LANES_MAX: usize = 5;
/// Kinds whose timeline and plan are written.
const FILES_MAX: usize = 100;

/// The kinds that were met.
#[derive(Default)]
pub(super) struct Kinds {
    /// The seed of each whose files are written, if any are.
    met: BTreeMap<Kind, Option<u64>>,
}

impl Kinds {
    /// Whether no failure of this kind was met before.
    pub(super) fn is_new(&self, failure: &Failure) -> bool {
        !self.met.contains_key(&failure.kind())
    }

    /// Shows the first failure of a kind.
    pub(super) fn meet(&mut self, failure: &Failure, folder: &Path) {
        let number = self.met.len();
        let written = (number < FILES_MAX).then_some(failure.seed);
        self.met.insert(failure.kind(), written);
        if written.is_some() {
            eprintln!("\n{}\nreplay: {}", failure.title(), failure.replay);
            show(failure, number < LANES_MAX, folder);
        }
    }

    /// Tells all kinds with their fastest seeds, and writes the files of those that came later.
    pub(super) fn tell_all(&self, sums: &Sums, folder: &Path) {
        let distinct = sums.distinct();
        for (fastest, count) in distinct.iter().take(FILES_MAX) {
            eprintln!(
                "\n{} ({count} seeds)\nreplay: {}",
                fastest.title(),
                fastest.replay
            );
            let written = self.met.get(&fastest.kind()).copied().flatten();
            if written.is_some_and(|seed| seed != fastest.seed) {
                show(fastest, false, folder);
            }
        }
        for line in left_out(distinct.len()) {
            eprintln!("{line}");
        }
    }
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
    report.failure = Some(shown(failure, report.failure));
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

/// What is shown of a failure whose seed ran again: what that run found, if it is the same. Else
/// something beside the plan decides, and no run alone can show it.
fn shown(failure: &Failure, again: Option<Violation>) -> Violation {
    let detail = &failure.detail;
    if failure.checker == "determinism" {
        return Violation::new("determinism", detail.clone());
    }
    let checker = &failure.checker;
    let end = match again {
        Some(found) if key_of(&found) == failure.key => return found,
        Some(other) => format!("it found {other}"),
        None => "it ended well".to_owned(),
    };
    Violation::new(
        "determinism",
        format!("{checker}: {detail}; run again, {end}"),
    )
}

#[cfg(test)]
mod tests {
    use super::{Kinds, left_out, shown};
    use crate::check::Violation;
    use crate::driver::report::{Failure, key_of};

    fn failure(violation: &Violation, mutant: u16) -> Failure {
        Failure {
            seed: 3,
            scenario: "wal".to_owned(),
            mutant,
            checker: violation.checker.to_owned(),
            key: key_of(violation),
            replay: String::new(),
            detail: violation.detail.clone(),
            anomaly: None,
            num_events: 1,
        }
    }

    #[test]
    fn a_failure_that_does_not_come_again_is_shown_as_that() {
        let lost = Violation::new("log", "lost 7");
        let failed = failure(&lost, 0);
        assert_eq!(shown(&failed, Some(lost.clone())), lost);
        let well = shown(&failed, None);
        assert_eq!(well.checker, "determinism");
        assert_eq!(well.detail, "log: lost 7; run again, it ended well");
        let other = shown(&failed, Some(Violation::new("log", "gap")));
        assert!(other.detail.ends_with("run again, it found log: gap"));
        let differs = Violation::new("determinism", "trace 1 here");
        assert_eq!(shown(&failure(&differs, 0), Some(lost)), differs);
    }

    #[test]
    fn what_a_seeded_bug_brings_about_is_a_kind_of_its_own() {
        let lost = Violation::new("log", "lost 7");
        let (with, without) = (failure(&lost, 5), failure(&lost, 0));
        let mut kinds = Kinds::default();
        kinds.met.insert(with.kind(), None);
        assert!(!kinds.is_new(&with) && kinds.is_new(&without));
    }

    #[test]
    fn what_is_left_out_is_counted() {
        assert!(left_out(5).is_empty());
        let some = left_out(7);
        assert!(some.len() == 1 && some[0].contains("of 2 more kinds"));
        let many = left_out(103);
        assert!(many[0].contains("98 more") && many[1].contains("3 more"));
    }
}
