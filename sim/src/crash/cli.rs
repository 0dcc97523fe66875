//! The command line of `tidewater-crash`, the program that `cargo xtask crash-test` runs inside
//! and outside of the guest.
//!
//! *Owns*: arguments, files, the exit code: 0 done, 1 something is wrong, 2 bad usage, 3 the
//! environment refuses.
//! *Does not own*: what is run; the sums go to `--json`, to be judged by whoever asked.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a driver: it works on real files and devices"
)]

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use tidewater_wal::{DeviceWal, OpenMode, WalMode};

use super::book::{History, Promises};
use super::env::MutantEnv;
use super::judge::Judge;
use super::log::{self, Action, Entry};
use super::marker::Marker;
use super::marks::{acked, opened};
use super::mounted::{Place, read};
use super::recover::real;
use super::replay::{Crash, rng_of};
use super::report::Class;
use super::workload::{Book, Workload, run};
use super::{CrashError, full_bytes, identity, wal_config};
use crate::check::value_of;

#[derive(Parser)]
#[command(
    name = "tidewater-crash",
    about = "The parts of the crash test on a real kernel; cargo xtask crash-test runs them",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a log of its full size in a file that then stands for a block device.
    Make {
        /// The file.
        wal: PathBuf,
        /// Make the device alone, for a log that is made on it.
        #[arg(long)]
        blank: bool,
    },
    /// Runs the workload.
    Write(WriteArgs),
    /// Opens a log again after its process is gone; what it serves is promised from then on.
    Recover(RecoverArgs),
    /// Judges crash states of a recorded run.
    Check(CheckArgs),
}

#[derive(Args)]
struct WriteArgs {
    /// The file or block device.
    #[arg(long)]
    wal: PathBuf,
    /// Make the log first.
    #[arg(long)]
    create: bool,
    /// How bytes become durable.
    #[arg(long)]
    mode: WalMode,
    /// The seeded bug to switch on.
    #[arg(long, default_value_t = 0)]
    mutant: u16,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Times the log is opened.
    #[arg(long, default_value_t = 3)]
    lives: u32,
    #[arg(long, default_value_t = 4)]
    appenders: u32,
    /// Appends of an appender in a life.
    #[arg(long, default_value_t = 100)]
    appends: u32,
    /// Where every append is noted.
    #[arg(long)]
    history: PathBuf,
    /// The dm-log-writes device that takes the marks.
    #[arg(long, conflicts_with = "marks", required_unless_present = "marks")]
    target: Option<String>,
    /// The file that takes the marks.
    #[arg(long)]
    marks: Option<PathBuf>,
    /// The write log below the device: where it stands is noted when the log is poisoned.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Where the sums go.
    #[arg(long)]
    json: PathBuf,
}

#[derive(Args)]
struct RecoverArgs {
    /// The file or block device.
    #[arg(long)]
    wal: PathBuf,
    /// How the recovery does its I/O.
    #[arg(long)]
    mode: WalMode,
    #[arg(long)]
    history: PathBuf,
    /// The file of marks; the frames served are added to it.
    #[arg(long)]
    marks: PathBuf,
    /// The seeded bug to switch on.
    #[arg(long, default_value_t = 0)]
    mutant: u16,
}

#[derive(Args)]
struct CheckArgs {
    /// What the class is called.
    #[arg(long)]
    class: String,
    /// What the device held when the log began.
    #[arg(long)]
    base: PathBuf,
    /// The write log; without it the base itself is the one state.
    #[arg(long)]
    log: Option<PathBuf>,
    #[arg(long)]
    history: PathBuf,
    /// The file of marks, if they are not in the log; then crashes lie at its end.
    #[arg(long)]
    marks: Option<PathBuf>,
    /// Entries the log had when a flush had failed: what no flush among them covered is covered
    /// by none.
    #[arg(long)]
    failed_at: Option<usize>,
    #[arg(long, default_value_t = 100)]
    states: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this state.
    #[arg(long)]
    state: Option<u64>,
    /// How the recovery does its I/O.
    #[arg(long, default_value = "auto")]
    mode: WalMode,
    /// The file that stands for the device, made and removed.
    #[arg(long)]
    scratch: PathBuf,
    /// The states are file systems: a folder to mount them on, `scratch` being a block device.
    #[arg(long)]
    mount: Option<PathBuf>,
    /// Where the sums go.
    #[arg(long)]
    json: PathBuf,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = runtime().and_then(|runtime| {
        let _inside = runtime.enter();
        match Arguments::parse().command {
            Command::Make { wal, blank } => make(&wal, blank),
            Command::Write(args) => write(&runtime, args),
            Command::Recover(args) => recover(&args),
            Command::Check(args) => check(&args),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidewater-crash: {error}");
            ExitCode::from(match error {
                CrashError::Violation(_) | CrashError::Wal(_) => 1,
                CrashError::Io { .. } | CrashError::Format { .. } => 3,
            })
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, CrashError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(CrashError::io("start", Path::new("the runtime")))
}

fn make(path: &Path, blank: bool) -> Result<(), CrashError> {
    if !blank {
        let env = std::sync::Arc::new(MutantEnv::current(0));
        let config = wal_config(WalMode::Portable);
        drop(DeviceWal::open(
            path,
            env,
            config,
            identity(),
            OpenMode::Create,
            |_, _| {},
        )?);
    }
    let failed = || CrashError::io("extend", path);
    let file = fs::OpenOptions::new().write(true).create(blank).open(path);
    file.and_then(|file| file.set_len(full_bytes()))
        .map_err(failed())
}

fn write(runtime: &tokio::runtime::Runtime, args: WriteArgs) -> Result<(), CrashError> {
    let marker = match (&args.target, &args.marks) {
        (Some(name), _) => Marker::target(name),
        (None, Some(path)) => Marker::file(path),
        (None, None) => Err(std::io::ErrorKind::InvalidInput.into()),
    };
    let marker = marker.map_err(CrashError::io("open", Path::new("the place for marks")))?;
    let book = Book::new(&args.history, marker)?;
    let load = Workload {
        wal: args.wal,
        create: args.create,
        config: wal_config(args.mode),
        lives: args.lives,
        appenders: args.appenders,
        appends: args.appends,
        seed: args.seed,
        mutant: args.mutant,
        log: args.log,
    };
    let done = runtime.block_on(run(&load, book))?;
    save(&args.json, &done)
}

fn recover(args: &RecoverArgs) -> Result<(), CrashError> {
    let history = history(&args.history)?;
    let mut model = history.model(&Promises::of_marks(text(&args.marks)?.lines()));
    let first = real(&args.wal, args.mode, args.mutant)?;
    model.recovered(&first)?;
    model.recovered(&real(&args.wal, args.mode, args.mutant)?)?;
    let values: Vec<u64> = first
        .iter()
        .filter_map(|(_, frame)| value_of(frame))
        .collect();
    let marker = Marker::file(&args.marks).map_err(CrashError::io("open", &args.marks))?;
    acked(&values)
        .iter()
        .try_for_each(|mark| marker.mark(mark))
        .map_err(CrashError::io("write", &args.marks))
}

fn check(args: &CheckArgs) -> Result<(), CrashError> {
    let start = Instant::now();
    let base = read(&args.base)?;
    let log = match &args.log {
        Some(path) => read_log(path)?,
        None => Vec::new(),
    };
    let history = history(&args.history)?;
    let marks = args.marks.as_deref().map(text).transpose()?;
    if let (Some(path), None) = (&args.log, &marks) {
        must_be_whole(path, &log)?;
    }
    let place = match &args.mount {
        None => Place::File(args.scratch.clone()),
        Some(folder) => Place::Mounted {
            device: args.scratch.clone(),
            folder: folder.clone(),
            wal: folder.join("wal"),
        },
    };
    let judge = Judge {
        history: &history,
        mode: args.mode,
    };
    let mut class = Class {
        class: args.class.clone(),
        seed: args.seed,
        entries: log.len(),
        flushes: log.iter().filter(|entry| entry.flush).count(),
        frames: history.num_frames(),
        ..Class::default()
    };
    let from = if marks.is_some() { log.len() } else { 0 };
    let hot: Vec<usize> = (0..log.len())
        .filter(|index| matches!(&log[*index].action, Action::Mark(text) if *text == opened()))
        .collect();
    let numbers = args.state.map_or(0..args.states, |only| only..only + 1);
    for number in numbers {
        let crash = Crash::draw(args.seed, number, from..=log.len(), &hot);
        let state = crash.image(args.seed, &base, &log, args.failed_at);
        let promises = match &marks {
            Some(marks) => Promises::of_marks(marks.lines()),
            None => Promises::of_log(&log[..crash.until]),
        };
        let mut rng = rng_of(args.seed ^ 1, number);
        let outcome = place.with(&state, || {
            let image = || read(place.wal()).unwrap_or_default();
            judge.judge(place.wal(), image, crash.sector_bytes, &promises, &mut rng)
        })?;
        class.add(&crash, outcome);
    }
    if args.mount.is_none() {
        fs::remove_file(&args.scratch).map_err(CrashError::io("remove", &args.scratch))?;
    }
    class.seconds = start.elapsed().as_secs_f64();
    save(&args.json, &class)
}

/// The target stops recording without a word when its log is full, and marks its own end.
fn must_be_whole(path: &Path, log: &[Entry]) -> Result<(), CrashError> {
    match log.last().map(|entry| &entry.action) {
        Some(Action::Mark(text)) if text == "dm-log-writes-end" => Ok(()),
        other => Err(CrashError::Format {
            path: path.display().to_string(),
            position: 0,
            expected: "the mark of its own end as the last entry",
            found: format!("{other:?}").chars().take(80).collect(),
        }),
    }
}

fn read_log(path: &Path) -> Result<Vec<Entry>, CrashError> {
    let file = fs::File::open(path).map_err(CrashError::io("open", path))?;
    log::read(BufReader::with_capacity(1 << 16, file)).map_err(|wrong| wrong.in_file(path))
}

fn history(path: &Path) -> Result<History, CrashError> {
    History::parse(&text(path)?).map_err(|line| CrashError::Format {
        path: path.display().to_string(),
        position: line as u64,
        expected: "a value and an lsn in each line, counted from 1",
        found: "another line".to_owned(),
    })
}

fn text(path: &Path) -> Result<String, CrashError> {
    fs::read_to_string(path).map_err(CrashError::io("read", path))
}

fn save(path: &Path, what: &impl serde::Serialize) -> Result<(), CrashError> {
    let text = serde_json::to_string(what).map_err(std::io::Error::from);
    text.and_then(|text| fs::write(path, text + "\n"))
        .map_err(CrashError::io("write", path))
}
