//! One run: a plan carried out on the executor, and what came of it.
//!
//! *Owns*: the start and the end of a run, and how a stop becomes a failure.
//! *Does not own*: what the scenarios do.
//!
//! Invariants
//! 1. A run leaves nothing behind on its thread: the mutant is switched off at its end.
//!
//! *IO: none*

pub(crate) mod store;
pub(crate) mod wal;

use std::time::Duration;

use tidewater_types::set_mutant;
use tidewater_wal::{DeviceWalConfig, WalError, WalMode};

use crate::check::Violation;
use crate::exec::{Executor, Limits, Stop};
use crate::plan::{Plan, Scenario, Sync};

/// What a run may take; a run that needs more hangs.
pub(crate) const LIMITS: Limits = Limits {
    polls: 3_000_000,
    time: Duration::from_secs(3600),
};

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

/// Whether reads that failed explain the refusal: both superblocks unreadable is told as damage.
pub(crate) fn unreadable(plan: &Plan, error: &WalError) -> bool {
    plan.disk_faults.read_eio > 0 && matches!(error, WalError::SuperblocksDamaged { .. })
}

/// What a run's end says is wrong.
pub(crate) fn failure_of(outcome: Result<Result<(), Violation>, Stop>) -> Option<Violation> {
    match outcome {
        Ok(result) => result.err(),
        Err(stop @ Stop::Panic { .. }) => Some(Violation::new("panic", stop.to_string())),
        Err(stop) => Some(Violation::new("liveness", stop.to_string())),
    }
}

/// The settings of the WAL: small, so that the ring wraps and fills.
pub(crate) fn wal_config(plan: &Plan, sync: Sync) -> DeviceWalConfig {
    DeviceWalConfig {
        capacity_bytes: plan.segments * 64 * 1024,
        mode: match sync {
            Sync::Flush => WalMode::RingSync,
            Sync::Dsync => WalMode::RingDsync,
        },
        ..DeviceWalConfig::tiny()
    }
}

/// Whether `needle` stands somewhere in `bytes`.
pub(crate) fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let (Some(first), len) = (needle.get(..16), needle.len()) else {
        return false;
    };
    bytes
        .windows(16)
        .enumerate()
        .any(|(at, window)| window == first && bytes.get(at..at + len) == Some(needle))
}

#[cfg(test)]
mod tests {
    use super::holds;
    use crate::check::payload;

    #[test]
    fn bytes_are_found_whole_or_not_at_all() {
        let needle = payload(5, 100);
        let around = [vec![0; 37], needle.clone(), vec![1; 9]].concat();
        assert!(holds(&around, &needle));
        assert!(!holds(&around[..130], &needle));
        let mut torn = around;
        torn[100] ^= 1;
        assert!(!holds(&torn, &needle));
    }
}
