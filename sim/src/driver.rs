//! The campaign and its commands: everything of the simulator that a person or a script meets.
//!
//! *Owns*: what the commands share.
//! *Does not own*: what a run does, the command line (driver/cli.rs).
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a driver: campaigns run on real threads and are timed by a real clock"
)]

mod again;
mod campaign;
mod cli;
mod commands;
mod diff;
mod finding;
mod gate;
mod hunt;
mod kinds;
mod live;
mod page;
mod progress;
mod report;
mod shrinking;
mod trials;

use std::cell::Cell;
use std::fmt::Display;
use std::fs;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::mutants::mutant as known_mutant;

pub use cli::main;
pub use trials::{TrialFailure, Trials};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics of simulated code off standard error: they are findings, not crashes.
fn hush_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            default(info);
        }
    }));
}

/// Calls `run` with its panics kept off standard error.
fn quietly<T>(run: impl FnOnce() -> T) -> T {
    QUIET.set(true);
    let value = run();
    QUIET.set(false);
    value
}

/// Number of runs at a time.
fn num_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// The revision under test, where whoever starts us says so.
fn git() -> String {
    std::env::var("TIDEWATER_GIT").unwrap_or_else(|_| "unknown".to_owned())
}

/// The first line of every run.
fn header(seed: u64, scenario: &str, mutant: u16, options: &str) {
    eprintln!(
        "sim SEED={seed} git={} scenario={scenario} mutant={mutant} opts={{{options}}}",
        git()
    );
}

fn refused(what: &str, path: impl AsRef<Path>, cause: &dyn Display) -> ExitCode {
    eprintln!("cannot {what} {}: {cause}", path.as_ref().display());
    ExitCode::from(3)
}

fn is_known(mutant: u16) -> bool {
    let known = mutant == 0 || known_mutant(mutant).is_some();
    if !known {
        eprintln!("mutant {mutant} is not wired; `tidewater-sim mutants` lists those that are");
    }
    known
}

/// Writes `value` as JSON to `target`, `-` being standard output.
fn write_json(value: &impl Serialize, target: &str) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    if target == "-" {
        println!("{text}");
        return Ok(());
    }
    write_whole(Path::new(target), &(text + "\n"))
}

/// Writes a file whole: whoever is interrupted leaves the one that was there before.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    // A pipe or a device takes what it is given, and is not replaced.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::write(path, text);
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, text)?;
    fs::rename(&part, path)
}
