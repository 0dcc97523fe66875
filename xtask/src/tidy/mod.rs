//! `cargo xtask tidy`: the rules of the house that a compiler does not check.
//!
//! *Owns*: which checks run, and how a finding is printed (`path:line: what`).
//! *Does not own*: a rule; each check is a file of its own with good and bad samples.
//!
//! *IO: driver* (`files.rs` and `metadata.rs` read the tree; the checks are pure)

mod cycles;
mod doubles;
mod files;
mod finding;
mod formats;
mod graph;
mod imports;
mod licences;
mod metadata;
mod modules;
mod paths;
mod scan;
mod sizes;
mod spdx;
mod surface;
mod vectors;
mod words;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::ExitCode;

use files::Tree;
use finding::Finding;
use metadata::Metadata;

pub(crate) use files::read as read_tree;
pub(crate) use vectors::{list as list_of_vectors, path_of as path_of_list};

pub(crate) fn main(root: &Path, args: &[&str]) -> ExitCode {
    if !args.is_empty() {
        eprintln!("xtask tidy takes no arguments, found {args:?}");
        return ExitCode::from(2);
    }
    let (tree, metadata) = match (files::read(root), metadata::read(root)) {
        (Ok(tree), Ok(metadata)) => (tree, metadata),
        (Err(why), _) | (_, Err(why)) => {
            eprintln!("xtask tidy: {why}");
            return ExitCode::from(3);
        }
    };
    let findings = all(&tree, &metadata);
    for finding in &findings {
        println!("{finding}");
    }
    println!(
        "tidy: {} files, {} packages, {} findings",
        tree.files.len(),
        metadata.packages.len(),
        findings.len()
    );
    if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

/// Every check over the whole tree, in the order of the paths.
pub(crate) fn all(tree: &Tree, metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(sizes::check(tree));
    findings.extend(words::check(tree));
    findings.extend(imports::check(tree));
    findings.extend(cycles::check(tree));
    findings.extend(formats::check(tree));
    findings.extend(surface::check(tree));
    findings.extend(vectors::check(tree));
    findings.extend(imports::check_crates(metadata));
    findings.extend(licences::check(
        metadata,
        tree.text("deny.toml").unwrap_or_default(),
    ));
    findings.extend(doubles::check(metadata));
    findings.sort();
    findings.dedup();
    findings
}
