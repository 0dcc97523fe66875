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
     What was counted must be what `tidewater cost` says of such a load, within a quarter.
  0 minutes leave a part out. --dev takes builds of the dev profile, which ask for the same. The reports go to
  tidewater-bench/cost.json in the target folder
";

/// Requests and bytes that the model is held against, and how far it may be off.
const COMPARED: &[(&str, &[&str], &str)] = &[
    ("requests", WRITES, "upload"),
    ("requests", WRITES, "compaction"),
    ("requests", &["get"], "compaction"),
    ("bytes", &["out"], "upload"),
    ("bytes", &["out"], "compaction"),
    ("bytes", &["in"], "compaction"),
];
const WRITES: &[&str] = &["create", "start", "part", "copy", "complete"];
const MODEL_OFF_MAX: f64 = 0.25;

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
    let mut report: Value =
        serde_json::from_str(&text).map_err(|e| format!("cost-run printed {text}: {e}"))?;
    report["model"] = model(root, options, &report)?;
    match (output.status.success(), report["model"]["within"] == true) {
        (true, true) => Ok(report),
        (false, _) => Err(format!("above a target: {report}")),
        (_, false) => Err(format!("not what `tidewater cost` says: {report}")),
    }
}

/// What `tidewater cost` says of this load, beside what was counted.
fn model(root: &Path, options: &Options, report: &Value) -> Result<Value, String> {
    let broker = built(root, options.dev, "tidewater-broker", "tidewater")?;
    let minutes = options.minutes.to_string();
    let output = Command::new(broker)
        .args(["cost", "--json", "--mb-in", &options.mib_s])
        .args(["--partitions", &options.streams, "--minutes", &minutes])
        .output()
        .map_err(|e| e.to_string())?;
    let said: Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("{}: {e}", String::from_utf8_lossy(&output.stderr)))?;
    let gib = report["produced_mib"].as_f64().unwrap_or(0.0) / 1_024.0;
    let bytes_a_gib = f64::from(1 << 30);
    let (mut rows, mut within) = (Vec::new(), true);
    for (what, name, purpose) in COMPARED {
        let key = |it: &str| format!("{it} {purpose}");
        let counted = name.iter().filter_map(|it| report[*what][key(it)].as_f64());
        let counted: f64 = counted.sum::<f64>() / gib;
        let counted = if *what == "bytes" {
            counted / bytes_a_gib
        } else {
            counted
        };
        let of_model = said[*what].as_array().into_iter().flatten().filter(|row| {
            let label = row.get("op").or(row.get("direction"));
            row["purpose"] == *purpose && name.iter().any(|it| label == Some(&(*it).into()))
        });
        let field = if *what == "bytes" {
            "per_byte_produced"
        } else {
            "per_gib"
        };
        let modelled: f64 = of_model.filter_map(|row| row[field].as_f64()).sum();
        within &= counted == modelled || (modelled / counted - 1.0).abs() <= MODEL_OFF_MAX;
        rows.push(serde_json::json!({
            "what": what, "names": name, "purpose": purpose, "counted": counted, "model": modelled,
        }));
    }
    Ok(serde_json::json!({"per_gib_or_byte": rows, "within": within, "off_max": MODEL_OFF_MAX}))
}
