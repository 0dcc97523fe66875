//! The summary of a campaign as a page that needs nothing but itself.
//!
//! *Owns*: the page. *Does not own*: the sums (report.rs).
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::fmt::Write;

use super::gate;
use super::report::Sums;

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:24px;max-width:70em}\
    table{border-collapse:collapse;margin:8px 0}td,th{border:1px solid #cfd6df;padding:2px 8px;text-align:left}\
    td.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#a40000}\
    code{font-size:12px}@media(prefers-color-scheme:dark){body{background:#14181d;color:#d7dde4}}";

/// The page.
pub(super) fn page(sums: &Sums) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <title>tidewater-sim: campaign</title>\n<style>{STYLE}</style>\n\
         <h1>Campaign of {}</h1>\n",
        text(&sums.git)
    );
    verdict(sums, &mut out);
    scenarios(sums, &mut out);
    failures(sums, &mut out);
    mutants(sums, &mut out);
    counts("Faults", "never struck", &sums.faults, &mut out);
    counts("Rare paths", "never reached", &sums.sometimes, &mut out);
    out.push_str("</html>\n");
    out
}

fn verdict(sums: &Sums, out: &mut String) {
    let kind = if sums.is_good() { "" } else { " class=\"bad\"" };
    let survivors = sums.mutants.iter().filter(|row| !row.killed).count();
    let determinism = &sums.determinism;
    push(
        out,
        format!(
            "<p{kind}>{} seeds, {} a minute, {} failed in {} ways; {} ran again in another process, \
             {} differed; {} of {} seeded bugs survived.</p>",
            sums.num_seeds(),
            sums.seeds_per_minute,
            sums.failures.len(),
            sums.distinct().len(),
            determinism.rerun,
            determinism.mismatches,
            survivors,
            sums.mutants.len(),
        ),
    );
    if !sums.complete {
        let line = "<p class=\"bad\">Not complete: it still runs, or was interrupted.</p>";
        push(out, line.to_owned());
    }
}

fn scenarios(sums: &Sums, out: &mut String) {
    let row = |name: &str, seeds: u64, rate: u64, hours: f64| {
        let hours = format!("<td class=\"n\">{hours:.2}");
        vec![text(name), number(seeds), number(rate), hours]
    };
    let rows = sums
        .scenarios
        .iter()
        .map(|(name, sums)| row(name, sums.seeds, sums.seeds_per_minute, sums.virtual_hours));
    let hours = sums.scenarios.values().map(|sums| sums.virtual_hours);
    let rate = sums.seeds_per_minute;
    let total = row("all", sums.num_seeds(), rate, hours.sum());
    let heads = ["scenario", "seeds", "seeds a minute", "virtual hours"];
    table(out, "Scenarios", &heads, rows.chain([total]));
    let line = "<p>Seeds a minute of a scenario: on all cores, if it alone ran; of all: by the time \
                that passed. Second runs in another process are included in both.</p>";
    push(out, line.to_owned());
}

fn failures(sums: &Sums, out: &mut String) {
    let distinct = sums.distinct();
    if distinct.is_empty() {
        return;
    }
    let rows = distinct.into_iter().map(|(fastest, count)| {
        vec![
            text(&fastest.scenario),
            text(&fastest.title()),
            text(fastest.anomaly.as_deref().unwrap_or("")),
            number(count),
            number(fastest.seed),
            format!("<code>{}</code>", text(&fastest.replay)),
        ]
    });
    let heads = [
        "scenario",
        "finding",
        "anomaly",
        "seeds",
        "fastest seed",
        "replay",
    ];
    table(out, "Failures", &heads, rows);
}

fn mutants(sums: &Sums, out: &mut String) {
    if sums.mutants.is_empty() {
        return;
    }
    push(out, format!("<p>{}.</p>", gate::verdict(&sums.mutants)));
    for reason in gate::broken(&sums.mutants) {
        push(out, format!("<p class=\"bad\">{}</p>", text(&reason)));
    }
    let rows = sums.mutants.iter().map(|row| {
        let seeds = row
            .seeds_to_kill
            .map_or("<td class=\"bad\">survived".to_owned(), number);
        vec![
            number(row.id.into()),
            text(&row.group),
            text(&row.name),
            seeds,
            text(row.checker.as_deref().unwrap_or("")),
        ]
    });
    let heads = ["id", "group", "seeded bug", "seeds until found", "checker"];
    table(out, "Seeded bugs", &heads, rows);
}

fn counts(title: &str, never: &str, counts: &BTreeMap<String, u64>, out: &mut String) {
    let zero = Sums::never(counts);
    if !zero.is_empty() {
        push(
            out,
            format!("<p class=\"bad\">{never}: {}</p>", text(&zero.join(", "))),
        );
    }
    let hit = counts.iter().filter(|(_, count)| **count > 0);
    let rows = hit.map(|(name, count)| vec![text(name), number(*count)]);
    table(out, title, &["name", "times"], rows);
}

fn table(out: &mut String, title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let heads: String = heads.iter().map(|head| format!("<th>{head}")).collect();
    push(out, format!("<h2>{title}</h2>\n<table><tr>{heads}"));
    for row in rows {
        let cells: Vec<String> = row
            .into_iter()
            .map(|cell| {
                if cell.starts_with("<td") {
                    cell
                } else {
                    format!("<td>{cell}")
                }
            })
            .collect();
        push(out, format!("<tr>{}", cells.concat()));
    }
    out.push_str("</table>\n");
}

fn push(out: &mut String, line: String) {
    writeln!(out, "{line}").expect("a string takes it");
}

fn number(number: u64) -> String {
    format!("<td class=\"n\">{number}")
}

fn text(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::driver::gate::MutantRow;
    use crate::driver::report::{Failure, ScenarioSums, Sums};

    #[test]
    fn the_page_tells_what_was_found_and_what_never_happened() {
        let mut sums = Sums::new("abc<def".to_owned());
        let wal = ScenarioSums {
            seeds: 12,
            seeds_per_minute: 3456,
            virtual_hours: 1.25,
            thread_seconds: 1.0,
        };
        sums.scenarios.insert("wal".to_owned(), wal);
        sums.failures.push(Failure {
            seed: 77,
            scenario: "wal".to_owned(),
            mutant: 0,
            checker: "log".to_owned(),
            key: "log: lost <value>".to_owned(),
            replay: "replay --seed 77".to_owned(),
            detail: String::new(),
            anomaly: Some("lost-write".to_owned()),
            num_events: 5,
        });
        sums.mutants.push(MutantRow {
            id: 9,
            name: "a bug".to_owned(),
            group: "wal".to_owned(),
            killed: false,
            seeds_to_kill: None,
            checker: None,
            detail: None,
        });
        sums.faults.insert("kill".to_owned(), 4);
        sums.seeds_per_minute = 987;
        let running = page(&sums);
        assert!(running.contains("Not complete"));
        sums.complete = true;
        let page = page(&sums);
        assert!(!page.contains("Not complete") && !page.contains("bucket_fine"));
        for wanted in [
            "987 a minute",
            "<td>all<td class=\"n\">12<td class=\"n\">987<td class=\"n\">1.25",
            "survived</p>",
            "abc&lt;def",
            "3456",
            "1.25",
            "lost &lt;value&gt;",
            "lost-write",
            ">77",
            "survived",
        ] {
            assert!(page.contains(wanted), "{wanted} in {page}");
        }
        let never = page
            .lines()
            .find(|line| line.contains("never struck"))
            .unwrap();
        assert!(never.contains("disk_enospc") && !never.contains("kill"));
        assert!(page.contains("never reached"));
        assert!(!page.contains("http") && !page.contains("<script"));
    }
}
