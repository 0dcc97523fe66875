//! Words that have no place in the repository.
//!
//! *Owns*: unfinished code, paths of somebody's home, lock files that name a download host.
//! *Does not own*: spelling.
//!
//! *IO: none*

use super::files::{File, Tree};
use super::finding::Finding;

/// Macros that stand for code nobody wrote yet.
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.rust() {
        for name in UNFINISHED {
            let uses = source
                .words(name)
                .filter(|at| source.masked[at + name.len()..].starts_with("!("));
            findings.extend(uses.map(|at| {
                Finding::new(
                    &file.path,
                    source.line(at),
                    format!("{name}!() is unfinished work"),
                )
            }));
        }
    }
    for file in &tree.files {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(what) = bad_line(file, line) {
                findings.push(Finding::new(&file.path, at + 1, what));
            }
        }
    }
    findings
}

fn bad_line(file: &File, line: &str) -> Option<String> {
    if let Some(home) = homes().iter().find(|home| names_home(line, home)) {
        return Some(format!("a path below {home} exists on one machine only"));
    }
    let locks_host =
        file.name() == "package-lock.json" && line.trim_start().starts_with("\"resolved\"");
    locks_host.then(|| {
        "a lock file names a download host (npm install --omit-lockfile-registry-resolved)"
            .to_owned()
    })
}

/// Put together here so that this file does not find itself.
fn homes() -> [String; 3] {
    ["home", "root", "Users"].map(|folder| format!("/{folder}/"))
}

/// `home` at the start of an absolute path, not inside a longer one or an address.
fn names_home(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + home.len()..].chars().next();
        let begins = !before.is_some_and(|c| {
            c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | ')' | '$')
        });
        begins && after.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn unfinished_code_is_found_and_talk_of_it_is_not() {
        assert_eq!(
            found("a/src/b.rs", "fn f() {\n    todo!()\n}"),
            ["a/src/b.rs:2: todo!() is unfinished work"]
        );
        assert_eq!(
            found("a/src/b.rs", "dbg!(x); unimplemented!(\"later\")").len(),
            2
        );
        assert!(found("a/src/b.rs", "// todo!()\nlet x = \"todo!()\"; my_todo!()").is_empty());
    }

    #[test]
    fn a_path_of_somebodys_home_is_found_in_any_file() {
        let [home, root, users] = homes();
        assert_eq!(found("README.md", &format!("see {home}me/x")).len(), 1);
        assert_eq!(
            found("x.py", &format!("open(\"{root}.cargo/bin\")")).len(),
            1
        );
        assert_eq!(found("x.toml", &format!("a = \"{users}me\"")).len(), 1);
        assert!(
            found(
                "README.md",
                &format!("GET a.example{home}x, $TMP{root}x, docs{root}y")
            )
            .is_empty()
        );
    }

    #[test]
    fn a_lock_file_with_a_host_is_found() {
        assert_eq!(
            found(
                "c/package-lock.json",
                "  \"resolved\": \"https://x.example/a.tgz\","
            )
            .len(),
            1
        );
        assert!(found("c/package-lock.json", "  \"version\": \"1\",").is_empty());
    }
}
