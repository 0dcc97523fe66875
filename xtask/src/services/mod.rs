//! `cargo xtask services`: servers that tests talk to, on loopback, in folders of their own.
//!
//! *Owns*: the command line.
//! *Does not own*: a server's installation and life; each is a file of its own.
//!
//! *IO: driver*

use std::path::Path;
use std::process::ExitCode;

pub(crate) fn main(_root: &Path, args: &[&str]) -> ExitCode {
    eprintln!("xtask services: unknown command {args:?}");
    ExitCode::from(2)
}
