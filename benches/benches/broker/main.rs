//! Benches of the broker as a process: starting, dying, producing, consuming; Apache Kafka beside it.
//!
//! *Owns*: which of them run, the brokers' folders, and the exit code.
//! *Does not own*: what is measured (`start.rs`, `restart.rs`, `single.rs`, `compare.rs`).
//!
//! *IO: driver*

mod compare;
mod launch;
mod process;
mod restart;
mod single;
mod start;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) use tidewater_benches::Failure;
use tidewater_benches::{Place, Quiet, Row, print, rounds};

use crate::launch::Brokers;

type Part = fn(&mut Bench) -> Result<Vec<Row>, Failure>;

/// What every bench here gets.
pub(crate) struct Bench {
    pub(crate) brokers: Brokers,
    pub(crate) folder: PathBuf,
    pub(crate) rounds: usize,
    pub(crate) quiet: Quiet,
}

impl Bench {
    /// An empty folder of that name, which takes the place of an earlier one.
    pub(crate) fn fresh(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        remove(&path)?;
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}

pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench broker: {error}");
            ExitCode::from(3)
        }
    }
}

fn run() -> Result<(), Failure> {
    let place = Place::find()?;
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| filter == name);
    let data = place.folder("TIDEWATER_BENCH_DATA", "data")?;
    println!("{}", place.headline(&data));
    let folder = data.join(format!("broker-bench-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let mut bench = Bench {
        brokers: Brokers::find(&place)?,
        folder,
        rounds: rounds(3)?,
        quiet: Quiet::from_environment()?,
    };
    let all: [(&str, Part); 4] = [
        ("start", start::run),
        ("restart", restart::run),
        ("single", single::run),
        ("compare", compare::run),
    ];
    let mut rows = Vec::new();
    for (name, part) in all.into_iter().filter(|(name, _)| wanted(name)) {
        println!("{name} …");
        rows.extend(part(&mut bench)?);
    }
    // Only when all is well: a failure leaves the brokers' logs to look at.
    remove(&bench.folder)?;
    print(&rows);
    println!("{}", bench.quiet.verdict());
    println!("written to {}", Row::publish(&rows, &place)?.display());
    Ok(())
}
