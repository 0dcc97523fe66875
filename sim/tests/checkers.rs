//! Every checker that the code names stands in the table of docs/simulation.md, and the files in which
//! its bad histories are said to be are there.
//!
//! *IO: reads the sources and the document*

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All sources below `folder`.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(fs::read_to_string(path).expect("a source"));
        }
    }
}

/// The string literals that follow `before`, but for white space.
fn literals<'a>(source: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    source.split(before).skip(1).filter_map(|rest| {
        let (name, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        Some(name)
    })
}

/// The names that violations are made with: as a literal, or by a constant of the file.
fn names(source: &str) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = literals(source, "Violation::new(")
        .map(str::to_owned)
        .collect();
    for constant in ["CHECKER", "LOG", "MARKS", "KEYS"] {
        if source.contains(&format!("Violation::new({constant}")) {
            let declared = format!("const {constant}: &str =");
            names.extend(literals(source, &declared).map(str::to_owned));
        }
    }
    // As the registers and the stop of a run make theirs.
    if source.contains("checker: &'static str, detail: String") {
        names.extend(literals(source, "return wrong(").map(str::to_owned));
    }
    names
}

/// The rows of the table: checkers, and files.
fn rows() -> Vec<(Vec<String>, Vec<String>)> {
    let document = fs::read_to_string(root().join("../docs/simulation.md")).expect("the document");
    let (_, table) = document
        .split_once("| checker | holds that | bad histories in `sim/src/` |\n")
        .expect("the table");
    let quoted = |cell: &str| {
        let parts = cell.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    let rows = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 3, "{row}");
        (quoted(cells[0]), quoted(cells[2]))
    })
    .collect()
}

#[test]
fn every_checker_of_the_code_stands_in_the_table() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let used: BTreeSet<String> = files.iter().flat_map(|source| names(source)).collect();
    assert!(used.contains("durable") && used.contains("log") && used.contains("twice"));
    let told: BTreeSet<String> = rows().into_iter().flat_map(|(names, _)| names).collect();
    let missing: Vec<_> = used.difference(&told).collect();
    assert!(missing.is_empty(), "not in docs/simulation.md: {missing:?}");
}

#[test]
fn the_bad_histories_are_where_the_table_says() {
    for (names, files) in rows() {
        for file in files {
            let path = root().join("src").join(&file);
            let source = fs::read_to_string(&path);
            let source = source.unwrap_or_else(|why| panic!("{names:?}: {file}: {why}"));
            assert!(source.contains("#[test]"), "{names:?}: {file} has no test");
        }
    }
}

#[test]
fn names_are_found_however_they_are_written() {
    let found = |source: &str| names(source).into_iter().collect::<Vec<_>>();
    let two = "Violation::new(\"a\", x); Violation::new(\n    \"b\",\n x)";
    assert_eq!(found(two), ["a", "b"]);
    let constant = "const LOG: &str = \"log\"; Violation::new(LOG, x)";
    assert_eq!(found(constant), ["log"]);
    assert_eq!(found("const LOG: &str = \"log\"; other(LOG)"), [""; 0]);
}
