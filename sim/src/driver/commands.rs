//! What the commands do: run, campaign, mutants, replay, report.
//!
//! *Owns*: their lines and exit codes. *Does not own*: arguments (cli.rs), sums (report.rs).
//!
//! Exit codes: 0 all well; 1 a finding; 2 bad usage; 3 a file that cannot be written or read.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a driver: campaigns are timed by a real clock"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::campaign::{Campaign, SeedResult, run_campaign, run_one};
use super::finding::{Finding, told};
use super::hunt::{control, hunt};
use super::page::page;
use super::report::{Failure, Sums, replay_line};
use super::{git, header, hush_panics, is_known, num_threads, refused, write_json};
use crate::check::anomaly::anomaly;
use crate::plan::faults::NOT_PLANNED;
use crate::plan::saved::SavedPlan;
use crate::plan::{Plan, Scenario};
use crate::scenario::RunReport;
use crate::trace::Keep;

/// Kinds of failures of a campaign that are shown in full.
const SHOWN_MAX: usize = 5;

/// Where results go.
pub(super) struct Out<'a> {
    pub(super) json: Option<&'a str>,
    pub(super) folder: &'a Path,
}

impl Out<'_> {
    /// Standard output belongs to the JSON.
    fn is_quiet(&self) -> bool {
        self.json == Some("-")
    }

    fn finish(&self, sums: &Sums) -> ExitCode {
        if let Some(path) = self.json
            && let Err(why) = write_json(sums, path)
        {
            return refused("write", path, &why);
        }
        ExitCode::from(u8::from(!sums.is_good()))
    }
}

/// The line of a seed that failed.
fn failed(head: &str, failure: &Failure) -> String {
    let known = failure.anomaly.as_ref();
    let known = known.map_or(String::new(), |name| format!(" anomaly={name}"));
    format!(
        "{head} FAIL checker={}{known} {} replay: {}",
        failure.checker, failure.detail, failure.replay
    )
}

fn head(result: &SeedResult) -> String {
    format!(
        "seed={} scenario={} trace={:016x} events={}",
        result.seed,
        result.scenario.name(),
        result.report.trace_hash,
        result.report.num_events
    )
}

/// `run`: a line for each seed.
pub(super) fn run(campaign: Campaign, options: &str, out: &Out<'_>) -> ExitCode {
    if !is_known(campaign.mutant) {
        return ExitCode::from(2);
    }
    hush_panics();
    let name = campaign.scenario.map_or("all", Scenario::name);
    header(campaign.first_seed, name, campaign.mutant, options);
    let mut sums = Sums::new(git());
    let start = Instant::now();
    run_campaign(campaign, |result| {
        let head = head(&result);
        let line = match sums.add(&result, campaign.mutant) {
            Some(failure) => failed(&head, failure),
            None => format!("{head} ok"),
        };
        if !out.is_quiet() {
            println!("{line}");
        } else if result.report.failure.is_some() {
            eprintln!("{line}");
        }
        true
    });
    sums.finish(num_threads());
    show_kinds(&sums, campaign.mutant, out.folder);
    summary(&sums, start.elapsed());
    out.finish(&sums)
}

/// What a campaign is asked beside its seeds.
pub(super) struct CampaignOptions<'a> {
    /// Whether every seeded bug is hunted too, and for how many seeds.
    pub(super) mutants: Option<u64>,
    /// Whether a fault that never struck or a path that was never reached is a failure.
    pub(super) strict: bool,
    /// Where the summary goes instead of the folder of results.
    pub(super) page: Option<&'a Path>,
    pub(super) options: &'a str,
}

/// `campaign`: failures alone, and a summary.
pub(super) fn campaign(campaign: Campaign, asked: &CampaignOptions<'_>, out: &Out<'_>) -> ExitCode {
    if !is_known(campaign.mutant) {
        return ExitCode::from(2);
    }
    hush_panics();
    let name = campaign.scenario.map_or("all", Scenario::name);
    header(campaign.first_seed, name, campaign.mutant, asked.options);
    let mut sums = Sums::new(git());
    let mut progress = Progress::new();
    run_campaign(campaign, |result| {
        let head = head(&result);
        if let Some(failure) = sums.add(&result, campaign.mutant) {
            progress.clear();
            eprintln!("{}", failed(&head, failure));
        }
        progress.show(&sums);
        true
    });
    progress.clear();
    sums.finish(num_threads());
    show_kinds(&sums, campaign.mutant, out.folder);
    if let Some(max_seeds) = asked.mutants {
        hunt_all(&[], campaign.first_seed, max_seeds, &mut sums);
    }
    summary(&sums, progress.start.elapsed());
    let default = out.folder.join("summary.html");
    let path = asked.page.unwrap_or(&default);
    if let Err(why) = write_page(&sums, path) {
        return refused("write", path, &why);
    }
    eprintln!("summary: {}", path.display());
    let mut never = [Sums::never(&sums.faults), Sums::never(&sums.sometimes)].concat();
    never.retain(|name| !NOT_PLANNED.contains(name));
    if asked.strict && !never.is_empty() {
        eprintln!("never in this campaign: {}", never.join(", "));
        let code = out.finish(&sums);
        return if code == ExitCode::SUCCESS {
            ExitCode::from(1)
        } else {
            code
        };
    }
    out.finish(&sums)
}

fn write_page(sums: &Sums, path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, page(sums))
}

/// Shows the fastest seed of each kind of failure.
fn show_kinds(sums: &Sums, mutant: u16, folder: &Path) {
    for (failure, count) in sums.distinct().into_iter().take(SHOWN_MAX) {
        eprintln!(
            "\n{} ({count} seeds)\nreplay: {}",
            failure.key, failure.replay
        );
        let scenario = failure.scenario.parse();
        let plan = Plan::new(failure.seed, scenario.expect("a scenario that ran"));
        let report = told(&plan, mutant);
        let finding = Finding {
            plan: &plan,
            mutant,
            report: &report,
        };
        finding.show(folder);
    }
}

fn summary(sums: &Sums, took: Duration) {
    for (name, row) in &sums.scenarios {
        eprintln!(
            "{name:<12} {:>8} seeds {:>8} a minute {:>8.2} virtual hours",
            row.seeds, row.seeds_per_minute, row.virtual_hours
        );
    }
    eprintln!(
        "{} seeds, {} failed in {} ways, {} run twice, {} differed, {:.1} s",
        sums.num_seeds(),
        sums.failures.len(),
        sums.distinct().len(),
        sums.determinism.rerun,
        sums.determinism.mismatches,
        took.as_secs_f64()
    );
}

/// One line that is written over, on a terminal only.
struct Progress {
    start: Instant,
    last: Instant,
    on: bool,
}

impl Progress {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            start,
            last: start,
            on: std::io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, sums: &Sums) {
        if !self.on || self.last.elapsed() < Duration::from_millis(200) {
            return;
        }
        self.last = Instant::now();
        let seeds = sums.num_seeds();
        let a_minute = seeds as f64 * 60.0 / self.start.elapsed().as_secs_f64();
        eprint!(
            "\r\x1b[K{seeds} seeds, {a_minute:.0} a minute, {} failed",
            sums.failures.len()
        );
        // A line of progress that is not seen does no harm.
        drop(std::io::stderr().flush());
    }

    fn clear(&self) {
        if self.on {
            eprint!("\r\x1b[K");
        }
    }
}

/// `mutants`: hunts each, and runs the control.
pub(super) fn mutants(only: &[u16], seed: u64, max_seeds: u64, out: &Out<'_>) -> ExitCode {
    if !only.iter().all(|id| is_known(*id)) {
        return ExitCode::from(2);
    }
    hush_panics();
    header(seed, "all", 0, &format!("max_seeds={max_seeds}"));
    let mut sums = Sums::new(git());
    let start = Instant::now();
    hunt_all(only, seed, max_seeds, &mut sums);
    control(seed, max_seeds, &mut sums);
    sums.finish(num_threads());
    show_kinds(&sums, 0, out.folder);
    summary(&sums, start.elapsed());
    out.finish(&sums)
}

fn hunt_all(only: &[u16], seed: u64, max_seeds: u64, sums: &mut Sums) {
    eprintln!(
        "{:>3}  {:<10} {:>6}  {:<11} name",
        "id", "group", "seeds", "checker"
    );
    hunt(only, seed, max_seeds, sums, |row| {
        let seeds = row
            .seeds_to_kill
            .map_or("-".to_owned(), |seeds| seeds.to_string());
        let checker = row.checker.as_deref().unwrap_or("SURVIVED");
        eprintln!(
            "{:>3}  {:<10} {seeds:>6}  {checker:<11} {}",
            row.id, row.group, row.name
        );
    });
    let rows = sums.mutants.iter();
    let mut kills: Vec<u64> = rows.filter_map(|row| row.seeds_to_kill).collect();
    kills.sort_unstable();
    eprintln!(
        "{} of {} mutants killed, median {} seeds",
        kills.len(),
        sums.mutants.len(),
        kills.get(kills.len() / 2).copied().unwrap_or(0)
    );
}

/// What a replay tells, and until where.
pub(super) struct ReplayOptions<'a> {
    pub(super) full: bool,
    pub(super) lanes: bool,
    /// The number of an event, or words that a line holds.
    pub(super) until: Option<&'a str>,
    pub(super) html: Option<&'a Path>,
    pub(super) save_plan: Option<&'a Path>,
}

/// `replay`: one seed or plan again.
pub(super) fn replay(saved: &SavedPlan, asked: &ReplayOptions<'_>, out: &Out<'_>) -> ExitCode {
    let (plan, mutant) = (&saved.plan, saved.mutant);
    hush_panics();
    header(plan.seed, plan.scenario.name(), mutant, "");
    let result = run_one(plan, mutant, Keep::Lines, false);
    let report = &result.report;
    if !out.is_quiet() {
        tell(report, asked);
        println!("{}", end_line(plan, mutant, report));
    }
    let finding = Finding {
        plan,
        mutant,
        report,
    };
    if asked.lanes || report.failure.is_some() {
        eprint!("{}", finding.lanes());
    }
    if let Some(path) = asked.html
        && let Err(why) = finding.write_timeline(path)
    {
        return refused("write", path, &why);
    }
    if let Some(path) = asked.save_plan
        && let Err(why) = fs::write(path, finding.saved().text())
    {
        return refused("write", path, &why);
    }
    let mut sums = Sums::new(git());
    sums.add(&result, mutant);
    sums.finish(num_threads());
    out.finish(&sums)
}

fn tell(report: &RunReport, asked: &ReplayOptions<'_>) {
    if !asked.full {
        return;
    }
    let number: Option<u64> = asked.until.and_then(|until| until.parse().ok());
    for line in &report.lines {
        if number.is_some_and(|number| line.event > number) {
            return;
        }
        println!("{line}");
        let words = asked.until.filter(|_| number.is_none());
        if words.is_some_and(|words| line.text.contains(words)) {
            return;
        }
    }
}

fn end_line(plan: &Plan, mutant: u16, report: &RunReport) -> String {
    let head = format!(
        "seed={} trace={:016x} events={}",
        plan.seed, report.trace_hash, report.num_events
    );
    let Some(failure) = &report.failure else {
        return format!("{head} ok");
    };
    let known = anomaly(failure).map_or(String::new(), |name| format!(" anomaly={name}"));
    format!(
        "{head} FAIL checker={}{known} {} replay: {}",
        failure.checker,
        failure.detail,
        replay_line(plan.seed, plan.scenario, mutant)
    )
}

/// `report`: the page of campaigns that were saved as JSON.
pub(super) fn report(files: &[PathBuf], html: &Path, out: &Out<'_>) -> ExitCode {
    let mut sums: Option<Sums> = None;
    let mut seen = BTreeSet::new();
    for file in files.iter().filter(|file| seen.insert((*file).clone())) {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(why) => return refused("read", file, &why),
        };
        let read: Sums = match serde_json::from_str(&text) {
            Ok(read) => read,
            Err(why) => {
                eprintln!("{} is no campaign: {why}", file.display());
                return ExitCode::from(2);
            }
        };
        match &mut sums {
            Some(sums) => sums.merge(read, num_threads()),
            None => sums = Some(read),
        }
    }
    let sums = sums.unwrap_or_default();
    if let Err(why) = write_page(&sums, html) {
        return refused("write", html, &why);
    }
    eprintln!("summary: {}", html.display());
    out.finish(&sums)
}
