//! A broker for the client checks: the release binary on a free port with a folder of its own.
//!
//! *Owns*: its start, its ready file, its clean stop.
//! *Does not own*: the build (`steps.rs`).
//!
//! *IO: driver*

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::{Processes, Running};

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A broker that answers.
pub(crate) struct Broker {
    running: Running,
    folder: PathBuf,
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
}

impl Broker {
    pub(crate) fn start(
        processes: &mut Processes,
        binary: &Path,
        folder: &Path,
    ) -> Result<Self, String> {
        let said = |why: std::io::Error| format!("{}: {why}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(said)?;
        }
        fs::create_dir_all(folder).map_err(said)?;
        let log = File::create(folder.join("broker.log")).map_err(said)?;
        let ready_file = folder.join("ready.json");
        let mut command = Command::new(binary);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.join("data"));
        command.arg("--ready-file").arg(&ready_file);
        command.stdout(log.try_clone().map_err(said)?).stderr(log);
        let mut running = processes.spawn(&mut command)?;
        match ready(&mut running, &ready_file) {
            Ok(address) => Ok(Self {
                running,
                folder: folder.to_owned(),
                address,
            }),
            Err(why) => {
                processes.end(&mut running);
                Err(format!("{why}; {}", last_words(folder)))
            }
        }
    }

    /// Ends it. After a check that went well it must leave by itself with 0; then its folder goes too.
    pub(crate) fn stop(mut self, processes: &mut Processes, went_well: bool) -> Result<(), String> {
        let outcome = if went_well {
            self.leave()
        } else {
            Err(String::new())
        };
        processes.end(&mut self.running);
        outcome.map_err(|why| format!("{why}; {}", last_words(&self.folder)))?;
        fs::remove_dir_all(&self.folder).map_err(|why| format!("{}: {why}", self.folder.display()))
    }

    fn leave(&mut self) -> Result<(), String> {
        self.running.terminate()?;
        match self.running.wait(STOP_WITHIN) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the broker left with {status} after SIGTERM")),
            None => Err(format!(
                "the broker did not leave within {STOP_WITHIN:?} after SIGTERM"
            )),
        }
    }
}

/// Waits for the ready file and returns the address in it.
fn ready(running: &mut Running, file: &Path) -> Result<String, String> {
    let deadline = Instant::now() + READY_WITHIN;
    while Instant::now() < deadline {
        if let Ok(text) = fs::read_to_string(file) {
            let said: Value = serde_json::from_str(&text)
                .map_err(|why| format!("the ready file is no JSON: {why}"))?;
            return said["listen"]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| format!("the ready file names no address: {text}"));
        }
        if let Some(status) = running.wait(Duration::ZERO) {
            return Err(format!("the broker left with {status} while starting"));
        }
        sleep(Duration::from_millis(20));
    }
    Err(format!("the broker was not ready within {READY_WITHIN:?}"))
}

fn last_words(folder: &Path) -> String {
    let log = folder.join("broker.log");
    let text = fs::read(&log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!(
        "the end of {}:\n{}",
        log.display(),
        lines[lines.len().saturating_sub(10)..].join("\n")
    )
}
