//! What a campaign tells: lines for people, JSON for scripts.
//!
//! *Owns*: the sums over seeds and their JSON (the names are an interface).
//! *Does not own*: the runs.
//!
//! *IO: driver*

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use serde::Serialize;

use super::SeedResult;
use crate::plan::Scenario;

/// A failed seed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failure {
    pub(super) seed: u64,
    pub(super) scenario: &'static str,
    pub(super) checker: &'static str,
    /// The finding without its numbers: alike for alike failures.
    pub(super) key: String,
    pub(super) detail: String,
    pub(super) replay: String,
}

/// Sums over the seeds of one scenario.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ScenarioSums {
    pub(super) seeds: u64,
    pub(super) seeds_per_minute: u64,
    pub(super) virtual_hours: f64,
}

/// How often seeds ran twice.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Determinism {
    pub(super) rerun: u64,
    pub(super) mismatches: u64,
}

/// What became of one mutant.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MutantRow {
    pub(super) id: u16,
    pub(super) name: &'static str,
    pub(super) group: &'static str,
    pub(super) killed: bool,
    pub(super) seeds_to_kill: Option<u64>,
    pub(super) checker: Option<&'static str>,
    pub(super) detail: Option<String>,
}

/// A campaign's sums.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Sums {
    pub(super) git: String,
    pub(super) scenarios: BTreeMap<&'static str, ScenarioSums>,
    pub(super) failures: Vec<Failure>,
    pub(super) mutants: Vec<MutantRow>,
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) sometimes: BTreeMap<&'static str, u64>,
    pub(super) determinism: Determinism,
}

/// The command that runs a seed again with everything it does told.
pub(super) fn replay_line(seed: u64, scenario: Scenario, mutant: u16) -> String {
    let mutant = if mutant == 0 {
        String::new()
    } else {
        format!(" --mutant {mutant}")
    };
    format!(
        "cargo run -p tidewater-sim --release -- replay --seed {seed} --scenario {}{mutant} --trace full",
        scenario.name()
    )
}

impl Sums {
    /// Sums for a run of the revision named in the environment, if it is.
    pub(super) fn new(git: String) -> Self {
        Self {
            git,
            ..Self::default()
        }
    }

    /// Adds one seed; its failure, if it failed.
    pub(super) fn add(&mut self, result: &SeedResult, mutant: u16) -> Option<&Failure> {
        let sums = self.scenarios.entry(result.scenario.name()).or_default();
        sums.seeds += 1;
        sums.virtual_hours += result.report.virtual_ns as f64 / 3.6e12;
        for (name, count) in &result.report.faults {
            *self.faults.entry(name).or_default() += count;
        }
        for (name, count) in &result.sometimes {
            *self.sometimes.entry(name).or_default() += count;
        }
        self.determinism.rerun += u64::from(result.rerun);
        let violation = result.report.failure.as_ref()?;
        self.determinism.mismatches += u64::from(violation.checker == "determinism");
        let words = violation
            .detail
            .split_whitespace()
            .take(8)
            .collect::<Vec<_>>()
            .join(" ");
        let key: String = words
            .chars()
            .map(|c| if c.is_ascii_digit() { '#' } else { c })
            .collect();
        self.failures.push(Failure {
            seed: result.seed,
            scenario: result.scenario.name(),
            checker: violation.checker,
            key: format!("{}: {key}", violation.checker),
            detail: violation.detail.clone(),
            replay: replay_line(result.seed, result.scenario, mutant),
        });
        self.failures.last()
    }

    /// Notes how long it all took.
    pub(super) fn finish(&mut self, took: Duration) {
        let all: u64 = self.scenarios.values().map(|sums| sums.seeds).sum();
        let per_minute = (all as f64 * 60.0 / took.as_secs_f64().max(1e-9)) as u64;
        for sums in self.scenarios.values_mut() {
            sums.seeds_per_minute = per_minute;
        }
    }

    /// Writes the JSON to `target`, `-` being standard output.
    pub(super) fn write_json(&self, target: &str) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        if target == "-" {
            println!("{text}");
            return Ok(());
        }
        fs::write(target, text + "\n")
    }
}
