//! What the commands do: run, campaign, mutants, replay, report.
//!
//! *Owns*: their lines and exit codes. *Does not own*: arguments (cli.rs), what is told
//! and written while seeds run, and in the end (live.rs), sums (report.rs).
//!
//! Exit codes: 0 all well; 1 a finding; 2 bad usage; 3 a file that cannot be written or read.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a driver: it reads and writes files"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::campaign::{Campaign, SeedResult, run_campaign, run_one};
use super::finding::Finding;
use super::hunt::Hunt;
use super::live::{Live, Out, write_page};
use super::report::{Origin, Sums, replay_line};
use super::{git, header, hush_panics, is_known, num_threads, refused, write_whole};
use crate::check::anomaly::anomaly;
use crate::plan::Scenario;
use crate::plan::saved::SavedPlan;
use crate::scenario::RunReport;
use crate::trace::Keep;

/// The line of a run that is over.
fn line(result: &SeedResult, mutant: u16, origin: Origin<'_>) -> String {
    let SeedResult {
        seed,
        scenario,
        report,
        ..
    } = result;
    let head = format!(
        "seed={seed} scenario={} trace={:016x} events={}",
        scenario.name(),
        report.trace_hash,
        report.num_events
    );
    let Some(failure) = &report.failure else {
        return format!("{head} ok");
    };
    let known = anomaly(failure).map_or(String::new(), |name| format!(" anomaly={name}"));
    format!(
        "{head} FAIL checker={}{known} {} replay: {}",
        failure.checker,
        failure.detail,
        replay_line(*seed, *scenario, mutant, origin)
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
    let mut live = match Live::new(out, None) {
        Ok(live) => live,
        Err(code) => return code,
    };
    let is_drawn_over = std::io::stdout().is_terminal();
    let mut num_seeds = 0;
    run_campaign(campaign, |result| {
        let line = line(&result, campaign.mutant, Origin::Seed);
        if out.is_quiet() {
            if result.report.failure.is_some() {
                live.print(|| eprintln!("{line}"));
            }
        } else if is_drawn_over {
            live.print(|| println!("{line}"));
        } else {
            println!("{line}");
        }
        live.add(&result, campaign.mutant);
        num_seeds += 1;
        live.tick(&campaign, num_seeds);
        true
    });
    live.end(false)
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
    let default = || out.folder.join("summary.html");
    let page = asked.page.map_or_else(default, Path::to_owned);
    let mut live = match Live::new(out, Some(page)) {
        Ok(live) => live,
        Err(code) => return code,
    };
    let mut num_seeds = 0;
    run_campaign(campaign, |result| {
        if result.report.failure.is_some() {
            let line = line(&result, campaign.mutant, Origin::Seed);
            live.print(|| eprintln!("{line}"));
        }
        live.add(&result, campaign.mutant);
        num_seeds += 1;
        live.tick(&campaign, num_seeds);
        true
    });
    if let Some(max_seeds) = asked.mutants {
        let asked = Hunt {
            only: &[],
            first_seed: campaign.first_seed,
            max_seeds,
        };
        asked.run(&mut live);
    }
    live.end(asked.strict)
}

/// `mutants`: hunts each, and runs the control.
pub(super) fn mutants(only: &[u16], seed: u64, max_seeds: u64, out: &Out<'_>) -> ExitCode {
    // 0 is a run without any: nothing to hunt.
    if !only.iter().all(|id| *id != 0 && is_known(*id)) {
        return ExitCode::from(2);
    }
    hush_panics();
    header(seed, "all", 0, &format!("max_seeds={max_seeds}"));
    let mut live = match Live::new(out, None) {
        Ok(live) => live,
        Err(code) => return code,
    };
    let asked = Hunt {
        only,
        first_seed: seed,
        max_seeds,
    };
    asked.run(&mut live);
    live.end(false)
}

/// What a replay tells, and until where.
pub(super) struct ReplayOptions<'a> {
    /// Without it the result alone.
    pub(super) told: Option<Keep>,
    pub(super) lanes: bool,
    /// The number of an event, or words that a line holds.
    pub(super) until: Option<&'a str>,
    pub(super) html: Option<&'a Path>,
    pub(super) save_plan: Option<&'a Path>,
}

/// `replay`: one seed or plan again.
pub(super) fn replay(
    saved: &SavedPlan,
    origin: Origin<'_>,
    asked: &ReplayOptions<'_>,
    out: &Out<'_>,
) -> ExitCode {
    let (plan, mutant) = (&saved.plan, saved.mutant);
    hush_panics();
    header(plan.seed, plan.scenario.name(), mutant, "");
    // A finding is shown by its lines, asked for or not.
    let keep = asked.told.unwrap_or(Keep::Lines);
    let mut result = run_one(plan, mutant, keep, false);
    if !out.is_quiet() {
        tell(&result.report, asked);
        println!("{}", line(&result, mutant, origin));
    }
    // Lanes and timelines show what was said.
    result.report.lines.retain(|line| !line.is_event());
    let report = &result.report;
    let finding = Finding {
        plan,
        mutant,
        origin,
        report,
    };
    if asked.lanes || report.failure.is_some() {
        eprint!("{}", finding.lanes());
    }
    if let Some(path) = asked.html {
        if let Err(why) = finding.write_timeline(path) {
            return refused("write", path, &why);
        }
    } else if report.failure.is_some() {
        finding.leave(out.folder);
    }
    if let Some(path) = asked.save_plan
        && let Err(why) = write_whole(path, &finding.saved().made_of(saved).text())
    {
        return refused("write", path, &why);
    }
    let mut sums = Sums::new(git());
    sums.add(&result, mutant, origin);
    sums.complete = true;
    sums.finish(num_threads(), result.took);
    out.finish(&sums)
}

fn tell(report: &RunReport, asked: &ReplayOptions<'_>) {
    if asked.told.is_none() {
        return;
    }
    let number: Option<u64> = asked.until.and_then(|until| until.parse().ok());
    for line in &report.lines {
        if number.is_some_and(|number| line.event > number) {
            return;
        }
        println!("{line}");
        let words = asked.until.filter(|_| number.is_none());
        if words.is_some_and(|words| spaced(&line.text).contains(&spaced(words))) {
            return;
        }
    }
}

/// With one space between words: the lines of a trace line them up.
fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
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
    let page = write_page(&sums, html);
    if page.is_ok() {
        eprintln!("summary: {}", html.display());
    }
    let code = out.finish(&sums);
    if let Err(code) = page {
        return code;
    }
    if sums.complete {
        return code;
    }
    eprintln!("not complete: a campaign among them was interrupted, or still runs");
    ExitCode::FAILURE
}
