//! Campaigns of scenarios of one's own: many seeds, the first failure made small and shown.
//!
//! *Owns*: the search, what a failure carries, the small command line of a program of one's own.
//! *Does not own*: what a trial does (trial.rs).
//!
//! Invariants
//! 1. The failure that is reported is that of the lowest seed that fails, whatever thread ran it.
//! 2. The first seed, one of a hundred and each failure run twice, and must leave the same trace.
//!
//! *IO: driver*

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use super::campaign::{AGAIN_PER_MILLE, on_all_cores};
use super::report::key_of;
use super::{hush_panics, quietly, refused, write_whole};
use crate::check::Violation;
use crate::check::anomaly::anomaly;
use crate::rng::Rng;
use crate::scenario::RunReport;
use crate::trace::timeline::Head;
use crate::trace::{lanes, story, timeline};
use crate::trial::{Trial, run_trial};

/// A campaign of a [`Trial`]: its seeds on all cores, one a thread at a time.
#[derive(Clone, Debug)]
pub struct Trials {
    /// The first seed.
    pub first_seed: u64,
    /// How many.
    pub seeds: u64,
    /// Most smaller plans that are tried once a seed has failed.
    pub tries_max: u64,
}

/// The failure of a seed, its plan made small.
#[derive(Clone, Debug)]
pub struct TrialFailure<P> {
    /// The trial's name.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// The plan that the seed drew.
    pub drawn: P,
    /// The smallest plan found that fails alike: what follows is its run.
    pub plan: P,
    /// What must not be and was.
    pub violation: Violation,
    /// What the run left.
    pub report: RunReport,
    /// The command that shows it again.
    pub replay: String,
    /// A column for each life, disk and bucket, a row for each moment around the failure.
    pub lanes: String,
    /// A page for a browser, whole in itself, on which a record is followed.
    pub timeline: String,
}

impl<P: fmt::Debug> fmt::Display for TrialFailure<P> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let violation = &self.violation;
        let known = anomaly(violation).map_or(String::new(), |name| format!(" anomaly={name}"));
        writeln!(
            out,
            "{} FAIL seed={} checker={}{known} {} replay: {}",
            self.name, self.seed, violation.checker, violation.detail, self.replay
        )?;
        writeln!(out, "drawn:  {:?}", self.drawn)?;
        writeln!(out, "shrunk: {:?}", self.plan)?;
        out.write_str(&self.lanes)
    }
}

impl<P: fmt::Debug> std::error::Error for TrialFailure<P> {}

impl<P> TrialFailure<P> {
    /// Writes the timeline into `folder`, as `<name>-<seed>.html`; its path. What a name of a file
    /// had better not hold, such as a separator, becomes a `-`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_timeline(&self, folder: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let is_plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
        let name = self.name.replace(|c| !is_plain(c), "-");
        let path = folder.join(format!("{name}-{}.html", self.seed));
        write_whole(&path, &self.timeline)?;
        Ok(path)
    }
}

#[derive(Debug, Parser)]
#[command(about = "Runs a scenario on the simulator")]
struct Args {
    /// Shows one seed with everything it does.
    #[arg(long)]
    seed: Option<u64>,
    /// Number of seeds.
    #[arg(long, conflicts_with = "seed", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Where the timeline of a failure goes.
    #[arg(long, default_value = "target/tidewater-sim")]
    out: PathBuf,
}

impl Trials {
    /// The seeds 1 to `seeds`.
    #[must_use]
    pub fn new(seeds: u64) -> Self {
        Self {
            first_seed: 1,
            seeds,
            tries_max: 1000,
        }
    }

    /// Runs the seeds until one fails; else, how often each fault struck.
    ///
    /// # Errors
    /// The lowest seed that failed.
    pub fn run<T: Trial>(
        &self,
        trial: &T,
    ) -> Result<BTreeMap<&'static str, u64>, Box<TrialFailure<T::Plan>>> {
        let mut faults = BTreeMap::new();
        let mut failed: Option<(u64, RunReport)> = None;
        let one = |number| {
            let seed = self.first_seed.wrapping_add(number);
            (number < self.seeds).then(|| (seed, quietly(|| self.one(trial, number, seed))))
        };
        on_all_cores(one, |(seed, report)| {
            for (name, count) in &report.faults {
                *faults.entry(*name).or_default() += count;
            }
            failed = report.failure.is_some().then_some((seed, report));
            failed.is_none()
        });
        let Some((seed, report)) = failed else {
            return Ok(faults);
        };
        match self.look(trial, seed) {
            Err(failure) => Err(failure),
            Ok(_) => Err(Box::new(ended_well_again(trial, seed, report))),
        }
    }

    /// Runs one seed; its report, or its failure made small.
    ///
    /// # Errors
    /// It failed, or left another trace when it ran again.
    pub fn look<T: Trial>(
        &self,
        trial: &T,
        seed: u64,
    ) -> Result<RunReport, Box<TrialFailure<T::Plan>>> {
        let drawn = trial.plan(seed);
        let first = quietly(|| twice(trial, seed, &drawn));
        let Some(violation) = first.failure.clone() else {
            return Ok(quietly(|| run_trial(trial, seed, &drawn, true)));
        };
        // What differs from run to run cannot be searched for.
        let plan = if violation.checker == DETERMINISM {
            drawn.clone()
        } else {
            self.shrink(trial, seed, drawn.clone(), &key_of(&violation))
        };
        let report = quietly(|| run_trial(trial, seed, &plan, true));
        let told = report.failure.clone();
        let told = told.filter(|_| violation.checker != DETERMINISM);
        let violation = told.unwrap_or(violation);
        Err(Box::new(failure(
            trial,
            seed,
            [drawn, plan],
            report,
            violation,
        )))
    }

    /// A program of its own: `--seeds N` runs a campaign, `--seed S` shows one seed, `--out FOLDER`
    /// says where timelines go. `args` begin with the program's name, as those of the process do.
    /// Exit code 0: all well; 1: a finding; 2: bad usage; 3: a file cannot be written.
    pub fn main<T: Trial>(
        &self,
        trial: &T,
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> ExitCode {
        let args = match Args::try_parse_from(args) {
            Ok(args) => args,
            Err(why) => {
                // Nobody reads it if this fails.
                drop(why.print());
                return ExitCode::from(u8::try_from(why.exit_code()).unwrap_or(2));
            }
        };
        hush_panics();
        let seeds = args.seeds.unwrap_or(self.seeds);
        let campaign = Self {
            seeds,
            ..self.clone()
        };
        let outcome = match args.seed {
            Some(seed) => campaign.look(trial, seed).map(|report| {
                report.text.iter().for_each(|line| println!("{line}"));
                println!("{} seed={seed} ok", trial.name());
            }),
            None => campaign.run(trial).map(|faults| {
                println!(
                    "{}: {seeds} seeds, nothing found; faults: {faults:?}",
                    trial.name()
                );
            }),
        };
        let Err(failure) = outcome else {
            return ExitCode::SUCCESS;
        };
        if args.seed.is_some() {
            let text = &failure.report.text;
            text.iter().for_each(|line| println!("{line}"));
        }
        println!("{failure}");
        match failure.write_timeline(&args.out) {
            Ok(path) => println!("timeline: {}", path.display()),
            Err(why) => return refused("write", &args.out, &why),
        }
        ExitCode::FAILURE
    }

    fn one<T: Trial>(&self, trial: &T, number: u64, seed: u64) -> RunReport {
        let plan = trial.plan(seed);
        if number == 0 || Rng::new(seed, "rerun").chance(AGAIN_PER_MILLE) {
            return twice(trial, seed, &plan);
        }
        run_trial(trial, seed, &plan, false)
    }

    /// The smallest plan found whose failure has this key.
    fn shrink<T: Trial>(&self, trial: &T, seed: u64, mut plan: T::Plan, key: &str) -> T::Plan {
        let mut left = self.tries_max;
        let mut fails = |plan: &T::Plan| {
            left = left.checked_sub(1)?;
            let report = quietly(|| run_trial(trial, seed, plan, false));
            Some(report.failure.is_some_and(|found| key_of(&found) == key))
        };
        loop {
            let smaller = trial.smaller(&plan).into_iter();
            let mut tried = smaller.map_while(|plan| fails(&plan).map(|fails| (plan, fails)));
            match tried.find(|(_, fails)| *fails) {
                Some((found, _)) => plan = found,
                None => return plan,
            }
        }
    }
}

const DETERMINISM: &str = "determinism";

/// Runs a plan twice; that the traces differ is a failure too.
fn twice<T: Trial>(trial: &T, seed: u64, plan: &T::Plan) -> RunReport {
    let mut report = run_trial(trial, seed, plan, false);
    let again = run_trial(trial, seed, plan, false);
    let end = |report: &RunReport| {
        let key = report.failure.as_ref().map(key_of);
        (report.trace_hash, report.num_events, key)
    };
    if end(&report) != end(&again) {
        let pairs = report.checkpoints.iter().zip(&again.checkpoints);
        let agreed = pairs.take_while(|(a, b)| a == b).count();
        let verdict = |report: &RunReport| {
            let failure = report.failure.as_ref().map(Violation::to_string);
            failure.unwrap_or_else(|| "ok".to_owned())
        };
        let detail = format!(
            "trace {:016x} of {} events ({}), {:016x} of {} ({}) when run again; alike for {} events",
            report.trace_hash,
            report.num_events,
            verdict(&report),
            again.trace_hash,
            again.num_events,
            verdict(&again),
            agreed * 1024,
        );
        report.failure = Some(Violation::new(DETERMINISM, detail));
    }
    report
}

/// A seed that failed and does not when it is looked at: something outside of the plan decides.
fn ended_well_again<T: Trial>(trial: &T, seed: u64, report: RunReport) -> TrialFailure<T::Plan> {
    let found = report.failure.as_ref().map(Violation::to_string);
    let detail = format!("{}; run again, it ended well", found.unwrap_or_default());
    let plans = [trial.plan(seed), trial.plan(seed)];
    let violation = Violation::new(DETERMINISM, detail);
    failure(trial, seed, plans, report, violation)
}

fn failure<T: Trial>(
    trial: &T,
    seed: u64,
    [drawn, plan]: [T::Plan; 2],
    report: RunReport,
    violation: Violation,
) -> TrialFailure<T::Plan> {
    let (name, replay) = (trial.name().to_owned(), trial.replay(seed));
    let story = story::read(&report.lines);
    let head = Head {
        title: format!("seed {seed} of {name}"),
        failure: Some(violation.to_string()),
        replay: replay.clone(),
    };
    TrialFailure {
        name,
        seed,
        drawn,
        plan,
        violation,
        replay,
        lanes: lanes::lanes(&story),
        timeline: timeline::page(&head, &story),
        report,
    }
}

#[cfg(test)]
mod tests;
