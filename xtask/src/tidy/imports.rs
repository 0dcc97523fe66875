//! Who may import what: between crates, and inside the pure parts.
//!
//! *Owns*: the table of what each crate never imports, and what cores, formats and non-drivers never do.
//! *Does not own*: cycles inside a crate (`cycles.rs`).
//!
//! *IO: none*

use super::files::{File, Tree};
use super::finding::Finding;
use super::metadata::Metadata;
use super::paths::{Reference, references};
use super::scan::{Source, words};

/// The members of the workspace a crate may depend on. What is not listed here may depend on nothing of it.
const MAY_USE: &[(&str, &[&str])] = &[
    ("tidewater-types", &[]),
    ("tidewater-protocol", &[]),
    ("tidewater-bucket", &["tidewater-types"]),
    ("tidewater-wal", &["tidewater-types", "tidewater-bucket"]),
    (
        "tidewater-s3stream",
        &["tidewater-types", "tidewater-bucket"],
    ),
    (
        "tidewater-stream-store",
        &[
            "tidewater-types",
            "tidewater-bucket",
            "tidewater-wal",
            "tidewater-s3stream",
        ],
    ),
    (
        "tidewater-broker",
        &[
            "tidewater-types",
            "tidewater-bucket",
            "tidewater-stream-store",
            "tidewater-protocol",
        ],
    ),
    (
        "tidewater-sim",
        &[
            "tidewater-types",
            "tidewater-bucket",
            "tidewater-wal",
            "tidewater-s3stream",
            "tidewater-stream-store",
            "tidewater-protocol",
            "tidewater-broker",
        ],
    ),
    (
        "tidewater-benches",
        &[
            "tidewater-types",
            "tidewater-bucket",
            "tidewater-wal",
            "tidewater-s3stream",
            "tidewater-stream-store",
            "tidewater-protocol",
            "tidewater-broker",
        ],
    ),
    ("tidewater-xtask", &[]),
];

/// Paths that code below a folder never names.
const NEVER: &[(&str, &[&str])] = &[
    (
        "types/src/",
        &["tokio", "std::fs", "std::net", "object_store"],
    ),
    (
        "bucket/src/",
        &[
            "tidewater_wal",
            "tidewater_s3stream",
            "tidewater_stream_store",
            "tidewater_protocol",
            "kafka_protocol",
        ],
    ),
    (
        "wal/src/",
        &[
            "tidewater_s3stream",
            "tidewater_stream_store",
            "object_store",
            "tidewater_protocol",
            "kafka_protocol",
        ],
    ),
    (
        "s3stream/src/",
        &[
            "tidewater_wal",
            "tidewater_stream_store",
            "object_store",
            "std::net",
            "tokio::net",
            "socket2",
        ],
    ),
    (
        "stream-store/src/",
        &[
            "object_store",
            "std::fs",
            "tokio::fs",
            "std::net",
            "tokio::net",
            "socket2",
            "tidewater_protocol",
            "kafka_protocol",
        ],
    ),
    (
        "broker-shim/src/",
        &[
            "tidewater_wal",
            "tidewater_s3stream",
            "object_store",
            "kafka_protocol",
        ],
    ),
    (
        "broker-shim/protocol/src/",
        &["tokio", "std::fs", "std::net", "kafka_protocol"],
    ),
];

/// Paths that neither a `core.rs` nor a `format/` names: the world reaches them as arguments.
const PURE_NEVER: &[&str] = &[
    "tokio",
    "futures_util",
    "std::fs",
    "std::net",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::Condvar",
    "std::sync::OnceLock",
    "parking_lot",
    "rand",
    "getrandom",
    "object_store",
    "socket2",
    "io_uring",
    "libc",
    "tidewater_types::Env",
];

/// Folders whose files may ask the world directly.
const FREE: &[&str] = &["xtask/", "benches/", "sim/"];

/// Sources: what files name.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.rust().filter(|(file, _)| !file.is_test()) {
        let references: Vec<Reference> = references(source)
            .into_iter()
            .filter(|reference| !source.is_test(reference.at))
            .collect();
        for (folder, never) in NEVER
            .iter()
            .filter(|(folder, _)| file.path.starts_with(folder))
        {
            named(
                file,
                source,
                &references,
                never,
                &format!("{} never imports it", folder.trim_end_matches("/src/")),
                &mut findings,
            );
        }
        if is_pure(file) {
            named(
                file,
                source,
                &references,
                PURE_NEVER,
                "a core or a format is pure",
                &mut findings,
            );
            for word in ["async", "await"] {
                let uses = source.words(word).filter(|at| !source.is_test(*at));
                findings.extend(uses.map(|at| {
                    Finding::new(
                        &file.path,
                        source.line(at),
                        format!("`{word}`: a core or a format is pure"),
                    )
                }));
            }
        }
        drivers_only(file, source, &mut findings);
    }
    findings
}

/// Manifests: what packages depend on. A package may name itself, to turn features on for its tests.
pub(crate) fn check_crates(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata.packages.iter().filter(|package| package.is_member) {
        let may_use = MAY_USE
            .iter()
            .find(|(name, _)| *name == package.name)
            .map(|(_, may)| *may);
        if may_use.is_none() {
            let what = format!(
                "{} has no row in the table of xtask/src/tidy/imports.rs",
                package.name
            );
            findings.push(Finding::new(&package.manifest, 1, what));
        }
        let ours = |name: &&String| {
            metadata
                .packages
                .iter()
                .any(|other| other.is_member && other.name == **name)
        };
        for dependency in package.dependencies.iter().filter(ours) {
            let is_itself = *dependency == package.name;
            if !is_itself && !may_use.unwrap_or_default().contains(&dependency.as_str()) {
                let what = format!(
                    "{} depends on {dependency}; dependencies run one way",
                    package.name
                );
                findings.push(Finding::new(&package.manifest, 1, what));
            }
        }
    }
    findings
}

fn named(
    file: &File,
    source: &Source,
    references: &[Reference],
    never: &[&str],
    why: &str,
    findings: &mut Vec<Finding>,
) {
    for reference in references {
        let path = reference.segments.join("::");
        let hit = never.iter().find(|banned| {
            path.strip_prefix(**banned)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        });
        if hit.is_some() {
            findings.push(Finding::new(
                &file.path,
                source.line(reference.at),
                format!("`{path}`: {why}"),
            ));
        }
    }
}

fn is_pure(file: &File) -> bool {
    file.name() == "core.rs"
        || file
            .path
            .split('/')
            .rev()
            .skip(1)
            .any(|folder| folder == "format")
}

fn is_driver(file: &File) -> bool {
    matches!(file.name(), "driver.rs" | "main.rs" | "build.rs")
        || file
            .path
            .split('/')
            .any(|part| matches!(part, "driver" | "benches" | "examples" | "bin"))
        || FREE.iter().any(|folder| file.path.starts_with(folder))
}

/// The opt-out from clippy's ban on clocks, tasks and threads stands in drivers and tests alone.
fn drivers_only(file: &File, source: &Source, findings: &mut Vec<Finding>) {
    if is_driver(file) {
        return;
    }
    for at in source
        .words("disallowed_methods")
        .filter(|at| !source.is_test(*at))
    {
        let line = source.line(at);
        let attribute = source.masked[..at]
            .rfind('#')
            .map_or("", |start| &source.masked[start..at]);
        if !attribute.starts_with("#![cfg_attr(") || words(attribute, "test").next().is_none() {
            findings.push(Finding::new(
                &file.path,
                line,
                "only driver.rs, driver/ and tests may ask for clocks, tasks, threads and sockets",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Package;
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_crate_that_names_what_it_never_imports_is_found() {
        assert_eq!(
            found("types/src/a.rs", "\nuse std::{fmt, fs};"),
            ["types/src/a.rs:2: `std::fs`: types never imports it"]
        );
        assert_eq!(
            found("stream-store/src/a.rs", "fn f() { std::fs::read(x) }").len(),
            1
        );
        assert_eq!(
            found("wal/src/a.rs", "use object_store::path::Path;").len(),
            1
        );
        assert!(
            found(
                "wal/src/a.rs",
                "use object_store_like::x; use std::fs::File;"
            )
            .is_empty()
        );
        assert!(found("types/src/a.rs", "#[cfg(test)] mod tests { use std::fs; }").is_empty());
        assert!(found("types/src/a/tests.rs", "use std::fs;").is_empty());
    }

    #[test]
    fn a_core_or_a_format_that_is_not_pure_is_found() {
        assert_eq!(
            found("wal/src/core.rs", "async fn f() {}"),
            ["wal/src/core.rs:1: `async`: a core or a format is pure"]
        );
        assert_eq!(
            found(
                "wal/src/format/group.rs",
                "use parking_lot::Mutex; use std::time::Instant;"
            )
            .len(),
            2
        );
        assert_eq!(
            found("wal/src/format/inner/group.rs", "let x = f.await;").len(),
            1
        );
        assert!(
            found(
                "wal/src/format/group.rs",
                "//! async\nuse std::time::Duration; use tidewater_types::Epoch;"
            )
            .is_empty()
        );
        assert!(found("wal/src/other.rs", "use parking_lot::Mutex;").is_empty());
    }

    #[test]
    fn only_drivers_and_tests_opt_out_of_the_bans() {
        let allow = "#![allow(clippy::disallowed_methods, reason = \"driver\")]";
        assert_eq!(found("wal/src/ring.rs", allow).len(), 1);
        assert!(found("wal/src/driver.rs", allow).is_empty());
        assert!(found("wal/src/driver/ring.rs", allow).is_empty());
        assert!(found("sim/src/main.rs", allow).is_empty());
        assert!(found("wal/tests/a.rs", allow).is_empty());
        assert!(
            found(
                "wal/src/lib.rs",
                "#![cfg_attr(\n    test,\n    allow(clippy::disallowed_methods, reason = \"tests\")\n)]"
            )
            .is_empty()
        );
    }

    #[test]
    fn a_dependency_against_the_stream_is_found() {
        let package = |name: &str, dependencies: &[&str]| Package {
            name: name.into(),
            manifest: format!("{name}/Cargo.toml"),
            is_member: true,
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
            ..Package::default()
        };
        let metadata = Metadata {
            packages: vec![
                package("tidewater-types", &["tidewater-wal", "serde"]),
                package("tidewater-wal", &["tidewater-types"]),
                package("new", &[]),
            ],
        };
        let found: Vec<String> = check_crates(&metadata)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            found[0],
            "tidewater-types/Cargo.toml:1: tidewater-types depends on tidewater-wal; dependencies run one way"
        );
        assert!(found[1].contains("new has no row"));
    }
}
