//! The data directory: created, checked to be writable, claimed for one process.
//!
//! *Owns*: the lock file. *Does not own*: what the broker keeps in the directory.
//!
//! Invariants
//! 1. Two brokers never share a directory: the lock ends with the process, however it ends.
//! 2. A directory that is in use is left as it is.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "the driver of the data directory"
)]

use std::fs::{File, OpenOptions, TryLockError, create_dir_all};
use std::path::{Path, PathBuf};

use crate::exit::{Code, Exit};

/// The file whose lock is the directory's.
pub(crate) const LOCK_FILE: &str = "lock";

/// Why a directory was not claimed.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Another process has it.
    InUse(Exit),
    /// Nothing can be written or locked there.
    Unusable(Exit),
}

impl From<Refused> for Exit {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::InUse(exit) | Refused::Unusable(exit) => exit,
        }
    }
}

/// A data directory that is this process's.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl DataDir {
    /// Creates the directory if it is not there and locks it.
    pub(crate) fn claim(path: &Path) -> Result<Self, Refused> {
        let exit = |what: &str, expected: &str, found: &dyn std::fmt::Display| {
            Exit::new(Code::Environment, what, path.display(), expected, found)
        };
        let refuse = |what: &str, expected: &str, found: &dyn std::fmt::Display| {
            Refused::Unusable(exit(what, expected, found))
        };
        create_dir_all(path).map_err(|cause| {
            refuse(
                "cannot create the data directory",
                "a place that can be written",
                &cause,
            )
        })?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let lock = options.open(path.join(LOCK_FILE)).map_err(|cause| {
            refuse(
                "cannot use the data directory",
                "a directory that can be written",
                &cause,
            )
        })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => {
                let found = "one that another process uses";
                let exit = exit("data directory in use", "a free directory", &found);
                Err(Refused::InUse(exit))
            }
            Err(TryLockError::Error(cause)) => Err(refuse(
                "cannot lock the data directory",
                "a file system with locks",
                &cause,
            )),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_claimed_once_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let first = DataDir::claim(&path).unwrap();
        assert_eq!(first.path(), path);
        let Err(Refused::InUse(second)) = DataDir::claim(&path) else {
            panic!("claimed twice");
        };
        assert_eq!(second.code, Code::Environment);
        assert!(second.to_string().contains("in use"), "{second}");
        drop(first);
        DataDir::claim(&path).unwrap();
    }

    #[test]
    fn a_path_below_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        let Err(Refused::Unusable(refused)) = DataDir::claim(&folder.path().join("file/data"))
        else {
            panic!("claimed below a file");
        };
        assert_eq!(refused.code, Code::Environment);
    }
}
