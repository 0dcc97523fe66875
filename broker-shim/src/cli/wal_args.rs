//! `tidewater wal …`: its flags, and from them to a job.
//!
//! *Owns*: grammar and help of the WAL tools, which WAL is meant.
//! *Does not own*: what the tools do (`wal_tools`).
//!
//! *IO: none*

use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Subcommand};

use crate::config::{DEFAULT_DATA_DIR, WalLocation};
use crate::exit::{Code, Exit};
use crate::wal_tools::{Dump, Form, Job, Tool};

pub(super) const HELP: &str = "\
All but calibrate only read. They change no byte and no time stamp and hold no lock, so a running
broker is not disturbed: its WAL is reported as in use, and is then a picture of something that
moves. Calibrate writes a scratch file of 16 MiB, or the start of a block device that nobody uses.

Examples:
  tidewater wal inspect                        the WAL of the broker with data in ./tidewater-data
  tidewater wal verify /dev/nvme1n1 && echo fine
  tidewater wal dump --data-dir d --decode     its first 100 frames: stream and offsets
  tidewater wal dump --from 4711 --to 4712 --raw > frame
  tidewater wal calibrate /var/lib/tidewater   what its device can do, and the mode that follows

Exit codes: 0 a broker opens it (a torn tail is fine), 1 one superblock slot is damaged and will be
repaired, 3 it cannot be looked at, 4 newer format, 5 damage: a broker refuses it.";

/// Which tool.
#[derive(Debug, Subcommand)]
pub(super) enum WalCommands {
    /// Show superblocks, epochs, segments, watermarks, and where the log ends and why.
    Inspect(InspectArgs),
    /// Check everything a broker checks when it opens it, and say in one line what it would say.
    Verify(VerifyArgs),
    /// Print frames: LSN, length and the first bytes.
    Dump(DumpArgs),
    /// Measure what a device can do, and say which mode a WAL would use on it and why.
    Calibrate(CalibrateArgs),
}

#[derive(Debug, clap::Args)]
#[allow(
    dead_code,
    reason = "the fields declare the flags; their values are read by name"
)]
struct TargetArgs {
    /// The file or block device. [default: the WAL of the data directory]
    #[arg(env = "TIDEWATER_WAL", hide_env_values = true, value_name = "TARGET")]
    target: Option<String>,

    /// The data directory of a broker. [default: ./tidewater-data]
    #[arg(
        long,
        env = "TIDEWATER_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    data_dir: Option<String>,
}

/// Flags of `inspect`.
#[derive(Debug, clap::Args)]
#[allow(
    dead_code,
    reason = "the fields declare the flags; their values are read by name"
)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Print one JSON object; docs/wal-tools.md has its names.
    #[arg(long)]
    json: bool,

    /// List every group.
    #[arg(long)]
    groups: bool,

    /// List every segment. The JSON always does.
    #[arg(long)]
    segments: bool,
}

/// Flags of `verify`.
#[derive(Debug, clap::Args)]
#[allow(
    dead_code,
    reason = "the fields declare the flags; their values are read by name"
)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Print one JSON object, that of `inspect`.
    #[arg(long)]
    json: bool,
}

/// Flags of `dump`.
#[derive(Debug, clap::Args)]
#[allow(
    dead_code,
    reason = "the fields declare the flags; their values are read by name"
)]
pub(super) struct DumpArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Begin at the first frame at or above this LSN. [default: the trim point]
    #[arg(long, value_name = "LSN")]
    from: Option<u64>,

    /// End in front of this LSN. [default: the end of the log]
    #[arg(long, value_name = "LSN")]
    to: Option<u64>,

    /// Print so many frames at most; 0 for all. [default: 100, with --raw all]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Show so many bytes of each frame; 0 for all. [default: 32]
    #[arg(long, value_name = "N", conflicts_with = "raw")]
    bytes: Option<usize>,

    /// Show stream and offsets, which the store wrote in front of each frame.
    #[arg(long, conflicts_with = "raw")]
    decode: bool,

    /// Print 16 bytes a line.
    #[arg(long, conflicts_with_all = ["raw", "json"])]
    hex: bool,

    /// Print the bytes of the frames and nothing else.
    #[arg(long, conflicts_with = "json")]
    raw: bool,

    /// Print one JSON object a frame, each on a line.
    #[arg(long)]
    json: bool,
}

/// Flags of `calibrate`.
#[derive(Debug, clap::Args)]
#[allow(
    dead_code,
    reason = "the fields declare the flags; their values are read by name"
)]
pub(super) struct CalibrateArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Print one JSON object; docs/wal-tools.md has its names.
    #[arg(long)]
    json: bool,

    /// Lose what lies on the first 16 MiB of a block device. Nothing in use is touched.
    #[arg(long)]
    destroy: bool,
}

/// The job that the command line of `tidewater wal` asks for.
pub(super) fn job(matches: &ArgMatches) -> Result<Job, Exit> {
    let (name, matches) = matches.subcommand().expect("the grammar asks for one");
    let flag = |name: &str| matches.get_flag(name);
    let tool = match name {
        "inspect" => Tool::Inspect {
            json: flag("json"),
            groups: flag("groups"),
            segments: flag("segments"),
        },
        "verify" => Tool::Verify { json: flag("json") },
        "calibrate" => Tool::Calibrate {
            json: flag("json"),
            destroy: flag("destroy"),
        },
        _ => Tool::Dump(dump(matches)),
    };
    let path = path(matches)?;
    Ok(Job { path, tool })
}

fn dump(matches: &ArgMatches) -> Dump {
    let form = match ["hex", "raw", "json"].map(|form| matches.get_flag(form)) {
        [true, ..] => Form::Hex,
        [_, true, _] => Form::Raw,
        [.., true] => Form::Json,
        _ => Form::Line,
    };
    let number = |name: &str| matches.get_one::<u64>(name).copied();
    let limit = number("limit").unwrap_or(if form == Form::Raw { 0 } else { 100 });
    let bytes = matches.get_one::<usize>("bytes").copied().unwrap_or(32);
    Dump {
        lsns: number("from").unwrap_or(0)..number("to").unwrap_or(u64::MAX),
        frames_max: if limit == 0 { u64::MAX } else { limit },
        bytes_max: if bytes == 0 { usize::MAX } else { bytes },
        decode: matches.get_flag("decode"),
        form,
    }
}

/// The WAL that is meant: an argument wins over a variable, the target over the data directory;
/// of two arguments neither does.
fn path(matches: &ArgMatches) -> Result<std::path::PathBuf, Exit> {
    let value = |id: &str| matches.get_one::<String>(id).map(String::as_str);
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let refuse = |place, expected, found: &str| {
        Err(Exit::new(Code::Usage, "bad usage", place, expected, found))
    };
    if given("target") && given("data_dir") {
        return refuse("TARGET and flag --data-dir", "one of the two", "both");
    }
    let data_dir = value("data_dir").unwrap_or(DEFAULT_DATA_DIR);
    let target = value("target").filter(|_| !given("data_dir"));
    let location = target.map_or(Some(WalLocation::Auto), WalLocation::parse);
    match location.and_then(|location| location.path(Path::new(data_dir))) {
        Some(path) => Ok(path),
        None => {
            let found = target.filter(|text| !text.is_empty()).unwrap_or("nothing");
            refuse("TARGET", "a file or a block device", found)
        }
    }
}
