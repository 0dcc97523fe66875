//! Twenty seeds of each scenario without a finding, and a seeded bug that is found.
//!
//! *IO: none*

use tidewater_sim::{Plan, RunReport, Scenario, run_plan};

#[test]
fn twenty_seeds_of_each_scenario_end_well() {
    let mut failed = Vec::new();
    for scenario in Scenario::ALL {
        for seed in 1..=20 {
            if let Some(failure) = run_plan(&Plan::new(seed, *scenario), 0, false).failure {
                failed.push(format!("{} {seed}: {failure}", scenario.name()));
            }
        }
    }
    assert_eq!(failed, Vec::<String>::new());
}

/// The first finding in the log with the seeded bug on, among `seeds` seeds, with its plan.
fn hunt(id: u16, seeds: u64) -> Option<(Plan, RunReport)> {
    (1..=seeds)
        .map(|seed| Plan::new(seed, Scenario::Wal))
        .map(|plan| (plan.clone(), run_plan(&plan, id, false)))
        .find(|(_, report)| report.failure.is_some())
}

#[test]
fn seeded_bugs_are_found_by_the_checker_that_should() {
    for (id, checker) in [
        (1, "durable"),
        (2, "durable"),
        (52, "durable"),
        (53, "damage"),
    ] {
        let (plan, report) = hunt(id, 300).unwrap_or_else(|| panic!("mutant {id} survived"));
        assert_eq!(
            report.failure.expect("it was found").checker,
            checker,
            "mutant {id}"
        );
        let told = run_plan(&plan, id, true).text;
        let failed = told.iter().any(|line| line.contains("FAIL"));
        assert!(failed, "mutant {id}: no line tells of the failure");
    }
}

#[test]
fn a_replay_tells_what_happened_and_changes_nothing() {
    for scenario in Scenario::ALL {
        let plan = Plan::new(6, *scenario);
        let (short, long) = (run_plan(&plan, 0, false), run_plan(&plan, 0, true));
        assert_eq!(short.trace_hash, long.trace_hash, "{}", scenario.name());
        assert!(short.text.is_empty() && !long.text.is_empty());
    }
    let plan = Plan::new(5, Scenario::Wal);
    let long = run_plan(&plan, 0, true);
    assert!(long.text.iter().any(|line| line.contains("disk  submit")));
}
