//! A crate hands out few names.
//!
//! *Owns*: the count of what `lib.rs` makes public.
//! *Does not own*: whether the names are good.
//!
//! *IO: none*

use super::files::{File, Tree};
use super::finding::Finding;
use super::modules::crate_folders;
use super::paths::{Seen, references};
use super::scan::{Source, identifier, skip_spaces};

const NAMES_MAX: usize = 40;

/// A codec crate is all names.
const EXEMPT: &[&str] = &["broker-shim/protocol"];

const ITEMS: &[&str] = &[
    "struct", "enum", "trait", "fn", "type", "const", "static", "union", "async", "unsafe",
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in crate_folders(tree)
        .into_iter()
        .filter(|folder| !EXEMPT.contains(folder))
    {
        let root = format!("{folder}/src/lib.rs");
        let Some((file, source)) = tree.rust().find(|(file, _)| file.path == root) else {
            continue;
        };
        let names = count(tree, &format!("{folder}/src"), file, source, &mut findings);
        if names > NAMES_MAX {
            findings.push(Finding::new(
                &root,
                1,
                format!("{names} public names; a crate has at most {NAMES_MAX}"),
            ));
        }
    }
    findings
}

/// Names re-exported, items defined, and the same for each public module below.
fn count(
    tree: &Tree,
    folder: &str,
    file: &File,
    source: &Source,
    findings: &mut Vec<Finding>,
) -> usize {
    let mut names = 0;
    for reference in references(source)
        .iter()
        .filter(|reference| !source.is_test(reference.at))
    {
        let Some(import) = reference
            .import
            .as_ref()
            .filter(|import| import.seen == Seen::Everywhere)
        else {
            continue;
        };
        if import.name == "*" {
            findings.push(Finding::new(
                &file.path,
                source.line(reference.at),
                "a public glob hides what the crate hands out",
            ));
        }
        names += 1;
    }
    for (keyword, name) in public_items(source) {
        if keyword == "mod" {
            let paths = [
                format!("{folder}/{name}.rs"),
                format!("{folder}/{name}/mod.rs"),
            ];
            let inner = tree.rust().find(|(file, _)| paths.contains(&file.path));
            names += inner.map_or(1, |(file, source)| {
                count(tree, &format!("{folder}/{name}"), file, source, findings)
            });
        } else if ITEMS.contains(&keyword) {
            names += 1;
        }
    }
    names
}

/// Keyword and next word of each `pub …` at the outermost level.
fn public_items(source: &Source) -> Vec<(&str, &str)> {
    let mut depth = 0_usize;
    let mut at = 0;
    let mut found = Vec::new();
    let starts: Vec<usize> = source.words("pub").collect();
    for start in starts {
        depth = source.masked[at..start]
            .bytes()
            .fold(depth, |depth, byte| match byte {
                b'{' => depth + 1,
                b'}' => depth.saturating_sub(1),
                _ => depth,
            });
        at = start;
        let rest = source.masked[start + 3..].trim_start();
        let Some(keyword) = identifier(rest).filter(|_| depth == 0 && !source.is_test(start))
        else {
            continue;
        };
        let behind = &rest[keyword.len()..];
        found.push((
            keyword,
            identifier(&behind[skip_spaces(behind)..]).unwrap_or(""),
        ));
    }
    found
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
    fn the_forty_first_name_is_found() {
        let names: Vec<String> = (0..40).map(|n| format!("N{n}")).collect();
        let forty = format!(
            "pub use x::{{{}}};\npub(crate) use y::{{\n    Z,\n    Y,\n}};\n",
            names.join(", ")
        );
        assert!(found(&[("a/src/lib.rs", &forty)]).is_empty());
        let more =
            format!("{forty}pub struct S {{ pub field: u8 }}\nimpl S {{ pub fn f() {{}} }}\n");
        assert_eq!(
            found(&[("a/src/lib.rs", &more)]),
            ["a/src/lib.rs:1: 41 public names; a crate has at most 40"]
        );
    }

    #[test]
    fn names_of_a_public_module_count() {
        let items: String = (0..41).map(|n| format!("pub fn f{n}() {{}}\n")).collect();
        assert_eq!(
            found(&[("a/src/lib.rs", "pub mod m;"), ("a/src/m.rs", &items)]).len(),
            1
        );
        assert!(found(&[("a/src/lib.rs", "mod m;"), ("a/src/m.rs", &items)]).is_empty());
    }

    #[test]
    fn a_public_glob_is_found() {
        assert_eq!(
            found(&[("a/src/lib.rs", "mod m;\npub use m::*;")]),
            ["a/src/lib.rs:2: a public glob hides what the crate hands out"]
        );
    }
}
