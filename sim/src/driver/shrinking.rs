//! `shrink`: the smallest plan that fails in the same way.
//!
//! *Owns*: what "the same way" means: the checker, and the finding without its numbers.
//! *Does not own*: the search (plan/shrink.rs).
//!
//! *IO: driver*

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::finding::{Finding, file_stem, told};
use super::progress::{Progress, a_minute};
use super::report::{Origin, key_of};
use super::{header, quietly, refused, write_json, write_whole};
use crate::plan::Plan;
use crate::plan::saved::{Found, SavedPlan};
use crate::plan::shrink::shrink;
use crate::scenario::{RunReport, run_plan};

/// What a search made of a plan.
#[derive(Serialize)]
struct Outcome<'a> {
    plan: String,
    replay: &'a str,
    checker: &'a str,
    key: &'a str,
    tried: u64,
    accepted: u64,
    num_events: [u64; 2],
    json_bytes: [usize; 2],
}

impl Outcome<'_> {
    fn tell(&self) {
        eprintln!(
            "{} of {} smaller plans fail alike; {} events before, {} now; saved as {}",
            self.accepted, self.tried, self.num_events[0], self.num_events[1], self.plan
        );
    }
}

/// Where the result goes unless somebody says so: beside the plan, or below `folder`.
pub(super) fn default_out(plan: &SavedPlan, origin: Origin<'_>, folder: &Path) -> PathBuf {
    match origin {
        Origin::File(path) => path.with_extension("small.json"),
        Origin::Seed => {
            let stem = file_stem(&plan.plan, plan.mutant);
            folder.join(format!("{stem}.small.json"))
        }
    }
}

/// The timeline of a plan that is saved at `out`: never that file itself.
fn timeline_beside(out: &Path) -> PathBuf {
    let page = out.with_extension("html");
    if page == out {
        return out.with_extension("timeline.html");
    }
    page
}

/// Shrinks `saved`, saves the result at `out` and its timeline beside it.
pub(super) fn run(saved: &SavedPlan, tries_max: u64, out: &Path, json: Option<&str>) -> ExitCode {
    let (plan, mutant) = (&saved.plan, saved.mutant);
    header(
        plan.seed,
        plan.scenario.name(),
        mutant,
        &format!("shrink tries={tries_max}"),
    );
    let before = quietly(|| run_plan(plan, mutant, false));
    let Some(found) = found(&before) else {
        eprintln!("the plan ends well: there is nothing to shrink");
        return ExitCode::from(2);
    };
    eprintln!("keeps: {}", found.key);
    let mut search = Search::new(tries_max);
    let fails = |plan: &Plan| {
        let report = quietly(|| run_plan(plan, mutant, false));
        // With a seeded bug: what fails without it shows something else.
        let is_same = self::found(&report).as_ref() == Some(&found)
            && (mutant == 0 || quietly(|| run_plan(plan, 0, false)).failure.is_none());
        search.tell(is_same);
        is_same
    };
    let shrunk = shrink(plan, tries_max, fails);
    drop(search);
    let report = told(&shrunk.plan, mutant);
    let finding = Finding {
        plan: &shrunk.plan,
        mutant,
        origin: Origin::File(out),
        report: &report,
    };
    eprint!("{}", finding.lanes());
    let page = timeline_beside(out);
    let replay = finding.replay();
    let outcome = Outcome {
        plan: out.display().to_string(),
        replay: &replay,
        checker: &found.checker,
        key: &found.key,
        tried: shrunk.tried,
        accepted: shrunk.accepted,
        num_events: [before.num_events, report.num_events],
        json_bytes: [plan, &shrunk.plan].map(|plan| {
            let text = serde_json::to_string(plan);
            text.map_or(0, |text| text.len())
        }),
    };
    outcome.tell();
    if let Err(why) = write_whole(out, &finding.saved().made_of(saved).text()) {
        return refused("write", out, &why);
    }
    if let Err(why) = finding.write_timeline(&page) {
        return refused("write", page, &why);
    }
    eprintln!("timeline: {}\nreplay: {replay}", page.display());
    if let Some(path) = json
        && let Err(why) = write_json(&outcome, path)
    {
        return refused("write", path, &why);
    }
    ExitCode::SUCCESS
}

/// How far the search is.
struct Search {
    progress: Progress,
    tries_max: u64,
    tried: u64,
    smaller: u64,
}

impl Search {
    fn new(tries_max: u64) -> Self {
        Self {
            progress: Progress::new(),
            tries_max,
            tried: 0,
            smaller: 0,
        }
    }

    /// One more plan was run.
    fn tell(&mut self, is_same: bool) {
        self.tried += 1;
        self.smaller += u64::from(is_same);
        let Self {
            tries_max,
            tried,
            smaller,
            ..
        } = *self;
        let rate = a_minute(tried, self.progress.elapsed());
        self.progress.tick(tried as f64 / tries_max as f64, || {
            format!("{tried} of at most {tries_max} plans, {rate} a minute, {smaller} smaller")
        });
    }
}

fn found(report: &RunReport) -> Option<Found> {
    let violation = report.failure.as_ref()?;
    Some(Found {
        checker: violation.checker.to_owned(),
        key: key_of(violation),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{default_out, timeline_beside};
    use crate::driver::report::Origin;
    use crate::plan::saved::SavedPlan;
    use crate::plan::{Plan, Scenario};

    #[test]
    fn results_of_other_scenarios_and_seeded_bugs_go_elsewhere() {
        let folder = Path::new("out");
        let of_seed = |scenario, mutant| {
            let saved = SavedPlan {
                about: String::new(),
                mutant,
                undone_by: 0,
                found: None,
                plan: Plan::new(7, scenario),
            };
            let beside = default_out(&saved, Origin::File(Path::new("my/plan.json")), folder);
            assert_eq!(beside, Path::new("my/plan.small.json"));
            default_out(&saved, Origin::Seed, folder)
        };
        let plain = of_seed(Scenario::Wal, 0);
        assert_eq!(plain, Path::new("out/wal-7.small.json"));
        assert_ne!(plain, of_seed(Scenario::Store, 0));
        let mutant = of_seed(Scenario::Wal, 3);
        assert_eq!(mutant, Path::new("out/wal-7-mutant-3.small.json"));
    }

    #[test]
    fn a_timeline_never_takes_the_place_of_its_plan() {
        let page = timeline_beside(Path::new("a/x.small.json"));
        assert_eq!(page, Path::new("a/x.small.html"));
        let page = timeline_beside(Path::new("a/x.html"));
        assert_eq!(page, Path::new("a/x.timeline.html"));
    }
}
