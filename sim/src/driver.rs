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
use std::process::{Command, ExitCode};
use std::sync::OnceLock;

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

/// The revision under test: as whoever starts us says, or that of the checkout we were built from.
fn git() -> String {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    let found = || {
        let told = std::env::var("TIDEWATER_GIT").ok();
        told.or_else(|| revision(Path::new(env!("CARGO_MANIFEST_DIR"))))
    };
    let known = FOUND.get_or_init(found).as_deref();
    known.unwrap_or("unknown").to_owned()
}

/// The revision of this crate's sources in `folder`, with `-dirty` where files were changed since;
/// none if they are in no checkout.
fn revision(folder: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(args)
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // A package may lie unpacked in somebody else's checkout.
    git(&["ls-files", "--error-unmatch", "Cargo.toml"])?;
    git(&[
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ])
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
        eprintln!("mutant {mutant} is not wired; docs/simulation.md lists those that are");
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::revision;

    #[test]
    fn a_checkout_tells_its_revision_and_whether_it_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let who = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
            let mut git = Command::new("git");
            git.current_dir(folder.path()).args(who).args(args);
            git.output().is_ok_and(|output| output.status.success())
        };
        if !git(&["init"]) {
            return; // no git, no checkouts
        }
        let package = folder.path().join("Cargo.toml");
        fs::write(&package, "one").unwrap();
        assert_eq!(revision(folder.path()), None, "it is not of this checkout");
        assert!(git(&["add", "."]) && git(&["commit", "-m", "one"]));
        let clean = revision(folder.path()).unwrap();
        let is_hash = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
        assert!(clean.len() >= 12 && is_hash(&clean), "{clean}");
        fs::write(&package, "another").unwrap();
        assert_eq!(revision(folder.path()), Some(format!("{clean}-dirty")));
    }
}
