//! Benches of the WAL: appends and recovery, each in turns with raw I/O on the same file system.
//!
//! *Owns*: which of them run, and the exit code.
//! *Does not own*: what is measured (`append.rs`, `recovery.rs`).
//!
//! *IO: driver*

mod append;
mod recovery;
mod subject;

use std::error::Error;
use std::process::ExitCode;

use tidewater_benches::{Place, Quiet, Row, print, rounds};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench wal: {error}");
            ExitCode::from(3)
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let place = Place::find()?;
    let wanted = |name: &str| {
        let mut filters = std::env::args()
            .skip(1)
            .filter(|word| !word.starts_with('-'));
        let first = filters.next();
        first.is_none_or(|first| name.contains(&first) || filters.any(|word| name.contains(&word)))
    };
    let folder = place.folder("TIDEWATER_BENCH_WAL", "wal")?;
    println!("{}", place.headline(&folder));
    let folder = subject::Scratch::make(&folder)?;
    let mut quiet = Quiet::from_environment()?;
    let mut rows = Vec::new();
    if wanted("append") {
        rows.extend(append::run(folder.path(), rounds(3)?, &mut quiet)?);
    }
    if wanted("recovery") {
        rows.extend(recovery::run(folder.path(), rounds(3)?, &mut quiet)?);
    }
    print(&rows);
    println!("{}", quiet.verdict());
    println!("written to {}", Row::publish(&rows, &place)?.display());
    Ok(())
}
