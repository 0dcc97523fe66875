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
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::campaign::SeedResult;
use super::gate::{self, MutantRow};
use super::progress::a_minute;
use crate::check::Violation;
use crate::check::anomaly::anomaly;
use crate::plan::{Scenario, faults};

include!(concat!(env!("OUT_DIR"), "/sometimes.rs"));

/// A failed seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) seed: u64,
    pub(super) scenario: String,
    /// The seeded bug that was on; 0 is none.
    #[serde(default)]
    pub(super) mutant: u16,
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

/// What failures have in common that are one: scenario, seeded bug and key.
pub(super) type Kind = (String, u16, String);

impl Failure {
    pub(super) fn kind(&self) -> Kind {
        (self.scenario.clone(), self.mutant, self.key.clone())
    }

    /// The key, with the seeded bug behind it.
    pub(super) fn title(&self) -> String {
        match self.mutant {
            0 => self.key.clone(),
            mutant => format!("{} (with seeded bug {mutant})", self.key),
        }
    }
}

/// Sums over the seeds of one scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ScenarioSums {
    pub(super) seeds: u64,
    /// On all cores, if this scenario alone ran; second runs in another process included.
    pub(super) seeds_per_minute: u64,
    pub(super) virtual_hours: f64,
    /// What all threads together took for it (`SeedResult::took`).
    #[serde(default)]
    pub(super) thread_seconds: f64,
}

/// How often seeds ran twice.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Determinism {
    pub(super) rerun: u64,
    pub(super) mismatches: u64,
}

/// A campaign's sums.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) git: String,
    /// Whether it came to its end: one that still runs, or was interrupted, did not.
    #[serde(default = "yes")]
    pub(super) complete: bool,
    /// Time that passed while its seeds ran; hunts for seeded bugs are not in it.
    #[serde(default)]
    pub(super) seconds: f64,
    /// All seeds by that time.
    #[serde(default)]
    pub(super) seeds_per_minute: u64,
    pub(super) scenarios: BTreeMap<String, ScenarioSums>,
    pub(super) failures: Vec<Failure>,
    pub(super) mutants: Vec<MutantRow>,
    pub(super) faults: BTreeMap<String, u64>,
    pub(super) sometimes: BTreeMap<String, u64>,
    pub(super) determinism: Determinism,
}

fn yes() -> bool {
    true
}

/// What has the plan of a run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    /// Its seed makes it.
    Seed,
    /// This file alone: the plan was edited, shrunk or made by other code.
    File(&'a Path),
}

/// The command that runs a plan again with everything it does told.
pub(super) fn replay_line(
    seed: u64,
    scenario: Scenario,
    mutant: u16,
    origin: Origin<'_>,
) -> String {
    let plan = match origin {
        Origin::Seed => format!("--seed {seed} --scenario {}", scenario.name()),
        Origin::File(path) => format!("--plan {}", for_shell(path)),
    };
    let mutant = if mutant == 0 {
        String::new()
    } else {
        format!(" --mutant {mutant}")
    };
    format!("cargo run -p tidewater-sim --release -- replay {plan}{mutant} --trace full")
}

/// The path from the root on, as a shell reads it.
fn for_shell(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=@,:".contains(c);
    if text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
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

    /// Adds one seed; its failure, if it failed and is not known yet.
    pub(super) fn add(
        &mut self,
        result: &SeedResult,
        mutant: u16,
        origin: Origin<'_>,
    ) -> Option<&Failure> {
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
        if self.has(result.seed, name, mutant) {
            return None;
        }
        self.determinism.mismatches += u64::from(violation.checker == "determinism");
        self.failures.push(Failure {
            seed: result.seed,
            scenario: name.to_owned(),
            mutant,
            checker: violation.checker.to_owned(),
            key: key_of(violation),
            replay: replay_line(result.seed, result.scenario, mutant, origin),
            detail: violation.detail.clone(),
            anomaly: anomaly(violation).map(ToOwned::to_owned),
            num_events: result.report.num_events,
        });
        self.failures.last()
    }

    /// Whether this failure is counted already: a control run may meet seeds of a campaign.
    fn has(&self, seed: u64, scenario: &str, mutant: u16) -> bool {
        self.failures.iter().any(|failure| {
            (failure.seed, failure.mutant) == (seed, mutant) && failure.scenario == scenario
        })
    }

    /// Seeds so far.
    pub(super) fn num_seeds(&self) -> u64 {
        self.scenarios.values().map(|sums| sums.seeds).sum()
    }

    /// Of each kind of failure the seed that is fastest to look at, and how many there are.
    pub(super) fn distinct(&self) -> Vec<(&Failure, u64)> {
        let mut kinds: BTreeMap<Kind, (&Failure, u64)> = BTreeMap::new();
        for failure in &self.failures {
            let (fastest, count) = kinds.entry(failure.kind()).or_insert((failure, 0));
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

    /// Computes the rates of a campaign on `threads` threads whose seeds took so long.
    pub(super) fn finish(&mut self, threads: usize, took: Duration) {
        self.seconds = took.as_secs_f64();
        self.seeds_per_minute = a_minute(self.num_seeds(), took);
        for sums in self.scenarios.values_mut() {
            let busy = Duration::from_secs_f64(sums.thread_seconds);
            sums.seeds_per_minute = a_minute(sums.seeds * threads as u64, busy);
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
        self.complete &= other.complete;
        let took = Duration::from_secs_f64(self.seconds + other.seconds);
        self.finish(threads, took);
    }

    /// Whether a script should go on: no failure, no mismatch, every seeded bug found in time.
    pub(super) fn is_good(&self) -> bool {
        self.failures.is_empty()
            && self.determinism.mismatches == 0
            && gate::broken(&self.mutants).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::{Origin, SOMETIMES, SeedResult, Sums, key_of, replay_line};
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
        assert!(sums.add(&result(1, 10, None), 0, Origin::Seed).is_none());
        assert!(sums.is_good());
        for (seed, events, value) in [(2, 90, 5), (3, 20, 12_345), (4, 50, 1)] {
            let failure = sums
                .add(&result(seed, events, lost(value)), 0, Origin::Seed)
                .unwrap();
            assert_eq!(failure.anomaly.as_deref(), Some("lost-write"));
            assert!(
                failure
                    .replay
                    .contains(&format!("--seed {seed} --scenario wal"))
            );
        }
        sums.finish(2, Duration::from_secs(4));
        let kinds = sums.distinct();
        assert_eq!((kinds.len(), kinds[0].0.seed, kinds[0].1), (1, 3, 3));
        assert_eq!(kinds[0].0.key, "log: lost: value # at #");
        assert!(!sums.is_good());
        // Four seeds in two seconds of one thread.
        assert_eq!(sums.scenarios["wal"].seeds_per_minute, 240);
        // And in four seconds on the wall.
        assert_eq!(sums.seeds_per_minute, 60);
        assert_eq!(sums.scenarios["wal"].virtual_hours, 4.0);
    }

    #[test]
    fn json_has_the_names_that_scripts_rely_on_and_is_read_back() {
        let mut sums = Sums::new("abc".to_owned());
        let mismatch = Some(Violation::new("determinism", "trace 1 here"));
        sums.add(&result(9, 1, mismatch), 0, Origin::Seed);
        let json = serde_json::to_value(&sums).unwrap();
        assert_eq!(json["git"], "abc");
        assert_eq!(json["scenarios"]["wal"]["seeds"], 1);
        assert_eq!(json["failures"][0]["checker"], "determinism");
        assert_eq!(json["faults"]["kill"], 2);
        assert_eq!(json["faults"]["disk_enospc"], 0, "it never struck");
        assert!(
            json["faults"].get("bucket_fine").is_none(),
            "it is no fault"
        );
        assert_eq!(json["complete"], false, "it has no end yet");
        assert_eq!(json["sometimes"]["wal full"], 1);
        assert_eq!(json["determinism"]["rerun"], 1);
        assert_eq!(json["determinism"]["mismatches"], 1);
        let read: Sums = serde_json::from_value(json).unwrap();
        let mut both = read.clone();
        both.merge(read, 2);
        assert_eq!((both.num_seeds(), both.faults["kill"]), (2, 4));
    }

    #[test]
    fn a_failure_that_two_runs_meet_is_one_and_one_of_a_seeded_bug_is_another() {
        let failed = || result(5, 1, Some(Violation::new("log", "lost")));
        let mut sums = Sums::new(String::new());
        assert!(sums.add(&failed(), 0, Origin::Seed).is_some());
        assert!(sums.add(&failed(), 0, Origin::Seed).is_none());
        assert!(sums.add(&failed(), 7, Origin::Seed).is_some());
        assert_eq!((sums.failures.len(), sums.num_seeds()), (2, 3));
        let kinds = sums.distinct();
        let titles = kinds
            .iter()
            .map(|(fastest, count)| (fastest.title(), *count));
        let titles: Vec<_> = titles.collect();
        let with = "log: lost (with seeded bug 7)".to_owned();
        assert_eq!(titles, [("log: lost".to_owned(), 1), (with, 1)]);
    }

    #[test]
    fn a_plan_that_a_file_alone_has_is_replayed_from_it() {
        let line = |origin, mutant| replay_line(4, Scenario::Wal, mutant, origin);
        let seed = line(Origin::Seed, 3);
        assert!(seed.ends_with("replay --seed 4 --scenario wal --mutant 3 --trace full"));
        let file = line(Origin::File(Path::new("/x/wal-4.json")), 0);
        assert!(file.ends_with("replay --plan /x/wal-4.json --trace full"));
        let odd = line(Origin::File(Path::new("/x/it's here.json")), 3);
        let quoted = "--plan '/x/it'\\''s here.json' --mutant 3";
        assert!(odd.contains(quoted), "{odd}");
        let near = line(Origin::File(Path::new("near.json")), 0);
        assert!(near.contains("--plan /"), "from whatever folder: {near}");
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
