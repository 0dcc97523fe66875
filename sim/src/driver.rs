//! The campaign: many seeds on all cores, one seed a thread at a time.
//!
//! *Owns*: threads, the order of results, the self-check for determinism, the clock that
//! measures speed.
//! *Does not own*: what a run does, the command line (driver/cli.rs).
//!
//! Invariants
//! 1. Results come out in the order of the seeds, whatever thread ran them.
//! 2. One seed of a hundred, and the first of each campaign, runs twice; a differing
//!    trace is a failure.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a driver: campaigns run on real threads and are timed by a real clock"
)]

mod cli;
mod hunt;
mod report;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use tidewater_types::{sometimes_hits, sometimes_reset};

use crate::check::Violation;
use crate::plan::{Plan, Scenario};
use crate::rng::Rng;
use crate::scenario::{RunReport, run_plan};

pub use cli::main;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The seeds of a campaign.
#[derive(Clone, Copy, Debug)]
struct Campaign {
    first_seed: u64,
    num_seeds: u64,
    /// `None`: each seed chooses.
    scenario: Option<Scenario>,
    mutant: u16,
}

/// One seed's end.
struct SeedResult {
    seed: u64,
    scenario: Scenario,
    report: RunReport,
    rerun: bool,
    sometimes: Vec<(&'static str, u64)>,
}

/// The scenario a seed runs when none was asked for.
fn scenario_of(seed: u64, asked: Option<Scenario>) -> Scenario {
    asked.unwrap_or(match seed % 3 {
        0 => Scenario::Wal,
        1 => Scenario::Store,
        _ => Scenario::ObjectWal,
    })
}

/// Keeps panics of simulated code off standard error: they are findings, not crashes.
fn hush_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            default(info);
        }
    }));
}

/// Number of runs at a time.
fn num_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Runs the seed, and again if it is one of those that must prove determinism.
fn run_seed(seed: u64, scenario: Scenario, mutant: u16, first: bool) -> SeedResult {
    QUIET.set(true);
    sometimes_reset();
    let plan = Plan::new(seed, scenario);
    let mut report = run_plan(&plan, mutant, false);
    let sometimes = sometimes_hits();
    let rerun = first || Rng::new(seed, "rerun").chance(10);
    if rerun {
        let again = run_plan(&plan, mutant, false);
        if again.trace_hash != report.trace_hash {
            let same = |(a, b): &(&u64, &u64)| a == b;
            let agreed = report
                .checkpoints
                .iter()
                .zip(&again.checkpoints)
                .take_while(same)
                .count();
            let detail = format!(
                "trace {:016x} then {:016x}, alike for {} of {} events",
                report.trace_hash,
                again.trace_hash,
                agreed * 1024,
                report.num_events
            );
            report.failure = Some(Violation::new("determinism", detail));
        }
    }
    QUIET.set(false);
    SeedResult {
        seed,
        scenario,
        report,
        rerun,
        sometimes,
    }
}

/// Runs all seeds; `each` sees the results in order and may stop the rest by `false`.
fn run_campaign(campaign: Campaign, mut each: impl FnMut(SeedResult) -> bool) {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let (sender, results) = mpsc::channel();
    let sender = Mutex::new(sender);
    std::thread::scope(|scope| {
        for _ in 0..num_threads() {
            let sender = sender.lock().expect("no panic while it is held").clone();
            let (next, stop) = (&next, &stop);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= campaign.num_seeds || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = campaign.first_seed.wrapping_add(number);
                    let scenario = scenario_of(seed, campaign.scenario);
                    let result = run_seed(seed, scenario, campaign.mutant, number == 0);
                    // The receiver is gone only when nobody wants results any more.
                    drop(sender.send((number, result)));
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut wanted = 0;
        for (number, result) in results {
            waiting.insert(number, result);
            while let Some(result) = waiting.remove(&wanted) {
                wanted += 1;
                if !stop.load(Ordering::Relaxed) && !each(result) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    });
}
