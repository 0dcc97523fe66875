//! The same seed gives the same trace: in one process, and in another.
//!
//! *IO: driver* (starts the simulator's own binary)

use std::process::Command;

use tidewater_sim::{Plan, Scenario, run_plan};

fn trace(seed: u64, scenario: Scenario) -> (u64, u64, Vec<u64>) {
    let report = run_plan(&Plan::new(seed, scenario), 0, false);
    assert_eq!(report.failure, None, "seed {seed}");
    (report.trace_hash, report.num_events, report.checkpoints)
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for scenario in Scenario::ALL.iter().copied() {
        for seed in 40..44 {
            assert_eq!(
                trace(seed, scenario),
                trace(seed, scenario),
                "{scenario:?} {seed}"
            );
        }
        assert_ne!(trace(40, scenario).0, trace(41, scenario).0);
    }
}

fn lines_of_a_process(seed: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tidewater-sim"))
        .args(["run", "--seeds", "6", "--seed", seed])
        .output()
        .expect("the simulator starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn another_process_gives_the_same_trace() {
    let first = lines_of_a_process("900");
    assert_eq!(first, lines_of_a_process("900"));
    assert_eq!(first.lines().count(), 6);
    for (number, line) in first.lines().enumerate() {
        let seed = 900 + number as u64;
        let scenario = Scenario::of_seed(seed);
        assert!(
            line.starts_with(&format!("seed={seed} scenario={}", scenario.name())),
            "{line}"
        );
        let hash = format!("trace={:016x}", trace(seed, scenario).0);
        assert!(line.contains(&hash), "{line} is not {hash}");
    }
}

#[test]
fn a_saved_plan_replays_the_seed() {
    let folder = std::env::temp_dir().join(format!("tidewater-sim-plan-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let path = folder.join("plan.json");
    let replay = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tidewater-sim"))
            .arg("replay")
            .args(args)
            .output();
        let output = output.expect("the simulator starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    let path = path.to_str().expect("a plain path");
    let first = replay(&["--seed", "77", "--scenario", "wal", "--save-plan", path]);
    assert_eq!(first, replay(&["--plan", path]));
    std::fs::remove_dir_all(&folder).expect("ours");
}

#[test]
fn bad_usage_is_told_by_the_exit_code() {
    let code = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tidewater-sim"))
            .args(args)
            .output();
        output.expect("the simulator starts").status.code()
    };
    assert_eq!(code(&["run", "--mutant", "999"]), Some(2));
    assert_eq!(
        code(&["replay", "--plan", "/nonexistent/plan.json"]),
        Some(3)
    );
    assert_eq!(code(&["fly"]), Some(2));
}
