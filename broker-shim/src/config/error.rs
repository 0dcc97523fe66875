//! What can be wrong with a configuration, and where a value came from.
//!
//! *Owns*: `ConfigError`, `Source` and their one-line texts.
//! *Does not own*: the exit code (a configuration error is always 2).
//!
//! *IO: none*

use std::fmt;
use std::path::PathBuf;

use tidewater_types::ErrorKind;

/// The place a setting's value was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `--name` on the command line.
    Flag(&'static str),
    /// A `TIDEWATER_…` variable.
    Environment(&'static str),
    /// A key of the configuration file.
    File { path: PathBuf, key: String },
}

impl Source {
    /// The variable that mirrors the flag `name`: `data-dir` is `TIDEWATER_DATA_DIR`.
    pub(crate) fn variable(name: &str) -> String {
        format!("TIDEWATER_{}", name.replace('-', "_").to_ascii_uppercase())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag --{name}"),
            Self::Environment(name) => {
                write!(f, "environment variable {}", Self::variable(name))
            }
            Self::File { path, key } => write!(f, "key {key} of {}", path.display()),
        }
    }
}

/// A configuration nobody should run with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A value outside its range or not of its form.
    #[error("bad value: {source_of}: expected {expected}, found {found:?}")]
    Value {
        source_of: Source,
        expected: String,
        found: String,
    },
    /// The file is not TOML.
    #[error("bad configuration file: {} line {line}: expected TOML, found {problem}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        problem: String,
    },
    /// The file cannot be read.
    #[error("bad configuration file: {}: expected a readable file, found {cause}", path.display())]
    Unreadable { path: PathBuf, cause: String },
    /// The file has a key that is no setting.
    #[error("unknown setting: key {key} of {}: expected {expected}, found {key:?}", path.display())]
    UnknownKey {
        path: PathBuf,
        key: String,
        expected: String,
    },
    /// A key's value has a type no setting has.
    #[error("bad value: key {key} of {}: expected a string, an integer or a boolean, found {found}", path.display())]
    KeyType {
        path: PathBuf,
        key: String,
        found: &'static str,
    },
    /// Clients cannot connect to a wildcard address.
    #[error(
        "no address for clients: listening on {listen}: expected --advertise HOST:PORT (clients cannot connect to a wildcard address), found none"
    )]
    AdvertiseMissing { listen: String },
    /// A bucket that vanishes beside a log that stays.
    #[error(
        "settings that contradict each other: bucket memory: with wal {wal}: expected --wal memory (what is uploaded vanishes with the process, and a WAL on disk would promise what nobody keeps), found wal {wal}"
    )]
    MemoryBucket { wal: String },
    /// A mode of the device WAL where there is none.
    #[error(
        "settings that contradict each other: {source_of}: expected no WAL mode beside --wal memory or --wal object (there is no device), found {found:?}"
    )]
    ModeWithoutDevice { source_of: Source, found: String },
    /// Objects and the node's own files in one folder.
    #[error(
        "settings that contradict each other: bucket file:{}: expected a folder other than the data directory, found the data directory", path.display()
    )]
    BucketIsDataDir { path: PathBuf },
}

impl ConfigError {
    /// Every one of them is the operator's to correct.
    #[allow(dead_code, reason = "the shape every error of the project has")]
    pub(crate) fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
