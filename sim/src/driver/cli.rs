//! The command line of `tidewater-sim`.
//!
//! *Owns*: arguments. *Does not own*: what the commands do.
//!
//! *IO: driver*

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::campaign::{Budget, Campaign};
use super::commands::{self, CampaignOptions, ReplayOptions};
use super::gate::SEEDS_MAX;
use super::live::Out;
use super::report::Origin;
use super::{again, diff, hush_panics, is_known, refused, shrinking};
use crate::plan::saved::SavedPlan;
use crate::plan::{Plan, Scenario};
use crate::trace::Keep;

/// Nothing run is nothing found out: no number of seeds is 0.
fn at_least_one() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..)
}

#[derive(Parser)]
#[command(
    name = "tidewater-sim",
    about = "The deterministic simulator of the Tidewater engine",
    version,
    after_help = "Exit code 0: all well; 1: a finding, a mismatch or a seeded bug that was not found \
                  in time; 2: bad usage; 3: a file cannot be written or read."
)]
struct Cli {
    /// Where timelines, plans and summaries of findings go.
    #[arg(long, global = true, default_value = "target/tidewater-sim")]
    out: PathBuf,
    /// Where to write the results as JSON; `-` is standard output.
    #[arg(long, global = true)]
    json: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// Which run is meant.
#[derive(Args)]
struct Which {
    /// What runs; without it each seed chooses.
    #[arg(long)]
    scenario: Option<Scenario>,
    /// The seeded bug to switch on, instead of the one of a saved plan; 0 is none.
    #[arg(long)]
    mutant: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TraceArg {
    /// The result alone.
    Off,
    /// All that the parts say, in words.
    Full,
    /// Each event of the executor, too: every poll, timer and drawn number, as `diff` names them.
    Events,
}

impl TraceArg {
    fn told(self) -> Option<Keep> {
        match self {
            Self::Off => None,
            Self::Full => Some(Keep::Lines),
            Self::Events => Some(Keep::Events),
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Runs seeds; one line each, and all about each kind of failure.
    Run {
        /// How many seeds.
        #[arg(long, default_value_t = 100, value_parser = at_least_one())]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        which: Which,
    },
    /// Runs many seeds on all cores; tells failures, and writes a summary.
    Campaign {
        /// How long it runs, in minutes.
        #[arg(long, conflicts_with = "seeds", required_unless_present_any = ["seeds", "mutants"])]
        minutes: Option<f64>,
        /// How many seeds it runs.
        #[arg(long, value_parser = at_least_one())]
        seeds: Option<u64>,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        which: Which,
        /// Hunts every seeded bug too; without a budget nothing else, as `mutants` does.
        #[arg(long)]
        mutants: bool,
        /// Seeds after which a seeded bug counts as survivor.
        #[arg(long, default_value_t = SEEDS_MAX, value_parser = at_least_one(), requires = "mutants")]
        max_seeds: u64,
        /// Takes a fault that never struck and a path that was never reached for a failure.
        #[arg(long)]
        strict: bool,
        /// Where the summary goes; `summary.html` among the results otherwise.
        #[arg(long)]
        page: Option<PathBuf>,
    },
    /// Runs one seed, or a saved plan, again.
    Replay {
        /// The seed.
        #[arg(long, required_unless_present = "plan")]
        seed: Option<u64>,
        #[command(flatten)]
        which: Which,
        /// A plan to run instead of a seed's.
        #[arg(long, conflicts_with = "seed")]
        plan: Option<PathBuf>,
        /// Where to save the plan as JSON.
        #[arg(long)]
        save_plan: Option<PathBuf>,
        /// What to tell; `off`, or `full` if `--until` is given.
        #[arg(long)]
        trace: Option<TraceArg>,
        /// Tells no more after this event: its number, or words of its line.
        #[arg(long)]
        until: Option<String>,
        /// Shows swim lanes although nothing failed.
        #[arg(long)]
        lanes: bool,
        /// Where to write the timeline; of a failure it lies among the results otherwise.
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Makes a plan as small as it can be and still fail in the same way.
    Shrink {
        /// A saved plan, or the number of a seed.
        plan: String,
        #[command(flatten)]
        which: Which,
        /// Plans to run at most.
        #[arg(long, default_value_t = 3_000)]
        tries: u64,
        /// Where to save the result, its timeline beside it; otherwise `NAME.small.json` beside the
        /// plan, or, of a seed, among the results.
        #[arg(long)]
        save: Option<PathBuf>,
    },
    /// Runs a seed in two processes with different memory; names the first event that differs.
    Diff {
        /// The number of a seed, or a saved plan.
        plan: String,
        #[command(flatten)]
        which: Which,
        /// Lets an address into the trace after so many virtual nanoseconds.
        #[arg(long, hide = true)]
        impure_after_ns: Option<u64>,
    },
    /// Hunts every seeded bug until it is found.
    Mutants {
        /// Seeds after which a bug counts as survivor.
        #[arg(long, default_value_t = SEEDS_MAX, value_parser = at_least_one())]
        max_seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only these bugs.
        #[arg(long, value_delimiter = ',')]
        only: Vec<u16>,
    },
    /// Makes one summary of campaigns that were saved as JSON.
    Report {
        /// What campaigns wrote with `--json`.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Where the summary goes; `summary.html` among the results otherwise.
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Answers another process that wants to know whether a plan decides everything.
    #[command(hide = true)]
    Again,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Out {
        json: cli.json.as_deref(),
        folder: &cli.out,
    };
    match cli.command {
        Command::Run { seeds, seed, which } => {
            let options = format!("seeds={seeds}");
            commands::run(campaign(&which, seed, Budget::Seeds(seeds)), &options, &out)
        }
        Command::Campaign {
            minutes,
            seeds,
            seed,
            which,
            mutants,
            max_seeds,
            strict,
            page,
        } => {
            if minutes.is_none() && seeds.is_none() {
                let is_of_seeds = which.scenario.is_some() || which.mutant.is_some();
                if is_of_seeds || strict || page.is_some() {
                    eprintln!(
                        "a hunt alone takes no --scenario, --mutant, --strict or --page: give --minutes or --seeds"
                    );
                    return ExitCode::from(2);
                }
                return commands::mutants(&[], seed, max_seeds, &out);
            }
            let Some((budget, options)) = budget(minutes, seeds) else {
                eprintln!("--minutes is a number above 0");
                return ExitCode::from(2);
            };
            let asked = CampaignOptions {
                mutants: mutants.then_some(max_seeds),
                strict,
                page: page.as_deref(),
                options: &options,
            };
            commands::campaign(campaign(&which, seed, budget), &asked, &out)
        }
        Command::Mutants {
            max_seeds,
            seed,
            only,
        } => commands::mutants(&only, seed, max_seeds, &out),
        Command::Report { files, html } => {
            let html = html.unwrap_or_else(|| out.folder.join("summary.html"));
            commands::report(&files, &html, &out)
        }
        Command::Again => answer(),
        single => one_plan(single, &out),
    }
}

/// The commands that run one plan.
fn one_plan(command: Command, out: &Out<'_>) -> ExitCode {
    match command {
        Command::Replay {
            seed,
            which,
            plan,
            save_plan,
            trace,
            until,
            lanes,
            html,
        } => {
            let unasked = match until {
                Some(_) => TraceArg::Full,
                None => TraceArg::Off,
            };
            let asked = ReplayOptions {
                told: trace.unwrap_or(unasked).told(),
                lanes,
                until: until.as_deref(),
                html: html.as_deref(),
                save_plan: save_plan.as_deref(),
            };
            let origin = plan.as_deref().map_or(Origin::Seed, Origin::File);
            let saved = match origin {
                Origin::File(path) => read_plan(path, &which),
                Origin::Seed => of_seed(seed.unwrap_or(1), &which),
            };
            saved.map_or_else(
                |code| code,
                |saved| commands::replay(&saved, origin, &asked, out),
            )
        }
        Command::Shrink {
            plan,
            which,
            tries,
            save,
        } => {
            let saved = match plan_or_seed(&plan, &which) {
                Ok(saved) => saved,
                Err(code) => return code,
            };
            let origin = match plan.parse::<u64>() {
                Ok(_) => Origin::Seed,
                Err(_) => Origin::File(Path::new(&plan)),
            };
            let save = save.unwrap_or_else(|| shrinking::default_out(&saved, origin, out.folder));
            if let Some(Err(why)) = save.parent().map(fs::create_dir_all) {
                return refused("write", &save, &why);
            }
            hush_panics();
            shrinking::run(&saved, tries, &save, out.json)
        }
        Command::Diff {
            plan,
            which,
            impure_after_ns,
        } => match plan_or_seed(&plan, &which) {
            Ok(saved) => diff::diff(&saved.plan, saved.mutant, impure_after_ns, out.json),
            Err(code) => code,
        },
        _ => unreachable!("main has the others"),
    }
}

fn answer() -> ExitCode {
    hush_panics();
    match again::answer() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(3)
        }
    }
}

fn campaign(which: &Which, first_seed: u64, budget: Budget) -> Campaign {
    Campaign {
        first_seed,
        budget,
        scenario: which.scenario,
        mutant: which.mutant.unwrap_or(0),
        self_check: true,
    }
}

fn budget(minutes: Option<f64>, seeds: Option<u64>) -> Option<(Budget, String)> {
    if let Some(seeds) = seeds {
        return Some((Budget::Seeds(seeds), format!("seeds={seeds}")));
    }
    let minutes = minutes?;
    let time = Duration::try_from_secs_f64(minutes * 60.0).ok()?;
    (time > Duration::ZERO).then(|| (Budget::Time(time), format!("minutes={minutes}")))
}

fn of_seed(seed: u64, which: &Which) -> Result<SavedPlan, ExitCode> {
    checked(SavedPlan {
        about: String::new(),
        mutant: which.mutant.unwrap_or(0),
        undone_by: 0,
        found: None,
        plan: Plan::new(seed, which.scenario.unwrap_or(Scenario::of_seed(seed))),
    })
}

fn plan_or_seed(text: &str, which: &Which) -> Result<SavedPlan, ExitCode> {
    match text.parse() {
        Ok(seed) => of_seed(seed, which),
        Err(_) => read_plan(Path::new(text), which),
    }
}

/// A saved plan; a mutant that is asked for goes before its own.
fn read_plan(path: &Path, which: &Which) -> Result<SavedPlan, ExitCode> {
    let text = fs::read_to_string(path).map_err(|why| refused("read", path, &why))?;
    let mut saved = SavedPlan::parse(&text).map_err(|why| {
        eprintln!("{} is no plan: {why}", path.display());
        ExitCode::from(2)
    })?;
    if let Some(mutant) = which.mutant {
        saved.mutant = mutant;
    }
    let is_another = |scenario: &Scenario| *scenario != saved.plan.scenario;
    if which.scenario.as_ref().is_some_and(is_another) {
        let (path, name) = (path.display(), saved.plan.scenario.name());
        eprintln!("{path} is a plan of the scenario {name}");
        return Err(ExitCode::from(2));
    }
    checked(saved)
}

fn checked(saved: SavedPlan) -> Result<SavedPlan, ExitCode> {
    if is_known(saved.mutant) {
        Ok(saved)
    } else {
        Err(ExitCode::from(2))
    }
}
