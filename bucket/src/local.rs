//! A bucket in a local directory: one file an object, the key is its path.
//!
//! *Owns*: opening and checking the directory, and the port on top of it.
//! *Does not own*: the file operations (`tree`), listing (`walk`), temporaries (`staging`),
//! the threads they run on (`driver`).
//!
//! Invariants
//! 1. Files are plain: `a/b` is the file `a/b`, byte for byte; any tool can copy a bucket
//!    from or to a directory. Names that start with a dot are the adapter's own.
//! 2. What is found at open is synced before it is trusted: after a kill it may sit in the
//!    page cache only.
//! 3. A key and a key below it (`a` and `a/b`) cannot both be taken. The second one is
//!    refused, also when the objects below `a/` were deleted since: directories stay.
//!
//! Several processes may share a directory on one machine.
//!
//! *IO: driver*

mod driver;
mod parts;
mod staging;
mod sys;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use bytes::Bytes;
use tidewater_types::BoxFuture;

use crate::config::LIST_PAGE_MAX;
use crate::error::OpenError;
use crate::parts::LIMITS;
use crate::port::{
    Bucket, BucketError, ListPage, MultipartId, MultipartLimits, Part, PartTag, Purpose,
};
use staging::Staging;
use tree::Tree;

/// A bucket in a local directory.
#[derive(Clone, Debug)]
pub struct LocalBucket {
    tree: Arc<Tree>,
    list_page: usize,
}

/// What [`LocalBucket::check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryState {
    /// Nothing is there; the directory can be created.
    Missing,
    /// A directory without anything in it, or only with what an opened bucket leaves.
    Empty,
    /// A directory with something in it.
    Present,
}

impl LocalBucket {
    /// Opens the bucket in the directory `root`, which is created if it is missing.
    ///
    /// Blocks: syncs the file system and removes temporaries of processes that died.
    ///
    /// # Errors
    /// As [`LocalBucket::check`], or a system call that failed.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        if Self::check(root)? == DirectoryState::Missing {
            create_synced(root)?;
        }
        let root = fs::canonicalize(root).map_err(|e| failed("resolve", root, e))?;
        let dir = fs::File::open(&root).map_err(|e| failed("open", &root, e))?;
        sys::sync_file_system(&dir).map_err(|e| failed("sync the file system of", &root, e))?;
        let staging = Staging::open(&root)?;
        Ok(Self {
            tree: Arc::new(Tree::new(root, staging)),
            list_page: LIST_PAGE_MAX,
        })
    }

    /// Looks at `root` without changing anything.
    ///
    /// # Errors
    /// [`OpenError::NotADirectory`], or [`OpenError::NotWritable`] naming the directory, or
    /// the parent it would be created in.
    pub fn check(root: &Path) -> Result<DirectoryState, OpenError> {
        let found = nearest_existing(root)?;
        if !fs::metadata(&found)
            .map_err(|e| failed("look at", &found, e))?
            .is_dir()
        {
            return Err(OpenError::NotADirectory { path: found });
        }
        sys::check_writable(&found).map_err(|source| OpenError::NotWritable {
            path: found.clone(),
            source,
        })?;
        if found != root {
            return Ok(DirectoryState::Missing);
        }
        for entry in fs::read_dir(root).map_err(|e| failed("read", root, e))? {
            let entry = entry.map_err(|e| failed("read", root, e))?;
            if entry.file_name() != staging::FOLDER {
                return Ok(DirectoryState::Present);
            }
        }
        Ok(DirectoryState::Empty)
    }

    /// The same bucket with listings in pages of at most `list_page` objects (default 1000).
    #[must_use]
    pub fn with_list_page(self, list_page: usize) -> Self {
        Self {
            list_page: list_page.max(1),
            ..self
        }
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// `path`, or the closest directory above it that exists.
fn nearest_existing(path: &Path) -> Result<PathBuf, OpenError> {
    let mut at = path;
    loop {
        // An empty rest of a relative path is the working directory.
        let shown = if at.as_os_str().is_empty() {
            Path::new(".")
        } else {
            at
        };
        match fs::symlink_metadata(shown) {
            Ok(_) => return Ok(shown.to_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {}
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Err(OpenError::NotWritable {
                    path: shown.to_owned(),
                    source: e,
                });
            }
            Err(e) => return Err(failed("look at", shown, e)),
        }
        match at.parent() {
            Some(parent) => at = parent,
            None => return Ok(PathBuf::from(".")),
        }
    }
}

/// Creates `root` and what is missing above it; each new name is synced in its parent.
fn create_synced(root: &Path) -> Result<(), OpenError> {
    let mut missing: Vec<&Path> = Vec::new();
    let mut at = root;
    while !at.as_os_str().is_empty() && !at.exists() {
        missing.push(at);
        match at.parent() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    for dir in missing.into_iter().rev() {
        match fs::create_dir(dir) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed("create", dir, e)),
        }
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        sys::sync_dir(parent).map_err(|e| failed("sync", parent, e))?;
    }
    Ok(())
}

impl Bucket for LocalBucket {
    fn create<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        driver::run(&self.tree, key, move |tree, key| tree.create(key, &body))
    }

    fn get<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        driver::run(&self.tree, key, move |tree, key| tree.get(key, range))
    }

    fn size<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        driver::run(&self.tree, key, |tree, key| tree.size(key))
    }

    fn delete<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        driver::run(&self.tree, key, |tree, key| tree.delete(key))
    }

    fn list<'a>(
        &'a self,
        _purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        let (after, list_page) = (after.map(str::to_owned), self.list_page);
        driver::run(&self.tree, prefix, move |tree, prefix| {
            tree.list(prefix, after.as_deref(), list_page)
        })
    }

    fn multipart(&self) -> Option<MultipartLimits> {
        Some(LIMITS)
    }

    fn create_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<MultipartId, BucketError>> {
        driver::run(&self.tree, key, |tree, key| tree.start_parts(key))
    }

    fn put_part<'a>(
        &'a self,
        _purpose: Purpose,
        part: Part<'a>,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        let (number, upload) = (part.number, part.upload.clone());
        driver::run(&self.tree, part.key, move |tree, key| {
            let upload = &upload;
            let part = Part {
                key,
                upload,
                number,
            };
            tree.put_part(part, &body)
        })
    }

    fn copy_part<'a>(
        &'a self,
        _purpose: Purpose,
        part: Part<'a>,
        source: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        let (number, upload, source) = (part.number, part.upload.clone(), source.to_owned());
        driver::run(&self.tree, part.key, move |tree, key| {
            let upload = &upload;
            let part = Part {
                key,
                upload,
                number,
            };
            tree.copy_part(part, &source, range)
        })
    }

    fn complete_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
        parts: &'a [PartTag],
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let (upload, parts) = (upload.clone(), parts.to_vec());
        driver::run(&self.tree, key, move |tree, key| {
            tree.complete_parts(key, &upload, &parts)
        })
    }

    fn abort_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        let upload = upload.clone();
        driver::run(&self.tree, key, move |tree, key| {
            tree.abort_parts(key, &upload)
        })
    }
}
