//! One version of each package, save small ones that the ecosystem has not agreed on yet.
//!
//! *Owns*: the list of tolerated doubles.
//! *Does not own*: the choice of versions (Cargo.lock).
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::metadata::Metadata;

/// Small, without state, and forced on us by two dependencies that differ.
const TOLERATED: &[&str] = &[
    "base64",
    "bitflags",
    "block-buffer",
    "crypto-common",
    "digest",
    "getrandom",
    "hashbrown",
    "heck",
    "itertools",
    "r-efi",
    "rand",
    "rand_core",
    "syn",
    "thiserror",
    "thiserror-impl",
    "windows-sys",
    "windows-targets",
];

/// Old versions that a dependency brings which only an optional feature builds, never a released binary:
/// tokio-uring (the feature `uring`).
const BESIDE: &[(&str, &str)] = &[("io-uring", "0.6."), ("socket2", "0.4.")];

/// Two of these in one binary mean two runtimes, two allocations of buffers, or code built twice for minutes.
const NEVER: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "bytes",
    "clap",
    "crc-fast",
    "futures-util",
    "h2",
    "http",
    "hyper",
    "io-uring",
    "libc",
    "lz4_flex",
    "mimalloc",
    "mio",
    "object_store",
    "parking_lot",
    "quick_cache",
    "quinn",
    "reqwest",
    "ring",
    "rustls",
    "serde",
    "serde_json",
    "socket2",
    "tikv-jemalloc-sys",
    "tokio",
    "tokio-rustls",
    "tracing",
    "tracing-subscriber",
    "zstd",
    "zstd-safe",
    "zstd-sys",
];

pub(crate) fn check(metadata: &Metadata) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &metadata.packages {
        let is_beside =
            |(name, old): &(&str, &str)| package.name == *name && package.version.starts_with(old);
        if BESIDE.iter().any(is_beside) {
            continue;
        }
        versions
            .entry(&package.name)
            .or_default()
            .insert(&package.version);
    }
    let doubles = versions
        .into_iter()
        .filter(|(name, versions)| versions.len() > 1 && !TOLERATED.contains(name));
    doubles
        .map(|(name, versions)| Finding::new("Cargo.lock", 1, what(name, &versions)))
        .collect()
}

fn what(name: &str, versions: &BTreeSet<&str>) -> String {
    let versions: Vec<&str> = versions.iter().copied().collect();
    let advice = if NEVER.contains(&name) {
        "one is the limit, always"
    } else {
        "agree on one, or tolerate it in xtask/src/tidy/doubles.rs with a reason"
    };
    format!(
        "{name} in {} versions ({}): {advice}",
        versions.len(),
        versions.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Package;
    use super::*;

    fn found(packages: &[(&str, &str)]) -> Vec<String> {
        let packages = packages
            .iter()
            .map(|(name, version)| Package {
                name: (*name).into(),
                version: (*version).into(),
                ..Package::default()
            })
            .collect();
        check(&Metadata { packages })
            .iter()
            .map(|finding| finding.what.clone())
            .collect()
    }

    #[test]
    fn two_versions_are_found_unless_tolerated() {
        assert!(
            found(&[
                ("tokio", "1.0.0"),
                ("bytes", "1.0.0"),
                ("syn", "2.0.0"),
                ("syn", "3.0.0")
            ])
            .is_empty()
        );
        assert_eq!(
            found(&[("tokio", "1.0.0"), ("tokio", "2.0.0")]),
            ["tokio in 2 versions (1.0.0, 2.0.0): one is the limit, always"]
        );
        assert_eq!(found(&[("tiny", "1.0.0"), ("tiny", "2.0.0")]).len(), 1);
    }

    #[test]
    fn what_an_optional_feature_brings_is_one_version_more_and_no_other() {
        assert!(found(&[("io-uring", "0.6.4"), ("io-uring", "0.7.15")]).is_empty());
        let found = found(&[
            ("io-uring", "0.6.4"),
            ("io-uring", "0.7.15"),
            ("io-uring", "0.8.0"),
        ]);
        assert_eq!(
            found,
            ["io-uring in 2 versions (0.7.15, 0.8.0): one is the limit, always"]
        );
    }

    #[test]
    fn nothing_is_tolerated_that_is_never_allowed() {
        assert!(TOLERATED.iter().all(|name| !NEVER.contains(name)));
    }
}
