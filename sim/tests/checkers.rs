//! The checkers that the code names are those of the table in docs/simulation.md, and the files in
//! which its bad histories are said to be are there.
//!
//! *IO: reads the sources and the document*

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What every source below `folder` does, tests left out: their violations are examples.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") && !is_test {
            found.push(code(&fs::read_to_string(path).expect("a source")));
        }
    }
}

/// A source without its comments and its tests.
fn code(source: &str) -> String {
    let (code, _) = source
        .split_once("#[cfg(test)]\nmod tests")
        .unwrap_or((source, ""));
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    let lines: Vec<&str> = code.lines().filter(|line| !is_comment(line)).collect();
    lines.join("\n")
}

/// What follows `before`, each time that it stands in `source`.
fn behind<'a>(source: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    source.split(before).skip(1).map(str::trim_start)
}

/// The string literal that `text` begins with.
fn literal(text: &str) -> Option<&str> {
    Some(text.strip_prefix('"')?.split_once('"')?.0)
}

/// The values of a constant that `source` declares.
fn declared<'a>(source: &'a str, constant: &str) -> Vec<&'a str> {
    let declared = behind(source, "const ").filter_map(|rest| {
        let (name, rest) = rest.split_once(':')?;
        let (kind, value) = rest.split_once('=')?;
        let is_text = ["&str", "&'static str"].contains(&kind.trim());
        (name == constant && is_text).then(|| literal(value.trim_start()))?
    });
    declared.collect()
}

/// The names that an argument of `source` stands for: a literal, a constant, or a parameter or
/// variable `checker`. None for the name of a violation that is there already.
fn meant(source: &str, all: &[String], argument: &str) -> BTreeSet<String> {
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    if let Some(name) = literal(argument) {
        return BTreeSet::from([name.to_owned()]);
    }
    let end = argument.find(|c: char| !(c.is_alphanumeric() || "_:.".contains(c)));
    let path = &argument[..end.unwrap_or(argument.len())];
    let name = path.rsplit("::").next().unwrap_or(path);
    if name.starts_with(|c: char| c.is_ascii_uppercase()) {
        // Its own first; else that of whatever file has it.
        let mut found = declared(source, name);
        if found.is_empty() || path != name {
            found = all.iter().flat_map(|file| declared(file, name)).collect();
        }
        assert!(!found.is_empty(), "nobody declares {path}");
        return owned(found);
    }
    if name == "checker" {
        return of_variable(source, all);
    }
    assert!(name.ends_with(".checker"), "what names is {path}?");
    BTreeSet::new()
}

/// The names that a `checker` of `source` can have: what its function is called with, and the
/// values of a `match`.
fn of_variable(source: &str, all: &[String]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for function in behind(source, "fn ") {
        let (name, rest) = function.split_once('(').expect("a function");
        if rest.trim_start().starts_with("checker: &'static str") {
            let name = name.split('<').next().expect("its name");
            let call = format!("{name}(");
            let calls = behind(source, &call).filter(|call| !call.starts_with("checker:"));
            names.extend(calls.flat_map(|call| meant(source, all, call)));
        }
    }
    for chosen in behind(source, "let checker = match") {
        let (arms, _) = chosen.split_once("};").expect("the end of a match");
        names.extend(behind(arms, "=>").flat_map(|value| meant(source, all, value)));
    }
    assert!(
        !names.is_empty(),
        "where does its checker come from?\n{source}"
    );
    names
}

/// The names that violations are made with in `source`, one of the files `all`.
fn names(source: &str, all: &[String]) -> BTreeSet<String> {
    let made = behind(source, "Violation::new(");
    made.flat_map(|argument| meant(source, all, argument))
        .collect()
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

/// What one of the two has and the other does not.
fn difference(used: &BTreeSet<String>, told: &BTreeSet<String>) -> Vec<String> {
    let missing = used.difference(told).map(|name| format!("{name} not told"));
    let unused = told.difference(used).map(|name| format!("{name} not used"));
    missing.chain(unused).collect()
}

#[test]
fn the_checkers_of_the_code_are_those_of_the_table() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let used: BTreeSet<String> = files.iter().flat_map(|file| names(file, &files)).collect();
    let some = ["durable", "log", "twice", "stale", "panic", "determinism"];
    assert!(some.iter().all(|name| used.contains(*name)), "{used:?}");
    let told: BTreeSet<String> = rows().into_iter().flat_map(|(names, _)| names).collect();
    let wrong = difference(&used, &told);
    assert!(wrong.is_empty(), "docs/simulation.md: {wrong:?}");
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
    let elsewhere = ["pub const MOVES: &'static str =\n    \"moves\";".to_owned()];
    let found = |source: &str| {
        let names = names(&code(source), &elsewhere);
        names.into_iter().collect::<Vec<_>>()
    };
    let two = "Violation::new(\"a\", x); Violation::new(\n    \"b\",\n x)";
    assert_eq!(found(two), ["a", "b"]);
    let constant = "const ODD_1: &str = \"log\"; Violation::new(ODD_1, x)";
    assert_eq!(found(constant), ["log"]);
    assert_eq!(found("Violation::new(MOVES, x)"), ["moves"]);
    assert_eq!(found("Violation::new(other::MOVES, x)"), ["moves"]);
    assert_eq!(found("const LOG: &str = \"log\"; other(LOG)"), [""; 0]);
    let called = "const A: &str = \"a\"; fn wrong<T>(checker: &'static str) { Violation::new(checker, x) }\n\
                  wrong(A); return wrong(\"b\")";
    assert_eq!(found(called), ["a", "b"]);
    let chosen = "let checker = match stop { X => \"a\", Y => \"b\", }; Violation::new(checker, x)";
    assert_eq!(found(chosen), ["a", "b"]);
    assert_eq!(found("Violation::new(found.checker, x)"), [""; 0]);
    let example =
        "// Violation::new(\"a\", x)\n#[cfg(test)]\nmod tests { Violation::new(\"b\", x) }";
    assert_eq!(found(example), [""; 0]);
}

#[test]
#[should_panic(expected = "nobody declares GONE")]
fn a_constant_that_nobody_declares_is_not_passed_over() {
    names("Violation::new(GONE, x)", &[]);
}

#[test]
fn both_ways_are_compared() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (used, told): (BTreeSet<_>, BTreeSet<_>) = (names(&["a", "b"]), names(&["b", "c"]));
    assert_eq!(difference(&used, &told), ["a not told", "c not used"]);
    assert!(difference(&used, &used).is_empty());
}
