//! Many seeds on all cores, one seed a thread at a time.
//!
//! *Owns*: threads, the order of results, which seeds must prove determinism.
//! *Does not own*: what a run does, sums (report.rs).
//!
//! Invariants
//! 1. Results come out in the order of the seeds, whatever thread ran them.
//! 2. One seed of a hundred, and the first of each campaign, runs again in another process; a
//!    differing trace or verdict is a failure.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a driver: campaigns run on real threads and are timed by a real clock"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tidewater_types::{sometimes_hits, sometimes_reset};

use super::{again, num_threads, quietly};
use crate::check::Violation;
use crate::plan::{Plan, Scenario};
use crate::rng::Rng;
use crate::scenario::{RunReport, Watch, run_watched};
use crate::trace::Keep;

/// One seed in so many of 1,000 runs again in another process.
pub(super) const AGAIN_PER_MILLE: u32 = 10;

/// When a campaign is over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Budget {
    Seeds(u64),
    Time(Duration),
}

/// The seeds of a campaign.
#[derive(Clone, Copy, Debug)]
pub(super) struct Campaign {
    pub(super) first_seed: u64,
    pub(super) budget: Budget,
    /// `None`: each seed chooses.
    pub(super) scenario: Option<Scenario>,
    pub(super) mutant: u16,
    /// Whether some seeds prove determinism.
    pub(super) self_check: bool,
}

/// One seed's end.
pub(super) struct SeedResult {
    pub(super) seed: u64,
    pub(super) scenario: Scenario,
    pub(super) report: RunReport,
    pub(super) rerun: bool,
    pub(super) sometimes: Vec<(&'static str, u64)>,
    /// What its thread took for it: the run with its checkers, and the second run in another
    /// process where there was one; not the making of the plan.
    pub(super) took: Duration,
}

/// Runs one plan on this thread.
pub(super) fn run_one(plan: &Plan, mutant: u16, keep: Keep, rerun: bool) -> SeedResult {
    let start = Instant::now();
    sometimes_reset();
    let watch = Watch {
        keep,
        impure_after_ns: None,
    };
    let mut report = quietly(|| run_watched(plan, mutant, watch));
    let sometimes = sometimes_hits();
    if rerun {
        let other = again::in_another_process(plan, mutant);
        if let Some(detail) = other.map_or_else(Some, |told| again::mismatch(&report, &told)) {
            report.failure = Some(Violation::new("determinism", detail));
        }
    }
    let took = start.elapsed();
    SeedResult {
        seed: plan.seed,
        scenario: plan.scenario,
        report,
        rerun,
        sometimes,
        took,
    }
}

impl Campaign {
    fn is_over(&self, number: u64, start: Instant) -> bool {
        match self.budget {
            Budget::Seeds(most) => number >= most,
            Budget::Time(most) => start.elapsed() >= most,
        }
    }

    /// How much of 1 is done after so many seeds and so much time.
    pub(super) fn share(&self, num_seeds: u64, took: Duration) -> f64 {
        match self.budget {
            Budget::Seeds(most) => num_seeds as f64 / most as f64,
            Budget::Time(most) => took.as_secs_f64() / most.as_secs_f64(),
        }
    }

    fn run(&self, number: u64) -> SeedResult {
        let seed = self.first_seed.wrapping_add(number);
        let scenario = self.scenario.unwrap_or(Scenario::of_seed(seed));
        let drawn = number == 0 || Rng::new(seed, "rerun").chance(AGAIN_PER_MILLE);
        let plan = Plan::new(seed, scenario);
        run_one(&plan, self.mutant, Keep::Hash, self.self_check && drawn)
    }
}

/// Runs all seeds; `each` sees the results in order and may stop the rest by `false`.
pub(super) fn run_campaign(campaign: Campaign, each: impl FnMut(SeedResult) -> bool) {
    let start = Instant::now();
    let run = |number| (!campaign.is_over(number, start)).then(|| campaign.run(number));
    on_all_cores(run, each);
}

/// Calls `run` with 0, 1, … until it answers `None`; `each` sees the answers in that order and may
/// stop the rest by `false`.
pub(super) fn on_all_cores<T: Send>(
    run: impl Fn(u64) -> Option<T> + Sync,
    mut each: impl FnMut(T) -> bool,
) {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..num_threads() {
            let sender = sender.clone();
            let (next, stop, run) = (&next, &stop, &run);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let Some(result) = run(number) else {
                        return;
                    };
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
        // When time runs out, a number may have been taken and not run: the rest counts too.
        for result in waiting.into_values() {
            if !stop.load(Ordering::Relaxed) && !each(result) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
}
