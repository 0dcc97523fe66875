//! Running commands quietly: their output goes to a file, and is told when they fail.
//!
//! *Owns*: the work folder, the time limits' consequences, what the exit codes of the program
//! under test mean.
//! *Does not own*: process groups and the watchdog (`test::process`).
//!
//! Invariants
//! 1. No command runs without a limit, and none outlives us.
//!
//! *IO: driver*

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::failure::Failure;
use crate::test::process::{Processes, Running, shown};

/// Lines of a failed command's output that are told.
const LAST_LINES: usize = 12;

/// Runs commands below a folder of its own.
pub(crate) struct Runner {
    pub(crate) processes: Processes,
    /// Everything is below it.
    pub(crate) work: PathBuf,
    /// Held while we live: two runs in one folder would spoil each other's images.
    _lock: File,
}

impl Runner {
    pub(crate) fn new(work: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(work).map_err(|why| Failure::environment("make", work, &why))?;
        let work = work
            .canonicalize()
            .map_err(|why| Failure::environment("find", work, &why))?;
        let lock = work.join("lock");
        let held = File::create(&lock).map_err(|why| Failure::environment("make", &lock, &why))?;
        held.try_lock()
            .map_err(|why| Failure::environment("lock", &lock, &why.into()))?;
        let processes = Processes::start().map_err(Failure::Environment)?;
        Ok(Self {
            processes,
            work,
            _lock: held,
        })
    }

    /// An empty folder.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let folder = self.work.join(name);
        let made = if folder.exists() {
            fs::remove_dir_all(&folder)
        } else {
            Ok(())
        };
        made.and_then(|()| fs::create_dir_all(&folder))
            .map_err(|why| Failure::environment("make", &folder, &why))?;
        Ok(folder)
    }

    /// Removes a folder that is no longer needed.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        let folder = self.work.join(name);
        fs::remove_dir_all(&folder).map_err(|why| Failure::environment("remove", &folder, &why))
    }

    /// Starts a command in the background with its output in `log`.
    pub(crate) fn spawn(&mut self, command: &mut Command, log: &Path) -> Result<Running, Failure> {
        let failed = |why: std::io::Error| Failure::environment("write", log, &why);
        let output = File::create(log).map_err(failed)?;
        command
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output);
        self.processes.spawn(command).map_err(Failure::Environment)
    }

    /// Runs a command of the environment, which must end well.
    pub(crate) fn must(&mut self, command: &mut Command, limit: Duration) -> Result<(), Failure> {
        let (code, said) = self.run(command, limit)?;
        match code {
            Some(0) => Ok(()),
            other => Err(Failure::Environment(format!(
                "{}: {}\n{said}",
                shown(command),
                ending(other)
            ))),
        }
    }

    /// Runs the program under test: its code 3 is the environment's refusal, every other end but 0
    /// is a finding, and so is a run that does not end.
    pub(crate) fn tested(&mut self, command: &mut Command, limit: Duration) -> Result<(), Failure> {
        let (code, said) = self.run(command, limit)?;
        judged(code, &format!("{}: {said}", shown(command)))
    }

    fn run(
        &mut self,
        command: &mut Command,
        limit: Duration,
    ) -> Result<(Option<i32>, String), Failure> {
        let log = self.work.join("output");
        let mut running = self.spawn(command, &log)?;
        let ended = running.wait(limit);
        self.processes.end(&mut running);
        let code = ended.map(|status| status.code().unwrap_or(-1));
        Ok((code, last_words(&log)))
    }
}

/// What an exit code of the program under test means.
pub(crate) fn judged(code: Option<i32>, said: &str) -> Result<(), Failure> {
    match code {
        Some(0) => Ok(()),
        Some(3) => Err(Failure::Environment(said.to_owned())),
        other => Err(Failure::Check(format!("{}; {said}", ending(other)))),
    }
}

fn ending(code: Option<i32>) -> String {
    match code {
        None => "not ended within its time".to_owned(),
        Some(-1) => "ended by a signal".to_owned(),
        Some(code) => format!("exit code {code}"),
    }
}

/// The end of a file of output.
pub(crate) fn last_words(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_findings_from_refusals() {
        assert!(judged(Some(0), "").is_ok());
        assert!(matches!(judged(Some(3), "x"), Err(Failure::Environment(_))));
        for code in [Some(1), Some(2), Some(101), Some(-1), None] {
            assert!(matches!(judged(code, "x"), Err(Failure::Check(_))));
        }
    }
}
