//! Where objects are written before they get their name.
//!
//! *Owns*: `.tmp/`, one locked folder in it for each open bucket, and the removal of what
//! dead processes left.
//! *Does not own*: publishing.
//!
//! Invariants
//! 1. A folder is locked (`flock`) for as long as its bucket is open; only folders that
//!    nobody locks are removed. So no process loses a temporary to another one's opening.
//! 2. A staged file is durable, under its temporary name, when `write` answers.
//!
//! *IO: driver*

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::sys;
use crate::error::OpenError;

/// The folder below the bucket's root.
pub(super) const FOLDER: &str = ".tmp";

/// The folder of one open bucket.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    next: AtomicU64,
    _lock: File,
}

impl Staging {
    pub(super) fn open(root: &Path) -> Result<Self, OpenError> {
        let all = root.join(FOLDER);
        match fs::create_dir(&all) {
            Ok(()) => sys::sync_dir(root).map_err(|e| failed("sync", root, e))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed("create", &all, e)),
        }
        remove_stale(&all).map_err(|e| failed("remove temporaries in", &all, e))?;
        let (folder, lock) = claim(&all).map_err(|e| failed("create a folder in", &all, e))?;
        // Publishing needs hard links; better refused now than at the first object.
        let names = ["link-probe-0", "link-probe-1"].map(|name| folder.join(name));
        let linked = File::create(&names[0]).and_then(|_| fs::hard_link(&names[0], &names[1]));
        for name in &names {
            let _ = fs::remove_file(name);
        }
        linked.map_err(|e| failed("make a hard link in", &folder, e))?;
        Ok(Self {
            folder,
            next: AtomicU64::new(0),
            _lock: lock,
        })
    }

    #[cfg(test)]
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets `fill` write a new file, and syncs it.
    pub(super) fn write(&self, fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<Staged> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(number.to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        let staged = Staged { path };
        let written = fill(&file).and_then(|()| file.sync_all());
        match written {
            Ok(()) => Ok(staged),
            Err(e) => {
                staged.remove();
                Err(e)
            }
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Fails, rightly, while a file is in it whose fate is unknown.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// A file without its final name.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
}

impl Staged {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the temporary name. One that stays is removed at a later open.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The file of one part, and its size in bytes.
#[derive(Debug)]
pub(super) struct PartFile {
    staged: Option<Staged>,
    size: u64,
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if let Some(staged) = self.staged.take() {
            staged.remove();
        }
    }
}

impl PartFile {
    pub(super) fn new(staged: Staged) -> io::Result<Self> {
        let size = fs::metadata(staged.path())?.len();
        let staged = Some(staged);
        Ok(Self { staged, size })
    }

    /// Adds the part's bytes to `whole`.
    pub(super) fn append_to(&self, mut whole: &File) -> io::Result<()> {
        let staged = self.staged.as_ref().expect("taken by drop alone");
        let copied = io::copy(&mut File::open(staged.path())?, &mut whole)?;
        if copied == self.size {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    if matches!(
        source.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    ) {
        return OpenError::NotWritable {
            path: path.to_owned(),
            source,
        };
    }
    OpenError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Writes all parts of `body`, in as few calls as the system allows.
pub(super) fn write_all(mut file: &File, body: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = body.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(num_bytes) => IoSlice::advance_slices(&mut rest, num_bytes),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Creates and locks a folder that no other open bucket has.
fn claim(all: &Path) -> io::Result<(PathBuf, File)> {
    let process = std::process::id();
    for number in 0_u64.. {
        let folder = all.join(format!("{process}-{number}"));
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(e),
        }
        let lock = match File::open(&folder) {
            Ok(lock) => lock,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        match lock.try_lock() {
            // Between creation and lock an opening process may have taken it for stale.
            Ok(()) if is_still(&folder, &lock) => return Ok((folder, lock)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            // This file system has no locks on directories: nobody removes folders then.
            Err(TryLockError::Error(_)) => return Ok((folder, lock)),
        }
    }
    unreachable!("a u64 of folder names is never used up")
}

fn is_still(folder: &Path, lock: &File) -> bool {
    match (fs::metadata(folder), lock.metadata()) {
        (Ok(named), Ok(held)) => named.ino() == held.ino() && named.dev() == held.dev(),
        _ => false,
    }
}

fn remove_stale(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)? {
        let folder = entry?.path();
        let lock = match File::open(&folder) {
            Ok(lock) => lock,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        if lock.try_lock().is_err() {
            continue;
        }
        let removed = match lock.metadata()?.is_dir() {
            true => fs::remove_dir_all(&folder),
            false => fs::remove_file(&folder),
        };
        match removed {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
