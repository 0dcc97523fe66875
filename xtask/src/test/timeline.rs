//! The simulator's timeline in a real browser: one record is followed on it.
//!
//! *Owns*: which runs and which record, and what must stand on the page.
//! *Does not own*: the page (sim/src/trace/timeline.html), the browser (`tools.rs`).
//!
//! Invariants
//! 1. The browser has no network: a page that needs one shows nothing, and that is a failure.
//!
//! *IO: driver*

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::Processes;

const BROWSER_WITHIN: Duration = Duration::from_secs(50);
const STAGES: [&str; 7] = [
    "produced",
    "wal",
    "acked",
    "uploaded",
    "committed",
    "trimmed",
    "read",
];

/// A run whose page is looked at.
pub(crate) struct Run {
    name: &'static str,
    /// What the simulator replays.
    pub(crate) args: &'static [&'static str],
    /// Stages that some record of it reaches.
    stages: &'static [&'static str],
    /// Whether it fails, and its page says so.
    fails: bool,
}

pub(crate) const RUNS: [Run; 3] = [
    Run {
        name: "store",
        args: &["--seed", "1", "--scenario", "store"],
        stages: &STAGES,
        fails: false,
    },
    Run {
        name: "broker",
        args: &["--seed", "1", "--scenario", "broker"],
        stages: &STAGES,
        fails: false,
    },
    // Acknowledges before it flushes: the record that a crash would lose was produced and acknowledged.
    Run {
        name: "failed",
        args: &["--seed", "2", "--scenario", "store", "--mutant", "1"],
        stages: &["produced", "wal", "acked"],
        fails: true,
    },
];

impl Run {
    /// Where its page goes; there is none yet.
    pub(crate) fn page(&self, folder: &Path) -> Result<PathBuf, String> {
        let page = folder.join(format!("{}.html", self.name));
        match fs::remove_file(&page) {
            Err(why) if why.kind() != ErrorKind::NotFound => {
                Err(format!("{}: {why}", page.display()))
            }
            _ => Ok(page),
        }
    }

    /// Opens the page on a record that went the whole way, and looks at what the browser shows.
    /// `ended` tells how the simulator did.
    pub(crate) fn check(
        &self,
        processes: &mut Processes,
        page: &Path,
        ended: Result<(), String>,
    ) -> Result<(), String> {
        match ended {
            Err(why) if !self.fails => return Err(why),
            Ok(()) if self.fails => return Err(format!("{} did not fail", self.name)),
            _ => {}
        }
        let said = |why: std::io::Error| format!("{}: {why}", page.display());
        let text = fs::read_to_string(page).map_err(said)?;
        let data = data_of(&text).ok_or("the page holds no data")?;
        let record = record_of(&data, self.stages).ok_or("no record went the whole way")?;
        let (dom, shown) = browse(processes, page, record)?;
        self.looks_right(&dom, record)
            .map_err(|why| format!("{}: {why}", shown.display()))
    }

    fn looks_right(&self, dom: &str, record: u64) -> Result<(), String> {
        if !dom.contains("data-ready=\"yes\"") {
            return Err("the page's code did not come to its end".to_owned());
        }
        for stage in self.stages {
            let button = format!("<button data-stage=\"{stage}\" class=\"reached\">");
            if !dom.contains(&button) {
                return Err(format!("record {record} is not shown as {stage}"));
            }
            let row = format!("data-stage=\"{stage}\"><td class=\"time\">");
            if !dom.contains(&row) {
                return Err(format!("no row shows record {record} {stage}"));
            }
        }
        let failure = ["id=\"failure\" class=\"bad\"", "<tr class=\"failed "];
        if failure.iter().any(|mark| dom.contains(mark) != self.fails) {
            return Err(format!("the page of {} tells another end", self.name));
        }
        Ok(())
    }
}

/// What the browser makes of the page opened on a record, and the file with it.
fn browse(
    processes: &mut Processes,
    page: &Path,
    record: u64,
) -> Result<(String, PathBuf), String> {
    let said = |why: std::io::Error| format!("{}: {why}", page.display());
    let shown = page.with_extension("dom.html");
    let profile = page.with_extension("profile");
    let complaints = page.with_extension("log");
    let mut browser = Command::new("chromium");
    browser
        .args([
            "--headless",
            // Tests run as root in containers, where the sandbox has no namespace to work with.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-extensions",
            "--proxy-server=127.0.0.1:9",
            "--virtual-time-budget=10000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}#record={record}", page.display()))
        .stdout(File::create(&shown).map_err(said)?)
        // It complains of a desktop that is not there.
        .stderr(File::create(&complaints).map_err(said)?);
    processes
        .run(&mut browser, BROWSER_WITHIN)
        .map_err(|why| format!("{why}; it says why in {}", complaints.display()))?;
    let dom = fs::read_to_string(&shown).map_err(said)?;
    Ok((dom, shown))
}

/// The data in the page: JSON in a script element of its own.
fn data_of(page: &str) -> Option<Value> {
    let behind = page
        .split_once("<script id=\"data\" type=\"application/json\">")?
        .1;
    let (json, _) = behind.split_once("</script>")?;
    serde_json::from_str(json).ok()
}

/// The first record that reached all of `stages`.
fn record_of(data: &Value, stages: &[&str]) -> Option<u64> {
    let mut reached: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for row in data["rows"].as_array()? {
        let (Some(stage), Some(values)) = (row["stage"].as_str(), row["values"].as_array()) else {
            continue;
        };
        for value in values.iter().filter_map(Value::as_u64) {
            reached.entry(value).or_default().insert(stage);
        }
    }
    let whole = |of: &BTreeSet<&str>| stages.iter().all(|stage| of.contains(stage));
    let mut found = reached.iter().filter(|(_, of)| whole(of));
    found.next().map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::{RUNS, STAGES, data_of, record_of};

    fn page(stages: &[&str]) -> String {
        let rows: Vec<String> = stages
            .iter()
            .map(|stage| format!("{{\"stage\":\"{stage}\",\"values\":[3,7]}}"))
            .collect();
        let rows = rows.join(",");
        format!("<script id=\"data\" type=\"application/json\">{{\"rows\":[{rows}]}}</script>")
    }

    #[test]
    fn a_record_that_went_the_whole_way_is_found() {
        let data = data_of(&page(&STAGES)).unwrap();
        assert_eq!(record_of(&data, &STAGES), Some(3));
        let data = data_of(&page(&STAGES[..6])).unwrap();
        assert_eq!(record_of(&data, &STAGES), None);
        assert_eq!(record_of(&data, &STAGES[..2]), Some(3));
        assert!(data_of("<html>").is_none());
    }

    #[test]
    fn a_page_that_shows_less_is_refused() {
        let part = |stage: &str| {
            format!(
                "<button data-stage=\"{stage}\" class=\"reached\">x</button>\
                 <tr data-place=\"1\" data-stage=\"{stage}\"><td class=\"time\">1</td></tr>"
            )
        };
        let all: String = STAGES.iter().map(|stage| part(stage)).collect();
        let ready = format!("<body data-ready=\"yes\">{all}");
        let [run, _, failed] = RUNS;
        assert_eq!(run.looks_right(&ready, 7), Ok(()));
        let why = |dom: &str| run.looks_right(dom, 7).unwrap_err();
        assert!(why(&all).contains("did not come"));
        for stage in STAGES {
            let less = ready.replace(&part(stage), "");
            assert!(why(&less).contains(stage));
        }
        assert!(failed.looks_right(&ready, 7).is_err(), "no failure is told");
        let told = "<div id=\"failure\" class=\"bad\"></div><tr class=\"failed \"></tr>";
        let told = format!("{ready}{told}");
        assert_eq!(failed.looks_right(&told, 7), Ok(()));
        assert!(why(&told).contains("another end"));
    }
}
