//! Child processes with an end: by themselves, by their time limit, or with us.
//!
//! *Owns*: a process group for each child, and a watchdog that outlives us and kills what is left.
//! *Does not own*: what is run.
//!
//! Invariants
//! 1. The watchdog learns of a group before anybody waits for it, and kills all it knows when our
//!    end of its pipe closes: a signal, a panic and a normal end are the same to it.
//! 2. When a child has ended, what is left of its group is killed.
//!
//! *IO: driver*

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

/// Reads `add PGID` and `end PGID`; on `end`, and for all at the end of input, kills the group.
const WATCHDOG: &str = r#"
known=""
while read -r word group; do
    case $word in
    add) known="$known $group" ;;
    end)
        kill -s KILL -- "-$group" 2>/dev/null
        left=""
        for one in $known; do [ "$one" = "$group" ] || left="$left $one"; done
        known=$left
        ;;
    esac
done
for group in $known; do kill -s KILL -- "-$group" 2>/dev/null; done
"#;

/// Starts children and sees to their end.
pub(crate) struct Processes {
    watchdog: Child,
    pipe: Option<ChildStdin>,
}

/// A child in the background. `Processes::end` must be called with it.
pub(crate) struct Running {
    child: Child,
}

impl Processes {
    pub(crate) fn start() -> Result<Self, String> {
        // In a group of its own, so that Ctrl-C does not take it away with us.
        let mut watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|why| format!("the watchdog did not start: {why}"))?;
        let pipe = watchdog.stdin.take();
        Ok(Self { watchdog, pipe })
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// The command line, and how it ended: a status that is not 0, or the limit.
    pub(crate) fn run(&mut self, command: &mut Command, limit: Duration) -> Result<(), String> {
        println!("$ {}", shown(command));
        let mut running = self.spawn(command)?;
        let outcome = running.wait(limit);
        self.end(&mut running);
        match outcome {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{status}: {}", shown(command))),
            None => Err(format!(
                "not ended within {} s: {}",
                limit.as_secs(),
                shown(command)
            )),
        }
    }

    /// Starts a command in the background.
    pub(crate) fn spawn(&mut self, command: &mut Command) -> Result<Running, String> {
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|why| format!("{} does not start: {why}", command.get_program().display()))?;
        let running = Running { child };
        self.tell("add", running.id());
        Ok(running)
    }

    /// Ends a child and what is left of its group.
    pub(crate) fn end(&mut self, running: &mut Running) {
        let id = running.id();
        // A child that has ended already is fine.
        let _ = running.child.kill();
        let _ = running.child.wait();
        self.tell("end", id);
    }

    fn tell(&mut self, word: &str, group: u32) {
        let told = self
            .pipe
            .as_mut()
            .is_some_and(|pipe| writeln!(pipe, "{word} {group}").is_ok());
        assert!(told, "the watchdog is gone; nobody would end our children");
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.watchdog.wait();
    }
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The status, or `None` when it still runs after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            sleep(POLL);
        }
    }

    /// Asks the child, not its group, to end.
    pub(crate) fn terminate(&self) -> Result<(), String> {
        let status = Command::new("/bin/sh")
            .args(["-c", "kill -TERM \"$0\"", &self.id().to_string()])
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("SIGTERM to {} failed: {other:?}", self.id())),
        }
    }
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy();
        let name = name.to_string_lossy();
        let value = if name.contains("SECRET") {
            "…".into()
        } else {
            value
        };
        Some(format!("{name}={}", quoted(&value)))
    });
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = !word.is_empty()
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+…".contains(c));
    if plain {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn is_gone(process: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            // A zombie waits for its parent only.
            if stat.is_empty() || stat.contains(") Z ") {
                return true;
            }
            sleep(POLL);
        }
        false
    }

    fn pid_in(file: &std::path::Path) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if text.ends_with('\n') || Instant::now() > deadline {
                return text.trim().to_owned();
            }
            sleep(POLL);
        }
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        let file =
            std::env::temp_dir().join(format!("xtask-process-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        file
    }

    #[test]
    fn a_bad_status_and_a_limit_are_failures() {
        let mut processes = Processes::start().unwrap();
        assert_eq!(
            processes.run(&mut shell("exit 0"), Duration::from_secs(10)),
            Ok(())
        );
        assert!(
            processes
                .run(&mut shell("exit 7"), Duration::from_secs(10))
                .unwrap_err()
                .contains('7')
        );
        let late = processes
            .run(&mut shell("sleep 60"), Duration::from_millis(200))
            .unwrap_err();
        assert!(late.contains("not ended within"), "{late}");
    }

    #[test]
    fn what_a_child_leaves_behind_is_killed() {
        let mut processes = Processes::start().unwrap();
        let file = scratch("left");
        processes
            .run(
                &mut shell(&format!("sleep 60 & echo $! > {}", file.display())),
                Duration::from_secs(10),
            )
            .unwrap();
        let left = pid_in(&file);
        assert!(is_gone(&left), "{left} still runs");
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn children_end_when_we_do() {
        let file = scratch("ours");
        let mut processes = Processes::start().unwrap();
        let _running = processes
            .spawn(&mut shell(&format!(
                "sleep 60 & echo $! > {}; wait",
                file.display()
            )))
            .unwrap();
        let inner = pid_in(&file);
        drop(processes);
        assert!(is_gone(&inner), "{inner} still runs");
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_command_is_shown_as_typed_without_secrets() {
        let mut command = Command::new("a");
        command
            .args(["b c", "it's", "-d"])
            .env("X", "1 2")
            .env("AWS_SECRET_ACCESS_KEY", "hidden");
        assert_eq!(
            shown(&command),
            "AWS_SECRET_ACCESS_KEY=… X='1 2' a 'b c' 'it'\\''s' -d"
        );
    }
}
