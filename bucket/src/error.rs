//! Why a bucket cannot be named or opened.
//!
//! *Owns*: the errors of opening and of parsing a URL.
//! *Does not own*: the outcomes of requests; they belong to the port.
//!
//! *IO: none*

use std::io;
use std::path::PathBuf;

use tidewater_types::ErrorKind;

/// Why a bucket could not be opened. Nothing was created unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path, or the part of it that exists, is not a directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// What is in the way.
        path: PathBuf,
    },
    /// The directory, or the parent it would be created in, cannot be written.
    #[error("directory {} cannot be written: {source}", path.display())]
    NotWritable {
        /// The directory that refuses.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A system call failed. Directories above the bucket may have been created.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An S3 setting that is needed is missing.
    #[error("bucket {url} needs {setting}, which is not set")]
    Missing {
        /// The bucket.
        url: String,
        /// The environment variable that usually carries the setting.
        setting: &'static str,
    },
    /// An S3 setting is wrong.
    #[error("bucket {url} cannot be opened: {setting}: {cause}")]
    Setting {
        /// The bucket.
        url: String,
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it.
        cause: String,
    },
}

impl OpenError {
    /// What the caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotADirectory { .. }
            | Self::NotWritable { .. }
            | Self::Missing { .. }
            | Self::Setting { .. } => ErrorKind::Invalid,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
                _ => ErrorKind::Invalid,
            },
        }
    }
}

/// Why a text is not a bucket URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseUrlError {
    /// There is no scheme, or one this crate does not know.
    #[error("bucket URL {url:?} must start with file:, memory: or s3://")]
    Scheme {
        /// The text.
        url: String,
    },
    /// A `file:` URL without a path.
    #[error("bucket URL {url:?} names no directory")]
    NoPath {
        /// The text.
        url: String,
    },
    /// A `file://HOST/…` URL.
    #[error("bucket URL {url:?} names the host {host:?}; write file:PATH or file:///PATH")]
    Host {
        /// The text.
        url: String,
        /// The host in it.
        host: String,
    },
    /// A `memory:` URL with something behind the colon.
    #[error("bucket URL {url:?} has {rest:?} behind memory:")]
    Trailing {
        /// The text.
        url: String,
        /// What follows.
        rest: String,
    },
    /// The name of the S3 bucket is missing or not one S3 allows.
    #[error("bucket URL {url:?}: {name:?} is no S3 bucket name ({rule})")]
    BucketName {
        /// The text.
        url: String,
        /// The name in it.
        name: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The prefix is not one that keys can have.
    #[error("bucket URL {url:?}: prefix {prefix:?} {problem}")]
    Prefix {
        /// The text.
        url: String,
        /// The prefix in it.
        prefix: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl ParseUrlError {
    /// What the caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
