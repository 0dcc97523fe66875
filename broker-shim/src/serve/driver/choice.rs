//! Which WAL a broker gets, and why.
//!
//! *Owns*: what `auto` means; claiming the data directory when anything of this broker lives there.
//! *Does not own*: opening the WAL.
//!
//! Invariants
//! 1. `auto` never means memory, and never moves off a directory that another process uses.
//!
//! *IO: driver (through the data directory)*

use std::path::PathBuf;

use tidewater_stream_store::bucket::BucketUrl;
use tracing::warn;

use super::datadir::{DataDir, Refused};
use crate::config::{ServeConfig, WalLocation};
use crate::exit::Exit;

/// The WAL that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WalKind {
    Device(PathBuf),
    Object,
    Memory,
}

/// What was chosen.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) wal: WalKind,
    /// For the operator; empty if there is nothing to say.
    pub(crate) reason: &'static str,
    /// Held for its lock.
    pub(crate) data_dir: Option<DataDir>,
}

/// Chooses the WAL, and locks the data directory if anything of this broker lives in it.
pub(crate) fn choose(config: &ServeConfig) -> Result<Choice, Exit> {
    let holds_bucket =
        matches!(&config.bucket, BucketUrl::File { path } if path.starts_with(&config.data_dir));
    let claim = || DataDir::claim(&config.data_dir);
    let device = config.wal.path(&config.data_dir);
    let (wal, reason) = match &config.wal {
        WalLocation::Memory => (WalKind::Memory, "asked for"),
        WalLocation::Object => (WalKind::Object, "asked for"),
        WalLocation::Path(path) => (WalKind::Device(path.clone()), ""),
        WalLocation::Auto => match claim() {
            Ok(data_dir) => {
                return Ok(Choice {
                    wal: WalKind::Device(device.expect("a file in the data directory")),
                    reason: "the default: a file in the data directory",
                    data_dir: Some(data_dir),
                });
            }
            Err(Refused::Unusable(why)) if !holds_bucket => {
                warn!(%why, "no device WAL; the bucket holds the WAL instead");
                (
                    WalKind::Object,
                    "the data directory cannot be used, so the bucket holds it",
                )
            }
            Err(refused) => return Err(refused.into()),
        },
    };
    let data_dir = holds_bucket.then(claim).transpose()?;
    Ok(Choice {
        wal,
        reason,
        data_dir,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FileValues, Layers, Source};

    fn choice(settings: &[(&'static str, &str)]) -> Result<Choice, Exit> {
        let value =
            |(name, text): &(&'static str, &str)| (*name, ((*text).to_owned(), Source::Flag(name)));
        let layers = Layers {
            given: settings.iter().map(value).collect(),
            file: FileValues::default(),
        };
        choose(&ServeConfig::resolve(&layers, |_| None).unwrap())
    }

    #[test]
    fn auto_is_a_file_in_the_data_directory_if_there_can_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let data_dir = ("data-dir", data.to_str().unwrap());
        let chosen = choice(&[data_dir]).unwrap();
        assert_eq!(chosen.wal, WalKind::Device(data.join("wal/device.wal")));
        assert!(chosen.data_dir.is_some());
        // In use: refused, and not moved elsewhere.
        choice(&[data_dir, ("bucket", "s3://bucket/p")]).unwrap_err();
    }

    #[test]
    fn auto_is_the_bucket_where_no_directory_can_be_used_and_never_memory() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        let below = folder.path().join("file/data");
        let data_dir = ("data-dir", below.to_str().unwrap());
        let chosen = choice(&[data_dir, ("bucket", "s3://bucket/p")]).unwrap();
        assert_eq!(chosen.wal, WalKind::Object);
        assert!(chosen.reason.contains("cannot be used") && chosen.data_dir.is_none());
        choice(&[data_dir]).unwrap_err();
    }

    #[test]
    fn what_is_asked_for_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = ("data-dir", folder.path().to_str().unwrap());
        let bucket = ("bucket", "s3://bucket/p");
        let chosen = choice(&[data_dir, bucket, ("wal", "object")]).unwrap();
        assert_eq!((chosen.wal, chosen.reason), (WalKind::Object, "asked for"));
        assert!(chosen.data_dir.is_none());
        let chosen = choice(&[data_dir, ("wal", "object")]).unwrap();
        assert!(chosen.data_dir.is_some(), "the bucket lies in it");
        let chosen = choice(&[data_dir, bucket, ("wal", "/dev/x")]).unwrap();
        assert_eq!(chosen.wal, WalKind::Device("/dev/x".into()));
    }
}
