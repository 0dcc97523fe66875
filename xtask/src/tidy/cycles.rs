//! No import cycle: neither between the modules at the top of a crate nor between files.
//!
//! *Owns*: the two granularities, and the rule that `error.rs` and `config.rs` import nothing of the
//! crate but their own parts (`config/x.rs`).
//! *Does not own*: who uses whom (`modules.rs`).
//!
//! *IO: none*

use std::collections::BTreeMap;

use super::files::Tree;
use super::finding::Finding;
use super::graph::Graph;
use super::modules::{Edge, Modules, crate_folders};

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in crate_folders(tree) {
        let modules = Modules::of(tree, folder);
        let edges = modules.edges();
        leaves(&modules, &edges, &mut findings);
        top_level(&modules, &edges, &mut findings);
        files(&modules, &edges, &mut findings);
    }
    findings
}

fn leaves(modules: &Modules<'_>, edges: &[Edge], findings: &mut Vec<Finding>) {
    for edge in edges {
        let file = modules.all[&edge.from].file;
        let is_part = edge.to.starts_with(&edge.from);
        if matches!(file.name(), "error.rs" | "config.rs") && !is_part {
            let what = format!(
                "{} imports nothing of its crate, but uses {}",
                file.name(),
                name(&edge.to)
            );
            findings.push(Finding::new(&file.path, edge.line, what));
        }
    }
}

/// Cycles between the modules that lib.rs declares.
fn top_level(modules: &Modules<'_>, edges: &[Edge], findings: &mut Vec<Finding>) {
    let top = |path: &[String]| path.first().cloned().unwrap_or_default();
    let within = edges
        .iter()
        .filter(|edge| !edge.from.is_empty() && !edge.to.is_empty());
    report(
        modules,
        within.map(|edge| (vec![top(&edge.from)], vec![top(&edge.to)], edge)),
        findings,
    );
}

/// Cycles between files; those between different top modules are told by `top_level` already.
fn files(modules: &Modules<'_>, edges: &[Edge], findings: &mut Vec<Finding>) {
    let near = edges.iter().filter(|edge| {
        edge.from.first() == edge.to.first() || edge.from.is_empty() || edge.to.is_empty()
    });
    report(
        modules,
        near.map(|edge| (edge.from.clone(), edge.to.clone(), edge)),
        findings,
    );
}

fn report<'e>(
    modules: &Modules<'_>,
    edges: impl Iterator<Item = (Vec<String>, Vec<String>, &'e Edge)>,
    findings: &mut Vec<Finding>,
) {
    let mut graph = Graph::new();
    let mut first: BTreeMap<(Vec<String>, Vec<String>), &Edge> = BTreeMap::new();
    for (from, to, edge) in edges {
        graph.add(from.clone(), to.clone());
        first.entry((from, to)).or_insert(edge);
    }
    for cycle in graph.cycles() {
        let names: Vec<String> = cycle.iter().map(|path| name(path)).collect();
        let Some(edge) = first.get(&(cycle[0].clone(), cycle[1].clone())) else {
            continue;
        };
        let last = &first[&(cycle[cycle.len() - 2].clone(), cycle[0].clone())];
        let back = format!("{}:{}", modules.all[&last.from].file.path, last.line);
        let what = format!("import cycle: {} (closed at {back})", names.join(" → "));
        findings.push(Finding::new(
            &modules.all[&edge.from].file.path,
            edge.line,
            what,
        ));
    }
}

fn name(path: &[String]) -> String {
    if path.is_empty() {
        "the root".to_owned()
    } else {
        path.join("::")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let mut all = vec![("a/Cargo.toml", "[package]\n")];
        all.extend_from_slice(files);
        check(&Tree::of(&all))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn two_top_modules_that_use_each_other_are_a_cycle() {
        let found = found(&[
            ("a/src/lib.rs", "mod x; mod y;"),
            ("a/src/x.rs", "\nuse crate::y::Y; pub struct X;"),
            ("a/src/y/mod.rs", "mod inner; pub struct Y;"),
            ("a/src/y/inner.rs", "fn f() { crate::x::g() }"),
        ]);
        assert_eq!(
            found,
            ["a/src/x.rs:2: import cycle: x → y → x (closed at a/src/y/inner.rs:1)"]
        );
    }

    #[test]
    fn a_cycle_through_the_names_of_lib_rs_is_seen() {
        let found = found(&[
            ("a/src/lib.rs", "mod x; mod y; pub use x::X; pub use y::Y;"),
            ("a/src/x.rs", "use crate::Y; pub struct X;"),
            ("a/src/y.rs", "use crate::{X as Other}; pub struct Y;"),
        ]);
        assert_eq!(
            found,
            ["a/src/x.rs:1: import cycle: x → y → x (closed at a/src/y.rs:1)"]
        );
    }

    #[test]
    fn a_parent_and_child_that_use_each_other_are_a_cycle() {
        let child_uses_parent = ("a/src/x/inner.rs", "use super::Config; pub struct I;");
        let uses = (
            "a/src/x/mod.rs",
            "mod inner; use inner::I; pub struct Config; fn f(i: I) {}",
        );
        let hands_on = (
            "a/src/x/mod.rs",
            "mod inner; pub use inner::I; pub struct Config;",
        );
        assert_eq!(
            found(&[("a/src/lib.rs", "mod x;"), uses, child_uses_parent]),
            ["a/src/x/mod.rs:1: import cycle: x → x::inner → x (closed at a/src/x/inner.rs:1)"]
        );
        assert!(found(&[("a/src/lib.rs", "mod x;"), hands_on, child_uses_parent]).is_empty());
    }

    #[test]
    fn tests_and_one_way_uses_are_no_cycle() {
        let found = found(&[
            ("a/src/lib.rs", "mod x; mod y; pub use y::Y;"),
            (
                "a/src/x.rs",
                "use crate::Y; pub struct X; #[cfg(test)] mod tests { use super::*; use crate::y::Y; }",
            ),
            (
                "a/src/y.rs",
                "pub struct Y; #[cfg(test)] mod tests { use crate::x::X; }",
            ),
            ("a/src/y/tests.rs", "use crate::x::X;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn an_error_file_that_imports_its_crate_is_found() {
        let found = found(&[
            ("a/src/lib.rs", "mod x; mod error;"),
            ("a/src/x.rs", ""),
            ("a/src/error.rs", "use tokio::x;\nuse crate::x::X;"),
        ]);
        assert_eq!(
            found,
            ["a/src/error.rs:2: error.rs imports nothing of its crate, but uses x"]
        );
    }

    #[test]
    fn a_config_file_may_be_put_together_of_its_parts() {
        let found = found(&[
            ("a/src/lib.rs", "mod config;"),
            (
                "a/src/config.rs",
                "mod x; use x::X; pub struct C { x: X, y: X }",
            ),
            ("a/src/config/x.rs", "pub struct X;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
