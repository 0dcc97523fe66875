//! The broker's process: started, watched, stopped.
//!
//! *Owns*: its command line; what the kernel and its own counters say of it.
//!
//! Invariants
//! 1. The process dies with its [`Broker`].
//!
//! *IO: driver*

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidewater_benches::Failure;

use crate::Options;

const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(120);
/// Objects that nobody references any more go this soon.
const DELETE_DELAY_MS: &str = "2000";
const KIB: u64 = 1 << 10;

/// A broker that dies with this.
pub(crate) struct Broker {
    program: PathBuf,
    child: Child,
    pub(crate) address: SocketAddr,
}

/// Resident bytes of a process.
pub(crate) struct Resident {
    /// Everything now (VmRSS), and at its highest ever (VmHWM).
    pub(crate) now: u64,
    pub(crate) most: u64,
    /// Without pages of files (RssAnon and RssShmem).
    pub(crate) own: u64,
}

impl Broker {
    pub(crate) fn start(options: &Options) -> Result<Self, Failure> {
        let ready = options.dir.join("ready.json");
        let mut command = Command::new(&options.broker);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn"]);
        command.arg("--data-dir").arg(options.dir.join("data"));
        command.arg("--ready-file").arg(&ready);
        command.args(["--memory", &format!("{}MiB", options.memory_mib)]);
        command.args(["--delete-delay-ms", DELETE_DELAY_MS]);
        let mut child = command.stdout(Stdio::null()).spawn()?;
        let began = Instant::now();
        while !ready.exists() {
            if let Some(status) = child.try_wait()? {
                return Err(format!("the broker ended with {status}").into());
            }
            if began.elapsed() > START_WITHIN {
                child.kill()?;
                return Err("the broker did not start".into());
            }
            sleep(Duration::from_millis(10));
        }
        let facts: Value = serde_json::from_slice(&fs::read(&ready)?)?;
        let address = facts["listen"].as_str().ok_or("no address")?.parse()?;
        Ok(Self {
            program: options.broker.clone(),
            child,
            address,
        })
    }

    pub(crate) fn resident(&mut self) -> Result<Resident, Failure> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("the broker ended with {status}").into());
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let bytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            kib.map(|kib| kib * KIB).ok_or(format!("no {name}"))
        };
        Ok(Resident {
            now: bytes("VmRSS:")?,
            most: bytes("VmHWM:")?,
            own: bytes("RssAnon:")? + bytes("RssShmem:")?,
        })
    }

    /// What each share of the budget holds and may hold, in bytes.
    pub(crate) fn shares(&self) -> Result<BTreeMap<String, (u64, u64)>, Failure> {
        let mut command = Command::new(&self.program);
        command.args(["stats", "--json", "--bootstrap", &self.address.to_string()]);
        let output = command.output()?;
        let stats: Value = serde_json::from_slice(&output.stdout)?;
        let rows = stats["memory"].as_array().ok_or("no shares of memory")?;
        let share = |row: &Value| {
            let name = row["share"].as_str()?.to_owned();
            Some((name, (row["bytes"].as_u64()?, row["bytes_max"].as_u64()?)))
        };
        let shares: Option<_> = rows.iter().map(share).collect();
        Ok(shares.ok_or("a share of memory of another form")?)
    }

    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        let began = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the broker stopped with {status}").into()),
                None if began.elapsed() > STOP_WITHIN => return Err("it did not stop".into()),
                None => sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that the files below `path` take.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_below_a_folder_are_added_up() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), vec![1; 100_000]).unwrap();
        assert!(disk_bytes(folder.path()) >= 100_000);
    }
}
