//! One run: a plan carried out on the executor, and what came of it.
//!
//! *Owns*: the start and the end of a run, and how a stop becomes a failure.
//! *Does not own*: what the scenarios do.
//!
//! Invariants
//! 1. A run leaves nothing behind on its thread: the mutant is switched off at its end.
//!
//! *IO: none*

pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod common;
#[cfg(test)]
mod followed;
pub(crate) mod gate;
pub(crate) mod metadata;
pub(crate) mod object;
pub(crate) mod progress;
pub(crate) mod store;
pub(crate) mod tier;
pub(crate) mod told;
pub(crate) mod wal;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidewater_types::set_mutant;

use crate::check::Violation;
use crate::exec::{Executor, Stop, panic_message};
use crate::plan::{Plan, Scenario};
use crate::trace::{Event, Keep, Line};
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
    /// The same, not yet in words.
    pub(crate) lines: Vec<Line>,
}

impl RunReport {
    /// The same with `text`.
    pub(crate) fn in_words(mut self) -> Self {
        self.text = self.lines.iter().map(ToString::to_string).collect();
        self
    }
}

/// How a run is watched.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    pub(crate) keep: Keep,
    /// After so much virtual time an address enters the trace: what must be noticed.
    pub(crate) impure_after_ns: Option<u64>,
}

/// Carries `plan` out with the seeded bug `mutant` (0 is none).
#[must_use]
pub fn run_plan(plan: &Plan, mutant: u16, keep_text: bool) -> RunReport {
    let keep = if keep_text { Keep::Lines } else { Keep::Hash };
    let watch = Watch {
        keep,
        impure_after_ns: None,
    };
    run_watched(plan, mutant, watch).in_words()
}

/// Carries `plan` out and keeps what `watch` asks for.
pub(crate) fn run_watched(plan: &Plan, mutant: u16, watch: Watch) -> RunReport {
    set_mutant(mutant);
    let executor = Executor::new(plan.seed);
    if let Some(wait_ns) = watch.impure_after_ns {
        let (handle, place) = (executor.handle(), Box::new(0_u8));
        executor.handle().call_after(wait_ns, move || {
            let address = std::ptr::from_ref(&*place).addr();
            handle.note(Event::Note, address as u64, 0);
        });
    }
    let report = watched(executor, watch.keep, |executor| match plan.scenario {
        Scenario::Wal => wal::run(executor, plan),
        Scenario::Store => store::run(executor, plan),
        Scenario::ObjectWal => object::run(executor, plan),
        Scenario::Metadata => metadata::run(executor, plan),
        Scenario::Tier => tier::run(executor, plan),
        Scenario::Broker | Scenario::Brokers => broker::run(executor, plan),
        Scenario::Cluster => cluster::run(executor, plan),
    });
    set_mutant(0);
    report
}

/// How a run ended, and how often each fault struck as far as its parts count that.
pub(crate) type Ended = (
    Result<Result<(), Violation>, Stop>,
    Vec<(&'static str, u64)>,
);

/// Calls `run` with the executor, and gathers what came of it.
pub(crate) fn watched(
    executor: Executor,
    keep: Keep,
    run: impl FnOnce(&Executor) -> Ended,
) -> RunReport {
    executor.keep(keep);
    // A plan made by hand may be none that a scenario can begin with: that is a finding too.
    let run = catch_unwind(AssertUnwindSafe(|| run(&executor)));
    let (failure, mut faults) = match run {
        Ok((outcome, faults)) => (failure_of(outcome), faults),
        Err(panic) => {
            let detail = format!("the scenario panicked: {}", panic_message(panic.as_ref()));
            (Some(Violation::new("panic", detail)), Vec::new())
        }
    };
    faults.extend(executor.strikes());
    let (num_events, checkpoints) = executor.trace_checkpoints();
    let mut report = RunReport {
        trace_hash: executor.trace_hash(),
        num_events,
        checkpoints,
        virtual_ns: executor.handle().now().0,
        failure,
        faults,
        text: Vec::new(),
        lines: executor.take_lines(),
    };
    drop(executor);
    tell_failure(&mut report, keep);
    report
}

/// A failure that nobody told where it was found is told at the end.
fn tell_failure(report: &mut RunReport, keep: Keep) {
    let is_told = |line: &Line| line.text.starts_with("FAIL");
    let Some(violation) = &report.failure else {
        return;
    };
    if keep == Keep::Hash || report.lines.iter().any(is_told) {
        return;
    }
    report.lines.push(Line {
        event: report.num_events,
        at_ns: report.virtual_ns,
        life: 0,
        text: format!("FAIL  {violation}"),
    });
}
