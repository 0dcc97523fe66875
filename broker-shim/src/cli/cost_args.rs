//! `tidewater cost …`: its flags, and from them to a job.
//!
//! *Owns*: grammar and help, defaults and ranges of what describes a workload.
//! *Does not own*: the arithmetic (`cost`).
//!
//! *IO: none*

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
use tidewater_stream_store::TierConfig;

use crate::config::{MEMORY_DEFAULT, Memory};
use crate::cost::{Job, MONTH_S, Numbers, Prices, Workload, mib};
use crate::exit::{Code, Exit};
use crate::stats::Target;

pub(super) const HELP: &str = "\
The cost of a running broker comes from its counters since its start; that of a workload from the
settings that decide about requests. Readers at the tail cost none. List prices come with a date and a
source: check them before you trust what rests on them.

Examples:
  tidewater cost --mb-in 50 --retention 72 --partitions 1000
  tidewater cost --mb-in 5 --wal object --upload-interval-ms 30000 --store s3-standard
  tidewater cost --bootstrap broker-1:9092 --stored-gib 800
  tidewater cost --stats now.json --since yesterday.json --json";

/// Flags of `cost`.
#[derive(Debug, clap::Args)]
#[allow(
    dead_code,
    reason = "the fields declare the flags; their values are read by name"
)]
pub(super) struct CostArgs {
    /// Describe a workload: MiB of records a second, as producers send them, 0 to 1000000.
    #[arg(long, value_name = "MIB", help_heading = "A workload")]
    mb_in: Option<f64>,

    /// Consumers that read everything, at the tail: they cost no request. [default: 1]
    #[arg(long, value_name = "N", help_heading = "A workload")]
    fan_out: Option<f64>,

    /// How much of what is produced is read again by consumers that lag, in percent. [default: 0]
    #[arg(long, value_name = "PERCENT", help_heading = "A workload")]
    cold_reads: Option<f64>,

    /// Hours that records are kept. [default: 168]
    #[arg(long, value_name = "HOURS", help_heading = "A workload")]
    retention: Option<f64>,

    /// Partitions that are written to. [default: 100]
    #[arg(long, value_name = "N", help_heading = "A workload")]
    partitions: Option<f64>,

    /// KiB of a record batch. [default: 16]
    #[arg(long, value_name = "KIB", help_heading = "A workload")]
    batch_kib: Option<f64>,

    /// Where the write-ahead log is: device or object. [default: device]
    #[arg(long, value_name = "WAL", value_parser = ["device", "object"], help_heading = "A workload")]
    wal: Option<String>,

    /// Milliseconds that the store takes for a PUT, for --wal object. [default: 30]
    #[arg(long, value_name = "MS", help_heading = "A workload")]
    put_ms: Option<f64>,

    /// As for `serve`. [default: 10000]
    #[arg(long, value_name = "MS", help_heading = "A workload")]
    upload_interval_ms: Option<f64>,

    /// As for `serve`, in MiB. [default: 15.36, as with its default --memory]
    #[arg(long, value_name = "MIB", help_heading = "A workload")]
    upload_mib: Option<f64>,

    /// Only the first minutes of it, from an empty cluster on, with all that follows from them, told as if
    /// it went on like that for a month: compaction takes hours until it is even. [default: a month]
    #[arg(long, value_name = "MIN", help_heading = "A workload")]
    minutes: Option<f64>,

    /// Ask the broker at this address for its counters.
    #[arg(long, value_name = "HOST:PORT", help_heading = "A broker")]
    bootstrap: Option<String>,

    /// Ask the broker of this data directory. [default: ./tidewater-data]
    #[arg(long, value_name = "DIR", help_heading = "A broker")]
    data_dir: Option<String>,

    /// Take counters from this file, printed by `tidewater stats --json`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bootstrap", "data_dir", "mb_in"], help_heading = "A broker")]
    stats: Option<PathBuf>,

    /// Count only what came since this earlier print of the same process.
    #[arg(
        long,
        value_name = "FILE",
        requires = "stats",
        help_heading = "A broker"
    )]
    since: Option<PathBuf>,

    /// GiB that are stored, where counters do not say. [default: 0]
    #[arg(long, value_name = "GIB", help_heading = "A broker")]
    stored_gib: Option<f64>,

    /// Take prices from this file instead of the built-in list; docs/operations.md has its fields.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,

    /// Only the store of this name. [default: all]
    #[arg(long, value_name = "NAME")]
    store: Option<String>,

    /// Print one JSON object; docs/operations.md has its names.
    #[arg(long)]
    json: bool,
}

const OF_A_WORKLOAD: [&str; 10] = [
    "fan_out",
    "cold_reads",
    "retention",
    "partitions",
    "batch_kib",
    "wal",
    "put_ms",
    "upload_interval_ms",
    "upload_mib",
    "minutes",
];

/// The cost that the command line asks for. `read` gives the text of a file, `target` the broker.
pub(super) fn job(
    matches: &ArgMatches,
    read: &dyn Fn(&Path) -> Result<String, String>,
    target: impl FnOnce() -> Result<Target, Exit>,
) -> Result<Job, Exit> {
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let numbers = if let Some(mib_in) = matches.get_one::<f64>("mb_in") {
        if given("bootstrap") || given("data_dir") {
            return Err(refuse("mb-in", "a workload or a broker", "both"));
        }
        described(matches, *mib_in)?
    } else if let Some(flag) = OF_A_WORKLOAD.iter().find(|id| given(id)) {
        return Err(refuse(
            &flag.replace('_', "-"),
            "it beside --mb-in",
            "it without",
        ));
    } else if let Some(stats) = matches.get_one::<PathBuf>("stats") {
        Numbers::Printed {
            stats: stats.clone(),
            earlier: matches.get_one::<PathBuf>("since").cloned(),
        }
    } else {
        Numbers::Broker(target()?)
    };
    let stored_gib = match given("stored_gib") {
        true => Some(number(matches, "stored_gib", 0.0, 0.0..=1e12)?),
        false => None,
    };
    Ok(Job {
        numbers,
        prices: prices(matches, read)?,
        stored_gib,
        json: matches.get_flag("json"),
    })
}

fn described(matches: &ArgMatches, mib_in: f64) -> Result<Numbers, Exit> {
    let number = |id, default, range| number(matches, id, default, range);
    if !(0.0..=1e6).contains(&mib_in) {
        return Err(refuse("mb-in", "0 to 1000000", &mib_in.to_string()));
    }
    // Checked, and without effect: it is here so that nobody wonders.
    number("fan_out", 1.0, 0.0..=1e6)?;
    let cold = number("cold_reads", 0.0, 0.0..=1e6)? / 100.0;
    let is_object = matches
        .get_one::<String>("wal")
        .is_some_and(|wal| wal == "object");
    let put_ms = number("put_ms", 30.0, 0.1..=60_000.0)?;
    let workload = Workload {
        seconds: number("minutes", MONTH_S / 60.0, 0.01..=1e6)? * 60.0,
        bytes_in_per_s: mib(mib_in),
        cold_bytes_per_s: mib(mib_in) * cold,
        retention_s: number("retention", 168.0, 0.0..=1e6)? * 3_600.0,
        partitions: number("partitions", 100.0, 1.0..=1e9)?,
        batch_bytes: number("batch_kib", 16.0, 0.01..=1e6)? * 1_024.0,
        object_wal_put_ms: is_object.then_some(put_ms),
    };
    // As `serve` does without settings.
    let (defaults, memory) = (TierConfig::default(), Memory::of(MEMORY_DEFAULT));
    let age = number(
        "upload_interval_ms",
        defaults.upload_age.as_millis() as f64,
        1.0..=86_400_000.0,
    )?;
    let size = number(
        "upload_mib",
        memory.upload_bytes() as f64 / mib(1.0),
        0.001..=1_024.0,
    )?;
    let mut tier = TierConfig {
        upload_age: Duration::from_secs_f64(age / 1_000.0),
        upload_bytes: mib(size) as u64,
        ..defaults
    };
    tier.compact.step_bytes = memory.step_bytes();
    tier.upload.part_bytes = memory.part_bytes();
    Ok(Numbers::Described(workload, Box::new(tier)))
}

fn number(
    matches: &ArgMatches,
    id: &str,
    default: f64,
    range: std::ops::RangeInclusive<f64>,
) -> Result<f64, Exit> {
    match matches.get_one::<f64>(id) {
        None => Ok(default),
        Some(value) if range.contains(value) => Ok(*value),
        Some(value) => {
            let expected = format!("{} to {}", range.start(), range.end());
            Err(refuse(&id.replace('_', "-"), &expected, &value.to_string()))
        }
    }
}

fn prices(
    matches: &ArgMatches,
    read: &dyn Fn(&Path) -> Result<String, String>,
) -> Result<Vec<Prices>, Exit> {
    let all = match matches.get_one::<PathBuf>("prices") {
        None => Prices::built_in(),
        Some(path) => read(path)
            .and_then(|text| Prices::parse(&text))
            .map_err(|cause| refuse("prices", "a price file", &cause))?,
    };
    let Some(name) = matches.get_one::<String>("store") else {
        return Ok(all);
    };
    let names: Vec<String> = all.iter().map(|store| store.name.clone()).collect();
    let one: Vec<Prices> = all
        .into_iter()
        .filter(|store| store.name == *name)
        .collect();
    if one.is_empty() {
        return Err(refuse(
            "store",
            &format!("one of {}", names.join(", ")),
            name,
        ));
    }
    Ok(one)
}

fn refuse(flag: &str, expected: &str, found: &str) -> Exit {
    Exit::new(
        Code::Usage,
        "bad usage",
        format!("flag --{flag}"),
        expected,
        found,
    )
}
