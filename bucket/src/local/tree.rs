//! The blocking operations on the directory of a bucket.
//!
//! *Owns*: the order of write, link and sync that makes `create` atomic and durable.
//! *Does not own*: the threads this runs on, listing order, temporaries.
//!
//! Invariants
//! 1. `create`: file written and synced under a temporary name → directory chain durable →
//!    hard link to the final name, which never replaces → directory synced → temporary name
//!    removed → `Ok`.
//! 2. So a file with a second name is one whose final name may not be durable yet. Whoever
//!    meets one, in any process, syncs its directory before saying anything about it:
//!    nothing that a power failure could take back is ever shown.
//! 3. After a directory's sync has failed, the kernel may call the next one good although
//!    names are lost: this handle then refuses everything.
//!
//! *IO: driver*

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::staging::{self, PartFile, Staged, Staging};
use super::{sys, walk};
use crate::file::read_at;
use crate::key::{check_key, check_prefix};
use crate::parts::Uploads;
use crate::port::{BucketError, ListPage};

/// The directory of one open bucket.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    /// Before `staging`: its files go before their folder.
    pub(super) uploads: Uploads<PartFile>,
    pub(super) staging: Staging,
    /// Directories whose names are durable up to the root.
    durable_dirs: Mutex<BTreeSet<PathBuf>>,
    sync_failed: AtomicBool,
    #[cfg(test)]
    probe: Probe,
}

/// What tests see of the syncs, and how they make one fail.
#[cfg(test)]
#[derive(Debug, Default)]
struct Probe {
    fail_next: AtomicBool,
    of_others: std::sync::atomic::AtomicUsize,
}

impl Tree {
    pub(super) fn new(root: PathBuf, staging: Staging) -> Self {
        let durable_dirs = Mutex::new(BTreeSet::from([root.clone()]));
        Self {
            root,
            uploads: Uploads::default(),
            staging,
            durable_dirs,
            sync_failed: AtomicBool::new(false),
            #[cfg(test)]
            probe: Probe::default(),
        }
    }

    pub(super) fn create(&self, key: &str, body: &[Bytes]) -> Result<(), BucketError> {
        self.create_with(key, |file| staging::write_all(file, body))
    }

    /// Creates the object that `fill` writes.
    pub(super) fn create_with(
        &self,
        key: &str,
        fill: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), BucketError> {
        let (path, dir) = self.locate(key)?;
        // Spares the writing of a body that has no place; the link below decides.
        if fs::symlink_metadata(&path).is_ok() {
            return Err(self.taken(key, &path, &dir));
        }
        self.make_durable_dir(&dir)
            .map_err(|e| unapplied(key, "create the directory of", &e))?;
        let staged = self
            .staging
            .write(fill)
            .map_err(|e| unapplied(key, "write", &e))?;
        match fs::hard_link(staged.path(), &path) {
            Ok(()) => self.confirm(key, &dir, staged),
            Err(e) => {
                staged.remove();
                if e.kind() == io::ErrorKind::AlreadyExists {
                    return Err(self.taken(key, &path, &dir));
                }
                // Somebody removed the directory under us: forget it, a retry heals.
                self.durable_dirs
                    .lock()
                    .retain(|known| !dir.starts_with(known) || *known == self.root);
                Err(unapplied(key, "name", &e))
            }
        }
    }

    pub(super) fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, BucketError> {
        let (file, size) = self.find(key)?;
        let (start, end) = range.map_or((0, size), |range| (range.start, range.end));
        if start > end {
            let cause = format!("range {start}..{end} ends before it starts");
            return Err(BucketError::Refused {
                key: key.to_owned(),
                cause,
            });
        }
        if end > size {
            return Err(BucketError::Short {
                key: key.to_owned(),
                size,
                start,
                end,
            });
        }
        let Ok(len) = usize::try_from(end - start) else {
            let cause = format!("range {start}..{end} does not fit into memory");
            return Err(BucketError::Refused {
                key: key.to_owned(),
                cause,
            });
        };
        read_at(&file, start, len).map_err(|e| unapplied(key, "read", &e))
    }

    pub(super) fn size(&self, key: &str) -> Result<u64, BucketError> {
        self.find(key).map(|(_, size)| size)
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), BucketError> {
        let (path, dir) = self.locate(key)?;
        // `unlink` of a directory is EISDIR or EPERM by platform; ask instead.
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {
                return Err(BucketError::Absent {
                    key: key.to_owned(),
                });
            }
            _ => {}
        }
        match fs::remove_file(&path) {
            Ok(()) => self.sync(key, &dir),
            Err(e) if walk::is_absence(&e) => Err(BucketError::Absent {
                key: key.to_owned(),
            }),
            Err(e) => Err(unapplied(key, "delete", &e)),
        }
    }

    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        list_page: usize,
    ) -> Result<ListPage, BucketError> {
        self.check_sync(prefix)?;
        check_prefix(prefix).map_err(|problem| BucketError::Refused {
            key: prefix.to_owned(),
            cause: format!("prefix {problem}"),
        })?;
        let found = walk::list(&self.root, prefix, after, list_page)
            .map_err(|e| unapplied(prefix, "list", &e))?;
        for dir in &found.unconfirmed_dirs {
            self.confirm_of_other(prefix, dir)?;
        }
        Ok(found.page)
    }

    /// The path of `key` and its directory.
    pub(super) fn locate(&self, key: &str) -> Result<(PathBuf, PathBuf), BucketError> {
        self.check_sync(key)?;
        check_key(key).map_err(|problem| BucketError::Refused {
            key: key.to_owned(),
            cause: format!("key {problem}"),
        })?;
        let path = self.root.join(key);
        let dir = path
            .parent()
            .map_or_else(|| self.root.clone(), Path::to_owned);
        assert!(
            dir.starts_with(&self.root),
            "key {key} leads out of the bucket"
        );
        Ok((path, dir))
    }

    pub(super) fn check_sync(&self, key: &str) -> Result<(), BucketError> {
        if self.sync_failed.load(Ordering::Acquire) {
            let cause = "an earlier sync of a directory failed; open the bucket again".to_owned();
            return Err(BucketError::Refused {
                key: key.to_owned(),
                cause,
            });
        }
        Ok(())
    }

    /// Opens the object and confirms its name.
    pub(super) fn find(&self, key: &str) -> Result<(File, u64), BucketError> {
        let (path, dir) = self.locate(key)?;
        // Neither through a symbolic link nor waiting on a pipe that somebody put here.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path)
        {
            Ok(file) => file,
            Err(e) if walk::is_absence(&e) => {
                return Err(BucketError::Absent {
                    key: key.to_owned(),
                });
            }
            Err(e) => return Err(unapplied(key, "open", &e)),
        };
        let found = file.metadata().map_err(|e| unapplied(key, "look at", &e))?;
        if !found.is_file() {
            return Err(BucketError::Absent {
                key: key.to_owned(),
            });
        }
        if found.nlink() > 1 {
            self.confirm_of_other(key, &dir)?;
        }
        Ok((file, found.size()))
    }

    /// Something has the name: an object, or a directory of objects.
    fn taken(&self, key: &str, path: &Path, dir: &Path) -> BucketError {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => {
                let cause =
                    "a directory is in the way: a key cannot also be a directory".to_owned();
                return BucketError::Refused {
                    key: key.to_owned(),
                    cause,
                };
            }
            // The caller may build on the object that is there.
            Ok(found) if found.nlink() > 1 => {
                if let Err(unsynced) = self.confirm_of_other(key, dir) {
                    return unsynced;
                }
            }
            // Deleted since; it did exist.
            Ok(_) | Err(_) => {}
        }
        BucketError::Exists {
            key: key.to_owned(),
        }
    }

    /// Makes the name that was just linked durable, then drops the temporary one.
    fn confirm(&self, key: &str, dir: &Path, staged: Staged) -> Result<(), BucketError> {
        self.sync(key, dir)?;
        staged.remove();
        Ok(())
    }

    /// Makes the names in `dir`, which somebody is just publishing, durable.
    pub(super) fn confirm_of_other(&self, key: &str, dir: &Path) -> Result<(), BucketError> {
        #[cfg(test)]
        self.probe.of_others.fetch_add(1, Ordering::Relaxed);
        match self.sync_dir(dir) {
            // Removed meanwhile, with all its names: none is left to be made durable.
            Err(e) if walk::is_absence(&e) => Ok(()),
            synced => self.judge_sync(key, dir, synced),
        }
    }

    fn sync(&self, key: &str, dir: &Path) -> Result<(), BucketError> {
        let synced = self.sync_dir(dir);
        self.judge_sync(key, dir, synced)
    }

    fn judge_sync(&self, key: &str, dir: &Path, synced: io::Result<()>) -> Result<(), BucketError> {
        synced.map_err(|e| {
            self.sync_failed.store(true, Ordering::Release);
            let cause = format!("cannot sync {}: {e}", dir.display());
            BucketError::Unknown {
                key: key.to_owned(),
                cause,
            }
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        #[cfg(test)]
        if self.probe.fail_next.swap(false, Ordering::Relaxed) {
            return Err(io::ErrorKind::Other.into());
        }
        sys::sync_dir(dir)
    }

    /// Creates `dir` and makes its name, and the names above it, durable.
    ///
    /// A directory that another thread or process just created need not be durable
    /// either, so each is synced once by this handle, whoever made it.
    fn make_durable_dir(&self, dir: &Path) -> io::Result<()> {
        if self.durable_dirs.lock().contains(dir) {
            return Ok(());
        }
        let parent = dir.parent().unwrap_or(&self.root);
        self.make_durable_dir(parent)?;
        match fs::create_dir(dir) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::symlink_metadata(dir)?.is_dir() {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
            }
            Err(e) => return Err(e),
        }
        self.sync_dir(parent)
            .inspect_err(|_| self.sync_failed.store(true, Ordering::Release))?;
        self.durable_dirs.lock().insert(dir.to_owned());
        Ok(())
    }
}

#[cfg(test)]
impl Tree {
    pub(super) fn staging_folder(&self) -> &Path {
        self.staging.folder()
    }

    pub(super) fn syncs_of_others(&self) -> usize {
        self.probe.of_others.load(Ordering::Relaxed)
    }

    pub(super) fn fail_next_sync(&self) {
        self.probe.fail_next.store(true, Ordering::Relaxed);
    }
}

/// A failure of a step before the object has its name.
pub(super) fn unapplied(key: &str, action: &'static str, error: &io::Error) -> BucketError {
    let key = key.to_owned();
    let cause = format!("cannot {action} the object: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            BucketError::NoSpace { key, cause }
        }
        io::ErrorKind::NotADirectory => {
            let cause = "an object is in the way: a key cannot also be a directory".to_owned();
            BucketError::Refused { key, cause }
        }
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::FileTooLarge => BucketError::Refused { key, cause },
        _ => BucketError::Unknown { key, cause },
    }
}
