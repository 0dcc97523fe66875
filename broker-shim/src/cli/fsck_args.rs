//! `tidewater fsck …`: its flags, and from them to a job.
//!
//! *Owns*: grammar and help of the check, whether a broker is asked.
//! *Does not own*: what is checked (`fsck`), the settings' forms (`config`).
//!
//! *IO: none*

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::config::ServeConfig;
use crate::exit::{Code, Exit};
use crate::fsck::{How, Job, Subject};

pub(super) const HELP: &str = "\
Proves that objects and write-ahead log together hold every stream without gap or overlap, and names
what is missing, damaged or unknown. It reads; a broker that runs is asked to check its own data and
goes on working. Each object costs one request, with --checksums one more for every 8 MiB.

Examples:
  tidewater fsck                              the data of a broker in ./tidewater-data, running or not
  tidewater fsck --checksums --json           read every byte of it
  tidewater fsck --bootstrap broker-1:9092    ask that broker
  tidewater fsck --bucket s3://b/team-a --data-dir /var/lib/tidewater
  tidewater fsck --repair                     delete orphans that no commit can name any more

Exit codes: 0 nothing is wrong, 1 warnings, 2 bad usage, 3 it cannot be checked, 4 the log is of
another cluster, 5 damage.";

/// Flags of `fsck`.
#[derive(Debug, clap::Args)]
#[allow(
    dead_code,
    reason = "the fields declare the flags; their values are read by name"
)]
pub(super) struct FsckArgs {
    /// Ask the broker at this address to check its own data.
    #[arg(
        long,
        env = "TIDEWATER_BOOTSTRAP",
        hide_env_values = true,
        value_name = "HOST:PORT"
    )]
    bootstrap: Option<String>,

    /// Read settings of `serve` from this TOML file.
    #[arg(
        long,
        env = "TIDEWATER_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    config: Option<PathBuf>,

    /// The data directory of a broker. [default: ./tidewater-data]
    #[arg(
        long,
        env = "TIDEWATER_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    data_dir: Option<String>,

    /// Where objects live. [default: file:DATA_DIR/bucket]
    #[arg(
        long,
        env = "TIDEWATER_BUCKET",
        hide_env_values = true,
        value_name = "URL"
    )]
    bucket: Option<String>,

    /// The write-ahead log: as for `serve`. Object logs in the bucket are always looked at.
    #[arg(
        long,
        env = "TIDEWATER_WAL",
        hide_env_values = true,
        value_name = "WAL"
    )]
    wal: Option<String>,

    /// The node whose device WAL that is. [default: 1]
    #[arg(
        long,
        env = "TIDEWATER_NODE_ID",
        hide_env_values = true,
        value_name = "N"
    )]
    node_id: Option<String>,

    /// Look at no write-ahead log: only what is in objects is checked.
    #[arg(long)]
    no_wal: bool,

    /// Read every block and metadata entry, and check its checksum.
    #[arg(long)]
    checksums: bool,

    /// Delete orphans that provably no commit can ever name. Not while a broker holds the data
    /// directory, and not while anything is wrong.
    #[arg(long)]
    repair: bool,

    /// Print one JSON object; docs/operations.md has its names.
    #[arg(long)]
    json: bool,
}

/// The check that the command line asks for; `config` resolves the settings of a broker.
pub(super) fn job(
    matches: &ArgMatches,
    config: impl FnOnce() -> Result<ServeConfig, Exit>,
) -> Result<Job, Exit> {
    const OF_DATA: [&str; 5] = ["config", "data_dir", "bucket", "wal", "node_id"];
    let by_flag = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let flag = |id: &str| matches.get_flag(id);
    let refuse = |place: &str, expected, found: &str| {
        let place = format!("flag --{place}");
        Err(Exit::new(Code::Usage, "bad usage", place, expected, found))
    };
    let of_data = OF_DATA.iter().find(|id| by_flag(id));
    let address = matches.get_one::<String>("bootstrap").cloned();
    let asked = address.filter(|_| by_flag("bootstrap") || of_data.is_none());
    let subject = match (asked, of_data) {
        (Some(_), Some(other)) => {
            let other = format!("--{} too", other.replace('_', "-"));
            return refuse("bootstrap", "it alone: a broker knows its data", &other);
        }
        (Some(_), None) if flag("repair") || flag("no_wal") => {
            return refuse("bootstrap", "it without --repair and --no-wal", "both");
        }
        (Some(address), None) => Subject::Broker(address),
        (None, _) => Subject::Data(Box::new(config()?)),
    };
    if flag("repair") && flag("no_wal") {
        return refuse("repair", "it without --no-wal", "both");
    }
    Ok(Job {
        subject,
        how: How {
            checksums: flag("checksums"),
            no_wal: flag("no_wal"),
            repair: flag("repair"),
        },
        json: flag("json"),
    })
}
