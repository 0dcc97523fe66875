//! The pinned plans: what found real bugs in its time ends well now.
//!
//! *IO: driver* (starts the simulator's own binary)

use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn plans() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/plans");
    let entries = fs::read_dir(folder).expect("sim/plans").flatten();
    let mut plans: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    plans.sort();
    plans
}

#[test]
fn plans_that_once_failed_end_well() {
    let plans = plans();
    assert!(plans.len() >= 15, "{plans:?}");
    let mut failed = Vec::new();
    for plan in &plans {
        let output = Command::new(env!("CARGO_BIN_EXE_tidewater-sim"))
            .args(["replay", "--plan"])
            .arg(plan)
            .output()
            .expect("the simulator starts");
        if !output.status.success() {
            let (lines, shown) = (output.stdout, output.stderr);
            let told = [lines, shown].map(|text| String::from_utf8_lossy(&text).into_owned());
            failed.push(format!("{}: {}", plan.display(), told.join("\n")));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_plan_says_what_it_shows_and_pins_all_that_its_run_follows_from() {
    for path in plans() {
        let text = fs::read_to_string(&path).expect("a plan");
        let saved: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let about = saved["about"].as_str().unwrap_or_default();
        assert!(about.len() > 20, "{} says nothing", path.display());
        assert_eq!(saved["mutant"], 0, "{}: a real bug", path.display());
        assert!(saved["plan"]["lives"].is_array(), "{}", path.display());
    }
}
