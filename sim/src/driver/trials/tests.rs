//! Campaigns of trials that fail, that pass, and that are not deterministic.
//!
//! *IO: none*

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidewater_types::BoxFuture;

use super::Trials;
use crate::check::Violation;
use crate::exec::Handle;
use crate::rng::Rng;
use crate::trial::Trial;

/// Counts up to a number; from a threshold on, that is wrong.
struct Counter {
    wrong_from: u64,
}

impl Trial for Counter {
    type Plan = u64;

    fn name(&self) -> &str {
        "counter"
    }

    fn plan(&self, seed: u64) -> u64 {
        Rng::new(seed, "count").between(1, 100)
    }

    fn run(&self, handle: Handle, _: u64, plan: &u64) -> BoxFuture<'static, Result<(), Violation>> {
        let (count, wrong_from) = (*plan, self.wrong_from);
        Box::pin(async move {
            for value in 0..count {
                handle.sleep(Duration::from_millis(1)).await;
                handle.line(|| format!("counter append value={value}"));
                handle.strike("counted");
            }
            let wrong = count >= wrong_from;
            assert!(!wrong || count.is_multiple_of(2), "odd {count}");
            let detail = format!("lost: {count} of {wrong_from}");
            let violation = Violation::new("frames", detail);
            if wrong { Err(violation) } else { Ok(()) }
        })
    }

    fn smaller(&self, plan: &u64) -> Vec<u64> {
        [plan / 2, plan - 1, plan.saturating_sub(2)].to_vec()
    }
}

#[test]
fn the_lowest_seed_that_fails_is_made_small_and_shown() {
    let trial = Counter { wrong_from: 60 };
    let found = Trials::new(1000).run(&trial).unwrap_err();
    let wrong = |seed: &u64| trial.plan(*seed) >= 60;
    assert_eq!(found.seed, (1..).find(wrong).unwrap());
    assert!((60..=61).contains(&found.plan), "{}", found.plan);
    assert_eq!(found.drawn, trial.plan(found.seed));
    assert_eq!(found.report.failure, Some(found.violation.clone()));
    assert!(found.lanes.contains("!! FAIL"), "{}", found.lanes);
    assert!(found.timeline.starts_with("<!doctype html>"));
    let text = found.to_string();
    let replay = format!("--seed {}", found.seed);
    assert!(
        text.contains(&replay) && text.contains("shrunk: 6"),
        "{text}"
    );
    let folder = tempfile::tempdir().unwrap();
    let page = found.write_timeline(folder.path()).unwrap();
    assert_eq!(std::fs::read_to_string(page).unwrap(), found.timeline);
    assert_eq!(Trials::new(1000).run(&trial).unwrap_err().to_string(), text);
}

#[test]
fn a_name_leads_nowhere_but_into_the_folder() {
    let trial = Counter { wrong_from: 1 };
    let mut found = Trials::new(1).run(&trial).unwrap_err();
    let folder = tempfile::tempdir().unwrap();
    found.name = "../a b/\\c".to_owned();
    let page = found.write_timeline(folder.path()).unwrap();
    assert_eq!(page, folder.path().join("..-a-b--c-1.html"));
    assert!(page.exists());
}

#[test]
fn no_seeds_are_bad_usage() {
    let trial = Counter { wrong_from: 101 };
    let main = |args: &[&str]| Trials::new(2).main(&trial, args);
    assert_eq!(main(&["counter", "--seeds", "0"]), ExitCode::from(2));
    assert_eq!(main(&["counter", "--seeds", "1"]), ExitCode::SUCCESS);
}

#[test]
fn a_campaign_without_a_failure_tells_what_struck() {
    let faults = Trials::new(50).run(&Counter { wrong_from: 101 }).unwrap();
    assert!(faults["counted"] > 50, "{faults:?}");
    let report = Trials::new(1)
        .look(&Counter { wrong_from: 101 }, 9)
        .unwrap();
    assert!(
        report
            .text
            .iter()
            .any(|line| line.contains("counter append value=0"))
    );
}

/// Sleeps for a time that no seed decides.
struct Impure(AtomicU64);

impl Trial for Impure {
    type Plan = ();

    fn name(&self) -> &str {
        "impure"
    }

    fn plan(&self, _: u64) {}

    fn run(&self, handle: Handle, _: u64, (): &()) -> BoxFuture<'static, Result<(), Violation>> {
        let nanos = self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            handle.sleep(Duration::from_nanos(1000 + nanos)).await;
            Ok(())
        })
    }
}

#[test]
fn a_trial_that_something_else_than_the_seed_decides_is_found() {
    let found = Trials::new(1).run(&Impure(AtomicU64::new(0))).unwrap_err();
    assert_eq!((found.seed, found.violation.checker), (1, "determinism"));
}

/// Fails the first time that it runs, and never again.
struct Once(AtomicU64);

impl Trial for Once {
    type Plan = ();

    fn name(&self) -> &str {
        "once"
    }

    fn plan(&self, _: u64) {}

    fn run(&self, _: Handle, _: u64, (): &()) -> BoxFuture<'static, Result<(), Violation>> {
        let is_first = self.0.fetch_add(1, Ordering::Relaxed) == 0;
        let lost = || Violation::new("frames", "lost: the only one".to_owned());
        Box::pin(async move { if is_first { Err(lost()) } else { Ok(()) } })
    }
}

#[test]
fn a_failure_that_does_not_come_again_is_one_all_the_same() {
    let found = Trials::new(3).run(&Once(AtomicU64::new(0))).unwrap_err();
    assert_eq!((found.seed, found.violation.checker), (1, "determinism"));
    assert!(
        found.violation.detail.contains("lost: the only one"),
        "{found}"
    );
}
