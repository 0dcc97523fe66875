//! The files of the project: what git tracks, and what it would track.
//!
//! *Owns*: the list and the text of the files the checks read.
//! *Does not own*: any rule.
//!
//! Invariants
//! 1. Paths are relative to the root, with `/`, sorted.
//! 2. Files that are not UTF-8 have no text and no rule.
//!
//! *IO: driver*

use std::fs;
use std::path::Path;
use std::process::Command;

use super::scan::Source;

/// The project's files.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
}

/// One file: its path from the root and its text.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
    /// Present for Rust files.
    pub(crate) source: Option<Source>,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let source = is_rust(path).then(|| Source::new(text));
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            source,
        }
    }

    /// The last part of the path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// A file that holds only tests: `tests.rs`, or anything below `tests/`.
    pub(crate) fn is_test(&self) -> bool {
        self.name() == "tests.rs" || self.path.split('/').any(|part| part == "tests")
    }
}

impl Tree {
    /// A tree made of samples.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| File::new(path, text))
                .collect(),
        }
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|file| file.path == path)
            .map(|file| file.text.as_str())
    }

    /// The Rust files with their masked source.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&File, &Source)> {
        self.files
            .iter()
            .filter_map(|file| file.source.as_ref().map(|source| (file, source)))
    }
}

fn is_rust(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, extension)| extension == "rs")
}

/// Reads everything `git ls-files` names, tracked or not yet, but not what is ignored.
pub(crate) fn read(root: &Path) -> Result<Tree, String> {
    let listed = Command::new("git")
        .current_dir(root)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .map_err(|why| format!("git ls-files did not start: {why}"))?;
    if !listed.status.success() {
        return Err(format!(
            "git ls-files failed: {}",
            String::from_utf8_lossy(&listed.stderr).trim()
        ));
    }
    let mut paths: Vec<String> = listed
        .stdout
        .split(|&byte| byte == 0)
        .filter_map(|path| String::from_utf8(path.to_vec()).ok())
        .filter(|path| !path.is_empty())
        .collect();
    paths.sort();
    paths.dedup();
    // A listed file may be deleted in the working tree: then there is nothing to check.
    let files = paths
        .iter()
        .filter_map(|path| fs::read(root.join(path)).ok().map(|bytes| (path, bytes)))
        .map(|(path, bytes)| File::new(path, &String::from_utf8(bytes).unwrap_or_default()))
        .collect();
    Ok(Tree { files })
}
