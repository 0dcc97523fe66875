//! The commands as scripts meet them: JSON, files, exit codes.
//!
//! *IO: driver* (starts the simulator's own binary)
#![allow(
    clippy::disallowed_methods,
    reason = "tests of a process wait for it in real time"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

fn sim(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidewater-sim"))
        .args(args)
        .arg("--out")
        .arg(folder)
        .env("TIDEWATER_GIT", "abc123")
        .output()
        .expect("the simulator starts")
}

fn folder(name: &str) -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix(&format!("tidewater-sim-{name}"))
        .tempdir()
        .expect("a temporary folder")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| {
        let errors = String::from_utf8_lossy(&output.stderr);
        panic!("{why}: {errors}")
    })
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("it was made").flatten();
    let mut pages: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "html")
        })
        .collect();
    pages.sort();
    pages
}

#[test]
fn a_campaign_tells_scripts_all_that_they_rely_on() {
    let folder = folder("campaign");
    let args = ["campaign", "--seeds", "30", "--seed", "100", "--json", "-"];
    let output = sim(folder.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output.stderr));
    let told = json(&output);
    assert_eq!(told["git"], "abc123");
    let scenarios = told["scenarios"].as_object().unwrap();
    assert!(["wal", "store", "object-wal"].iter().all(|name| {
        let sums = &scenarios[*name];
        sums["seeds"].as_u64() > Some(0)
            && sums["seeds_per_minute"].as_u64() > Some(0)
            && sums["virtual_hours"].as_f64() > Some(0.0)
    }));
    assert_eq!(told["failures"], Value::Array(Vec::new()));
    assert_eq!(told["mutants"], Value::Array(Vec::new()));
    assert!(told["faults"]["power_loss"].as_u64() > Some(0));
    assert!(
        told["faults"]
            .as_object()
            .unwrap()
            .contains_key("disk_lying_flush")
    );
    assert!(told["sometimes"].as_object().unwrap().len() > 20);
    assert!(told["determinism"]["rerun"].as_u64() > Some(0));
    assert_eq!(told["determinism"]["mismatches"], 0);
    assert_eq!(told["complete"], true);
    assert!(told["seeds_per_minute"].as_u64() > Some(0));
    let summary = fs::read_to_string(folder.path().join("summary.html")).unwrap();
    assert!(summary.contains("abc123") && summary.contains("object-wal"));
    assert!(!summary.contains("bucket_fine"), "that is no fault");
}

#[test]
fn a_campaign_ends_when_its_time_is_over_and_strictness_is_asked_for() {
    let folder = folder("minutes");
    let args = [
        "campaign",
        "--minutes",
        "0.01",
        "--scenario",
        "wal",
        "--json",
        "-",
    ];
    let output = sim(folder.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output.stderr));
    assert!(json(&output)["scenarios"]["wal"]["seeds"].as_u64() > Some(0));
    let strict = [&args[..], &["--strict"]].concat();
    let output = sim(folder.path(), &strict);
    assert_eq!(
        output.status.code(),
        Some(1),
        "half a second reaches not everything"
    );
    assert!(words(&output.stderr).contains("never in this campaign"));
}

#[test]
fn a_failure_shows_lanes_and_leaves_a_timeline_and_a_plan_that_shrinks() {
    let folder = folder("failure");
    let args = [
        "run",
        "--seeds",
        "24",
        "--scenario",
        "store",
        "--mutant",
        "24",
    ];
    let output = sim(folder.path(), &args);
    assert_eq!(output.status.code(), Some(1));
    let (lines, shown) = (words(&output.stdout), words(&output.stderr));
    assert!(
        lines.contains("FAIL checker=") && lines.contains("replay: cargo run"),
        "{lines}"
    );
    assert!(
        shown.contains("virtual time") && shown.contains("disk"),
        "{shown}"
    );
    let all = pages(folder.path());
    let is_whole = |page: &&std::path::PathBuf| {
        let text = fs::read_to_string(page).unwrap();
        ["produced", "wal", "acked", "uploaded", "read"]
            .iter()
            .all(|stage| text.contains(&format!("\"stage\":\"{stage}\"")))
    };
    let page = all.iter().find(is_whole).expect("a life told whole");
    let plan = page.with_extension("json");
    let small = folder.path().join("small.json");
    let args = [
        "shrink",
        plan.to_str().unwrap(),
        "--tries",
        "60",
        "--json",
        "-",
        "--save",
        small.to_str().unwrap(),
    ];
    let output = sim(folder.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output.stderr));
    let told = json(&output);
    assert!(told["accepted"].as_u64() > Some(0), "{told}");
    // The small plan fails in the same way, and its seeded bug is why.
    let replay = |path: &Path| {
        let args = ["replay", "--plan", path.to_str().unwrap(), "--json", "-"];
        sim(folder.path(), &args)
    };
    let output = replay(&small);
    assert_eq!(output.status.code(), Some(1));
    let failure = json(&output)["failures"][0].clone();
    assert_eq!(failure["key"], told["key"]);
    // What a person is told to do shows the small plan again, not the seed that it came from.
    let line = failure["replay"].as_str().unwrap().to_owned();
    assert_eq!(told["replay"].as_str(), Some(&*line));
    let again = told_again(folder.path(), &line);
    assert_eq!(again["failures"][0]["key"], told["key"]);
    assert_eq!(again["failures"][0]["num_events"], failure["num_events"]);
    let page = fs::read_to_string(small.with_extension("html")).expect("a timeline");
    assert!(page.contains(&line), "the page says it too");
    let mut saved: Value = serde_json::from_str(&fs::read_to_string(&small).unwrap()).unwrap();
    saved["mutant"] = 0.into();
    fs::write(&small, saved.to_string()).unwrap();
    assert_eq!(replay(&small).status.code(), Some(0));
}

/// What the command of a replay line tells.
fn told_again(folder: &Path, line: &str) -> Value {
    let (_, args) = line.split_once(" -- ").expect("a command of cargo");
    let args = args.trim_end_matches(" --trace full").split(' ');
    json(&sim(
        folder,
        &[args.collect(), vec!["--json", "-"]].concat(),
    ))
}

#[test]
fn an_edited_plan_is_replayed_from_its_file_and_leaves_its_timeline() {
    let folder = folder("edited");
    let plan = folder.path().join("mine.json");
    let replay = |args: &[&str]| sim(folder.path(), &[&["replay"], args].concat());
    // The first plan that the seeded bug spoils, with one fault more than its seed gives it.
    let saved = (1..50).find_map(|seed: u64| {
        let seed = seed.to_string();
        let which = ["--seed", &seed, "--scenario", "wal", "--mutant", "1"];
        let save = ["--save-plan", plan.to_str().unwrap()];
        let output = replay(&[&which[..], &save].concat());
        (output.status.code() == Some(1)).then(|| fs::read_to_string(&plan).unwrap())
    });
    let mut saved: Value = serde_json::from_str(&saved.expect("it is found")).unwrap();
    saved["plan"]["disk_faults"]["slow"] = 77.into();
    fs::write(&plan, saved.to_string()).unwrap();
    let output = replay(&["--plan", plan.to_str().unwrap()]);
    let line = words(&output.stdout);
    let (_, line) = line.trim_end().split_once("replay: ").expect(&line);
    assert!(
        line.contains("--plan /") && !line.contains("--seed"),
        "{line}"
    );
    let timeline = fs::read_to_string(folder.path().join("mine.html")).expect("unasked");
    assert!(timeline.contains(line));
    let events = told_again(folder.path(), line)["failures"][0]["num_events"].to_string();
    assert!(words(&output.stdout).contains(&format!("events={events}")));
    let kept: Value = serde_json::from_str(&fs::read_to_string(&plan).unwrap()).unwrap();
    assert_eq!(kept, saved, "the plan stays as it was edited");
}

#[test]
fn what_is_known_of_a_plan_stays_with_it_when_it_is_saved_again() {
    let folder = folder("known");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (plan, again) = (path("plan.json"), path("again.json"));
    let which = ["replay", "--seed", "1", "--scenario", "wal"];
    let save = ["--save-plan", &plan];
    sim(folder.path(), &[&which[..], &save].concat());
    let read =
        |path: &str| -> Value { serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap() };
    let mut known = read(&plan);
    assert_eq!(known["about"], "ends well");
    known["about"] = "A short write is counted.".into();
    known["undone_by"] = 4.into();
    fs::write(&plan, known.to_string()).unwrap();
    let save = ["replay", "--plan", &plan, "--save-plan", &again];
    assert_eq!(sim(folder.path(), &save).status.code(), Some(0));
    assert_eq!(read(&again), known);
    // Another scenario than the plan's is not passed over.
    let other = ["replay", "--plan", &plan, "--scenario", "store"];
    assert_eq!(sim(folder.path(), &other).status.code(), Some(2));
}

#[test]
fn no_seeds_are_bad_usage() {
    let folder = folder("none");
    for args in [
        &["campaign", "--seeds", "0"][..],
        &["run", "--seeds", "0"],
        &["mutants", "--max-seeds", "0"],
        &["campaign", "--minutes", "0"],
        &["campaign", "--mutants", "--scenario", "wal"],
    ] {
        let output = sim(folder.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_campaign_that_is_interrupted_has_left_all_that_it_found() {
    let folder = folder("interrupted");
    let told = folder.path().join("told.json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidewater-sim"))
        .args(["campaign", "--minutes", "30", "--scenario", "store"])
        .args(["--mutant", "24", "--json"])
        .arg(&told)
        .arg("--out")
        .arg(folder.path())
        .stderr(Stdio::null())
        .spawn()
        .expect("the simulator starts");
    let found = || -> Option<Value> {
        let told: Value = serde_json::from_str(&fs::read_to_string(&told).ok()?).ok()?;
        (told["failures"][0]["seed"].as_u64()).map(|_| told)
    };
    let since = Instant::now();
    let told = loop {
        match found() {
            Some(told) => break Some(told),
            None if since.elapsed() > Duration::from_secs(60) => break None,
            None => sleep(Duration::from_millis(20)),
        }
    };
    child.kill().expect("it runs");
    child.wait().expect("it is gone");
    let told = told.expect("what is found is written while the campaign runs");
    assert_eq!(told["complete"], false);
    let seed = &told["failures"][0]["seed"];
    let timeline = folder.path().join(format!("store-{seed}-mutant-24.html"));
    assert!(timeline.exists() && timeline.with_extension("json").exists());
    let summary = fs::read_to_string(folder.path().join("summary.html")).unwrap();
    assert!(summary.contains("Not complete") && summary.contains("--mutant 24"));
}

#[test]
fn a_hunt_within_a_campaign_has_its_control_run_and_a_gate() {
    let folder = folder("hunt");
    let args = ["campaign", "--seeds", "1", "--scenario", "wal", "--mutants"];
    let few = ["--max-seeds", "1", "--json", "-"];
    let output = sim(folder.path(), &[&args[..], &few].concat());
    assert_eq!(output.status.code(), Some(1), "some need more than a seed");
    let told = json(&output);
    assert!(told["scenarios"].as_object().unwrap().len() > 6, "{told}");
    assert_eq!(told["failures"], Value::Array(Vec::new()));
    let shown = words(&output.stderr);
    let all = told["mutants"].as_array().unwrap();
    let killed = all.iter().filter(|row| row["killed"] == true).count();
    let verdict = format!("{killed} of {} seeded bugs found, median ", all.len());
    assert!(shown.contains(&verdict), "{verdict} in {shown}");
    let survivor = all.iter().find(|row| row["killed"] == false).unwrap();
    let reason = format!("{}) survived", survivor["name"].as_str().unwrap());
    assert!(shown.contains(&reason), "{reason} in {shown}");
    let summary = fs::read_to_string(folder.path().join("summary.html")).unwrap();
    assert!(summary.contains(&reason));
}

#[test]
fn two_processes_agree_and_an_address_in_the_trace_is_named() {
    let folder = folder("diff");
    let output = sim(
        folder.path(),
        &["diff", "5", "--scenario", "wal", "--json", "-"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", words(&output.stderr));
    let told = json(&output);
    assert_eq!(told["alike"], true);
    assert_ne!(
        told["layout"][0], told["layout"][1],
        "the memory is another"
    );
    let impure = [
        "diff",
        "5",
        "--scenario",
        "wal",
        "--impure-after-ns",
        "20000",
        "--json",
        "-",
    ];
    let output = sim(folder.path(), &impure);
    assert_eq!(output.status.code(), Some(1));
    let told = json(&output);
    let difference = &told["first_difference"];
    let line = |name: &str| difference[name].as_str().unwrap().to_owned();
    assert!(
        line("one").contains("Note") && line("other").contains("Note"),
        "{told}"
    );
    assert!(!difference["after"].as_array().unwrap().is_empty());
    assert!(words(&output.stderr).contains("the runs part after"));
}

#[test]
fn a_replay_ends_where_it_is_asked_to() {
    let folder = folder("until");
    let traced = |until: &str, trace: &[&str]| {
        let asked = ["replay", "--seed", "5", "--scenario", "wal"];
        let args = [&asked[..], &["--until", until], trace].concat();
        words(&sim(folder.path(), &args).stdout)
    };
    let replay = |until: &str| traced(until, &["--trace", "full"]);
    let (few, more) = (replay("20"), replay("200"));
    assert!(few.lines().count() < more.lines().count());
    // The lines of a trace line words up; whoever asks does not.
    let (acked, all) = (replay("wal ack"), replay("no such words"));
    assert!(acked.lines().count() < all.lines().count(), "{acked}");
    let acks = acked.lines().filter(|line| line.contains("wal   ack"));
    assert_eq!(acks.count(), 1, "{acked}");
    assert_eq!(
        traced("20", &[]),
        few,
        "who asks where to end asks for the trace"
    );
    // Numbered as `diff` numbers them, each up to the one that is asked for.
    let events = traced("20", &["--trace", "events"]);
    let numbers = events
        .lines()
        .filter_map(|line| line.split("us event ").nth(1));
    let numbers: Vec<_> = numbers.filter_map(|line| line.split(' ').next()).collect();
    let expected: Vec<_> = (0..=20).map(|number| number.to_string()).collect();
    assert_eq!(numbers, expected, "{events}");
    assert!(few.lines().all(|line| events.contains(line)), "{events}");
}

#[test]
fn reports_of_campaigns_become_one_page() {
    let folder = folder("report");
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, seed) in [("a.json", "1"), ("b.json", "2")] {
        let args = [
            "run",
            "--seeds",
            "1",
            "--seed",
            seed,
            "--scenario",
            "wal",
            "--json",
        ];
        let target = path(name);
        let args = [&args[..], &[target.as_str()]].concat();
        assert_eq!(sim(folder.path(), &args).status.code(), Some(0));
    }
    let (a, b, page) = (path("a.json"), path("b.json"), path("both.html"));
    let output = sim(
        folder.path(),
        &["report", &a, &b, "--html", &page, "--json", "-"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", words(&output.stderr));
    assert_eq!(json(&output)["scenarios"]["wal"]["seeds"], 2);
    assert!(fs::read_to_string(&page).unwrap().contains("2 seeds"));
    // Unasked it lies among the results; where it cannot be written the JSON is all the same.
    assert_eq!(sim(folder.path(), &["report", &a]).status.code(), Some(0));
    assert!(folder.path().join("summary.html").exists());
    let nowhere = format!("{a}/page.html");
    let args = ["report", &a, "--html", &nowhere, "--json", "-"];
    let output = sim(folder.path(), &args);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(json(&output)["scenarios"]["wal"]["seeds"], 1);
    let missing = sim(
        folder.path(),
        &["report", "/nonexistent.json", "--html", &page],
    );
    assert_eq!(missing.status.code(), Some(3));
    fs::write(&a, "[]").unwrap();
    let output = sim(folder.path(), &["report", &a, "--html", &page]);
    assert_eq!(output.status.code(), Some(2));
}
