//! The hunt: each seeded bug meets the seeds that the control run survives.
//!
//! *Owns*: the order of seeds, and when a mutant counts as killed.
//! *Does not own*: the list of mutants.
//!
//! Invariants
//! 1. A kill counts only if the same seed without the mutant ends well.
//!
//! *IO: driver*

use super::report::{MutantRow, Sums};
use super::{Campaign, run_campaign, run_seed};
use crate::mutants::{MUTANTS, Mutant};
use crate::plan::Scenario;

/// Seeds of the control run at the start, per scenario.
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
    for scenario in [Scenario::Wal, Scenario::Store, Scenario::ObjectWal] {
        let num_seeds = CONTROL_SEEDS.min(max_seeds);
        let campaign = Campaign {
            first_seed,
            num_seeds,
            scenario: Some(scenario),
            mutant: 0,
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
        name: mutant.name,
        group: mutant.group,
        killed: false,
        seeds_to_kill: None,
        checker: None,
        detail: None,
    };
    let campaign = Campaign {
        first_seed,
        num_seeds: max_seeds,
        scenario: Some(mutant.scenario),
        mutant: mutant.id,
    };
    run_campaign(campaign, |result| {
        let Some(violation) = result.report.failure else {
            return true;
        };
        let control = run_seed(result.seed, result.scenario, 0, false);
        if control.report.failure.is_some() {
            return true;
        }
        row.killed = true;
        row.seeds_to_kill = Some(result.seed.wrapping_sub(first_seed) + 1);
        row.checker = Some(violation.checker);
        row.detail = Some(violation.detail);
        false
    });
    row
}
