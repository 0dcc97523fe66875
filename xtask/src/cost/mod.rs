//! `cargo xtask cost-run`: what a load asks of a bucket, and that an idle broker asks for nothing.
//!
//! *Owns*: the order, the options, the verdict on an idle broker.
//! *Does not own*: the load (`cost-run` of the benches), the server (services), counting bytes on the
//! wire (`proxy.rs`).
//!
//! Invariants
//! 1. That a broker is idle is shown by what came over the wire, not by its own counters.
//!
//! *IO: driver*

mod proxy;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::build::{built, target};
use crate::services::{seaweed, work_dir};
use proxy::Proxy;

const USAGE: &str = "\
usage: cargo xtask cost-run [--minutes N] [--idle-minutes N] [--mib-s N] [--streams N] [--local] [--dev]

  1. a broker idle on SeaweedFS for --idle-minutes (10), which must not send one byte;
  2. --mib-s (50) over --streams (1000) for --minutes (5), on SeaweedFS or with --local on a directory,
     until nothing more is sent; at most 0.5 PUT a MiB and 2.5 bytes sent for a byte produced.
  0 minutes leave a part out. --dev takes builds of the dev profile, which ask for the same. The reports go to
  tidewater-bench/cost.json in the target folder
";

/// A broker that has just started may still look around.
const SETTLE: Duration = Duration::from_secs(20);
const START_WITHIN: Duration = Duration::from_secs(60);

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

/// Brokers on SeaweedFS, one with each kind of log, behind proxies that count. What they send at their
/// start shows that the proxies see.
fn idle(root: &Path, folder: &Path, options: &Options) -> Result<serde_json::Value, String> {
    if options.idle_minutes <= 0.0 {
        return Ok(serde_json::Value::Null);
    }
    let broker = built(root, options.dev, "tidewater-broker", "tidewater")?;
    let server = seaweed::start(&work_dir(root))?;
    let mut idle = Vec::new();
    for wal in ["device", "object"] {
        idle.push(Idle::start(wal, &broker, &server, folder)?);
    }
    sleep(SETTLE);
    let before: Vec<u64> = idle.iter().map(|it| it.proxy.bytes()).collect();
    let waited = Duration::from_secs_f64(options.idle_minutes * 60.0);
    sleep(waited);
    let mut reports = Vec::new();
    for (mut it, before) in idle.into_iter().zip(before) {
        let sent = it.proxy.bytes() - before;
        it.running.stop()?;
        let report = serde_json::json!({
            "wal": it.wal, "idle_s": waited.as_secs_f64(), "bytes_sent_while_idle": sent,
            "bytes_sent_at_start": it.started, "bytes_sent_while_settling": before - it.started,
            "bytes_sent_at_stop": it.proxy.bytes() - before - sent,
            "connections": it.proxy.connections(),
        });
        eprintln!("{report}");
        if sent > 0 {
            return Err(format!("an idle broker sent {sent} bytes: {report}"));
        }
        reports.push(report);
    }
    Ok(reports.into())
}

/// A broker that nobody uses.
struct Idle {
    wal: &'static str,
    proxy: Proxy,
    running: Running,
    /// Bytes sent until it was ready.
    started: u64,
}

impl Idle {
    fn start(
        wal: &'static str,
        broker: &Path,
        server: &seaweed::Seaweed,
        folder: &Path,
    ) -> Result<Self, String> {
        let proxy = Proxy::start(server.address()).map_err(|e| format!("proxy: {e}"))?;
        let ready = folder.join(format!("{wal}.json"));
        let mut command = Command::new(broker);
        command
            .envs(server.env())
            .env("AWS_ENDPOINT_URL", proxy.endpoint());
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn"]);
        let bucket = format!("{}/idle-{wal}", server.bucket_url());
        command.arg("--bucket").arg(bucket);
        command.arg("--data-dir").arg(folder.join(wal));
        command.arg("--ready-file").arg(&ready);
        if wal == "object" {
            command.args(["--wal", "object"]);
        }
        let child = command.stdout(Stdio::null()).spawn();
        let mut running = Running(child.map_err(|e| e.to_string())?);
        running.wait_for(&ready)?;
        let started = proxy.bytes();
        if started == 0 {
            return Err("the broker started without a byte: the proxy does not see it".to_owned());
        }
        Ok(Self {
            wal,
            proxy,
            running,
            started,
        })
    }
}

fn load(root: &Path, folder: &Path, options: &Options) -> Result<serde_json::Value, String> {
    if options.minutes <= 0.0 {
        return Ok(serde_json::Value::Null);
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

/// A child that dies with this.
struct Running(Child);

impl Running {
    fn wait_for(&mut self, file: &Path) -> Result<(), String> {
        let began = Instant::now();
        while began.elapsed() < START_WITHIN {
            if file.exists() {
                return fs::remove_file(file).map_err(|e| e.to_string());
            }
            if let Ok(Some(status)) = self.0.try_wait() {
                return Err(format!("the broker ended with {status}"));
            }
            sleep(Duration::from_millis(20));
        }
        Err("the broker did not start".to_owned())
    }

    fn stop(&mut self) -> Result<(), String> {
        let id = self.0.id().to_string();
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .map_err(|e| e.to_string())?;
        self.0.wait().map_err(|e| e.to_string())?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
