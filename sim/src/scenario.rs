//! One run: a plan carried out on the executor, and what came of it.
//!
//! *Owns*: the start and the end of a run, and how a stop becomes a failure.
//! *Does not own*: what the scenarios do.
//!
//! Invariants
//! 1. A run leaves nothing behind on its thread: the mutant is switched off at its end.
//!
//! *IO: none*

pub(crate) mod common;
pub(crate) mod object;
pub(crate) mod store;
pub(crate) mod wal;

use tidewater_types::set_mutant;

use crate::check::Violation;
use crate::exec::Executor;
use crate::plan::{Plan, Scenario};
use common::failure_of;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct RunReport {
    /// Hash over everything that happened.
    pub trace_hash: u64,
    /// Events in it.
    pub num_events: u64,
    /// The hash after each 1,024 events.
    pub checkpoints: Vec<u64>,
    /// Virtual time that passed, in nanoseconds.
    pub virtual_ns: u64,
    /// What must not be and was.
    pub failure: Option<Violation>,
    /// How often each fault struck.
    pub faults: Vec<(&'static str, u64)>,
    /// Every event in words, if they were asked for.
    pub text: Vec<String>,
}

/// Carries `plan` out with the seeded bug `mutant` (0 is none).
#[must_use]
pub fn run_plan(plan: &Plan, mutant: u16, keep_text: bool) -> RunReport {
    set_mutant(mutant);
    let executor = Executor::new(plan.seed);
    if keep_text {
        executor.keep_text();
    }
    let (outcome, faults) = match plan.scenario {
        Scenario::Wal => wal::run(&executor, plan),
        Scenario::Store => store::run(&executor, plan),
        Scenario::ObjectWal => object::run(&executor, plan),
    };
    let (num_events, checkpoints) = executor.trace_checkpoints();
    let report = RunReport {
        trace_hash: executor.trace_hash(),
        num_events,
        checkpoints,
        virtual_ns: executor.handle().now().0,
        failure: failure_of(outcome),
        faults,
        text: executor.take_text(),
    };
    drop(executor);
    set_mutant(0);
    report
}
