//! Project chores: `cargo xtask tidy`, `cargo xtask test`, `cargo xtask crash-test`,
//! `cargo xtask cost-run`, `cargo xtask soak`, `cargo xtask services`.
//!
//! *Owns*: the checks that need no compiler (tidy), the order in which every test of the
//! project runs (test), the log against a real kernel (crash-test), and the servers those tests
//! talk to (services).
//! *Does not own*: the tests themselves; each stands with the code it tests.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a command line tool, never simulated"
)]

mod build;
mod cost;
mod crash;
mod services;
mod soak;
mod test;
mod tidy;
mod vectors;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  tidy                        sizes, headers, imports, cycles, formats, licences, words
  test [--list] [--only STEP]...  every test of the project in order
  crash-test [--short] ...    the write-ahead log on a real kernel, crashed
  cost-run [--minutes N] ...  what a load asks of a bucket, and that an idle broker asks for nothing
  soak [--minutes N] ...      a broker at full speed stays within its budget of memory
  release-vectors VERSION     from now on the vectors of this version never change
  services COMMAND            the object store that tests talk to
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match args.first().map(String::as_str) {
        Some("tidy") => tidy::main(&root(), &rest),
        Some("test") => test::main(&root(), &rest),
        Some("cost-run") => cost::main(&root(), &rest),
        Some("soak") => soak::main(&root(), &rest),
        Some("crash-test") => crash::main(&root(), &rest),
        Some("release-vectors") => vectors::main(&root(), &rest),
        Some("services") => services::main(&root(), &rest),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        other => {
            eprint!("{USAGE}");
            eprintln!("xtask: unknown command {:?}", other.unwrap_or(""));
            ExitCode::from(2)
        }
    }
}

/// The folder of the workspace: the parent of this crate's.
fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from("xtask"), PathBuf::from);
    manifest
        .parent()
        .map_or_else(|| PathBuf::from("."), PathBuf::from)
}
