//! A broker as a process: started, watched, killed.
//!
//! *Owns*: the child, its log, how long it took to be ready, what `/proc` says about it.
//! *Does not own*: its command line (`launch.rs`).
//!
//! Invariants
//! 1. No child outlives the bench, however that ends short of SIGKILL.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use tidewater_benches::Client;

const READY_WAIT: Duration = Duration::from_secs(120);
const STOP_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);

/// How to start a broker, and how it says that it is ready.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) line: Vec<OsString>,
    pub(crate) log: PathBuf,
    pub(crate) ready: Ready,
}

/// The sign that requests are answered.
#[derive(Clone, Debug)]
pub(crate) enum Ready {
    /// This file appears, and says where.
    File(PathBuf),
    /// The first answer there.
    Answer(SocketAddr),
}

/// A broker that runs.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    /// When it was started.
    pub(crate) begun: Instant,
    /// From the start to the sign.
    pub(crate) ready: Duration,
}

impl Plan {
    /// Starts the broker and waits for its sign.
    pub(crate) fn start(&self) -> Result<Running, Failure> {
        if let Ready::File(path) = &self.ready {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let begun = Instant::now();
        let child = Command::new(&self.line[0])
            .args(&self.line[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|cause| format!("{}: {cause}", self.line[0].display()))?;
        let mut running = Running {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            begun,
            ready: Duration::ZERO,
        };
        while begun.elapsed() < READY_WAIT {
            if let Some(address) = self.sign() {
                running.address = address?;
                running.ready = begun.elapsed();
                return Ok(running);
            }
            if let Some(status) = running.child.try_wait()? {
                return Err(self.failed(&format!("ended while starting: {status}")));
            }
            std::thread::sleep(POLL);
        }
        Err(self.failed("not ready in time"))
    }

    fn sign(&self) -> Option<Result<SocketAddr, Failure>> {
        match &self.ready {
            Ready::Answer(address) => Client::connect(*address).ok().map(|_| Ok(*address)),
            Ready::File(path) => std::fs::read(path).ok().map(|bytes| listening(&bytes)),
        }
    }

    fn failed(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().last().unwrap_or("nothing");
        format!(
            "{}: {what}; its last words: {last}; all in {}",
            self.name,
            self.log.display()
        )
        .into()
    }
}

fn listening(ready_file: &[u8]) -> Result<SocketAddr, Failure> {
    let facts: serde_json::Value = serde_json::from_slice(ready_file)?;
    let listen = facts["listen"]
        .as_str()
        .ok_or("a ready file without `listen`")?;
    Ok(listen.parse()?)
}

impl Running {
    /// Resident memory now and at its peak, in MB.
    pub(crate) fn resident_mb(&self) -> Result<[f64; 2], Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| -> Result<f64, Failure> {
            let line = status.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1));
            let kib: f64 = kib.ok_or("no such field in /proc/PID/status")?.parse()?;
            Ok(kib * 1024.0 / 1e6)
        };
        Ok([field("VmRSS:")?, field("VmHWM:")?])
    }

    /// CPU time it took so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in brackets may hold anything; user and system time are the 12th and 13th
        // fields behind it, in hundredths of a second.
        let behind = stat.rsplit(')').next().unwrap_or_default();
        let ticks = |index: usize| -> Result<u64, Failure> {
            let field = behind.split_whitespace().nth(index);
            Ok(field.ok_or("a short /proc/PID/stat")?.parse()?)
        };
        Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
    }

    /// SIGKILL, and the moment of it.
    pub(crate) fn kill(mut self) -> Result<Instant, Failure> {
        let killed = Instant::now();
        self.child.kill()?;
        self.child.wait()?;
        Ok(killed)
    }

    /// SIGTERM, and the end.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id())?;
        // SAFETY: a plain system call; the process is our child and was not waited for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let begun = Instant::now();
        while begun.elapsed() < STOP_WAIT {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("a broker that does not end at SIGTERM".into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
