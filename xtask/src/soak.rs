//! `cargo xtask soak`: a broker at full speed stays within its budget of memory.
//!
//! *Owns*: building, the folder, where the report goes.
//! *Does not own*: the load and the verdict (`soak` of the benches), which takes the other options.
//!
//! *IO: driver*

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::build::{built, target};
use crate::services::work_dir;

const USAGE: &str = "\
usage: cargo xtask soak [--dev] [--minutes N] [--memory-mib N] [--producers N] [--consumers N]
                        [--partitions N] [--batch-kib N | --batch-bytes N] [--in-flight N]
                        [--disk-gib N] [--stall-seconds N]

  produces and consumes over the Kafka protocol as fast as it goes, for --minutes (10), in topics that
  are exchanged so that the disk holds --disk-gib (10) at most; what is left of them is read back. Fails
  if the broker's memory was ever above 1.2 times --memory-mib (512), a share above what it may hold, the
  disk above its limit, or if an acknowledged batch is missing. --batch-bytes makes batches of one record of
  that size; with --stall-seconds the bucket takes nothing for so long. The report goes to
  tidewater-bench/soak.json in the target folder
";

pub(crate) fn main(root: &Path, args: &[&str]) -> ExitCode {
    if args
        .iter()
        .any(|arg| ["help", "--help", "-h"].contains(arg))
    {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match run(root, args) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("soak: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs it; the report.
pub(crate) fn run(root: &Path, args: &[&str]) -> Result<String, String> {
    let dev = args.contains(&"--dev");
    let broker = built(root, dev, "tidewater-broker", "tidewater")?;
    let soak = built(root, dev, "tidewater-benches", "soak")?;
    let folder = work_dir(root).join(format!("soak-{}", std::process::id()));
    let output = Command::new(soak)
        .arg("--broker")
        .arg(broker)
        .arg("--dir")
        .arg(&folder)
        .args(args.iter().filter(|arg| **arg != "--dev"))
        .stderr(Stdio::inherit())
        .output();
    let _ = fs::remove_dir_all(&folder);
    let output = output.map_err(|e| e.to_string())?;
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = target(root).join("tidewater-bench/soak.json");
    fs::create_dir_all(path.parent().expect("it has one")).map_err(|e| e.to_string())?;
    fs::write(&path, &report).map_err(|e| format!("{}: {e}", path.display()))?;
    match output.status.success() {
        true => Ok(report),
        false => Err(format!("{}: {report}", output.status)),
    }
}
