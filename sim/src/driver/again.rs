//! The same plan in another process: what proves that nothing but the plan decides.
//!
//! *Owns*: the process, its allocator pattern and address layout, what it tells, the comparison.
//! *Does not own*: which seeds must prove it.
//!
//! Invariants
//! 1. The other process fills memory with other bytes, has holes in its heap, another number of
//!    arenas, another threshold for large blocks, runs on a stack of another size, and tells what it
//!    does: that must change nothing, or no replay would show what was found.
//! 2. Alike are two runs with one trace and one verdict.
//! 3. A process that does not answer is a mismatch, never a pass.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a driver: it starts a process and a thread"
)]

use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::quietly;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::scenario::{RunReport, Watch, run_watched};
use crate::trace::Keep;

/// The pattern of the process that proves determinism.
const SALT: u64 = 7;

/// What the other process is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) plan: Plan,
    pub(super) mutant: u16,
    /// Decides its allocator pattern and layout.
    pub(super) salt: u64,
    /// Where every event is written to.
    pub(super) events: Option<PathBuf>,
    /// Lets an address into the trace after so much virtual time (for tests of this very check).
    pub(super) impure_after_ns: Option<u64>,
}

/// What the other process answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) trace_hash: u64,
    pub(super) num_events: u64,
    pub(super) checkpoints: Vec<u64>,
    /// What must not be and was.
    pub(super) failure: Option<String>,
    /// Where its heap and its stack lie.
    pub(super) layout: [u64; 2],
}

/// Runs `plan` in another process.
///
/// # Errors
/// How it failed to answer.
pub(super) fn in_another_process(plan: &Plan, mutant: u16) -> Result<Told, String> {
    ask(&Ask {
        plan: plan.clone(),
        mutant,
        salt: SALT,
        events: None,
        impure_after_ns: None,
    })
}

/// What differs between a run here and one there, if anything does.
pub(super) fn mismatch(here: &RunReport, there: &Told) -> Option<String> {
    let verdict = |failure: Option<String>| failure.unwrap_or_else(|| "ended well".to_owned());
    let ours = here.failure.as_ref().map(ToString::to_string);
    if (here.trace_hash, here.num_events) == (there.trace_hash, there.num_events) {
        return (ours != there.failure).then(|| {
            format!(
                "one trace and two verdicts; here: {}; in another process: {}",
                verdict(ours),
                verdict(there.failure.clone())
            )
        });
    }
    let pairs = here.checkpoints.iter().zip(&there.checkpoints);
    let agreed = pairs.take_while(|(a, b)| a == b).count();
    let found = ours.map_or(String::new(), |found| {
        format!("; the run here found {found}")
    });
    Some(format!(
        "trace {:016x} here, {:016x} in another process; alike for {} of {} and {} events; `diff` names the first that differs{found}",
        here.trace_hash,
        there.trace_hash,
        agreed * 1024,
        here.num_events,
        there.num_events
    ))
}

/// Starts this program again, with another memory, and asks it.
///
/// # Errors
/// How it failed to answer.
pub(super) fn ask(ask: &Ask) -> Result<Told, String> {
    let said = |what: &str, why: &dyn std::fmt::Display| format!("another process {what}: {why}");
    let mut child = Command::new(program())
        .arg("again")
        .env("MALLOC_PERTURB_", (ask.salt % 250 + 1).to_string())
        .env("MALLOC_ARENA_MAX", (ask.salt % 3 + 1).to_string())
        .env(
            "MALLOC_MMAP_THRESHOLD_",
            (4096 << (ask.salt % 6)).to_string(),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|why| said("does not start", &why))?;
    let asked = serde_json::to_vec(ask).expect("a plan is plain data");
    if let Some(mut input) = child.stdin.take() {
        // One that is gone already is told of by its status.
        drop(input.write_all(&asked));
    }
    let output = child
        .wait_with_output()
        .map_err(|why| said("does not end", &why))?;
    if !output.status.success() {
        return Err(said("failed", &output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|why| said("answers nonsense", &why))
}

/// This program, also when its file was replaced meanwhile.
fn program() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return link.to_owned();
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tidewater-sim"))
}

/// The other process: reads what it is asked on standard input, answers on standard output.
///
/// # Errors
/// What was not readable or writable.
pub(super) fn answer() -> Result<(), String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|why| why.to_string())?;
    let ask: Ask = serde_json::from_str(&text).map_err(|why| why.to_string())?;
    let holes = scramble(ask.salt);
    let stack = 2 << 20 << (ask.salt % 3);
    let told = std::thread::Builder::new()
        .stack_size(stack)
        .spawn(move || tell(&ask))
        .map_err(|why| why.to_string())?
        .join()
        .map_err(|_| "the run panicked".to_owned())??;
    drop(holes);
    let text = serde_json::to_string(&told).map_err(|why| why.to_string())?;
    println!("{text}");
    Ok(())
}

fn tell(ask: &Ask) -> Result<Told, String> {
    let holes = scramble(ask.salt + 1);
    let on_stack = 0_u8;
    let place = |byte: &u8| std::ptr::from_ref(byte).addr() as u64;
    let keep = if ask.events.is_some() {
        Keep::Events
    } else {
        Keep::Lines
    };
    let watch = Watch {
        keep,
        impure_after_ns: ask.impure_after_ns,
    };
    let report = quietly(|| run_watched(&ask.plan, ask.mutant, watch));
    if let Some(path) = &ask.events {
        let lines: String = report
            .lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(path, lines).map_err(|why| why.to_string())?;
    }
    Ok(Told {
        trace_hash: report.trace_hash,
        num_events: report.num_events,
        checkpoints: report.checkpoints,
        failure: report.failure.map(|found| found.to_string()),
        layout: [place(&holes[0][0]), place(&on_stack)],
    })
}

/// Blocks of odd sizes; those between them are free again.
fn scramble(salt: u64) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(salt, "holes");
    let blocks: Vec<Vec<u8>> = (0..2_000)
        .map(|_| {
            let len = usize::try_from(rng.between(1, 3_000)).expect("small");
            black_box(vec![0xa5; len])
        })
        .collect();
    let keep = |number: usize| (number as u64 + salt).is_multiple_of(3) || number == 0;
    let kept = blocks.into_iter().enumerate();
    kept.filter_map(|(number, block)| keep(number).then_some(block))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Told, mismatch, scramble};
    use crate::check::Violation;
    use crate::scenario::RunReport;

    #[test]
    fn a_trace_that_differs_anywhere_is_a_mismatch_and_says_how_far_it_was_alike() {
        let here = RunReport {
            trace_hash: 5,
            num_events: 3000,
            checkpoints: vec![1, 2],
            ..RunReport::default()
        };
        let told = |trace_hash, num_events, checkpoints: &[u64]| Told {
            trace_hash,
            num_events,
            checkpoints: checkpoints.to_vec(),
            failure: None,
            layout: [0; 2],
        };
        assert_eq!(mismatch(&here, &told(5, 3000, &[1, 2])), None);
        let other = mismatch(&here, &told(6, 3000, &[1, 9])).unwrap();
        assert!(other.contains("alike for 1024 of 3000"), "{other}");
        let shorter = mismatch(&here, &told(5, 2999, &[1, 2])).unwrap();
        assert!(shorter.contains("and 2999 events"), "{shorter}");
    }

    #[test]
    fn another_verdict_on_the_same_trace_is_a_mismatch_too() {
        let lost = Violation::new("log", "lost");
        let here = |failure| RunReport {
            failure,
            ..RunReport::default()
        };
        let there = |failure: Option<&Violation>| Told {
            trace_hash: 0,
            num_events: 0,
            checkpoints: Vec::new(),
            failure: failure.map(ToString::to_string),
            layout: [0; 2],
        };
        let both = here(Some(lost.clone()));
        assert_eq!(mismatch(&both, &there(Some(&lost))), None);
        let found = mismatch(&both, &there(None)).unwrap();
        assert!(found.contains("here: log: lost;"), "{found}");
        assert!(found.contains("another process: ended well"), "{found}");
        assert!(mismatch(&here(None), &there(Some(&lost))).is_some());
        let other = Violation::new("log", "gap");
        assert!(mismatch(&both, &there(Some(&other))).is_some());
        let mut elsewhere = there(None);
        elsewhere.trace_hash = 9;
        let found = mismatch(&both, &elsewhere).unwrap();
        assert!(found.ends_with("the run here found log: lost"), "{found}");
    }

    #[test]
    fn another_salt_leaves_other_holes() {
        let sizes = |salt| scramble(salt).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(1), sizes(1));
        assert_ne!(sizes(1), sizes(2));
        assert!(sizes(3).len() > 500 && !scramble(3)[0].is_empty());
    }
}
