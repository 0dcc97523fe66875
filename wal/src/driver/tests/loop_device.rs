//! A block device over a file of ours.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::process::Command;

/// Bytes of the device.
pub(crate) const LOOP_BYTES: u64 = 16 << 20;

/// A loop device, detached when this is dropped.
pub(crate) struct Loop {
    pub(crate) device: PathBuf,
    _folder: tempfile::TempDir,
}

impl Loop {
    /// One of zeros with sectors of that size; `None` where loop devices are not permitted, which
    /// is a failure where `CI` is set.
    pub(crate) fn new(sector_bytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::File::create(&path)
            .unwrap()
            .set_len(LOOP_BYTES)
            .unwrap();
        let made = Command::new("losetup")
            .args(["--find", "--show", "--sector-size"])
            .arg(sector_bytes.to_string())
            .arg(&path)
            .output();
        let device = made
            .ok()
            .filter(|made| made.status.success())
            .map(|made| String::from_utf8(made.stdout).unwrap().trim().into());
        if device.is_none() {
            assert!(
                std::env::var_os("CI").is_none(),
                "no loop device can be had"
            );
            eprintln!("loop devices are not permitted here: nothing was tested");
        }
        device.map(|device| Self {
            device,
            _folder: folder,
        })
    }

    /// Runs `command` with the device as its last argument.
    pub(crate) fn run(&self, command: &str, args: &[&str]) {
        let mut command = Command::new(command);
        let output = command.args(args).arg(&self.device).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.device)
            .status();
    }
}
