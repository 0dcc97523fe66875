//! Tidy as a whole: a bad tree is found wrong, and findings come sorted and once.

use super::all;
use super::files::Tree;
use super::finding::Finding;
use super::metadata::{Metadata, Package};

const DENY: (&str, &str) = ("deny.toml", "[licenses]\nallow = [\"MIT\"]\n");

#[test]
fn findings_of_all_checks_come_sorted_and_once() {
    let tree = Tree::of(&[
        DENY,
        ("a/Cargo.toml", "[package]\n"),
        ("a/src/lib.rs", "mod b;\nfn f() { todo!() }"),
        ("a/src/b.rs", "//! B is here\nuse crate::c::d;"),
    ]);
    let package = Package {
        name: "a".into(),
        version: "1.0.0".into(),
        manifest: "a/Cargo.toml".into(),
        is_member: true,
        ..Package::default()
    };
    let found: Vec<String> = all(
        &tree,
        &Metadata {
            packages: vec![package],
        },
    )
    .iter()
    .map(Finding::to_string)
    .collect();
    assert_eq!(
        found,
        [
            "a/Cargo.toml:1: a 1.0.0 names no licence",
            "a/Cargo.toml:1: a has no row in the table of xtask/src/tidy/imports.rs",
            "a/src/lib.rs:1: the file does not open with `//!` and what it is for",
            "a/src/lib.rs:2: todo!() is unfinished work",
        ]
    );
}

#[test]
fn a_clean_tree_has_no_findings() {
    let tree = Tree::of(&[
        DENY,
        ("a/Cargo.toml", "[package]\n"),
        ("a/src/lib.rs", "//! A crate of nothing.\n"),
    ]);
    assert!(all(&tree, &Metadata::default()).is_empty());
}
