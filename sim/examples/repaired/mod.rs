//! What the examples share: the switch `--repaired`, which takes the bug away.
//!
//! *Owns*: the program around a trial that comes with its bug and without.
//! *Does not own*: the trials.
//!
//! *IO: driver* (prints)

use std::process::ExitCode;

use tidewater_sim::{Trial, Trials};

const SWITCH: &str = "--repaired";

/// Runs the trial that `trial` makes, with its bug or without, as the command line of this process
/// says.
pub(crate) fn main<T: Trial>(trial: impl FnOnce(bool) -> T) -> ExitCode {
    let (switches, args): (Vec<_>, Vec<_>) = std::env::args().partition(|arg| arg == SWITCH);
    let has_bug = switches.is_empty();
    Trials::new(1_000).main(&trial(has_bug), args)
}

/// The command that shows `seed` again.
pub(crate) fn replay(has_bug: bool, seed: u64) -> String {
    let program = std::env::args().next().unwrap_or_default();
    let switch = if has_bug {
        String::new()
    } else {
        format!(" {SWITCH}")
    };
    format!("{program}{switch} --seed {seed}")
}
