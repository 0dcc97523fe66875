//! The example program under `kill -9`: what it printed as acknowledged is there afterwards.
//!
//! *Owns*: the kills. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The example, built beside this test.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let example = target.join("examples/embed");
    assert!(
        example.exists(),
        "cargo test builds the examples: {}",
        example.display()
    );
    example
}

fn start(folder: &Path, count: u64) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(example())
        .arg(folder)
        .arg(count.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// The numbers it read back at its start.
fn read_back(line: &str) -> u64 {
    let number = line
        .split_whitespace()
        .nth(2)
        .unwrap_or_else(|| panic!("{line:?}"));
    number.parse().unwrap_or_else(|_| panic!("{line:?}"))
}

#[test]
fn the_example_keeps_what_it_acknowledged_across_kills() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for lines in [1, 50, 300, 7, 120] {
        let (mut child, out) = start(folder.path(), 1_000_000);
        let mut out = out.lines().map(Result::unwrap);
        let found = read_back(&out.next().unwrap());
        assert!(
            found >= acknowledged,
            "{acknowledged} acknowledged, {found} found"
        );
        for line in out.by_ref().take(lines) {
            let number = line
                .strip_prefix("acknowledged ")
                .unwrap()
                .parse::<u64>()
                .unwrap();
            acknowledged = number + 1;
        }
        child.kill().unwrap();
        // What it printed before it died counts too; a torn last line does not.
        for line in out {
            let text = line.strip_prefix("acknowledged ");
            acknowledged = text
                .and_then(|t| t.parse::<u64>().ok())
                .map_or(acknowledged, |n| {
                    if n >= acknowledged {
                        n + 1
                    } else {
                        acknowledged
                    }
                });
        }
        child.wait().unwrap();
    }
    let (mut child, mut out) = start(folder.path(), 0);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(
        read_back(&line) >= acknowledged,
        "{acknowledged} acknowledged, then: {line}"
    );
    assert!(child.wait().unwrap().success());
    assert!(
        acknowledged > 400,
        "the kills came too early: {acknowledged}"
    );
}
