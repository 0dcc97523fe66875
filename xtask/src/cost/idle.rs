//! Brokers that worked and are left alone: what they still ask of a store.
//!
//! *Owns*: the brokers, one with each kind of log; their work; the quiet; the verdict.
//! *Does not own*: the store's access log (`access_log.rs`), counting bytes on the wire (`proxy.rs`), what
//! the work is (`idle_work.py` among the client checks).
//!
//! Invariants
//! 1. That a broker is idle is shown by the log of the store and by the wire, not by its own counters.
//! 2. The log is known to see: it told of the requests that the brokers counted while they worked, and it
//!    tells of more afterwards.
//! 3. What the engine owes after work (uploads, compaction, deletion of what died) is waited for.
//!
//! *IO: driver*

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::access_log::AccessLog;
use super::proxy::Proxy;
use crate::services::{seaweed, work_dir};
use crate::test::process::Processes;
use crate::test::tools::Tools;

const START_WITHIN: Duration = Duration::from_secs(60);
const WORK_WITHIN: Duration = Duration::from_secs(280);
/// Nothing for so long is the end of what is owed: everything that a broker does by itself is due within
/// it with these settings.
const QUIET: Duration = Duration::from_secs(20);
const QUIET_WITHIN: Duration = Duration::from_secs(300);
/// An upload a round of work; what died goes soon. As it is by default, deletion would be owed ten
/// minutes after the work.
const SETTINGS: [&str; 6] = [
    "--upload-interval-ms",
    "200",
    "--upload-bytes",
    "4MiB",
    "--delete-delay-ms",
    "2000",
];

/// Watches brokers for so long; the report.
pub(super) fn run(
    root: &Path,
    folder: &Path,
    broker: &Path,
    idle: Duration,
) -> Result<Value, String> {
    let mut processes = Processes::start()?;
    let tools = Tools::new(root, &work_dir(root));
    let script = Script {
        python: tools.python(&mut processes)?,
        path: root.join("broker-shim/tests/clients/idle_work.py"),
    };
    let log = AccessLog::start().map_err(|e| format!("access log: {e}"))?;
    let server = seaweed::start_logged(&work_dir(root), log.address())?;
    let mut watched = Vec::new();
    for wal in ["device", "object"] {
        let before = log.len();
        let mut it = Watched::start(wal, broker, &server, folder)?;
        script.run(&mut processes, &it.listen, &[])?;
        it.working = log.len() - before;
        watched.push(it);
    }
    let worked = log.len();
    settle(&log)?;
    let known = log.len();
    for it in &mut watched {
        it.counted = check_work(broker, it)?;
        it.sent = it.proxy.bytes();
    }
    let counted: u64 = watched.iter().map(|it| it.counted.requests).sum();
    // One that was given up on its way, since its twin was answered, may be counted there alone.
    if (known as u64) < counted - counted / 100 {
        return Err(format!(
            "the access log tells of {known} requests, the brokers made {counted}"
        ));
    }
    sleep(idle);
    let while_idle = log.since(known);
    let bytes: Vec<u64> = watched
        .iter()
        .map(|it| it.proxy.bytes() - it.sent)
        .collect();
    work_again(&script, &mut processes, &watched, &log)?;
    let brokers = watched
        .iter()
        .zip(&bytes)
        .map(|(it, sent)| it.report(*sent));
    let report = json!({
        "idle_s": idle.as_secs_f64(),
        "requests_while_idle": while_idle.len(),
        "requests_while_settling": known - worked,
        "requests_in_log": known, "requests_counted_by_brokers": counted,
        "brokers": brokers.collect::<Vec<_>>(),
    });
    eprintln!("{report}");
    for it in &mut watched {
        it.running.stop()?;
    }
    match (while_idle.is_empty(), bytes.iter().sum::<u64>()) {
        (true, 0) => Ok(report),
        (_, sent) => Err(format!(
            "idle brokers sent {sent} bytes; the store's log: {while_idle:?}: {report}"
        )),
    }
}

/// A little work of each broker, which the log must tell of: so it did not merely stop telling.
fn work_again(
    script: &Script,
    processes: &mut Processes,
    watched: &[Watched],
    log: &AccessLog,
) -> Result<(), String> {
    for it in watched {
        let before = log.len();
        script.run(processes, &it.listen, &["--little"])?;
        // Its upload is due soon.
        sleep(Duration::from_secs(5));
        if log.len() == before {
            return Err("the access log did not tell of work after the idle time".to_owned());
        }
    }
    Ok(())
}

/// Waits until the store was left alone for a while.
fn settle(log: &AccessLog) -> Result<(), String> {
    let began = Instant::now();
    let (mut known, mut since) = (log.len(), Instant::now());
    while since.elapsed() < QUIET {
        if began.elapsed() > QUIET_WITHIN {
            let last = log.since(log.len().saturating_sub(20));
            return Err(format!(
                "no {QUIET:?} without a request within {QUIET_WITHIN:?} after the work: {last:?}"
            ));
        }
        sleep(Duration::from_millis(100));
        if log.len() != known {
            (known, since) = (log.len(), Instant::now());
        }
    }
    Ok(())
}

/// What clients do.
struct Script {
    python: PathBuf,
    path: PathBuf,
}

impl Script {
    fn run(&self, processes: &mut Processes, address: &str, args: &[&str]) -> Result<(), String> {
        let mut command = Command::new(&self.python);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.arg(&self.path).arg(address).args(args);
        processes.run(&mut command, WORK_WITHIN)
    }
}

/// A broker and its way to the store.
struct Watched {
    wal: &'static str,
    proxy: Proxy,
    running: Running,
    listen: String,
    /// Requests in the log while it worked.
    working: usize,
    counted: Counted,
    /// Bytes sent before it was left alone.
    sent: u64,
}

/// What a broker says of itself.
#[derive(Default)]
struct Counted {
    requests: u64,
    compaction_runs: u64,
    key_compaction_runs: u64,
    deletions: u64,
}

impl Watched {
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
        command.args(SETTINGS);
        let bucket = format!("{}/idle-{wal}", server.bucket_url());
        command.arg("--bucket").arg(bucket);
        command.arg("--data-dir").arg(folder.join(wal));
        command.arg("--ready-file").arg(&ready);
        if wal == "object" {
            command.args(["--wal", "object"]);
        }
        let child = command.stdout(Stdio::null()).spawn();
        let mut running = Running(child.map_err(|e| e.to_string())?);
        let ready = running.wait_for(&ready)?;
        let listen = ready["listen"].as_str().ok_or("no address")?.to_owned();
        if proxy.bytes() == 0 {
            return Err("the broker started without a byte: the proxy does not see it".to_owned());
        }
        Ok(Self {
            wal,
            proxy,
            running,
            listen,
            working: 0,
            counted: Counted::default(),
            sent: 0,
        })
    }
}

impl Watched {
    fn report(&self, sent_while_idle: u64) -> Value {
        json!({
            "wal": self.wal, "requests_while_working": self.working,
            "bytes_sent_while_idle": sent_while_idle, "bytes_sent_before": self.sent,
            "connections": self.proxy.connections(),
            "compaction_runs": self.counted.compaction_runs,
            "key_compaction_runs": self.counted.key_compaction_runs,
            "deletions": self.counted.deletions,
        })
    }
}

/// The broker's own counters, which must tell of work of every kind.
fn check_work(broker: &Path, it: &Watched) -> Result<Counted, String> {
    let asked = Command::new(broker)
        .args(["stats", "--json", "--bootstrap", &it.listen])
        .output()
        .map_err(|e| e.to_string())?;
    let stats: Value = serde_json::from_slice(&asked.stdout).map_err(|e| format!("stats: {e}"))?;
    let rows = |wanted: &dyn Fn(&Value) -> bool| -> u64 {
        let rows = stats["bucket_requests"].as_array().into_iter().flatten();
        let chosen = rows.filter(|row| wanted(row));
        chosen.filter_map(|row| row["value"].as_u64()).sum()
    };
    let number = |name: &str| stats[name].as_u64().unwrap_or(0);
    let counted = Counted {
        requests: rows(&|_| true),
        compaction_runs: number("compaction_runs"),
        key_compaction_runs: number("key_compaction_runs"),
        deletions: rows(&|row| row["op"] == "delete" && row["purpose"] == "gc"),
    };
    let uploads = rows(&|row| row["op"] == "create" && row["purpose"] == "upload");
    let all = [uploads, counted.compaction_runs, counted.deletions];
    match all.contains(&0) {
        false => Ok(counted),
        true => Err(format!(
            "{} WAL: no work of every kind (uploads, compaction, deletions): {all:?}",
            it.wal
        )),
    }
}

/// A child that dies with this.
struct Running(Child);

impl Running {
    /// What the ready file says.
    fn wait_for(&mut self, file: &Path) -> Result<Value, String> {
        let began = Instant::now();
        while began.elapsed() < START_WITHIN {
            if let Ok(text) = fs::read_to_string(file) {
                return serde_json::from_str(&text).map_err(|e| format!("ready file: {e}"));
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
