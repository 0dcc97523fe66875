//! What a campaign tells scripts.
//!
//! *Owns*: the sums over seeds and their JSON (the names are an interface).
//! *Does not own*: the runs, the page for people (page.rs).
//!
//! Invariants
//! 1. Faults that never struck and paths that were never reached are listed with 0.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::campaign::SeedResult;
use crate::check::Violation;
use crate::check::anomaly::anomaly;
use crate::plan::{Scenario, faults};

include!(concat!(env!("OUT_DIR"), "/sometimes.rs"));

/// A failed seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) seed: u64,
    pub(super) scenario: String,
    pub(super) checker: String,
    /// The finding without its numbers: alike for alike failures.
    pub(super) key: String,
    pub(super) replay: String,
    pub(super) detail: String,
    /// What the Jepsen workload for Kafka calls it.
    pub(super) anomaly: Option<String>,
    /// Events of the run: of alike failures the one with the fewest is the fastest to look at.
    pub(super) num_events: u64,
}

/// Sums over the seeds of one scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ScenarioSums {
    pub(super) seeds: u64,
    /// On all cores, if this scenario alone ran.
    pub(super) seeds_per_minute: u64,
    pub(super) virtual_hours: f64,
    /// What all threads together took for it.
    #[serde(default)]
    pub(super) thread_seconds: f64,
}

/// How often seeds ran twice.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Determinism {
    pub(super) rerun: u64,
    pub(super) mismatches: u64,
}

/// What became of one mutant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MutantRow {
    pub(super) id: u16,
    pub(super) name: String,
    pub(super) group: String,
    pub(super) killed: bool,
    pub(super) seeds_to_kill: Option<u64>,
    pub(super) checker: Option<String>,
    pub(super) detail: Option<String>,
}

/// A campaign's sums.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) git: String,
    pub(super) scenarios: BTreeMap<String, ScenarioSums>,
    pub(super) failures: Vec<Failure>,
    pub(super) mutants: Vec<MutantRow>,
    pub(super) faults: BTreeMap<String, u64>,
    pub(super) sometimes: BTreeMap<String, u64>,
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

/// The finding without its numbers.
pub(crate) fn key_of(violation: &Violation) -> String {
    let words: Vec<&str> = violation.detail.split_whitespace().take(8).collect();
    let mut key = format!("{}: ", violation.checker);
    for c in words.join(" ").chars() {
        // However many digits a number has.
        match c {
            '0'..='9' if key.ends_with('#') => {}
            '0'..='9' => key.push('#'),
            _ => key.push(c),
        }
    }
    key
}

impl Sums {
    /// Sums of nothing yet.
    pub(super) fn new(git: String) -> Self {
        let zero = |name: String| (name, 0);
        Self {
            git,
            faults: faults::names().into_iter().map(zero).collect(),
            sometimes: SOMETIMES
                .iter()
                .map(|name| zero((*name).to_owned()))
                .collect(),
            ..Self::default()
        }
    }

    /// Adds one seed; its failure, if it failed.
    pub(super) fn add(&mut self, result: &SeedResult, mutant: u16) -> Option<&Failure> {
        let name = result.scenario.name();
        let sums = self.scenarios.entry(name.to_owned()).or_default();
        sums.seeds += 1;
        sums.virtual_hours += result.report.virtual_ns as f64 / 3.6e12;
        sums.thread_seconds += result.took.as_secs_f64();
        for (name, count) in &result.report.faults {
            *self.faults.entry((*name).to_owned()).or_default() += count;
        }
        for (name, count) in &result.sometimes {
            *self.sometimes.entry((*name).to_owned()).or_default() += count;
        }
        self.determinism.rerun += u64::from(result.rerun);
        let violation = result.report.failure.as_ref()?;
        self.determinism.mismatches += u64::from(violation.checker == "determinism");
        self.failures.push(Failure {
            seed: result.seed,
            scenario: name.to_owned(),
            checker: violation.checker.to_owned(),
            key: key_of(violation),
            replay: replay_line(result.seed, result.scenario, mutant),
            detail: violation.detail.clone(),
            anomaly: anomaly(violation).map(ToOwned::to_owned),
            num_events: result.report.num_events,
        });
        self.failures.last()
    }

    /// Seeds so far.
    pub(super) fn num_seeds(&self) -> u64 {
        self.scenarios.values().map(|sums| sums.seeds).sum()
    }

    /// Of each kind of failure the seed that is fastest to look at, and how many there are.
    pub(super) fn distinct(&self) -> Vec<(&Failure, u64)> {
        let mut kinds: BTreeMap<(&str, &str), (&Failure, u64)> = BTreeMap::new();
        for failure in &self.failures {
            let kind = (failure.scenario.as_str(), failure.key.as_str());
            let (fastest, count) = kinds.entry(kind).or_insert((failure, 0));
            *count += 1;
            if failure.num_events < fastest.num_events {
                *fastest = failure;
            }
        }
        kinds.into_values().collect()
    }

    /// Names that were never counted.
    pub(super) fn never(counts: &BTreeMap<String, u64>) -> Vec<&str> {
        let zero = counts.iter().filter(|(_, count)| **count == 0);
        zero.map(|(name, _)| name.as_str()).collect()
    }

    /// Computes the rates of a campaign on `threads` threads.
    pub(super) fn finish(&mut self, threads: usize) {
        for sums in self.scenarios.values_mut() {
            let busy = Duration::from_secs_f64(sums.thread_seconds);
            let per_thread = sums.seeds as f64 * 60.0 / busy.as_secs_f64().max(1e-9);
            sums.seeds_per_minute = (per_thread * threads as f64) as u64;
        }
    }

    /// Adds the sums of another campaign.
    pub(super) fn merge(&mut self, other: Self, threads: usize) {
        if self.git != other.git {
            self.git = format!("{}, {}", self.git, other.git);
        }
        for (name, sums) in other.scenarios {
            let ours = self.scenarios.entry(name).or_default();
            ours.seeds += sums.seeds;
            ours.virtual_hours += sums.virtual_hours;
            ours.thread_seconds += sums.thread_seconds;
        }
        self.failures.extend(other.failures);
        self.mutants.extend(other.mutants);
        for (ours, theirs) in [
            (&mut self.faults, other.faults),
            (&mut self.sometimes, other.sometimes),
        ] {
            for (name, count) in theirs {
                *ours.entry(name).or_default() += count;
            }
        }
        self.determinism.rerun += other.determinism.rerun;
        self.determinism.mismatches += other.determinism.mismatches;
        self.finish(threads);
    }

    /// Whether a script should go on: no failure, no mismatch, no survivor.
    pub(super) fn is_good(&self) -> bool {
        self.failures.is_empty()
            && self.determinism.mismatches == 0
            && self.mutants.iter().all(|row| row.killed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{SOMETIMES, SeedResult, Sums, key_of};
    use crate::check::Violation;
    use crate::plan::Scenario;
    use crate::scenario::RunReport;

    fn result(seed: u64, num_events: u64, failure: Option<Violation>) -> SeedResult {
        let report = RunReport {
            num_events,
            virtual_ns: 3_600_000_000_000,
            failure,
            faults: vec![("kill", 2)],
            ..RunReport::default()
        };
        SeedResult {
            seed,
            scenario: Scenario::Wal,
            report,
            rerun: true,
            sometimes: vec![("wal full", 1)],
            took: Duration::from_millis(500),
        }
    }

    #[test]
    fn alike_failures_are_one_kind_with_its_fastest_seed() {
        let lost = |value: u64| Some(Violation::new("log", format!("lost: value {value} at 7")));
        let mut sums = Sums::new("g".to_owned());
        assert!(sums.add(&result(1, 10, None), 0).is_none());
        assert!(sums.is_good());
        for (seed, events, value) in [(2, 90, 5), (3, 20, 12_345), (4, 50, 1)] {
            let failure = sums.add(&result(seed, events, lost(value)), 0).unwrap();
            assert_eq!(failure.anomaly.as_deref(), Some("lost-write"));
            assert!(
                failure
                    .replay
                    .contains(&format!("--seed {seed} --scenario wal"))
            );
        }
        sums.finish(2);
        let kinds = sums.distinct();
        assert_eq!((kinds.len(), kinds[0].0.seed, kinds[0].1), (1, 3, 3));
        assert_eq!(kinds[0].0.key, "log: lost: value # at #");
        assert!(!sums.is_good());
        // Four seeds in two seconds of one thread.
        assert_eq!(sums.scenarios["wal"].seeds_per_minute, 240);
        assert_eq!(sums.scenarios["wal"].virtual_hours, 4.0);
    }

    #[test]
    fn json_has_the_names_that_scripts_rely_on_and_is_read_back() {
        let mut sums = Sums::new("abc".to_owned());
        let mismatch = Some(Violation::new("determinism", "trace 1 here"));
        sums.add(&result(9, 1, mismatch), 0);
        let json = serde_json::to_value(&sums).unwrap();
        assert_eq!(json["git"], "abc");
        assert_eq!(json["scenarios"]["wal"]["seeds"], 1);
        assert_eq!(json["failures"][0]["checker"], "determinism");
        assert_eq!(json["faults"]["kill"], 2);
        assert_eq!(json["faults"]["disk_enospc"], 0, "it never struck");
        assert_eq!(json["sometimes"]["wal full"], 1);
        assert_eq!(json["determinism"]["rerun"], 1);
        assert_eq!(json["determinism"]["mismatches"], 1);
        let read: Sums = serde_json::from_value(json).unwrap();
        let mut both = read.clone();
        both.merge(read, 2);
        assert_eq!((both.num_seeds(), both.faults["kill"]), (2, 4));
    }

    #[test]
    fn paths_that_may_be_reached_are_known_before_they_are() {
        assert!(SOMETIMES.contains(&"wal: poisoned"), "{SOMETIMES:?}");
        assert!(SOMETIMES.contains(&"object wal: a zombie is told"));
        let sums = Sums::new(String::new());
        assert_eq!(Sums::never(&sums.sometimes).len(), SOMETIMES.len());
    }

    #[test]
    fn a_key_does_not_depend_on_numbers() {
        let key = |detail: &str| key_of(&Violation::new("log", detail));
        assert_eq!(key("lost 9 at 10"), key("lost 123 at 4"));
        assert_ne!(key("lost 9"), key("gap 9"));
    }
}
