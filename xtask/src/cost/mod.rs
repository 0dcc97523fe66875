//! `cargo xtask cost-run`: what a load asks of a bucket, and that an idle broker asks for nothing.
//!
//! *Owns*: the order, the options.
//! *Does not own*: the load (`cost-run` of the benches), the server (services), idle brokers (`idle.rs`).
//!
//! *IO: driver*

mod access_log;
mod idle;
mod proxy;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::build::{built, target};
use crate::services::{seaweed, work_dir};

const USAGE: &str = "\
usage: cargo xtask cost-run [--minutes N] [--idle-minutes N] [--mib-s N] [--streams N] [--local] [--dev]

  1. brokers on SeaweedFS, with a device WAL and an object WAL: topics, records, uploads, compaction, a group;
     then, all clients gone, idle for --idle-minutes (10), in which the access log of the store must not
     tell of one request, and nothing be sent;
  2. --mib-s (50) over --streams (1000) for --minutes (5), on SeaweedFS or with --local on a directory,
     until nothing more is sent; at most 0.5 PUT a MiB and 2.5 bytes sent for a byte produced.
  0 minutes leave a part out. --dev takes builds of the dev profile, which ask for the same. The reports go to
  tidewater-bench/cost.json in the target folder
";

struct Options {
    minutes: f64,
    idle_minutes: f64,
    mib_s: String,
    streams: String,
    local: bool,
    dev: bool,
}

impl Options {
    fn parse(args: &[&str]) -> Option<Self> {
        let mut options = Self {
            minutes: 5.0,
            idle_minutes: 10.0,
            mib_s: "50".to_owned(),
            streams: "1000".to_owned(),
            local: false,
            dev: false,
        };
        let mut rest = args.iter();
        while let Some(flag) = rest.next() {
            match *flag {
                "--local" => options.local = true,
                "--dev" => options.dev = true,
                "--minutes" => options.minutes = rest.next()?.parse().ok()?,
                "--idle-minutes" => options.idle_minutes = rest.next()?.parse().ok()?,
                "--mib-s" => options.mib_s = (*rest.next()?).to_owned(),
                "--streams" => options.streams = (*rest.next()?).to_owned(),
                _ => return None,
            }
        }
        Some(options)
    }
}

pub(crate) fn main(root: &Path, args: &[&str]) -> ExitCode {
    let Some(options) = Options::parse(args) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(root, &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("cost-run: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(root: &Path, options: &Options) -> Result<(), String> {
    let folder = work_dir(root).join(format!("cost-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let done = idle(root, &folder, options).and_then(|idle| {
        let load = load(root, &folder, options)?;
        let path = target(root).join("tidewater-bench/cost.json");
        let report = serde_json::json!({"idle": idle, "load": load});
        fs::create_dir_all(path.parent().expect("it has one")).map_err(|e| e.to_string())?;
        fs::write(&path, format!("{report}\n")).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("{report}");
        Ok(())
    });
    let _ = fs::remove_dir_all(&folder);
    done
}

/// Brokers on SeaweedFS, one with each kind of log, that worked and are left alone.
fn idle(root: &Path, folder: &Path, options: &Options) -> Result<Value, String> {
    if options.idle_minutes <= 0.0 {
        return Ok(Value::Null);
    }
    let broker = built(root, options.dev, "tidewater-broker", "tidewater")?;
    let waited = Duration::from_secs_f64(options.idle_minutes * 60.0);
    idle::run(root, folder, &broker, waited)
}

fn load(root: &Path, folder: &Path, options: &Options) -> Result<Value, String> {
    if options.minutes <= 0.0 {
        return Ok(Value::Null);
    }
    let program = built(root, options.dev, "tidewater-benches", "cost-run")?;
    let dir = folder.join("load");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut command = Command::new(program);
    command
        .arg("--dir")
        .arg(&dir)
        .args(["--minutes", &options.minutes.to_string()]);
    command.args(["--mib-s", &options.mib_s, "--streams", &options.streams]);
    let _server = match options.local {
        true => None,
        false => {
            let server = seaweed::start(&work_dir(root))?;
            command.envs(server.env());
            command
                .arg("--bucket")
                .arg(format!("{}/load", server.bucket_url()));
            Some(server)
        }
    };
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let report =
        serde_json::from_str(&text).map_err(|e| format!("cost-run printed {text}: {e}"))?;
    match output.status.success() {
        true => Ok(report),
        false => Err(format!("above a target: {report}")),
    }
}
