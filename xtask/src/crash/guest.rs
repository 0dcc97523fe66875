//! A guest: User-Mode Linux with the host's files as its root, a script as its first process, and
//! a few images as its disks.
//!
//! *Owns*: the boot, the end, what the script gets and leaves.
//! *Does not own*: what the script does (`passes.rs`).
//!
//! Invariants
//! 1. A guest that does not end in its time is killed with all its processes.
//! 2. A guest that somebody on the host disturbed with a signal says nothing about the log.
//! 3. A guest whose script began and did not end is a finding: something hung or the kernel died.
//!
//! *IO: driver*

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::failure::Failure;
use super::runs::{Runner, judged, last_words};
use super::tools::{Tools, command};

/// Memory of a guest: it holds one image and its page cache.
const MEMORY: &str = "mem=256M";

/// What the guest's kernel says before it gives up.
const STOPPED: &str = "child stopped with signal";

/// What a guest gets.
pub(crate) struct Guest<'a> {
    pub(crate) folder: &'a Path,
    /// `/dev/ubda`, `/dev/ubdb`, …
    pub(crate) disks: &'a [PathBuf],
    /// `/dev/vda`, behind a vhost-user socket.
    pub(crate) socket: Option<&'a Path>,
    pub(crate) modules: &'a [&'a str],
    /// Shell; `result CODE` says how it went, from which on only tidying up follows.
    pub(crate) script: &'a str,
    pub(crate) limit: Duration,
}

/// Boots the guest, waits for its end and answers for its script.
pub(crate) fn run(runner: &mut Runner, tools: &Tools, guest: &Guest) -> Result<(), Failure> {
    for left in ["ready", "result"] {
        // What an earlier guest left in the same folder, if there was one.
        let _ = fs::remove_file(guest.folder.join(left));
    }
    let init = guest.folder.join("init");
    let said = |path: &Path, why: std::io::Error| Failure::environment("write", path, &why);
    fs::write(&init, script(tools, guest)).map_err(|why| said(&init, why))?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&init, executable).map_err(|why| said(&init, why))?;
    let mut kernel = command("linux.uml");
    kernel.env("LD_PRELOAD", &tools.shim);
    kernel.args([
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        "rw",
        MEMORY,
    ]);
    kernel.args(["con=null", "con0=null,fd:1"]);
    kernel.arg(format!("uml_dir={}/", guest.folder.display()));
    kernel.arg(format!("init={}", init.display()));
    for (number, disk) in guest.disks.iter().enumerate() {
        kernel.arg(format!("ubd{number}={}", disk.display()));
    }
    if let Some(socket) = guest.socket {
        // The number is the kind of device: a disk.
        kernel.arg(format!("virtio_uml.device={}:2", socket.display()));
    }
    let console = guest.folder.join("console");
    let mut running = runner.spawn(&mut kernel, &console)?;
    let ended = running.wait(guest.limit);
    runner.processes.end(&mut running);
    let output = last_words(&guest.folder.join("output"));
    if let Ok(code) = fs::read_to_string(guest.folder.join("result")) {
        if ended.is_none() {
            return Err(Failure::Check(format!(
                "the guest did not end within {:?} after its script; its console ended with\n{}",
                guest.limit,
                last_words(&console)
            )));
        }
        return judged(code.trim().parse().ok(), &format!("in the guest: {output}"));
    }
    // The guest's kernel traces its processes and does not expect a SIGCONT from outside.
    let console_text = fs::read(&console).unwrap_or_default();
    if String::from_utf8_lossy(&console_text).contains(STOPPED) {
        let what = "a process of the guest got a signal from somebody on the host";
        return Err(Failure::Disturbed(what.to_owned()));
    }
    let what = format!(
        "the guest {} without a result; it said\n{output}\nits console ended with\n{}",
        if ended.is_none() {
            "was killed"
        } else {
            "ended"
        },
        last_words(&console)
    );
    Err(if guest.folder.join("ready").exists() {
        Failure::Check(what)
    } else {
        Failure::Environment(what)
    })
}

fn script(tools: &Tools, guest: &Guest) -> String {
    format!(
        "#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
off() {{ echo o > /proc/sysrq-trigger; sleep 60; }}
result() {{ echo \"$1\" > result; }}
mount -t proc proc /proc && mount -t sysfs sys /sys && cd {folder} || off
exec > output 2>&1
for module in {modules}; do modprobe -d {root} \"$module\" || off; done
program={program}
{script}
off
",
        folder = quoted(guest.folder),
        modules = guest.modules.join(" "),
        root = quoted(&tools.modules),
        program = quoted(&tools.program),
        script = guest.script,
    )
}

/// A path as the shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
