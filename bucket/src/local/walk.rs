//! Lists the objects below a directory in the order of their keys.
//!
//! *Owns*: the order, the page, and which directories can be passed over.
//! *Does not own*: syncing what it found.
//!
//! Invariants
//! 1. Keys ascend bytewise over the whole tree, as S3 lists them. A directory sorts as its
//!    name with a slash: `a-b` < `a/b` < `a0`.
//! 2. Only regular files with names that keys can have are objects.
//! 3. A directory or an object that vanishes under the walk is passed over: somebody removed it,
//!    and pages are not one snapshot.
//!
//! *IO: driver*

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::key::check_key;
use crate::port::{ListEntry, ListPage};

/// A page, and what must be synced before it is shown.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) page: ListPage,
    /// Directories with names that may not be durable yet.
    pub(super) unconfirmed_dirs: BTreeSet<PathBuf>,
}

/// Lists at most `list_page` objects below `root`.
pub(super) fn list(
    root: &Path,
    prefix: &str,
    after: Option<&str>,
    list_page: usize,
) -> io::Result<Found> {
    let mut walk = Walk {
        prefix,
        after,
        list_page,
        found: Found::default(),
    };
    let base = prefix.rfind('/').map_or("", |at| &prefix[..=at]);
    walk.descend(&root.join(base), base)?;
    Ok(walk.found)
}

struct Walk<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    list_page: usize,
    found: Found,
}

impl Walk<'_> {
    /// Collects from `dir`, whose keys start with `base`, until the page is full.
    fn descend(&mut self, dir: &Path, base: &str) -> io::Result<()> {
        for name in self.names(dir, base)? {
            if name.ends_with('/') {
                self.descend(&dir.join(&name), &format!("{base}{name}"))?;
            } else {
                self.object(dir, base, &name)?;
            }
            if self.found.page.more {
                break;
            }
        }
        Ok(())
    }

    fn object(&mut self, dir: &Path, base: &str, name: &str) -> io::Result<()> {
        let found = match fs::symlink_metadata(dir.join(name)) {
            Ok(found) => found,
            Err(e) if is_absence(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        if !found.is_file() {
            return Ok(());
        }
        if self.found.page.entries.len() == self.list_page {
            self.found.page.more = true;
            return Ok(());
        }
        if found.nlink() > 1 {
            self.found.unconfirmed_dirs.insert(dir.to_owned());
        }
        let entry = ListEntry {
            key: format!("{base}{name}"),
            size: found.size(),
        };
        self.found.page.entries.push(entry);
        Ok(())
    }

    /// The names in `dir` that can matter, ascending; directories end with a slash.
    fn names(&self, dir: &Path, base: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if is_absence(&e) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                // The directory itself is gone.
                Err(e) if is_absence(&e) => break,
                Err(e) => return Err(e),
            };
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(e) if is_absence(&e) => continue,
                Err(e) => return Err(e),
            };
            let Ok(mut name) = entry.file_name().into_string() else {
                continue;
            };
            if check_key(&format!("{base}{name}")).is_err() {
                continue;
            }
            if kind.is_dir() {
                name.push('/');
                if self.may_hold(&format!("{base}{name}")) {
                    names.push(name);
                }
            } else if kind.is_file() && self.wants(&format!("{base}{name}")) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn wants(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && self.after.is_none_or(|after| key > after)
    }

    /// Whether keys that start with `dir` (with its slash) can belong to the listing.
    fn may_hold(&self, dir: &str) -> bool {
        let in_prefix = dir.starts_with(self.prefix) || self.prefix.starts_with(dir);
        in_prefix
            && self
                .after
                .is_none_or(|after| dir > after || after.starts_with(dir))
    }
}

/// Nothing has the name, or a part of it is no directory any more.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
