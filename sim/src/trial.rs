//! A scenario of somebody else's: their code, their plan, on this executor.
//!
//! *Owns*: the trait, and one run of it.
//! *Does not own*: many runs, shrinking and pictures (driver/trials.rs).
//!
//! Invariants
//! 1. What this module makes of a seed follows from the seed and the plan alone; whether the
//!    trial does so too is checked by running some seeds twice.
//!
//! *IO: none*

use std::fmt::Debug;

use tidewater_types::BoxFuture;

use crate::check::Violation;
use crate::exec::{Executor, Handle, Limits};
use crate::scenario::common::LIMITS;
use crate::scenario::{RunReport, watched};
use crate::trace::Keep;

/// A scenario that runs code of one's own below or above the public ports.
///
/// A trial draws a plan from a seed and carries it out on the executor. It owns its simulated
/// disks, buckets and environments, its lives (a [`Tag`](crate::Tag) each) and its checkers. It
/// must take time, tasks and random numbers from [`Handle`], [`SimEnv`](crate::SimEnv) and
/// [`Rng`](crate::Rng) alone.
pub trait Trial: Sync {
    /// What a seed decides besides the order of tasks and the times of devices: workload, faults,
    /// ends of lives.
    type Plan: Clone + Debug + Send + 'static;

    /// A short name, for messages and files.
    fn name(&self) -> &str;

    /// The plan of `seed`. Draw from `Rng::new(seed, "…")` and nothing else.
    fn plan(&self, seed: u64) -> Self::Plan;

    /// Carries `plan` out; an error is a finding. So are a panic of any task, a deadlock and a run
    /// that goes beyond [`Trial::limits`].
    fn run(
        &self,
        handle: Handle,
        seed: u64,
        plan: &Self::Plan,
    ) -> BoxFuture<'static, Result<(), Violation>>;

    /// Plans that do a little less than `plan`, the boldest first. Those that fail alike take its
    /// place, again and again. None: a failure is shown as it was found.
    fn smaller(&self, _plan: &Self::Plan) -> Vec<Self::Plan> {
        Vec::new()
    }

    /// What a run may take; one that needs more hangs.
    fn limits(&self) -> Limits {
        LIMITS
    }

    /// The command that shows `seed` again: this program, where its `main` is that of
    /// [`Trials`](crate::Trials).
    fn replay(&self, seed: u64) -> String {
        let program = std::env::args().next().unwrap_or_default();
        format!("{program} --seed {seed}")
    }
}

/// Carries `plan` out as the run `seed`; with `keep_text`, everything that happened in words.
#[must_use]
pub fn run_trial<T: Trial>(trial: &T, seed: u64, plan: &T::Plan, keep_text: bool) -> RunReport {
    let keep = if keep_text { Keep::Lines } else { Keep::Hash };
    let run = |executor: &Executor| {
        let body = trial.run(executor.handle(), seed, plan);
        (executor.run(trial.limits(), body), Vec::new())
    };
    watched(Executor::new(seed), keep, run).in_words()
}
