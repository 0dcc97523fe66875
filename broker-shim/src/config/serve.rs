//! What a broker is started with.
//!
//! *Owns*: `ServeConfig`, the default and range of each setting, the rules
//! between settings.
//! *Does not own*: finding the values (`layers`), their forms (`values`).
//!
//! Invariants
//! 1. The memory bucket comes with the memory WAL only.
//! 2. The address given to clients is never a wildcard.
//!
//! *IO: none*

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidewater_stream_store::WalMode;
use tidewater_stream_store::bucket::{BucketOptions, BucketUrl};

use super::address::HostPort;
use super::error::{ConfigError, Source};
use super::layers::Layers;
use super::memory::{MEMORY_DEFAULT, MEMORY_MAX, MEMORY_MIN, Memory};
use super::values::{print_size, refuse};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// The node's own files, if nothing else is said.
pub(crate) const DEFAULT_DATA_DIR: &str = "./tidewater-data";

/// Where the device WAL is, below the data directory.
const WAL_FILE: &str = "wal/device.wal";

/// How a number is read: its name, range, default.
type Form = fn(&Layers, &'static str, RangeInclusive<u64>, u64) -> Result<u64, ConfigError>;

/// Where appends become durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WalLocation {
    /// A device WAL in a file of the data directory; where there can be none, an object WAL in
    /// the bucket that was given.
    Auto,
    /// An object WAL in the bucket.
    Object,
    /// In memory: everything since the last upload is lost with the process.
    Memory,
    /// A device WAL in this file or block device.
    Path(PathBuf),
}

impl WalLocation {
    /// `auto`, `object`, `memory` or a path; `None` for no text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "auto" => Some(Self::Auto),
            "object" => Some(Self::Object),
            "memory" => Some(Self::Memory),
            path => Some(Self::Path(PathBuf::from(path))),
        }
    }

    /// The file or block device, if there can be one.
    pub(crate) fn path(&self, data_dir: &Path) -> Option<PathBuf> {
        match self {
            Self::Auto => Some(data_dir.join(WAL_FILE)),
            Self::Memory | Self::Object => None,
            Self::Path(path) => Some(path.clone()),
        }
    }

    fn may_be_device(&self) -> bool {
        matches!(self, Self::Auto | Self::Path(_))
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Limits on what is asked of the bucket, in a second; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BucketLimits {
    pub(crate) requests_per_s: u64,
    pub(crate) bytes_in_per_s: u64,
    pub(crate) bytes_out_per_s: u64,
}

/// Every setting of a broker, resolved and valid.
#[derive(Clone, Debug)]
pub(crate) struct ServeConfig {
    /// Where connections are accepted; port 0 picks a free one.
    pub(crate) listen: HostPort,
    /// The address told to clients, if not `listen`'s; port 0 stands for the actual one.
    pub(crate) advertise: Option<HostPort>,
    /// The node's own files.
    pub(crate) data_dir: PathBuf,
    /// Where objects live.
    pub(crate) bucket: BucketUrl,
    /// Credentials and endpoint of an S3 bucket, from the AWS variables.
    pub(crate) bucket_options: BucketOptions,
    /// Where appends become durable.
    pub(crate) wal: WalLocation,
    /// How the device WAL makes them so.
    pub(crate) wal_mode: WalMode,
    /// Largest size of the device WAL's ring.
    pub(crate) wal_bytes: u64,
    /// This node; unique in its cluster.
    pub(crate) node_id: u32,
    /// Partitions of a topic that is created without a number.
    pub(crate) default_partitions: u32,
    /// Whether a client's first mention creates a topic.
    pub(crate) auto_create_topics: bool,
    /// Written once requests are answered.
    pub(crate) ready_file: Option<PathBuf>,
    /// The form of log lines.
    pub(crate) log_format: LogFormat,
    /// What is logged: a level, or directives of `tracing`.
    pub(crate) log_level: String,
    /// Whether a missing, wiped or foreign WAL may be replaced by an empty one.
    pub(crate) accept_data_loss: bool,
    /// Upload once the oldest waiting byte is this old.
    pub(crate) upload_interval: Duration,
    /// Upload once this many bytes wait.
    pub(crate) upload_bytes: u64,
    /// How long an object that nothing references stays.
    pub(crate) delete_delay: Duration,
    /// Limits on what is asked of the bucket.
    pub(crate) bucket_limits: BucketLimits,
    /// The budget of memory and its shares.
    pub(crate) memory: Memory,
    /// A folder on a disk of this machine for blocks that are read again, and how much it may hold.
    pub(crate) disk_cache: Option<(PathBuf, u64)>,
    /// Connections open at a time.
    pub(crate) max_connections: usize,
    /// Largest request.
    pub(crate) max_request_bytes: usize,
}

impl ServeConfig {
    /// Resolves every setting. `variable` looks up the AWS variables.
    ///
    /// # Errors
    /// The first setting that is wrong, or two that contradict each other.
    pub(crate) fn resolve(
        layers: &Layers,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let (listen, advertise) = addresses(layers)?;
        let data_dir = layers
            .path("data-dir")?
            .unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
        let wal = wal(layers)?;
        let bucket = bucket(layers, &data_dir, &wal)?;
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let connections = layers.integer("max-connections", 1..=1_000_000, 10_000)?;
        let memory = layers.size("memory", MEMORY_MIN..=MEMORY_MAX, MEMORY_DEFAULT)?;
        let disk_cache = disk_cache(layers)?;
        let memory = match &disk_cache {
            Some(_) => Memory::of(memory).with_disk_cache(),
            None => Memory::of(memory),
        };
        let request = layers.size("max-request-bytes", KIB..=GIB, 100 * MIB)?;
        Ok(Self {
            listen,
            advertise,
            data_dir,
            bucket,
            bucket_options: BucketOptions::from_env(variable),
            wal_mode: wal_mode(layers, &wal)?,
            wal,
            wal_bytes: layers.size("wal-bytes", 16 * MIB..=512 * TIB, GIB)?,
            node_id: narrow(layers.integer("node-id", 0..=2_147_483_647, 1)?),
            default_partitions: narrow(layers.integer("default-partitions", 1..=10_000, 1)?),
            auto_create_topics: layers.truth("auto-create-topics", true)?,
            ready_file: layers.path("ready-file")?,
            log_format: layers.choice("log-format", &formats, LogFormat::Text)?,
            log_level: log_level(layers)?,
            accept_data_loss: layers.truth("accept-data-loss", false)?,
            upload_interval: Duration::from_millis(layers.integer(
                "upload-interval-ms",
                1..=86_400_000,
                10_000,
            )?),
            upload_bytes: upload_bytes(layers, &memory)?,
            delete_delay: Duration::from_millis(layers.integer(
                "delete-delay-ms",
                0..=2_592_000_000,
                600_000,
            )?),
            bucket_limits: bucket_limits(layers)?,
            memory,
            disk_cache,
            max_connections: usize::try_from(connections).expect("in range"),
            max_request_bytes: usize::try_from(request).expect("in range"),
        })
    }
}

fn bucket_limits(layers: &Layers) -> Result<BucketLimits, ConfigError> {
    let bytes = |name| limit(layers, name, Layers::size, 64 * KIB..=TIB);
    let requests = ("bucket-requests-per-s", 10..=1_000_000);
    Ok(BucketLimits {
        requests_per_s: limit(layers, requests.0, Layers::integer, requests.1)?,
        bytes_in_per_s: bytes("bucket-bytes-in-per-s")?,
        bytes_out_per_s: bytes("bucket-bytes-out-per-s")?,
    })
}

/// A number in `range`, or 0, the default, for no limit.
fn limit(
    layers: &Layers,
    name: &'static str,
    form: Form,
    range: RangeInclusive<u64>,
) -> Result<u64, ConfigError> {
    match layers.get(name) {
        None | Some(("0", _)) => Ok(0),
        Some((text, source)) => form(layers, name, range, 0).map_err(|refused| match refused {
            ConfigError::Value { expected, .. } => {
                refuse(source, format!("{expected}; or 0 for no limit"), text)
            }
            other => other,
        }),
    }
}

/// Several uploads are under way at a time, and all of what they hold waits.
fn upload_bytes(layers: &Layers, memory: &Memory) -> Result<u64, ConfigError> {
    let given = layers.size("upload-bytes", KIB..=GIB, memory.upload_bytes())?;
    let max = memory.upload_bytes_max();
    match layers.get("upload-bytes") {
        Some((text, source)) if given > max => {
            let budget = print_size(memory.budget);
            let expected = format!(
                "at most {} (a quarter of what may wait for its upload with --memory {budget})",
                print_size(max)
            );
            Err(refuse(source, expected, text))
        }
        _ => Ok(given),
    }
}

fn disk_cache(layers: &Layers) -> Result<Option<(PathBuf, u64)>, ConfigError> {
    let num_bytes = layers.size("cache-dir-bytes", 16 * MIB..=64 * TIB, 10 * GIB)?;
    if let Some(folder) = layers.path("cache-dir")? {
        return Ok(Some((folder, num_bytes)));
    }
    match layers.get("cache-dir-bytes") {
        Some((text, source)) => Err(refuse(source, "cache-dir beside it".to_owned(), text)),
        None => Ok(None),
    }
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).expect("the range fits")
}

fn addresses(layers: &Layers) -> Result<(HostPort, Option<HostPort>), ConfigError> {
    let host = "127.0.0.1".to_owned();
    let listen = layers
        .address("listen")?
        .map_or(HostPort { host, port: 9092 }, |(address, _)| address);
    let advertise = match layers.address("advertise")? {
        Some((address, source)) if address.is_wildcard() => {
            let expected = "an address clients can connect to, not a wildcard".to_owned();
            return Err(refuse(source, expected, &address.to_string()));
        }
        Some((address, _)) => Some(address),
        None if listen.is_wildcard() => {
            let listen = listen.to_string();
            return Err(ConfigError::AdvertiseMissing { listen });
        }
        None => None,
    };
    Ok((listen, advertise))
}

fn wal(layers: &Layers) -> Result<WalLocation, ConfigError> {
    let Some((text, source)) = layers.get("wal") else {
        return Ok(WalLocation::Auto);
    };
    let expected = || "auto, object, memory or the path of a file or block device".to_owned();
    WalLocation::parse(text).ok_or_else(|| refuse(source, expected(), text))
}

fn wal_mode(layers: &Layers, wal: &WalLocation) -> Result<WalMode, ConfigError> {
    let modes = [
        WalMode::Auto,
        WalMode::RingSync,
        WalMode::RingDsync,
        WalMode::Portable,
    ]
    .map(|mode| (mode.name(), mode));
    let mode = layers.choice("wal-mode", &modes, WalMode::Auto)?;
    match layers.get("wal-mode") {
        Some((found, source_of)) if mode != WalMode::Auto && !wal.may_be_device() => {
            let found = found.to_owned();
            Err(ConfigError::ModeWithoutDevice { source_of, found })
        }
        _ => Ok(mode),
    }
}

fn bucket(
    layers: &Layers,
    data_dir: &std::path::Path,
    wal: &WalLocation,
) -> Result<BucketUrl, ConfigError> {
    let Some((text, source)) = layers.get("bucket") else {
        let path = data_dir.join("bucket");
        return Ok(BucketUrl::File { path });
    };
    let url: BucketUrl = text
        .parse()
        .map_err(|problem| bad_bucket(source, text, &problem))?;
    match (&url, wal) {
        (BucketUrl::Memory, WalLocation::Memory) => Ok(url),
        (BucketUrl::Memory, WalLocation::Auto) => {
            let wal = "auto".to_owned();
            Err(ConfigError::MemoryBucket { wal })
        }
        (BucketUrl::Memory, WalLocation::Object) => {
            let wal = "object".to_owned();
            Err(ConfigError::MemoryBucket { wal })
        }
        (BucketUrl::Memory, WalLocation::Path(path)) => {
            let wal = path.display().to_string();
            Err(ConfigError::MemoryBucket { wal })
        }
        (BucketUrl::File { path }, _) if path == data_dir => {
            let path = path.clone();
            Err(ConfigError::BucketIsDataDir { path })
        }
        _ => Ok(url),
    }
}

fn bad_bucket(source: Source, text: &str, problem: &dyn std::error::Error) -> ConfigError {
    let expected = format!("file:PATH, memory: or s3://BUCKET/PREFIX ({problem})");
    refuse(source, expected, text)
}

/// A level, or directives such as `info,tidewater_broker::net=debug`. A bare word that is no
/// level would be taken for the name of a module and silence everything else, so it is refused.
fn log_level(layers: &Layers) -> Result<String, ConfigError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let Some((text, source)) = layers.get("log-level") else {
        return Ok("info".to_owned());
    };
    let known = |part: &str| LEVELS.contains(&part) || part.contains('=');
    // Names of modules are ASCII, and the parser panics at letters that change their length with case.
    let parses = text.is_ascii() && tracing_subscriber::EnvFilter::builder().parse(text).is_ok();
    if parses && text.split(',').all(known) {
        return Ok(text.to_owned());
    }
    let levels = LEVELS.join(", ");
    let expected = format!("one of {levels}, or directives such as info,tidewater_broker=debug");
    Err(refuse(source, expected, text))
}
