//! The command line of `tidewater`.
//!
//! *Owns*: commands, flags and their help; from arguments to a valid
//! configuration; exit codes and the last line on standard error.
//! *Does not own*: settings' ranges (`config`), what a command does.
//!
//! Invariants
//! 1. A run that fails ends with one line on standard error that says why.
//! 2. Bad usage and bad configuration leave with 2 and touch nothing.
//!
//! *IO: driver* (`driver.rs`)

mod args;
mod cost_args;
mod driver;
mod fsck_args;
mod usage;
mod wal_args;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::config::{DEFAULT_DATA_DIR, FileValues, Given, Layers, SETTINGS, ServeConfig, Source};
use crate::exit::{Code, Exit};
use crate::stats::Target;
use crate::wal_tools::Job;
use crate::{cost, fsck};

pub use driver::main;

/// Where `tidewater stats` looks if it is told nothing.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9092";

/// What the command line asks for.
#[derive(Debug)]
enum Command {
    /// Print this and leave with 0.
    Print(String),
    /// Run a broker.
    Serve(Box<ServeConfig>),
    /// Print a broker's counters.
    Stats { target: Target, json: bool },
    /// Say what something costs.
    Cost(cost::Job),
    /// Check a cluster's data.
    Fsck(fsck::Job),
    /// Look at a write-ahead log.
    Wal(Job),
}

/// The world as far as the command line needs it.
struct Surroundings<'a> {
    /// A variable of the environment.
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file, or why there is none.
    read: &'a dyn Fn(&std::path::Path) -> Result<String, String>,
}

fn parse(args: Vec<OsString>, around: &Surroundings<'_>) -> Result<Command, usage::Refused> {
    let matches = match args::command().try_get_matches_from(with_command(args)) {
        Ok(matches) => matches,
        Err(error) => return usage::print_or_refuse(&error).map(Command::Print),
    };
    match matches.subcommand() {
        Some(("serve", matches)) => {
            serve(matches, around).map(|config| Command::Serve(Box::new(config)))
        }
        Some(("stats", matches)) => {
            let json = matches.get_flag("json");
            target(matches).map(|target| Command::Stats { target, json })
        }
        Some(("fsck", matches)) => {
            fsck_args::job(matches, || serve(matches, around)).map(Command::Fsck)
        }
        Some(("cost", matches)) => {
            cost_args::job(matches, around.read, || target(matches)).map(Command::Cost)
        }
        Some(("wal", matches)) => wal_args::job(matches).map(Command::Wal),
        _ => Ok(Command::Print(args::version_line())),
    }
    .map_err(usage::Refused::from)
}

/// `tidewater` and `tidewater --flag …` mean `tidewater serve …`.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    const OWN: [&str; 4] = ["-h", "--help", "-V", "--version"];
    let serve = match args.get(1).map(|first| first.to_string_lossy()) {
        None => true,
        Some(first) => first.starts_with('-') && !OWN.contains(&first.as_ref()),
    };
    if serve {
        args.insert(args.len().min(1), OsString::from("serve"));
    }
    args
}

fn serve(matches: &ArgMatches, around: &Surroundings<'_>) -> Result<ServeConfig, Exit> {
    let refuse = |error| Exit::because(Code::Usage, error);
    let file = match matches.get_one::<PathBuf>("config") {
        None => FileValues::default(),
        Some(path) => {
            let text = (around.read)(path).map_err(|cause| {
                let path = path.clone();
                refuse(crate::config::ConfigError::Unreadable { path, cause })
            })?;
            FileValues::parse(path, &text, SETTINGS).map_err(refuse)?
        }
    };
    let layers = Layers {
        given: given(matches),
        file,
    };
    ServeConfig::resolve(&layers, around.variable).map_err(refuse)
}

/// What flags and environment say, each with its source.
fn given(matches: &ArgMatches) -> Given {
    let value = |name: &'static str| {
        let id = args::id(name);
        // Commands beside `serve` have some of its settings.
        let text = matches.try_get_one::<String>(&id).ok()??.clone();
        let source = match matches.value_source(&id) {
            Some(ValueSource::EnvVariable) => Source::Environment(name),
            _ => Source::Flag(name),
        };
        Some((name, (text, source)))
    };
    SETTINGS.iter().filter_map(|name| value(name)).collect()
}

/// A flag wins over a variable; of two flags neither does.
fn target(matches: &ArgMatches) -> Result<Target, Exit> {
    let value = |id: &str| matches.get_one::<String>(id).cloned();
    let by_flag = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    match (value("bootstrap"), value("data_dir")) {
        (Some(_), Some(_)) if by_flag("bootstrap") && by_flag("data_dir") => Err(Exit::new(
            Code::Usage,
            "bad usage",
            "flags --bootstrap and --data-dir",
            "one of the two",
            "both",
        )),
        (Some(_), Some(dir)) if by_flag("data_dir") => Ok(Target::DataDir(dir.into())),
        (Some(address), _) => Ok(Target::Address(address)),
        (None, Some(dir)) if by_flag("data_dir") => Ok(Target::DataDir(dir.into())),
        (None, dir) => {
            let dir = dir.unwrap_or_else(|| DEFAULT_DATA_DIR.to_owned());
            Ok(Target::Either(dir.into(), DEFAULT_ADDRESS.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
