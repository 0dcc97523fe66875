//! A device whose n-th flush fails and whose writes are logged: qemu-storage-daemon.
//!
//! *Owns*: its nodes (blkdebug over blklogwrites over a file), its life, its two exports: a file of
//! the host by FUSE, a disk of a guest by vhost-user.
//! *Does not own*: what is done with it.
//!
//! Invariants
//! 1. The failed flush ends above the write log, which so holds successful flushes alone.
//! 2. The export by FUSE has no two writes under way: QEMU 7.2 keeps one buffer for all requests
//!    and takes the next one in while a write waits (`qemu-io` with `aio_write` shows it). So the
//!    portable log, one operation at a time, uses that, and the ring the guest's disk.
//! 3. FUSE flushes a file that is closed, and a poisoned log closes its own at once. That flush
//!    would cover what the failed one did not, as no close on a real device does: it fails too.
//!
//! *IO: driver*

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::failure::Failure;
use super::passes::sparse;
use super::runs::{Runner, last_words};
use super::tools::command;
use crate::test::process::Running;

/// The exported file, or the socket.
pub(crate) const EXPORTED: &str = "exported";
const LOG_BYTES: u64 = 64 << 20;
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// How the log reaches the export.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The portable log, in the exported file.
    Host,
    /// The ring, on a guest's disk.
    Guest,
}

/// A running export.
pub(crate) struct Export {
    daemon: Running,
    exported: PathBuf,
    output: PathBuf,
}

impl Export {
    /// Exports a copy of `base` in `folder`; every write goes to `log` too.
    pub(crate) fn start(
        runner: &mut Runner,
        folder: &Path,
        way: Way,
        nth: u32,
    ) -> Result<Self, Failure> {
        let [base, data, log, exported] =
            ["base", "data", "log", EXPORTED].map(|name| folder.join(name));
        let failed = |why: std::io::Error| Failure::environment("copy", &base, &why);
        let num_bytes = fs::copy(&base, &data).map_err(failed)?;
        sparse(&log, LOG_BYTES)?;
        if way == Way::Host {
            let fuse = Path::new("/dev/fuse");
            File::open(fuse).map_err(|why| Failure::environment("open", fuse, &why))?;
            sparse(&exported, 0)?;
        }
        let mut daemon = command("qemu-storage-daemon");
        for device in devices(folder, way, nth) {
            daemon.arg("--blockdev").arg(device.to_string());
        }
        daemon
            .arg("--export")
            .arg(export(&exported, way).to_string());
        let output = folder.join("daemon");
        let daemon = runner.spawn(&mut daemon, &output)?;
        let mut started = Self {
            daemon,
            exported,
            output,
        };
        match started.ready(way, num_bytes) {
            Ok(()) => Ok(started),
            Err(why) => {
                started.stop(runner)?;
                Err(why)
            }
        }
    }

    fn ready(&mut self, way: Way, num_bytes: u64) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let is_ready = |file: fs::Metadata| match way {
                Way::Host => file.len() == num_bytes,
                Way::Guest => file.file_type().is_socket(),
            };
            if fs::metadata(&self.exported).is_ok_and(is_ready) {
                return Ok(());
            }
            let ended = self.daemon.wait(Duration::ZERO);
            if ended.is_some() || Instant::now() > deadline {
                let said = last_words(&self.output);
                return Err(Failure::Environment(format!("no export: {said}")));
            }
            sleep(POLL);
        }
    }

    /// Ends the daemon, and with it the mount.
    pub(crate) fn stop(&mut self, runner: &mut Runner) -> Result<(), Failure> {
        let asked = self.daemon.terminate();
        let ended = self.daemon.wait(READY_WITHIN);
        runner.processes.end(&mut self.daemon);
        if ended.is_none() {
            unmount(runner, &self.exported)?;
        }
        asked.map_err(Failure::Environment)
    }
}

/// Takes away the mount that a killed daemon left at `exported`, if there is one.
pub(crate) fn unmount(runner: &mut Runner, exported: &Path) -> Result<(), Failure> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let name = exported.display().to_string();
    if !mounts.split_whitespace().any(|word| word == name) {
        return Ok(());
    }
    let mut umount = command("umount");
    runner.must(umount.arg("-l").arg(exported), READY_WITHIN)
}

fn export(exported: &Path, way: Way) -> Value {
    match way {
        Way::Host => json!({
            "type": "fuse", "id": "export", "node-name": "top", "writable": true,
            "mountpoint": exported,
        }),
        Way::Guest => json!({
            "type": "vhost-user-blk", "id": "export", "node-name": "top", "writable": true,
            "logical-block-size": 512, "addr": {"type": "unix", "path": exported},
        }),
    }
}

/// The nodes, from the files up to the node `top`.
fn devices(folder: &Path, way: Way, nth: u32) -> Vec<Value> {
    let file = |name: &str| {
        let path = folder.join(name);
        json!({"driver": "file", "node-name": name, "filename": path})
    };
    let last = nth + u32::from(way == Way::Host);
    let steps: Vec<Value> = (1..=last)
        .map(|state| json!({"event": "flush_to_disk", "state": state, "new_state": state + 1}))
        .collect();
    let errors: Vec<Value> = (nth..=last)
        .map(|state| {
            json!({
                "event": "flush_to_disk", "iotype": "flush", "errno": 5, "once": true,
                "state": state,
            })
        })
        .collect();
    vec![
        file("data"),
        file("log"),
        json!({
            "driver": "blklogwrites", "node-name": "logged", "file": "data", "log": "log",
            "log-sector-size": 512, "log-super-update-interval": 1,
        }),
        json!({
            "driver": "blkdebug", "node-name": "failing", "image": "logged",
            "inject-error": errors, "set-state": steps,
        }),
        json!({"driver": "raw", "node-name": "top", "file": "failing"}),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_flush_fails_and_that_of_the_close_behind_it() {
        for (way, count) in [(Way::Guest, 1), (Way::Host, 2)] {
            let devices = devices(Path::new("."), way, 3);
            let failing = &devices[3];
            let errors = failing["inject-error"].as_array().unwrap();
            assert_eq!(errors.len(), count);
            for (index, error) in errors.iter().enumerate() {
                assert_eq!(error["state"], 3 + index);
                assert_eq!(error["once"], true);
                assert_eq!(failing["set-state"][2 + index]["new_state"], 4 + index);
            }
        }
    }
}
