//! Flushes that fail and then succeed.
//!
//! *Owns*: the order of events: a flush fails, the log is poisoned, it is opened again, the power
//! fails; the injection into `fdatasync` by strace.
//! *Does not own*: the device whose flush fails (`export.rs`); what the log does: `tidewater-crash
//! write` demands that it stays poisoned.
//!
//! Invariants
//! 1. What no successful flush covered when the flush failed counts as covered by no later one.
//! 2. The same with a log that takes the failure for a success (seeded bug 3), or that does not
//!    make durable what it serves afterwards (52), must be noticed.
//!
//! *IO: driver*

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::export::{EXPORTED, Export, Way, unmount};
use super::failure::{Failure, undisturbed};
use super::guest::{self, Guest};
use super::options::Options;
use super::passes::{json as read_json, make};
use super::report::Fault;
use super::runs::{Runner, last_words};
use super::tools::{Tools, command};

const STEP_WITHIN: Duration = Duration::from_secs(120);

/// Runs the faults: the short form fails one flush in each way, the long one several.
pub(crate) fn run(
    runner: &mut Runner,
    tools: &Tools,
    options: &Options,
    mut each: impl FnMut(Fault),
) -> Result<(), Failure> {
    let nth: &[u32] = if options.short { &[25] } else { &[25, 12, 40] };
    let ways = [
        ("guest-flush-eio", Some(Way::Guest)),
        ("fuse-flush-eio", Some(Way::Host)),
        ("strace-eio", None),
    ];
    for (what, way) in ways {
        for (mutant, nth) in cases(nth, way.is_some()) {
            let name = name(what, nth[0], mutant);
            let mut outcome = Ok(String::new());
            for nth in nth {
                outcome = undisturbed(|| {
                    unmount(runner, &runner.work.join(&name).join(EXPORTED))?;
                    let fault = Injected {
                        folder: &runner.folder(&name)?,
                        seed: options.seed,
                        states: if options.short { 15 } else { 40 },
                        nth,
                        mutant,
                    };
                    match way {
                        Some(way) => fault.export(runner, tools, way),
                        None => fault.traced(runner, tools),
                    }
                });
                if outcome.is_err() {
                    break;
                }
            }
            let fault = judged(name.clone(), mutant, outcome)?;
            if fault.is_ok() {
                runner.remove(&name)?;
            }
            each(fault);
        }
    }
    Ok(())
}

/// The seeded bugs, each with the flushes to fail one after the other until it is noticed.
fn cases(nth: &[u32], recorded: bool) -> Vec<(u16, Vec<u32>)> {
    let mut cases: Vec<(u16, Vec<u32>)> = nth.iter().map(|nth| (0, vec![*nth])).collect();
    cases.push((3, vec![nth[0]]));
    if recorded {
        // Without a record of the writes nobody sees what a recovery left in a cache. With one it
        // shows only if the flush that failed was that of a group: those of a trim or a mark leave
        // no frame behind.
        cases.push((52, (nth[0]..nth[0] + 8).collect()));
    }
    cases
}

/// One flush that fails.
struct Injected<'a> {
    folder: &'a Path,
    seed: u64,
    /// Crashes judged, at each of two moments.
    states: u64,
    nth: u32,
    mutant: u16,
}

fn name(what: &str, nth: u32, mutant: u16) -> String {
    if mutant == 0 {
        format!("{what}-{nth}")
    } else {
        format!("{what}-bug-{mutant}")
    }
}

/// A finding is bad news of the right log and good news of one with a seeded bug.
fn judged(name: String, mutant: u16, outcome: Result<String, Failure>) -> Result<Fault, Failure> {
    let (wrong, detail) = match (mutant, outcome) {
        (0, Ok(detail)) => (None, detail),
        (0, Err(Failure::Check(why))) => (Some(why), "not as it should be".to_owned()),
        (_, Err(Failure::Check(why))) => {
            let why = why.lines().next().unwrap_or("").to_owned();
            (None, format!("caught: {why}"))
        }
        (_, Ok(detail)) => (Some("the seeded bug was not caught".to_owned()), detail),
        (_, Err(refused)) => return Err(refused),
    };
    Ok(Fault {
        name,
        wrong,
        detail,
    })
}

impl Injected<'_> {
    /// A log on an export whose n-th flush fails: poisoned, opened again, crashed, opened again.
    fn export(&self, runner: &mut Runner, tools: &Tools, way: Way) -> Result<String, Failure> {
        make(runner, tools, &self.folder.join("base"))?;
        let mut daemon = Export::start(runner, self.folder, way, self.nth)?;
        let outcome = self.poisoned_and_back(runner, tools, way);
        daemon.stop(runner)?;
        let written = outcome?;
        // At the moment of the failure, and after the log was opened again.
        for (log, marks) in [("failed-log", "failed-marks"), ("log", "marks")] {
            self.crashes(runner, tools, log, marks, &written["log_entries"])?;
        }
        let states = 2 * self.states;
        Ok(format!("{}; {states} crash states, 0 bad", told(&written)))
    }

    /// The workload until the log is poisoned, and the recovery on the device that works again.
    fn poisoned_and_back(
        &self,
        runner: &mut Runner,
        tools: &Tools,
        way: Way,
    ) -> Result<Value, Failure> {
        let (mode, wal) = match way {
            Way::Host => ("portable", EXPORTED),
            Way::Guest => ("ring-sync", "/dev/vda"),
        };
        let on = format!("--wal {wal} --mode {mode} --marks marks --history history");
        let write = format!(
            "write {on} --lives 1 --log log --json written --seed {} --mutant {}",
            self.seed, self.mutant
        );
        step(runner, tools, self.folder, way, &write)?;
        for (name, copy) in [("log", "failed-log"), ("marks", "failed-marks")] {
            let name = self.folder.join(name);
            fs::copy(&name, self.folder.join(copy))
                .map_err(|why| Failure::environment("copy", &name, &why))?;
        }
        let written = must_be_poisoned(&self.folder.join("written"))?;
        let recover = format!("recover {on} --mutant {}", self.mutant);
        step(runner, tools, self.folder, way, &recover)?;
        Ok(written)
    }

    /// Crashes at the end of `log`, against the promises in `marks`.
    fn crashes(
        &self,
        runner: &mut Runner,
        tools: &Tools,
        log: &str,
        marks: &str,
        failed_at: &Value,
    ) -> Result<(), Failure> {
        let (seed, states) = (self.seed, self.states);
        let mut check = program(tools, self.folder, "check");
        check.args(["--class", "fault", "--base", "base", "--log", log]);
        check.args(["--history", "history", "--marks", marks]);
        check.args(["--failed-at", &failed_at.to_string()]);
        check.args(["--scratch", "scratch"]);
        check.args(["--json", "sums", "--states", &states.to_string()]);
        check.args(["--seed", &seed.to_string()]);
        runner.tested(&mut check, STEP_WITHIN)?;
        let sums = read_json(&self.folder.join("sums"))?;
        let (bad, first) = (&sums["bad"], &sums["failures"][0]["detail"]);
        if bad != 0 {
            let what = format!("{bad} of {states} crashes of {log} are bad: {first}");
            return Err(Failure::Check(what));
        }
        Ok(())
    }

    /// The portable log in a file, with the n-th `fdatasync` of its thread failing.
    fn traced(&self, runner: &mut Runner, tools: &Tools) -> Result<String, Failure> {
        let mut write = command("strace");
        write.current_dir(self.folder);
        write.args(["-f", "-qq", "-o", "calls", "-e", "trace=fdatasync"]);
        let inject = format!("inject=fdatasync:error=EIO:when={}", self.nth);
        write.args(["-e", &inject]);
        write.arg(&tools.program);
        write.args(["write", "--wal", "wal", "--create", "--mode", "portable"]);
        write.args(["--lives", "1", "--marks", "marks", "--history", "history"]);
        write.args(["--json", "written", "--seed", &self.seed.to_string()]);
        write.args(["--mutant", &self.mutant.to_string()]);
        runner.tested(&mut write, STEP_WITHIN)?;
        let calls = self.folder.join("calls");
        let text =
            fs::read_to_string(&calls).map_err(|why| Failure::environment("read", &calls, &why))?;
        if text.matches("(INJECTED)").count() != 1 {
            let what = format!("strace injected no single failure:\n{}", last_words(&calls));
            return Err(Failure::Environment(what));
        }
        let written = must_be_poisoned(&self.folder.join("written"))?;
        let mut recover = program(tools, self.folder, "recover");
        recover.args(["--wal", "wal", "--mode", "portable"]);
        recover.args(["--history", "history", "--marks", "marks"]);
        runner.tested(&mut recover, STEP_WITHIN)?;
        Ok(told(&written))
    }
}

/// Runs the program on the host or in a guest of its own.
fn step(
    runner: &mut Runner,
    tools: &Tools,
    folder: &Path,
    way: Way,
    args: &str,
) -> Result<(), Failure> {
    if way == Way::Host {
        let mut command = Command::new(&tools.program);
        command.current_dir(folder).args(args.split_whitespace());
        return runner.tested(&mut command, STEP_WITHIN);
    }
    // The daemon says "write through" until it is told to keep a cache, and without one nobody
    // flushes.
    let script = format!(
        "echo 'write back' > /sys/block/vda/cache_type || off
touch ready
\"$program\" {args}
result $?"
    );
    let guest = Guest {
        folder,
        disks: &[],
        socket: Some(&folder.join(EXPORTED)),
        modules: &["virtio_blk"],
        script: &script,
        limit: STEP_WITHIN,
    };
    guest::run(runner, tools, &guest)
}

fn program(tools: &Tools, folder: &Path, what: &str) -> Command {
    let mut command = Command::new(&tools.program);
    command.current_dir(folder).arg(what);
    command
}

/// The log noticed the failure, and had acknowledged something before.
fn must_be_poisoned(file: &Path) -> Result<Value, Failure> {
    let written = read_json(file)?;
    if written["poisoned"].is_null() {
        let what = "a flush failed and the log went on as if it had not".to_owned();
        return Err(Failure::Check(what));
    }
    if written["acked"].as_u64().unwrap_or(0) == 0 {
        return Err(Failure::Check("nothing was acknowledged before".to_owned()));
    }
    Ok(written)
}

fn told(written: &Value) -> String {
    format!(
        "{} of {} frames acknowledged, then poisoned ({})",
        written["acked"],
        written["appended"],
        written["poisoned"].as_str().unwrap_or("")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_good_news_only_of_a_seeded_bug() {
        let finding = || Err(Failure::Check("lost\nmore".to_owned()));
        let ok = |mutant, outcome| judged(String::new(), mutant, outcome).unwrap().is_ok();
        assert!(ok(0, Ok(String::new())));
        assert!(!ok(0, finding()));
        assert!(ok(3, finding()));
        assert!(!ok(3, Ok(String::new())));
        let refused = Err(Failure::Environment(String::new()));
        assert!(judged(String::new(), 3, refused).is_err());
    }
}
