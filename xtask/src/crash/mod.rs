//! `cargo xtask crash-test`: the write-ahead log against a real kernel's block layer.
//!
//! *Owns*: the command line, the order of classes, exit codes: 0 all well, 1 a finding, 2 bad
//! usage, 3 the environment refuses.
//! *Does not own*: the workload and the judge (`tidewater-crash`, in the simulator's crate).
//!
//! Invariants
//! 1. Whatever the kernel or the system refuses is a failure, never a skip.
//! 2. Nothing is left running, mounted or lying about, but recordings that show a finding. (A
//!    SIGKILL can leave a mount; the next run takes it away.)
//!
//! *IO: driver*

mod export;
mod failure;
mod faults;
mod guest;
mod options;
mod passes;
mod report;
mod runs;
mod table;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::services::work_dir;
use failure::{Failure, undisturbed};
use options::{Options, USAGE, chosen, parse};
use report::Summary;
use runs::Runner;
use table::PASSES;
use tools::Tools;

pub(crate) fn main(root: &Path, args: &[&str]) -> ExitCode {
    let options = match parse(args) {
        Ok(options) => options,
        Err(why) => {
            eprint!("{USAGE}");
            eprintln!("xtask crash-test: {why}");
            return ExitCode::from(2);
        }
    };
    if options.list {
        PASSES.iter().for_each(|pass| println!("{}", pass.name));
        return ExitCode::SUCCESS;
    }
    match run(root, &options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("xtask crash-test: a check failed");
            ExitCode::from(1)
        }
        Err(Failure::Check(why)) => {
            eprintln!("xtask crash-test: {why}");
            ExitCode::from(1)
        }
        Err(Failure::Environment(why) | Failure::Disturbed(why)) => {
            eprintln!("xtask crash-test: the environment refuses: {why}");
            ExitCode::from(3)
        }
    }
}

fn run(root: &Path, options: &Options) -> Result<bool, Failure> {
    let begin = Instant::now();
    let quiet = options.json.as_deref() == Some("-");
    let say = |line: &str| {
        if quiet {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    };
    let mut runner = Runner::new(&work_dir(root).join("crash"))?;
    let tools = Tools::prepare(&mut runner, root)?;
    let mut summary = Summary {
        seed: options.seed,
        classes: Vec::new(),
        faults: Vec::new(),
        seconds: 0.0,
    };
    for (pass, states) in chosen(options) {
        let class = undisturbed(|| passes::run(&mut runner, &tools, options, pass, states))
            .map_err(|failure| named(pass.name, failure))?;
        say(&class.line());
        class.failures().iter().for_each(|line| say(line));
        summary.classes.push(class);
    }
    if !options.no_faults && options.classes.is_empty() {
        let faults = &mut summary.faults;
        faults::run(&mut runner, &tools, options, |fault| {
            say(&fault.line());
            faults.push(fault);
        })?;
    }
    summary.seconds = begin.elapsed().as_secs_f64();
    say(&summary.line());
    if let Some(path) = &options.json {
        write(path, &summary.json().to_string())?;
    }
    Ok(summary.is_ok())
}

fn named(class: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Check(why) => Failure::Check(format!("{class}: {why}")),
        Failure::Environment(why) => Failure::Environment(format!("{class}: {why}")),
        Failure::Disturbed(why) => Failure::Disturbed(format!("{class}: {why}")),
    }
}

fn write(path: &str, text: &str) -> Result<(), Failure> {
    if path == "-" {
        println!("{text}");
        return Ok(());
    }
    let path = PathBuf::from(path);
    std::fs::write(&path, format!("{text}\n"))
        .map_err(|why| Failure::environment("write", &path, &why))
}
