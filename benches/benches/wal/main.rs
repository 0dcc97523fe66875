//! Benches of the WAL: appends and recovery, each in turns with raw I/O on the same device.
//!
//! *Owns*: which of them run, and the exit code.
//! *Does not own*: what is measured (`append.rs`, `object.rs`, `recovery.rs`,
//! `registered.rs`).
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

mod append;
mod crowd;
mod object;
mod peers;
mod plan;
mod recovery;
mod registered;
mod subject;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use tidewater_benches::{
    BenchEnv, Options, Place, Quiet, RawFile, Row, Target, Whole, plot_appends, print,
};
use tidewater_types::Env;
use tidewater_wal::WalMode;

use crate::append::{Bench, Cell, Matrix};
use crate::plan::Plan;
use crate::subject::{Scratch, Subject, WalPlace};

/// What goes wrong in a bench; also from its threads.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

const RAW_BYTES: u64 = 256 << 20;

fn main() -> ExitCode {
    let options = match Options::of_process() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench wal: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench wal: {error}");
            ExitCode::from(3)
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let place = Place::find()?;
    let target = Target::find(&place)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let env: Arc<dyn Env> = Arc::new(BenchEnv::new(runtime.handle()));
    let scratch = Scratch::make(&match &target {
        Target::Folder(folder) => folder.clone(),
        Target::Whole(_) => place.output.clone(),
    })?;
    let wals = WalPlace {
        target,
        scratch: scratch.path().to_owned(),
    };
    let mut subjects = subjects(&wals, &env);
    let plan = Plan::of(options)?;
    let matrix = Matrix::new(&Cell::all(), &subjects, options);
    let objects = object::Plan::new(plan, options);
    let recoveries = recovery::Plan::new(plan, options);
    let registered = registered::Plan::new(plan, options);
    if options.list {
        matrix.ids(&subjects).for_each(|id| println!("{id}"));
        objects.ids().for_each(|id| println!("{id}"));
        recoveries.ids().for_each(|id| println!("{id}"));
        registered.ids().for_each(|id| println!("{id}"));
        return Ok(());
    }
    let wait = matrix.estimate(&subjects, plan)
        + objects.estimate()
        + recoveries.estimate()
        + registered.estimate();
    println!("{}", place.headline(wals.target.path()));
    println!(
        "about {} minutes: {} rounds, slices of {} ms",
        wait.as_secs() / 60 + 1,
        plan.rounds,
        plan.slice.as_millis()
    );
    let mut quiet = Quiet::from_environment()?;
    let mut bench = Bench {
        runtime: &runtime,
        plan,
        quiet: &mut quiet,
        raw: raw(&wals)?,
    };
    let mut rows = append::run(&mut bench, &matrix, &mut subjects)?;
    let Bench { mut raw, .. } = bench;
    drop(subjects);
    rows.extend(objects.run(&runtime, &env, &mut quiet)?);
    rows.extend(recoveries.run(&wals, (&runtime, &env), &mut quiet)?);
    rows.extend(registered.run(&mut raw, &mut quiet)?);
    finish(&rows, &place, &quiet)
}

/// Every log that takes part. On a whole target the logs that need a folder do not.
fn subjects(wals: &WalPlace, env: &Arc<dyn Env>) -> Vec<Subject> {
    let device = |name, mode| Subject::device(name, wals, env, mode);
    let mut subjects = vec![
        device("device", WalMode::Auto),
        device("device-portable", WalMode::Portable),
        device("device-ring-dsync", WalMode::RingDsync),
        Subject::memory(env),
    ];
    match &wals.target {
        Target::Whole(whole) => {
            let raw = raw_range(whole);
            subjects.push(peers::file_lock(&whole.path, raw.end..whole.raw.end));
        }
        Target::Folder(_) => {
            subjects.push(peers::file_lock(
                &wals.scratch.join("file-lock"),
                0..RAW_BYTES,
            ));
            #[cfg(feature = "peers")]
            subjects.push(peers::raft::engine(&wals.scratch.join("raft-engine")));
        }
    }
    subjects
}

fn raw(wals: &WalPlace) -> std::io::Result<RawFile> {
    match &wals.target {
        Target::Whole(whole) => RawFile::open(&whole.path, raw_range(whole)),
        Target::Folder(_) => RawFile::open(&wals.scratch.join("raw"), 0..RAW_BYTES),
    }
}

/// The first half of what a whole target leaves to others; the file under a lock has the second.
fn raw_range(whole: &Whole) -> std::ops::Range<u64> {
    whole.raw.start..whole.raw.start.midpoint(whole.raw.end)
}

fn finish(rows: &[Row], place: &Place, quiet: &Quiet) -> Result<(), Failure> {
    print(rows);
    println!("{}", quiet.verdict());
    for picture in plot_appends(rows, &place.output.join("plots"))? {
        println!("drawn to {}", picture.display());
    }
    println!("written to {}", Row::publish(rows, place)?.display());
    Ok(())
}
