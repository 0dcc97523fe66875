//! The simulator's timeline in a real browser: one record is followed on it.
//!
//! *Owns*: which record, and what must stand on the page.
//! *Does not own*: the page (sim/src/trace/timeline.html), the browser (`tools.rs`).
//!
//! Invariants
//! 1. The browser has no network: a page that needs one shows nothing, and that is a failure.
//!
//! *IO: driver*

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
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

/// Opens the page on a record that went the whole way, and looks at what the browser shows.
pub(crate) fn check(processes: &mut Processes, page: &Path) -> Result<(), String> {
    let said = |why: std::io::Error| format!("{}: {why}", page.display());
    let text = fs::read_to_string(page).map_err(said)?;
    let data = data_of(&text).ok_or("the page holds no data")?;
    let record = record_of_all_stages(&data).ok_or("no record went the whole way")?;
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
    looks_right(&dom, record).map_err(|why| format!("{}: {why}", shown.display()))
}

fn looks_right(dom: &str, record: u64) -> Result<(), String> {
    if !dom.contains("data-ready=\"yes\"") {
        return Err("the page's code did not come to its end".to_owned());
    }
    for stage in STAGES {
        let button = format!("<button data-stage=\"{stage}\" class=\"reached\">");
        if !dom.contains(&button) {
            return Err(format!("record {record} is not shown as {stage}"));
        }
        let row = format!("data-stage=\"{stage}\"><td class=\"time\">");
        if !dom.contains(&row) {
            return Err(format!("no row shows record {record} {stage}"));
        }
    }
    Ok(())
}

/// The data in the page: JSON in a script element of its own.
fn data_of(page: &str) -> Option<Value> {
    let behind = page
        .split_once("<script id=\"data\" type=\"application/json\">")?
        .1;
    let (json, _) = behind.split_once("</script>")?;
    serde_json::from_str(json).ok()
}

fn record_of_all_stages(data: &Value) -> Option<u64> {
    let mut reached: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for row in data["rows"].as_array()? {
        let (Some(stage), Some(values)) = (row["stage"].as_str(), row["values"].as_array()) else {
            continue;
        };
        for value in values.iter().filter_map(Value::as_u64) {
            reached.entry(value).or_default().insert(stage);
        }
    }
    let whole = |stages: &BTreeSet<&str>| STAGES.iter().all(|stage| stages.contains(stage));
    let mut found = reached.iter().filter(|(_, stages)| whole(stages));
    found.next().map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::{STAGES, data_of, looks_right, record_of_all_stages};

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
        assert_eq!(record_of_all_stages(&data), Some(3));
        let data = data_of(&page(&STAGES[..6])).unwrap();
        assert_eq!(record_of_all_stages(&data), None);
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
        assert_eq!(looks_right(&ready, 7), Ok(()));
        assert!(looks_right(&all, 7).unwrap_err().contains("did not come"));
        for stage in STAGES {
            let less = ready.replace(&part(stage), "");
            assert!(looks_right(&less, 7).unwrap_err().contains(stage));
        }
    }
}
