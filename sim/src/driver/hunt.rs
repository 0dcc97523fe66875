//! The hunt: each seeded bug meets the seeds that the control run survives.
//!
//! *Owns*: the order of seeds, and when a mutant counts as killed.
//! *Does not own*: the list of mutants.
//!
//! Invariants
//! 1. A kill counts only if the same seed without the mutant ends well.
//!
//! *IO: driver*

use super::campaign::{Budget, Campaign, run_campaign, run_one};
use super::report::{MutantRow, Sums};
use crate::mutants::{MUTANTS, Mutant};
use crate::plan::{Plan, Scenario};
use crate::trace::Keep;

/// Seeds of the control run, per scenario.
const CONTROL_SEEDS: u64 = 100;

/// Hunts every mutant, or those in `only`; `line` hears each result.
pub(super) fn hunt(
    only: &[u16],
    first_seed: u64,
    max_seeds: u64,
    sums: &mut Sums,
    mut line: impl FnMut(&MutantRow),
) {
    let hunted = MUTANTS
        .iter()
        .filter(|mutant| only.is_empty() || only.contains(&mutant.id));
    for mutant in hunted {
        let row = hunt_one(mutant, first_seed, max_seeds);
        line(&row);
        sums.mutants.push(row);
    }
}

/// The seeds that the mutants meet first, without any: they must end well.
pub(super) fn control(first_seed: u64, max_seeds: u64, sums: &mut Sums) {
    for scenario in Scenario::ALL {
        let campaign = Campaign {
            first_seed,
            budget: Budget::Seeds(CONTROL_SEEDS.min(max_seeds)),
            scenario: Some(*scenario),
            mutant: 0,
            self_check: true,
        };
        run_campaign(campaign, |result| {
            sums.add(&result, 0);
            true
        });
    }
}

fn hunt_one(mutant: &Mutant, first_seed: u64, max_seeds: u64) -> MutantRow {
    let mut row = MutantRow {
        id: mutant.id,
        name: mutant.name.to_owned(),
        group: mutant.group.to_owned(),
        killed: false,
        seeds_to_kill: None,
        checker: None,
        detail: None,
    };
    let campaign = Campaign {
        first_seed,
        budget: Budget::Seeds(max_seeds),
        scenario: Some(mutant.scenario),
        mutant: mutant.id,
        self_check: false,
    };
    run_campaign(campaign, |result| {
        let Some(violation) = result.report.failure else {
            return true;
        };
        let plan = Plan::new(result.seed, result.scenario);
        let control = run_one(&plan, 0, Keep::Hash, false);
        if control.report.failure.is_some() {
            return true;
        }
        row.killed = true;
        row.seeds_to_kill = Some(result.seed.wrapping_sub(first_seed) + 1);
        row.checker = Some(violation.checker.to_owned());
        row.detail = Some(violation.detail);
        false
    });
    row
}
