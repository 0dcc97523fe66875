//! The files that say where a broker answers: the ready file and `broker.json`.
//!
//! *Owns*: their JSON, writing them by rename, removing them on a clean stop.
//! *Does not own*: when requests are answered.
//!
//! Invariants
//! 1. A reader sees a whole file or none.
//! 2. Only the process that wrote a file removes it.
//!
//! *IO: driver*

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidewater_types::ErrorKind;

/// The name of the file that `tidewater stats --data-dir` looks for.
pub(crate) const BROKER_FILE: &str = "broker.json";

/// What the files say. Scripts rely on the names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) pid: u32,
    /// The address that accepts connections, with its actual port.
    pub(crate) listen: String,
    pub(crate) node_id: u32,
    pub(crate) cluster_id: String,
    /// How appends become durable, in words.
    pub(crate) wal: String,
    /// The bucket's URL.
    pub(crate) bucket: String,
    /// How long the start took, in milliseconds.
    pub(crate) start_ms: u64,
}

/// A file that could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadyError {
    /// The folder or the disk refuses.
    #[error("cannot {what}: {}: expected a file that can be written, found {cause}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    /// There is no such file: no broker was started with this data directory.
    #[error("no broker: {}: expected the file a running broker keeps there, found none", path.display())]
    Absent { path: PathBuf },
    /// The file is not what a broker writes.
    #[error("no broker: {}: expected the JSON a broker writes, found {cause}", path.display())]
    Json {
        path: PathBuf,
        cause: serde_json::Error,
    },
}

impl ReadyError {
    /// What the caller does about it.
    #[allow(dead_code, reason = "the shape every error of the project has")]
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Absent { .. } => ErrorKind::Retry,
            Self::Json { .. } => ErrorKind::Invalid,
        }
    }
}

/// A file of this process.
#[derive(Debug)]
pub(crate) struct ReadyFile {
    path: PathBuf,
    text: String,
}

impl ReadyFile {
    /// Writes `facts` to `path`, replacing what an earlier process left there.
    pub(crate) fn write(path: &Path, facts: &Facts) -> Result<Self, ReadyError> {
        let mut text = serde_json::to_string(facts).expect("plain data");
        text.push('\n');
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", facts.pid));
        let temporary = path.with_file_name(name);
        let written = fs::write(&temporary, &text).and_then(|()| fs::rename(&temporary, path));
        match written {
            Ok(()) => {
                let path = path.to_owned();
                Ok(Self { path, text })
            }
            Err(cause) => {
                // Best effort: the reason that counts is `cause`.
                let _ = fs::remove_file(&temporary);
                Err(failed("write", path, cause))
            }
        }
    }

    /// Removes the file, unless somebody replaced or removed it meanwhile.
    pub(crate) fn remove(self) -> Result<(), ReadyError> {
        match fs::read(&self.path) {
            Ok(found) if found == self.text.as_bytes() => {
                fs::remove_file(&self.path).map_err(|cause| failed("remove", &self.path, cause))
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(failed("remove", &self.path, cause)),
        }
    }
}

/// Reads what a broker wrote to `path`.
pub(crate) fn read(path: &Path) -> Result<Facts, ReadyError> {
    let text = fs::read(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => ReadyError::Absent {
            path: path.to_owned(),
        },
        _ => failed("read", path, cause),
    })?;
    serde_json::from_slice(&text).map_err(|cause| {
        let path = path.to_owned();
        ReadyError::Json { path, cause }
    })
}

fn failed(what: &'static str, path: &Path, cause: io::Error) -> ReadyError {
    let path = path.to_owned();
    ReadyError::Io { what, path, cause }
}

#[cfg(test)]
mod tests {
    use super::{Facts, ReadyError, ReadyFile, read};
    use std::fs;

    fn facts() -> Facts {
        Facts {
            pid: 42,
            listen: "127.0.0.1:19092".to_owned(),
            node_id: 1,
            cluster_id: "c".to_owned(),
            wal: "w".to_owned(),
            bucket: "memory:".to_owned(),
            start_ms: 7,
        }
    }

    #[test]
    fn the_file_is_the_json_that_scripts_rely_on_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        fs::write(&path, "of an earlier life").unwrap();
        let file = ReadyFile::write(&path, &facts()).unwrap();
        let expected = "{\"pid\":42,\"listen\":\"127.0.0.1:19092\",\"node_id\":1,\"cluster_id\":\"c\",\
             \"wal\":\"w\",\"bucket\":\"memory:\",\"start_ms\":7}\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(read(&path).unwrap(), facts());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        file.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(matches!(read(&path), Err(ReadyError::Absent { .. })));
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        let file = ReadyFile::write(&path, &facts()).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        file.remove().unwrap();
        assert!(path.exists());
        assert!(matches!(read(&path), Err(ReadyError::Json { .. })));
        let file = ReadyFile::write(&path, &facts()).unwrap();
        fs::remove_file(&path).unwrap();
        file.remove().unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("ready");
        let error = ReadyFile::write(&path, &facts()).unwrap_err();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
