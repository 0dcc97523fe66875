//! `cargo xtask test`: every test of the project, cheap ones first, stopping at the first failure.
//!
//! *Owns*: the order, the lines that are printed, and what to run to see a failure again.
//! *Does not own*: the tests; a step is a few commands (`steps.rs`).
//!
//! Invariants
//! 1. A missing tool or service is a failure, never a skip.
//! 2. No process that a step started outlives this one, however it ends.
//!
//! *IO: driver*

mod broker;
pub(crate) mod process;
mod steps;
mod timeline;
pub(crate) mod tools;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use process::Processes;
use steps::{Context, STEPS, Step};

const USAGE: &str = "\
usage: cargo xtask test [--list] [--only STEP]...

  without arguments runs every step in order and stops at the first failure
  --list       says what the steps are
  --only STEP  runs this step alone (may be repeated)
";

pub(crate) fn main(root: &Path, args: &[&str]) -> ExitCode {
    let chosen = match choose(args) {
        Ok(Choice::List) => {
            for step in STEPS {
                println!("{:<20} {}", step.name, step.about);
            }
            return ExitCode::SUCCESS;
        }
        Ok(Choice::Run(steps)) => steps,
        Err(why) => {
            eprint!("{USAGE}");
            eprintln!("xtask test: {why}");
            return ExitCode::from(2);
        }
    };
    match Processes::start() {
        Ok(processes) => run(&mut Context::new(root, processes), &chosen),
        Err(why) => {
            eprintln!("xtask test: {why}");
            ExitCode::from(3)
        }
    }
}

enum Choice {
    List,
    Run(Vec<&'static Step>),
}

fn choose(args: &[&str]) -> Result<Choice, String> {
    let mut only = Vec::new();
    let mut rest = args;
    loop {
        match rest {
            [] => break,
            ["--list"] => return Ok(Choice::List),
            ["--only", name, behind @ ..] => {
                let step = STEPS.iter().find(|step| step.name == *name);
                only.push(
                    step.ok_or_else(|| format!("no step is called {name:?}; --list names them"))?,
                );
                rest = behind;
            }
            [other, ..] => return Err(format!("unknown argument {other:?}")),
        }
    }
    Ok(Choice::Run(if only.is_empty() {
        STEPS.iter().collect()
    } else {
        only
    }))
}

fn run(context: &mut Context, chosen: &[&Step]) -> ExitCode {
    let begin = Instant::now();
    let mut lines = Vec::new();
    let mut failure = None;
    for (number, step) in chosen.iter().enumerate() {
        println!(
            "\n== {}/{} {}: {}",
            number + 1,
            chosen.len(),
            step.name,
            step.about
        );
        let started = Instant::now();
        let outcome = (step.run)(context);
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        lines.push(format!(
            "{word:<7} {:<20} {:>7.1} s",
            step.name,
            started.elapsed().as_secs_f64()
        ));
        println!("== {}", lines[number]);
        if let Err(why) = outcome {
            failure = Some((step, why));
            break;
        }
    }
    println!("\n{}", lines.join("\n"));
    let failed = usize::from(failure.is_some());
    if let Some((step, why)) = failure {
        println!(
            "\n{} failed: {why}\nto see it again: cargo xtask test --only {}\n",
            step.name, step.name
        );
    }
    let left = chosen.len() - lines.len();
    let not_run = if left > 0 {
        format!(", {left} not run")
    } else {
        String::new()
    };
    println!(
        "{} passed, {failed} failed{not_run} in {:.0} s",
        lines.len() - failed,
        begin.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(failed > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(args: &[&str]) -> Vec<&'static str> {
        match choose(args) {
            Ok(Choice::Run(steps)) => steps.iter().map(|step| step.name).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn steps_have_names_of_their_own() {
        let mut all = names(&[]);
        assert_eq!(all.len(), STEPS.len());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), STEPS.len());
    }

    #[test]
    fn only_the_named_steps_run() {
        assert_eq!(names(&["--only", "tidy", "--only", "fmt"]), ["tidy", "fmt"]);
        assert!(matches!(choose(&["--list"]), Ok(Choice::List)));
        assert!(choose(&["--only", "nonsense"]).is_err());
        assert!(choose(&["--only"]).is_err());
        assert!(choose(&["fmt"]).is_err());
    }
}
