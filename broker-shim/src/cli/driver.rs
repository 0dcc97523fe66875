//! The process around a command: its environment, output streams, runtime and end.
//!
//! *Owns*: reading variables and the configuration file, printing, the runtime,
//! the exit code.
//! *Does not own*: what the arguments mean.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "the process's driver")]

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::ServeConfig;
use crate::exit::{Code, Exit};
use crate::printer::Printer;
use crate::{cost, fsck, logging, serve, stats, wal_tools};

use super::{Command, Surroundings, parse};

/// How long work of the blocking pool may take once the broker has stopped.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Runs the `tidewater` command of this process's arguments and environment to its end.
///
/// The exit code is 0 for done, 1 for a failed check, 2 for bad usage or configuration, 3 if the
/// environment refuses, 4 for data of another cluster or a newer format, 5 for damage. What is
/// not 0 is explained by the last line on standard error.
pub fn main() -> ExitCode {
    command(std::env::args_os().collect())
}

fn command(args: Vec<OsString>) -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
    let around = Surroundings {
        variable: &variable,
        read: &read,
    };
    let ended = match parse(args, &around) {
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Serve(config)) => run_broker(*config),
        Ok(Command::Stats { target, json }) => {
            stats::run(&target, json).and_then(|text| print(&text))
        }
        Ok(Command::Cost(job)) => cost::run(&job, &read).and_then(|text| print(&text)),
        Ok(Command::Fsck(job)) => to_printer(|out, note| fsck::run(&job, out, note)),
        Ok(Command::Wal(job)) => to_printer(|out, note| wal_tools::run(&job, out, note)),
        Err(refused) => {
            eprint!("{}", refused.hint);
            Err(refused.exit)
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            eprintln!("{exit}");
            ExitCode::from(exit.code as u8)
        }
    }
}

fn run_broker(config: ServeConfig) -> Result<(), Exit> {
    logging::start(config.log_format, &config.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|cause| {
        Exit::new(
            Code::Environment,
            "cannot start",
            "threads",
            "threads and a poller",
            cause,
        )
    })?;
    let ended = runtime.block_on(serve::run(config));
    runtime.shutdown_timeout(SHUTDOWN);
    ended
}

/// Writes `text` to standard output. A reader that has seen enough is no failure.
fn print(text: &str) -> Result<(), Exit> {
    let mut out = printer();
    let _ = out.put(text);
    out.finish()
}

/// Runs a tool that prints as it goes. Its verdict is the end of the process, unless not even that
/// can be printed.
fn to_printer(
    tool: impl FnOnce(&mut Printer, &mut dyn FnMut(&str)) -> Result<(), Exit>,
) -> Result<(), Exit> {
    let mut out = printer();
    let verdict = tool(&mut out, &mut |note| eprintln!("tidewater: {note}"));
    out.finish().and(verdict)
}

fn printer() -> Printer {
    let out = io::stdout();
    let terminal = out.is_terminal();
    Printer::new(Box::new(BufWriter::new(out)), terminal)
}
