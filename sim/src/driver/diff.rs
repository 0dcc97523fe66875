//! `diff`: a plan twice in two processes, and the first event that differs.
//!
//! *Owns*: the comparison. *Does not own*: the processes (again.rs).
//!
//! *IO: driver*

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::again::{Ask, Told, ask};
use super::{header, refused, write_json};
use crate::plan::Plan;

/// Lines shown above the first that differs.
const LINES_BEFORE: usize = 8;

/// What two runs of a plan have in common.
#[derive(Clone, Debug, Serialize)]
struct Comparison {
    seed: u64,
    scenario: &'static str,
    alike: bool,
    num_events: [u64; 2],
    trace: [String; 2],
    /// How each failed, if it did.
    failure: [Option<String>; 2],
    /// Where heap and stack of each lie.
    layout: [[u64; 2]; 2],
    first_difference: Option<Difference>,
}

/// The first event that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Difference {
    /// Lines before it that are alike.
    line: usize,
    after: Vec<String>,
    one: Option<String>,
    other: Option<String>,
}

/// Runs `plan` in two processes that differ in memory alone.
pub(super) fn diff(
    plan: &Plan,
    mutant: u16,
    impure_after_ns: Option<u64>,
    json: Option<&str>,
) -> ExitCode {
    header(plan.seed, plan.scenario.name(), mutant, "diff");
    let folder = std::env::temp_dir();
    let asked = |salt: u64| Ask {
        plan: plan.clone(),
        mutant,
        salt,
        events: Some(folder.join(format!("tidewater-sim-{}-{salt}", std::process::id()))),
        impure_after_ns,
    };
    let asks = [asked(1), asked(2)];
    let told: Vec<Result<Told, String>> = asks.iter().map(ask).collect();
    let texts = asks.each_ref().map(|ask| {
        let path = ask.events.clone().unwrap_or_default();
        let text = fs::read_to_string(&path);
        // What was not written need not be removed.
        drop(fs::remove_file(&path));
        text.unwrap_or_default()
    });
    let [one, other] = match <[_; 2]>::try_from(told) {
        Ok([Ok(one), Ok(other)]) => [one, other],
        Ok([Err(why), _] | [_, Err(why)]) => return refused("compare", folder, &why),
        Err(_) => return refused("compare", folder, &"two answers are needed"),
    };
    let alike = (one.trace_hash, one.num_events, &one.failure)
        == (other.trace_hash, other.num_events, &other.failure);
    let comparison = Comparison {
        seed: plan.seed,
        scenario: plan.scenario.name(),
        alike,
        num_events: [one.num_events, other.num_events],
        trace: [one.trace_hash, other.trace_hash].map(|hash| format!("{hash:016x}")),
        layout: [one.layout, other.layout],
        failure: [one.failure, other.failure],
        first_difference: first_difference(&texts[0], &texts[1]),
    };
    tell(&comparison);
    if let Some(path) = json
        && let Err(why) = write_json(&comparison, path)
    {
        return refused("write", PathBuf::from(path), &why);
    }
    ExitCode::from(u8::from(!alike))
}

fn tell(found: &Comparison) {
    for (number, [heap, stack]) in found.layout.iter().enumerate() {
        eprintln!(
            "process {}: heap at {heap:#x}, stack at {stack:#x}",
            number + 1
        );
    }
    if found.alike {
        eprintln!(
            "alike: {} events, trace {}",
            found.num_events[0], found.trace[0]
        );
    }
    if found.failure[0] != found.failure[1] {
        for (number, failure) in found.failure.iter().enumerate() {
            let verdict = failure.as_deref().unwrap_or("ends well");
            eprintln!("process {}: {verdict}", number + 1);
        }
    }
    let Some(difference) = &found.first_difference else {
        return;
    };
    eprintln!(
        "the runs part after {} lines that are alike:",
        difference.line
    );
    for line in &difference.after {
        eprintln!("    {line}");
    }
    let end = "(the run is over)".to_owned();
    eprintln!("1 > {}", difference.one.as_ref().unwrap_or(&end));
    eprintln!("2 > {}", difference.other.as_ref().unwrap_or(&end));
}

fn first_difference(one: &str, other: &str) -> Option<Difference> {
    let (one, other): (Vec<&str>, Vec<&str>) = (one.lines().collect(), other.lines().collect());
    let most = one.len().max(other.len());
    let line = (0..most).find(|line| one.get(*line) != other.get(*line))?;
    let owned = |lines: &[&str]| lines.get(line).map(ToString::to_string);
    let before = &one[line.saturating_sub(LINES_BEFORE)..line];
    Some(Difference {
        line,
        after: before.iter().map(ToString::to_string).collect(),
        one: owned(&one),
        other: owned(&other),
    })
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn the_first_line_that_differs_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        let found = first_difference("a\nb\nc\n", "a\nx\nc\n").unwrap();
        assert_eq!((found.line, found.after), (1, vec!["a".to_owned()]));
        let ended = first_difference("a\n", "a\nb\n").unwrap();
        assert_eq!((ended.one, ended.other), (None, Some("b".to_owned())));
    }
}
