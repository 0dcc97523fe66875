//! `cargo xtask services`: servers that tests talk to, on loopback, in folders of their own.
//!
//! *Owns*: the command line.
//! *Does not own*: a server's installation and life; each is a file of its own.
//!
//! *IO: driver*

pub(crate) mod seaweed;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask services seaweed [COMMAND [ARG]...]

  runs COMMAND with the variables of a SeaweedFS server that lives as long as it;
  without one, prints the variables and serves until Ctrl-C
";

pub(crate) fn main(root: &Path, args: &[&str]) -> ExitCode {
    match args {
        ["seaweed", "--", rest @ ..] | ["seaweed", rest @ ..] => {
            seaweed::run_with(&work_dir(root), rest)
        }
        _ => {
            eprint!("{USAGE}");
            eprintln!("xtask services: unknown command {args:?}");
            ExitCode::from(2)
        }
    }
}

/// Where servers are installed and run.
pub(crate) fn work_dir(root: &Path) -> PathBuf {
    root.join("target/tidewater-test")
}
