//! Giving a WAL up without deleting it.
//!
//! *Owns*: the new name. *Does not own*: the decision.
//!
//! Invariants
//! 1. Nothing is deleted or overwritten.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "driver")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::is_device;
use crate::error::WalError;

/// Names tried before giving up.
const NAMES_MAX: u32 = 10_000;

/// Renames the WAL at `path` to `path.set-aside-N`, the first `N` that is free, and answers the new
/// name; `None` if there is no file. Whoever accepts the loss of what a WAL holds calls this before
/// creating another in its place.
///
/// # Errors
/// [`WalError::WrongKind`] for a block device, whose name is not ours to change; [`WalError::Io`].
pub fn set_aside(path: &Path) -> Result<Option<PathBuf>, WalError> {
    let failed = |cause: io::Error| WalError::Io {
        operation: "rename",
        path: path.display().to_string(),
        position: 0,
        cause: Arc::new(cause),
    };
    if is_device(path) {
        return Err(WalError::WrongKind {
            path: path.display().to_string(),
            found: "a block device",
            expected: "a file, which can be renamed: copy what is on the device and wipe it",
        });
    }
    for number in 1..=NAMES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".set-aside-{number}"));
        let name = PathBuf::from(name);
        if name.exists() {
            continue;
        }
        return match std::fs::rename(path, &name) {
            Ok(()) => Ok(Some(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        };
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}

#[cfg(test)]
mod tests {
    use super::set_aside;

    #[test]
    fn a_wal_that_is_set_aside_keeps_its_bytes_and_takes_no_ones_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wal");
        assert_eq!(set_aside(&path).unwrap(), None);
        for number in 1..=2 {
            std::fs::write(&path, [number]).unwrap();
            let name = set_aside(&path).unwrap().unwrap();
            assert_eq!(std::fs::read(&name).unwrap(), [number]);
            assert!(
                name.to_str()
                    .unwrap()
                    .ends_with(&format!("wal.set-aside-{number}"))
            );
            assert!(!path.exists());
        }
    }
}
