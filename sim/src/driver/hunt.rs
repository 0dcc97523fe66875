//! The hunt: each seeded bug meets the seeds that the control run survives.
//!
//! *Owns*: the order of seeds, when a mutant counts as killed, its table in the terminal.
//! *Does not own*: the list of mutants, how soon each must be found (gate.rs).
//!
//! Invariants
//! 1. A kill counts only if the same seed without the mutant ends well.
//! 2. A seed that fails without a mutant is a failure of the whole hunt, whoever meets it.
//!
//! *IO: driver*

use super::campaign::{Budget, Campaign, SeedResult, run_campaign, run_one};
use super::gate;
use super::gate::MutantRow;
use super::live::Live;
use super::progress::a_minute;
use crate::mutants::{MUTANTS, Mutant};
use crate::plan::{Plan, Scenario};
use crate::trace::Keep;

/// Seeds of the control run, per scenario.
const CONTROL_SEEDS: u64 = 100;

/// What is hunted.
pub(super) struct Hunt<'a> {
    /// These mutants; all if there are none.
    pub(super) only: &'a [u16],
    pub(super) first_seed: u64,
    /// Seeds after which a mutant counts as survivor.
    pub(super) max_seeds: u64,
}

impl Hunt<'_> {
    /// Hunts every mutant, then runs the control.
    pub(super) fn run(&self, live: &mut Live<'_>) {
        live.begin(false);
        live.print(|| {
            eprintln!(
                "{:>3}  {:<10} {:>6}  {:<11} name",
                "id", "group", "seeds", "checker"
            );
        });
        let is_hunted = |mutant: &&Mutant| self.only.is_empty() || self.only.contains(&mutant.id);
        let hunted: Vec<&Mutant> = MUTANTS.iter().filter(is_hunted).collect();
        for (number, mutant) in hunted.iter().enumerate() {
            let row = self.one(mutant, live, (number, hunted.len()));
            live.print(|| tell(&row));
            live.add_mutant(row);
        }
        live.print(|| eprintln!("{}", gate::verdict(live.mutants())));
        self.control(live);
    }

    /// The seeds that the mutants meet first, without any: they must end well.
    fn control(&self, live: &mut Live<'_>) {
        live.begin(true);
        let seeds = CONTROL_SEEDS.min(self.max_seeds);
        let all = seeds * Scenario::ALL.len() as u64;
        let mut done = 0;
        for scenario in Scenario::ALL {
            let campaign = Campaign {
                first_seed: self.first_seed,
                budget: Budget::Seeds(seeds),
                scenario: Some(*scenario),
                mutant: 0,
                self_check: true,
            };
            run_campaign(campaign, |result| {
                live.add(&result, 0);
                done += 1;
                let rate = a_minute(done, live.elapsed());
                live.tick_share(done as f64 / all as f64, || {
                    format!("control run: {done} seeds, {rate} a minute")
                });
                true
            });
        }
    }

    /// Hunts one of them; `place` is its number and how many there are.
    fn one(&self, mutant: &Mutant, live: &mut Live<'_>, place: (usize, usize)) -> MutantRow {
        let mut row = alive(mutant);
        let campaign = Campaign {
            first_seed: self.first_seed,
            budget: Budget::Seeds(self.max_seeds),
            scenario: Some(mutant.scenario),
            mutant: mutant.id,
            self_check: false,
        };
        let (number, all) = place;
        let start = live.elapsed();
        let mut met = 0;
        run_campaign(campaign, |result| {
            met += 1;
            let share = (number as f64 + met as f64 / self.max_seeds as f64) / all as f64;
            let rate = a_minute(met, live.elapsed().saturating_sub(start));
            live.tick_share(share, || {
                let id = mutant.id;
                format!("{number} of {all} hunted; bug {id}: {met} seeds, {rate} a minute")
            });
            if result.report.failure.is_none() {
                return true;
            }
            let plan = Plan::new(result.seed, result.scenario);
            let control = run_one(&plan, 0, Keep::Hash, false);
            !self.judge(result, &control, live, &mut row)
        });
        row
    }

    /// Whether a failed seed kills: one that fails in the control too is a failure of its own.
    fn judge(
        &self,
        failed: SeedResult,
        control: &SeedResult,
        live: &mut Live<'_>,
        row: &mut MutantRow,
    ) -> bool {
        if control.report.failure.is_some() {
            live.add(control, 0);
            return false;
        }
        row.killed = true;
        row.seeds_to_kill = Some(failed.seed.wrapping_sub(self.first_seed) + 1);
        row.checker = failed
            .report
            .failure
            .as_ref()
            .map(|found| found.checker.to_owned());
        row.detail = failed.report.failure.map(|found| found.detail);
        true
    }
}

/// What is known of a mutant before its hunt.
fn alive(mutant: &Mutant) -> MutantRow {
    MutantRow {
        id: mutant.id,
        name: mutant.name.to_owned(),
        group: mutant.group.to_owned(),
        killed: false,
        seeds_to_kill: None,
        checker: None,
        detail: None,
    }
}

fn tell(row: &MutantRow) {
    let seeds = row
        .seeds_to_kill
        .map_or("-".to_owned(), |seeds| seeds.to_string());
    let checker = row.checker.as_deref().unwrap_or("SURVIVED");
    eprintln!(
        "{:>3}  {:<10} {seeds:>6}  {checker:<11} {}",
        row.id, row.group, row.name
    );
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;
    use std::time::Duration;

    use super::{Hunt, SeedResult, alive};
    use crate::check::Violation;
    use crate::driver::live::{Live, Out};
    use crate::mutants::MUTANTS;
    use crate::plan::Scenario;
    use crate::scenario::RunReport;

    fn result(seed: u64, failure: Option<Violation>) -> SeedResult {
        SeedResult {
            seed,
            scenario: Scenario::Wal,
            report: RunReport {
                failure,
                ..RunReport::default()
            },
            rerun: false,
            sometimes: Vec::new(),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn a_seed_that_fails_without_the_mutant_kills_nothing_and_fails_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let out = Out {
            json: None,
            folder: folder.path(),
        };
        let hunt = Hunt {
            only: &[],
            first_seed: 5,
            max_seeds: 9,
        };
        let lost = || Some(Violation::new("log", "lost"));
        let mut row = alive(&MUTANTS[0]);
        let mut live = Live::new(&out, None).unwrap();
        let control = result(6, lost());
        assert!(!hunt.judge(result(6, lost()), &control, &mut live, &mut row));
        assert!(!row.killed);
        let control = result(7, None);
        assert!(hunt.judge(result(7, lost()), &control, &mut live, &mut row));
        assert_eq!(
            (row.seeds_to_kill, row.checker.as_deref()),
            (Some(3), Some("log"))
        );
        live.add_mutant(row);
        assert_eq!(live.end(false), ExitCode::from(1), "of the control");
        let timeline = folder.path().join("wal-6.html");
        assert!(timeline.exists(), "it is shown as any failure");
    }
}
