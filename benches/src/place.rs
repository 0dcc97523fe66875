//! Where a bench runs: folders, machine, version, and how long it should take.
//!
//! *Owns*: the environment variables that every bench knows.
//!
//! Invariants
//! 1. A value that makes no sense is refused, never replaced by a default.
//!
//! *IO: driver*

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folders of a run and the words that say where it ran.
#[derive(Clone, Debug)]
pub struct Place {
    /// `target/tidewater-bench`: results, and by default the data.
    pub output: PathBuf,
    /// The repository.
    pub root: PathBuf,
    /// Short commit, with `+` where there are changes.
    pub git: String,
    /// Kernel, processors, memory.
    pub machine: String,
}

impl Place {
    /// Finds out.
    ///
    /// # Errors
    /// The output folder cannot be made.
    pub fn find() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap_or(Path::new("."))
            .to_owned();
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let output = target.join("tidewater-bench");
        std::fs::create_dir_all(&output)?;
        let git = git(&root);
        Ok(Self {
            output: output.canonicalize()?,
            root,
            git,
            machine: machine(),
        })
    }

    /// The folder that `variable` names, else `name` in the output folder; made if need be.
    ///
    /// # Errors
    /// It cannot be made, or is not a folder.
    pub fn folder(&self, variable: &str, name: &str) -> io::Result<PathBuf> {
        let folder =
            std::env::var_os(variable).map_or_else(|| self.output.join(name), PathBuf::from);
        std::fs::create_dir_all(&folder).map_err(|cause| {
            io::Error::new(
                cause.kind(),
                format!(
                    "{variable} = {}: expected a folder: {cause}",
                    folder.display()
                ),
            )
        })?;
        folder.canonicalize()
    }

    /// A line about the run, for people: also how busy the machine is.
    #[must_use]
    pub fn headline(&self, folder: &Path) -> String {
        let load = read("/proc/loadavg");
        let load = load.split(' ').next().unwrap_or("?");
        let data = if folder.is_dir() {
            file_system(folder)
        } else {
            format!("the whole of {}", folder.display())
        };
        format!(
            "commit {} · {} · data on {data} · load {load} at the start",
            self.git, self.machine
        )
    }
}

/// The number of rounds `TIDEWATER_BENCH_ROUNDS` asks for, else `default`.
///
/// # Errors
/// It is not a number from 1 to 1000.
pub fn rounds(default: usize) -> io::Result<usize> {
    let Some(text) = std::env::var_os("TIDEWATER_BENCH_ROUNDS") else {
        return Ok(default);
    };
    parse_rounds(&text.to_string_lossy())
}

fn parse_rounds(text: &str) -> io::Result<usize> {
    match text.parse() {
        Ok(rounds @ 1..=1000) => Ok(rounds),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("TIDEWATER_BENCH_ROUNDS = {text}: expected a number from 1 to 1000"),
        )),
    }
}

fn git(root: &Path) -> String {
    let run = |arguments: &[&str]| {
        let answer = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(arguments)
            .output()
            .ok()?;
        answer
            .status
            .success()
            .then(|| String::from_utf8_lossy(&answer.stdout).trim().to_owned())
    };
    let Some(commit) = run(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changes = run(&["status", "--porcelain", "--untracked-files=no"]);
    let mark = if changes.is_none_or(|changes| changes.is_empty()) {
        ""
    } else {
        "+"
    };
    format!("{commit}{mark}")
}

fn machine() -> String {
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split(':').nth(1));
        value.unwrap_or("?").trim().to_owned()
    };
    let model = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kib: u64 = memory
        .split(' ')
        .next()
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0);
    format!(
        "{} {}, {cpus} × {model}, {} GiB",
        std::env::consts::OS,
        kernel.trim(),
        kib >> 20
    )
}

/// Type and source of the file system that holds `folder`.
fn file_system(folder: &Path) -> String {
    let mounts = read("/proc/self/mounts");
    let of = |line: &str| {
        let mut parts = line.split(' ').map(str::to_owned);
        Some((parts.next()?, parts.next()?, parts.next()?))
    };
    mounts
        .lines()
        .filter_map(of)
        .filter(|(_, point, _)| folder.starts_with(point))
        .max_by_key(|(_, point, _)| point.len())
        .map_or_else(
            || "?".to_owned(),
            |(source, _, kind)| format!("{kind} ({source})"),
        )
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::parse_rounds;

    #[test]
    fn a_number_of_rounds_out_of_range_is_refused() {
        assert_eq!(parse_rounds("7").unwrap(), 7);
        for text in ["0", "1001", "many", ""] {
            assert!(parse_rounds(text).is_err(), "{text}");
        }
    }
}
