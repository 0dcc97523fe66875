//! Every package has a licence that deny.toml accepts.
//!
//! *Owns*: reading the accepted licences out of deny.toml, the one place that lists them.
//! *Does not own*: the logic of expressions (`spdx.rs`).
//!
//! *IO: none*

use super::finding::Finding;
use super::metadata::{Metadata, Package};
use super::spdx;

pub(crate) fn check(metadata: &Metadata, deny: &str) -> Vec<Finding> {
    let accepted = accepted(deny);
    if accepted.is_empty() {
        return vec![Finding::new(
            "deny.toml",
            1,
            "no [licenses] allow = […] found",
        )];
    }
    metadata
        .packages
        .iter()
        .filter_map(|package| judge(package, &accepted))
        .collect()
}

fn judge(package: &Package, accepted: &[String]) -> Option<Finding> {
    let who = format!("{} {}", package.name, package.version);
    let what = match &package.license {
        None => format!("{who} names no licence"),
        Some(expression) => match spdx::fulfilled(expression, accepted) {
            Some(true) => return None,
            Some(false) => {
                format!("{who} has the licence {expression:?}, which deny.toml does not accept")
            }
            None => format!("{who} has an unreadable licence {expression:?}"),
        },
    };
    Some(Finding::new(&package.manifest, 1, what))
}

/// The strings of `allow = […]` under `[licenses]`.
fn accepted(deny: &str) -> Vec<String> {
    let code: String = deny
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n");
    let section = format!("\n{code}");
    let section = section
        .split("\n[")
        .find_map(|part| part.strip_prefix("licenses]"));
    let list = section
        .and_then(|section| section.split_once("allow = ["))
        .and_then(|(_, rest)| rest.split_once(']'));
    list.map_or_else(Vec::new, |(list, _)| {
        list.split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str = "# x\n[graph]\nallow = [\"Wrong\"]\n[licenses]\nconfidence = 1\nallow = [\n  \"MIT\", # why\n  \"ISC\",\n]\n[bans]\n";

    fn found(license: Option<&str>) -> Vec<String> {
        let package = Package {
            name: "p".into(),
            version: "1.0.0".into(),
            license: license.map(str::to_owned),
            manifest: "Cargo.lock".into(),
            ..Package::default()
        };
        check(
            &Metadata {
                packages: vec![package],
            },
            DENY,
        )
        .iter()
        .map(ToString::to_string)
        .collect()
    }

    #[test]
    fn only_what_deny_toml_lists_is_accepted() {
        assert!(found(Some("MIT AND ISC")).is_empty());
        assert_eq!(
            found(Some("Wrong")),
            ["Cargo.lock:1: p 1.0.0 has the licence \"Wrong\", which deny.toml does not accept"]
        );
        assert_eq!(
            found(Some("MIT AND")),
            ["Cargo.lock:1: p 1.0.0 has an unreadable licence \"MIT AND\""]
        );
        assert_eq!(found(None), ["Cargo.lock:1: p 1.0.0 names no licence"]);
    }

    #[test]
    fn a_deny_toml_without_a_list_is_found() {
        assert_eq!(check(&Metadata::default(), "[bans]\n").len(), 1);
    }
}
