//! Running commands: shown before they run, bounded in time, ended with all they started.
//!
//! *Owns*: the context of a run, process groups, time-outs.
//! *Does not own*: which commands.
//!
//! Invariants
//! 1. A command that takes too long is killed with its whole process group.
//!
//! *IO: driver*

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// Where the project is and where tests may work.
pub(crate) struct Context {
    pub(crate) root: PathBuf,
    /// Installed tools and test data; kept between runs.
    pub(crate) work: PathBuf,
}

impl Context {
    pub(crate) fn new(root: &Path) -> Self {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let work = root.join("target/tidewater-test");
        Self { root, work }
    }

    /// Runs `program` in the project's root; an error unless it ends with 0 within `minutes`.
    pub(crate) fn run<S: AsRef<OsStr>>(
        &self,
        minutes: u64,
        program: &str,
        args: &[S],
    ) -> Result<(), String> {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.root);
        run(minutes, command)
    }

    /// Runs cargo with `line`, split at spaces.
    pub(crate) fn cargo(&self, minutes: u64, line: &str) -> Result<(), String> {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.run(minutes, "cargo", &args)
    }
}

/// Runs `command`; an error unless it ends with 0 within `minutes`.
pub(crate) fn run(minutes: u64, mut command: Command) -> Result<(), String> {
    let shown = show(&command);
    println!("$ {shown}");
    command.stdin(Stdio::null());
    let mut child = Group::start(&mut command).map_err(|error| format!("{shown}: {error}"))?;
    match child.wait(Duration::from_secs(60 * minutes)) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{shown}: {status}")),
        None => Err(format!("{shown}: not done within {minutes} minutes")),
    }
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A process and all it starts; killed when dropped.
pub(crate) struct Group {
    child: Child,
}

impl Group {
    pub(crate) fn start(command: &mut Command) -> std::io::Result<Self> {
        Ok(Self {
            child: command.process_group(0).spawn()?,
        })
    }

    /// The exit status, or `None` if it still runs after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
                _ => return None,
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        // Gone already in the ordinary case; then there is nothing to say.
        let mut kill = Command::new("kill");
        kill.args(["-KILL", "--", &group]).stderr(Stdio::null());
        let _ = kill.status();
        let _ = self.child.wait();
    }
}
