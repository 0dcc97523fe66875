//! Commands and flags, and the words of `--help`.
//!
//! *Owns*: grammar and help. *Does not own*: whether a value is good: all values
//! are texts here and are judged, wherever they come from, in `config`.
//!
//! *IO: none*

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use super::{cost_args, fsck_args, wal_args};

const EXAMPLES: &str = "\
Examples:
  tidewater                                   a broker on 127.0.0.1:9092, data in ./tidewater-data
  tidewater serve --listen 127.0.0.1:0 --ready-file ready.json
                                              on a free port; ready.json says which
  tidewater serve --bucket memory: --wal memory
                                              nothing is kept: for tests
  tidewater serve --bucket s3://my-bucket/team-a --listen 0.0.0.0:9092 --advertise broker-1:9092
                                              data in S3; keys and endpoint from the AWS variables
  tidewater stats --json                      the counters of that broker
  tidewater fsck                              whether all of its data is there and sound
  tidewater wal verify                        whether its write-ahead log is sound

Exit codes: 0 done, 1 a check failed, 2 bad usage or configuration, 3 the environment refuses,
4 data of another cluster or a newer format, 5 damage. The last line on standard error says why.";

const SERVE_HELP: &str = "\
A value is taken from the flag, else from the TIDEWATER_… variable, else from the key of the
same name as the flag in the file given by --config, else it is the default. Sizes are bytes,
or have a unit: KiB, MiB, GiB, TiB.

S3 is reached with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,
AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, and AWS_S3_FORCE_PATH_STYLE.";

/// A Kafka-compatible broker that keeps its data in an object store.
#[derive(Debug, Parser)]
#[command(name = "tidewater", version, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Run a broker. The default: `tidewater` alone does this.
    #[command(after_help = SERVE_HELP)]
    Serve(Box<ServeArgs>),
    /// Print the counters of a running broker.
    Stats(StatsArgs),
    /// Check that everything acknowledged is there and is what was written.
    #[command(after_help = fsck_args::HELP)]
    Fsck(fsck_args::FsckArgs),
    /// Say what a broker, or a workload, costs at an object store.
    #[command(after_help = cost_args::HELP)]
    Cost(Box<cost_args::CostArgs>),
    /// Look at a write-ahead log, or measure its device.
    #[command(subcommand, after_help = wal_args::HELP)]
    Wal(wal_args::WalCommands),
    /// Print the version.
    Version,
}

/// One field a setting. Read through `ArgMatches`, which knows flag from variable.
#[derive(Debug, clap::Args)]
#[allow(
    dead_code,
    reason = "the fields declare the flags; their values are read by name"
)]
struct ServeArgs {
    /// Read settings from this TOML file; its keys are the names of these flags.
    #[arg(
        long,
        env = "TIDEWATER_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    config: Option<PathBuf>,

    /// Accept connections here; port 0 picks a free one. [default: 127.0.0.1:9092]
    #[arg(
        long,
        env = "TIDEWATER_LISTEN",
        hide_env_values = true,
        value_name = "HOST:PORT",
        help_heading = "Network"
    )]
    listen: Option<String>,

    /// Tell clients this address. Needed when listening on a wildcard address; port 0 stands for
    /// the actual port. [default: the listening address]
    #[arg(
        long,
        env = "TIDEWATER_ADVERTISE",
        hide_env_values = true,
        value_name = "HOST:PORT",
        help_heading = "Network"
    )]
    advertise: Option<String>,

    /// Connections open at a time, 1 to 1000000. [default: 10000]
    #[arg(
        long,
        env = "TIDEWATER_MAX_CONNECTIONS",
        hide_env_values = true,
        value_name = "N",
        help_heading = "Network"
    )]
    max_connections: Option<String>,

    /// Largest request, 1 KiB to 1 GiB. [default: 100MiB]
    #[arg(
        long,
        env = "TIDEWATER_MAX_REQUEST_BYTES",
        hide_env_values = true,
        value_name = "SIZE",
        help_heading = "Network"
    )]
    max_request_bytes: Option<String>,

    /// The folder of this node's own files. [default: ./tidewater-data]
    #[arg(
        long,
        env = "TIDEWATER_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Data"
    )]
    data_dir: Option<String>,

    /// Where objects live: file:PATH, memory: (with --wal memory) or s3://BUCKET/PREFIX.
    /// [default: file:DATA_DIR/bucket]
    #[arg(
        long,
        env = "TIDEWATER_BUCKET",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Data"
    )]
    bucket: Option<String>,

    /// Where appends become durable: auto (a file in the data directory; if that cannot be used,
    /// as object), object (in the bucket), the path of a file or block device, or memory (records
    /// are lost with the process). [default: auto]
    #[arg(
        long,
        env = "TIDEWATER_WAL",
        hide_env_values = true,
        value_name = "WAL",
        help_heading = "Data"
    )]
    wal: Option<String>,

    /// How a WAL on a device makes them so: auto, ring-sync, ring-dsync (both io_uring) or portable (pwrite
    /// and fdatasync). [default: auto]
    #[arg(
        long,
        env = "TIDEWATER_WAL_MODE",
        hide_env_values = true,
        value_name = "MODE",
        help_heading = "Data"
    )]
    wal_mode: Option<String>,

    /// Largest size of the WAL on a device, 16 MiB to 512 TiB; it grows to it as needed. [default: 1GiB]
    #[arg(
        long,
        env = "TIDEWATER_WAL_BYTES",
        hide_env_values = true,
        value_name = "SIZE",
        help_heading = "Data"
    )]
    wal_bytes: Option<String>,

    /// Start although this node's WAL is missing, wiped or foreign. Acknowledged records that
    /// were not uploaded are lost. [default: false]
    #[arg(
        long, env = "TIDEWATER_ACCEPT_DATA_LOSS", hide_env_values = true, value_name = "true|false",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Data"
    )]
    accept_data_loss: Option<String>,

    /// This node's number, unique in its cluster, 0 to 2147483647. [default: 1]
    #[arg(
        long,
        env = "TIDEWATER_NODE_ID",
        hide_env_values = true,
        value_name = "N",
        help_heading = "Broker"
    )]
    node_id: Option<String>,

    /// Partitions of a topic that is created without a number, 1 to 10000. [default: 1]
    #[arg(
        long,
        env = "TIDEWATER_DEFAULT_PARTITIONS",
        hide_env_values = true,
        value_name = "N",
        help_heading = "Broker"
    )]
    default_partitions: Option<String>,

    /// Create a topic when a client first names it. [default: true]
    #[arg(
        long,
        env = "TIDEWATER_AUTO_CREATE_TOPICS",
        hide_env_values = true,
        value_name = "true|false",
        help_heading = "Broker"
    )]
    auto_create_topics: Option<String>,

    /// Write this file once requests are answered: one JSON object with pid, listen, node_id,
    /// cluster_id, wal, bucket, start_ms. Removed on a clean stop.
    #[arg(
        long,
        env = "TIDEWATER_READY_FILE",
        hide_env_values = true,
        value_name = "PATH",
        help_heading = "Process"
    )]
    ready_file: Option<String>,

    /// The form of log lines on standard error: text or json. [default: text]
    #[arg(
        long,
        env = "TIDEWATER_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT",
        help_heading = "Process"
    )]
    log_format: Option<String>,

    /// What is logged: off, error, warn, info, debug, trace, or directives such as
    /// info,tidewater_broker::net=debug. [default: info]
    #[arg(
        long,
        env = "TIDEWATER_LOG_LEVEL",
        hide_env_values = true,
        value_name = "LEVEL",
        help_heading = "Process"
    )]
    log_level: Option<String>,

    /// Upload once the oldest waiting record is this old, 1 to 86400000. Each upload costs two or
    /// three requests to the bucket. [default: 10000]
    #[arg(
        long,
        env = "TIDEWATER_UPLOAD_INTERVAL_MS",
        hide_env_values = true,
        value_name = "MS",
        help_heading = "Tuning"
    )]
    upload_interval_ms: Option<String>,

    /// Upload once this much waits, 1 KiB to 1 GiB and at most 6 % of --memory. Small batches go before,
    /// when they take a third of the memory for what waits.
    /// [default: 3 % of --memory, at most 64MiB]
    #[arg(
        long,
        env = "TIDEWATER_UPLOAD_BYTES",
        hide_env_values = true,
        value_name = "SIZE",
        help_heading = "Tuning"
    )]
    upload_bytes: Option<String>,

    /// How long an object that nothing references any more stays in the bucket, 0 to 2592000000. A
    /// reader that takes longer for one fetch finds it gone, and asks for the new place.
    /// [default: 600000]
    #[arg(
        long,
        env = "TIDEWATER_DELETE_DELAY_MS",
        hide_env_values = true,
        value_name = "MS",
        help_heading = "Tuning"
    )]
    delete_delay_ms: Option<String>,

    /// Requests to the bucket in a second, 10 to 1000000, of all kinds together. The write-ahead log
    /// goes first (and takes half at most), then commits, uploads and readers at the tail, then readers
    /// that catch up, then compaction, which has a tenth in any case. 0 is no limit. [default: 0]
    #[arg(
        long,
        env = "TIDEWATER_BUCKET_REQUESTS_PER_S",
        hide_env_values = true,
        value_name = "N",
        help_heading = "Tuning"
    )]
    bucket_requests_per_s: Option<String>,

    /// What is read from the bucket in a second, 64 KiB to 1 TiB, in the same order. 0 is no limit.
    /// [default: 0]
    #[arg(
        long,
        env = "TIDEWATER_BUCKET_BYTES_IN_PER_S",
        hide_env_values = true,
        value_name = "SIZE",
        help_heading = "Tuning"
    )]
    bucket_bytes_in_per_s: Option<String>,

    /// What is sent to the bucket in a second, 64 KiB to 1 TiB, in the same order: an upload, about as
    /// much again for compaction, and as much for a write-ahead log in the bucket. Producers are slowed
    /// when it does not suffice. 0 is no limit. [default: 0]
    #[arg(
        long,
        env = "TIDEWATER_BUCKET_BYTES_OUT_PER_S",
        hide_env_values = true,
        value_name = "SIZE",
        help_heading = "Tuning"
    )]
    bucket_bytes_out_per_s: Option<String>,

    /// Memory for everything that grows with the load, 128 MiB to 16 TiB: 30 % for records that wait
    /// for their upload, 25 % for the WAL's buffers (at most 64 MiB) and blocks read from the bucket,
    /// 10 % for records kept for readers, 5 % for indices, 10 % for the requests of all connections,
    /// 10 % for compaction, 10 % for the process. Producers are slowed when it runs short.
    /// [default: 512MiB]
    #[arg(
        long,
        env = "TIDEWATER_MEMORY",
        hide_env_values = true,
        value_name = "SIZE",
        help_heading = "Tuning"
    )]
    memory: Option<String>,

    /// A folder on a disk of this machine that also keeps what is read again. It may be lost or
    /// damaged at any time: that costs reads of the bucket. [default: none]
    #[arg(
        long,
        env = "TIDEWATER_CACHE_DIR",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Tuning"
    )]
    cache_dir: Option<String>,

    /// How much that folder may hold, 16 MiB to 64 TiB. [default: 10GiB]
    #[arg(
        long,
        env = "TIDEWATER_CACHE_DIR_BYTES",
        hide_env_values = true,
        value_name = "SIZE",
        help_heading = "Tuning"
    )]
    cache_dir_bytes: Option<String>,
}

#[derive(Debug, clap::Args)]
#[allow(
    dead_code,
    reason = "the fields declare the flags; their values are read by name"
)]
struct StatsArgs {
    /// The broker's address. [default: what the data directory says, else 127.0.0.1:9092]
    #[arg(
        long,
        env = "TIDEWATER_BOOTSTRAP",
        hide_env_values = true,
        value_name = "HOST:PORT"
    )]
    bootstrap: Option<String>,

    /// The data directory of a broker on this host. [default: ./tidewater-data]
    #[arg(
        long,
        env = "TIDEWATER_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    data_dir: Option<String>,

    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// The whole grammar.
pub(super) fn command() -> clap::Command {
    Args::command()
}

/// The commands there are below the one that `usage` is of, in words.
pub(super) fn commands_in_words(usage: &str) -> String {
    let mut command = command();
    if usage.contains("tidewater wal") {
        command = command.find_subcommand("wal").expect("declared").clone();
    }
    let names = command.get_subcommands().map(clap::Command::get_name);
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// What `tidewater version` prints.
pub(super) fn version_line() -> String {
    format!("tidewater {}\n", env!("CARGO_PKG_VERSION"))
}

/// The parser's id of the setting `name`.
pub(super) fn id(name: &str) -> String {
    name.replace('-', "_")
}
