//! The command line of `tidewater-sim`.
//!
//! *Owns*: arguments, the lines printed, the exit code: 0 all well, 1 a finding, 2 bad usage,
//! 3 a file that cannot be written or read.
//! *Does not own*: the runs.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a driver: campaigns run on real threads and are timed by a real clock"
)]

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};

use super::hunt::hunt;
use super::report::{Sums, replay_line};
use super::{Campaign, hush_panics, run_campaign, scenario_of};
use crate::mutants::mutant as known_mutant;
use crate::plan::{Plan, Scenario};
use crate::scenario::run_plan;

#[derive(Parser)]
#[command(
    name = "tidewater-sim",
    about = "The deterministic simulator of the Tidewater engine",
    version
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum ScenarioArg {
    Wal,
    Store,
    ObjectWal,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TraceArg {
    /// The result alone.
    Off,
    /// Every event in words.
    Full,
}

#[derive(Subcommand)]
enum Command {
    /// Runs seeds; one line each.
    Run {
        /// How many seeds.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// What runs; without it even seeds run `wal` and odd ones `store`.
        #[arg(long)]
        scenario: Option<ScenarioArg>,
        /// The seeded bug to switch on.
        #[arg(long, default_value_t = 0)]
        mutant: u16,
        /// Where to write the sums as JSON; `-` is standard output.
        #[arg(long)]
        json: Option<String>,
    },
    /// Hunts every seeded bug until it is found.
    Mutants {
        /// Seeds after which a bug counts as survivor.
        #[arg(long, default_value_t = 10_000)]
        max_seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only these bugs.
        #[arg(long, value_delimiter = ',')]
        only: Vec<u16>,
        /// Where to write the table as JSON; `-` is standard output.
        #[arg(long)]
        json: Option<String>,
    },
    /// Runs one seed, or a saved plan, again.
    Replay {
        /// The seed.
        #[arg(long, required_unless_present = "plan")]
        seed: Option<u64>,
        /// What runs.
        #[arg(long)]
        scenario: Option<ScenarioArg>,
        /// The seeded bug to switch on.
        #[arg(long, default_value_t = 0)]
        mutant: u16,
        /// A plan to run instead of a seed's.
        #[arg(long)]
        plan: Option<String>,
        /// Where to save the plan as JSON.
        #[arg(long)]
        save_plan: Option<String>,
        /// What to tell.
        #[arg(long, default_value = "off")]
        trace: TraceArg,
    },
}

impl From<ScenarioArg> for Scenario {
    fn from(arg: ScenarioArg) -> Self {
        match arg {
            ScenarioArg::Wal => Self::Wal,
            ScenarioArg::Store => Self::Store,
            ScenarioArg::ObjectWal => Self::ObjectWal,
        }
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    match Args::parse().command {
        Command::Run {
            seeds,
            seed,
            scenario,
            mutant,
            json,
        } => {
            let scenario = scenario.map(Scenario::from);
            run(
                Campaign {
                    first_seed: seed,
                    num_seeds: seeds,
                    scenario,
                    mutant,
                },
                json.as_deref(),
            )
        }
        Command::Mutants {
            max_seeds,
            seed,
            only,
            json,
        } => mutants(&only, seed, max_seeds, json.as_deref()),
        Command::Replay {
            seed,
            scenario,
            mutant,
            plan,
            save_plan,
            trace,
        } => {
            let plan = match plan {
                Some(path) => read_plan(&path),
                None => {
                    let seed = seed.unwrap_or(1);
                    Ok(Plan::new(
                        seed,
                        scenario_of(seed, scenario.map(Scenario::from)),
                    ))
                }
            };
            match plan {
                Ok(plan) => replay(&plan, mutant, save_plan.as_deref(), trace),
                Err(code) => code,
            }
        }
    }
}

/// The revision under test, where whoever starts us says so.
fn git() -> String {
    std::env::var("TIDEWATER_GIT").unwrap_or_else(|_| "unknown".to_owned())
}

fn header(seed: u64, scenario: &str, mutant: u16, options: &str) {
    eprintln!(
        "sim SEED={seed} git={} scenario={scenario} mutant={mutant} opts={{{options}}}",
        git()
    );
}

fn refused(what: &str, path: &str, cause: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("cannot {what} {path}: {cause}");
    ExitCode::from(3)
}

fn known(mutant: u16) -> bool {
    let known = mutant == 0 || known_mutant(mutant).is_some();
    if !known {
        eprintln!("mutant {mutant} is not wired; `tidewater-sim mutants` lists those that are");
    }
    known
}

fn run(campaign: Campaign, json: Option<&str>) -> ExitCode {
    if !known(campaign.mutant) {
        return ExitCode::from(2);
    }
    hush_panics();
    let name = campaign.scenario.map_or("all", Scenario::name);
    header(
        campaign.first_seed,
        name,
        campaign.mutant,
        &format!("seeds={}", campaign.num_seeds),
    );
    let mut sums = Sums::new(git());
    let start = Instant::now();
    let quiet = json == Some("-");
    run_campaign(campaign, |result| {
        let head = format!(
            "seed={} scenario={} trace={:016x} events={}",
            result.seed,
            result.scenario.name(),
            result.report.trace_hash,
            result.report.num_events
        );
        match sums.add(&result, campaign.mutant) {
            Some(failure) => {
                let line = format!(
                    "{head} FAIL checker={} {} replay: {}",
                    failure.checker, failure.detail, failure.replay
                );
                if quiet {
                    eprintln!("{line}")
                } else {
                    println!("{line}")
                }
            }
            None if !quiet => println!("{head} ok"),
            None => {}
        }
        true
    });
    let took = start.elapsed();
    sums.finish(took);
    eprintln!(
        "{} seeds, {} failed, {} run twice, {:.1} s",
        campaign.num_seeds,
        sums.failures.len(),
        sums.determinism.rerun,
        took.as_secs_f64()
    );
    finish(&sums, json)
}

fn finish(sums: &Sums, json: Option<&str>) -> ExitCode {
    if let Some(path) = json
        && let Err(error) = sums.write_json(path)
    {
        return refused("write", path, &error);
    }
    let survivors = sums.mutants.iter().any(|row| !row.killed);
    ExitCode::from(u8::from(survivors || !sums.failures.is_empty()))
}

fn mutants(only: &[u16], seed: u64, max_seeds: u64, json: Option<&str>) -> ExitCode {
    if !only.iter().all(|id| known(*id)) {
        return ExitCode::from(2);
    }
    hush_panics();
    header(seed, "all", 0, &format!("max_seeds={max_seeds}"));
    let mut sums = Sums::new(git());
    let start = Instant::now();
    eprintln!(
        "{:>3}  {:<8} {:>6}  {:<11} name",
        "id", "group", "seeds", "checker"
    );
    hunt(only, seed, max_seeds, &mut sums, |row| {
        let seeds = row
            .seeds_to_kill
            .map_or("-".to_owned(), |seeds| seeds.to_string());
        let checker = row.checker.unwrap_or("SURVIVED");
        eprintln!(
            "{:>3}  {:<8} {seeds:>6}  {checker:<11} {}",
            row.id, row.group, row.name
        );
    });
    sums.finish(start.elapsed());
    let mut kills: Vec<u64> = sums
        .mutants
        .iter()
        .filter_map(|row| row.seeds_to_kill)
        .collect();
    kills.sort_unstable();
    eprintln!(
        "{} of {} mutants killed, median {} seeds; control: {} failures",
        kills.len(),
        sums.mutants.len(),
        kills.get(kills.len() / 2).copied().unwrap_or(0),
        sums.failures.len()
    );
    for failure in &sums.failures {
        eprintln!(
            "control FAIL seed={} checker={} {}",
            failure.seed, failure.checker, failure.detail
        );
    }
    finish(&sums, json)
}

fn read_plan(path: &str) -> Result<Plan, ExitCode> {
    let text = fs::read_to_string(path).map_err(|error| refused("read", path, &error))?;
    serde_json::from_str(&text).map_err(|error| {
        eprintln!("{path} is no plan: {error}");
        ExitCode::from(2)
    })
}

fn replay(plan: &Plan, mutant: u16, save_plan: Option<&str>, trace: TraceArg) -> ExitCode {
    header(plan.seed, plan.scenario.name(), mutant, "");
    if let Some(path) = save_plan {
        let saved = serde_json::to_string_pretty(plan).map_err(std::io::Error::from);
        if let Err(error) = saved.and_then(|text| fs::write(path, text + "\n")) {
            return refused("write", path, &error);
        }
    }
    let report = run_plan(plan, mutant, trace == TraceArg::Full);
    for line in &report.text {
        println!("{line}");
    }
    let head = format!(
        "seed={} trace={:016x} events={}",
        plan.seed, report.trace_hash, report.num_events
    );
    match &report.failure {
        None => println!("{head} ok"),
        Some(failure) => {
            let replay = replay_line(plan.seed, plan.scenario, mutant);
            println!(
                "{head} FAIL checker={} {} replay: {replay}",
                failure.checker, failure.detail
            );
        }
    }
    ExitCode::from(u8::from(report.failure.is_some()))
}
