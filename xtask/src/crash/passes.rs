//! Runs recorded by dm-log-writes in a guest, and the judgement of the crashes they allow.
//!
//! *Owns*: how a class is recorded and judged, what is kept of it.
//! *Does not own*: the classes (`table.rs`), guests (`guest.rs`), the judge (`tidewater-crash
//! check`).
//!
//! Invariants
//! 1. A recording is judged only if it is whole: every append acknowledged, its log not cut off.
//!
//! *IO: driver*

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::failure::Failure;
use super::guest::{self, Guest, quoted};
use super::options::Options;
use super::report::Class;
use super::runs::Runner;
use super::table::{Ground, Pass};
use super::tools::{Tools, command};

/// Bytes of the device that records; the file has holes where nothing was written.
const LOG_BYTES: u64 = 256 << 20;
/// Bytes of a file system.
const EXT4_BYTES: u64 = 16 << 20;
const RECORD_WITHIN: Duration = Duration::from_secs(120);
/// What judging may take, and for each state.
const JUDGE_WITHIN: Duration = Duration::from_secs(60);
const JUDGE_STATE_WITHIN: Duration = Duration::from_secs(5);

/// Records the run of `pass` and judges its states.
pub(crate) fn run(
    runner: &mut Runner,
    tools: &Tools,
    options: &Options,
    pass: &Pass,
    states: u64,
) -> Result<Class, Failure> {
    let folder = if options.state.is_some() {
        let kept = runner.work.join(pass.name);
        if !kept.join("log").exists() {
            let what = format!("no recorded run is kept in {}", kept.display());
            return Err(Failure::Environment(what));
        }
        kept
    } else {
        let folder = runner.folder(pass.name)?;
        record(runner, tools, options, pass, &folder)?;
        folder
    };
    let sums = judge(runner, tools, options, pass, &folder, states)?;
    let class = Class::new(pass.name, pass.expect, sums, options.state.is_some());
    if class.is_ok() && options.state.is_none() && !options.keep {
        fs::remove_dir_all(&folder).map_err(|why| Failure::environment("remove", &folder, &why))?;
    }
    Ok(class)
}

fn record(
    runner: &mut Runner,
    tools: &Tools,
    options: &Options,
    pass: &Pass,
    folder: &Path,
) -> Result<(), Failure> {
    let [base, data, log] = ["base", "data", "log"].map(|name| folder.join(name));
    match pass.ground {
        Ground::Raw => {
            let mut make = Command::new(&tools.program);
            runner.tested(make.arg("make").arg("--blank").arg(&base), RECORD_WITHIN)?;
        }
        Ground::Ext4 => {
            sparse(&base, EXT4_BYTES)?;
            let mut mkfs = command("mkfs.ext4");
            mkfs.args(["-q", "-F", "-b", "4096", "-J", "size=4"])
                .arg(&base);
            runner.must(&mut mkfs, RECORD_WITHIN)?;
        }
    }
    fs::copy(&base, &data).map_err(|why| Failure::environment("copy", &base, &why))?;
    sparse(&log, LOG_BYTES)?;
    let (before, wal, after) = match pass.ground {
        Ground::Raw => ("", "/dev/dm-0 --create", ""),
        Ground::Ext4 => (
            "mkdir mnt; mount -t ext4 /dev/dm-0 mnt || off",
            "mnt/wal --create",
            "umount mnt || code=1",
        ),
    };
    let script = format!(
        "dmsetup --noudevsync create log --table \
\"0 $(cat /sys/block/ubda/size) log-writes /dev/ubda /dev/ubdb\" || off
{before}
touch ready
\"$program\" write --wal {wal} --mode {mode} --mutant {mutant} --lives {lives} --seed {seed} \
--history history --target log --json written
code=$?
{after}
dmsetup --noudevsync remove log || code=3
result $code",
        mode = pass.mode,
        mutant = pass.mutant,
        lives = pass.lives,
        seed = options.seed,
    );
    let guest = Guest {
        folder,
        disks: &[data.clone(), log],
        socket: None,
        modules: &["dm-mod", "dm-log-writes", "ext4"],
        script: &script,
        limit: RECORD_WITHIN,
    };
    guest::run(runner, tools, &guest)?;
    must_be_whole(&folder.join("written"))?;
    fs::remove_file(&data).map_err(|why| Failure::environment("remove", &data, &why))
}

/// The workload came to its end: every append was acknowledged, and something was trimmed.
fn must_be_whole(file: &Path) -> Result<(), Failure> {
    let written = json(file)?;
    let count = |name: &str| written[name].as_u64().unwrap_or(0);
    let (appended, acked, trims) = (count("appended"), count("acked"), count("trims"));
    if appended == 0 || acked != appended || trims == 0 {
        let what = format!("{appended} frames appended, {acked} acknowledged, {trims} trims");
        return Err(Failure::Check(what));
    }
    Ok(())
}

fn judge(
    runner: &mut Runner,
    tools: &Tools,
    options: &Options,
    pass: &Pass,
    folder: &Path,
    states: u64,
) -> Result<Value, Failure> {
    let limit = JUDGE_WITHIN + JUDGE_STATE_WITHIN * u32::try_from(states).unwrap_or(u32::MAX);
    let only = options
        .state
        .map_or_else(String::new, |state| format!("--state {state}"));
    let args = format!(
        "--class {name} --states {states} --seed {seed} {only}",
        name = pass.name,
        seed = options.seed,
    );
    match pass.ground {
        Ground::Raw => {
            let mut check = Command::new(&tools.program);
            check.current_dir(folder).arg("check");
            check.args(args.split_whitespace());
            check.args(["--base", "base", "--log", "log", "--history", "history"]);
            check.args(["--scratch", "scratch", "--json", "sums"]);
            runner.tested(&mut check, limit)?;
        }
        Ground::Ext4 => {
            let scratch = folder.join("scratch");
            sparse(&scratch, EXT4_BYTES)?;
            let script = format!(
                "mkdir -p mnt
touch ready
\"$program\" check {args} --base base --log log --history history \
--scratch /dev/ubda --mount {mount} --json sums
result $?",
                mount = quoted(&folder.join("mnt")),
            );
            let guest = Guest {
                folder,
                disks: std::slice::from_ref(&scratch),
                socket: None,
                modules: &["ext4"],
                script: &script,
                limit,
            };
            guest::run(runner, tools, &guest)?;
        }
    }
    json(&folder.join("sums"))
}

/// A log of its full size in a file that stands for a device.
pub(crate) fn make(runner: &mut Runner, tools: &Tools, path: &Path) -> Result<(), Failure> {
    let mut make = Command::new(&tools.program);
    runner.tested(make.arg("make").arg(path), RECORD_WITHIN)
}

/// A file of holes.
pub(crate) fn sparse(path: &PathBuf, num_bytes: u64) -> Result<(), Failure> {
    File::create(path)
        .and_then(|file| file.set_len(num_bytes))
        .map_err(|why| Failure::environment("make", path, &why))
}

/// What a program under test wrote down.
pub(crate) fn json(path: &Path) -> Result<Value, Failure> {
    let text = fs::read_to_string(path).map_err(|why| Failure::environment("read", path, &why))?;
    serde_json::from_str(&text).map_err(|why| Failure::environment("understand", path, &why.into()))
}
