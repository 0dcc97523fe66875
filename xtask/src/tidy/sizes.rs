//! Sizes and headers: short files, short functions, a file says first what it is.
//!
//! *Owns*: the limits.
//! *Does not own*: the count of public names (`surface.rs`).
//!
//! *IO: none*

use super::files::{File, Tree};
use super::finding::Finding;
use super::scan::Source;

const FILE_LINES_MAX: usize = 500;
const TEST_FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const INLINE_TESTS_LINES_MAX: usize = 200;
const README_LINES_MAX: usize = 120;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.rust() {
        header(file, &mut findings);
        file_length(file, &mut findings);
        functions(file, source, &mut findings);
        inline_tests(file, source, &mut findings);
    }
    for file in tree.files.iter().filter(|file| file.name() == "README.md") {
        limit(file, "a README", README_LINES_MAX, &mut findings);
    }
    findings
}

fn header(file: &File, findings: &mut Vec<Finding>) {
    let opens = file
        .text
        .lines()
        .next()
        .is_some_and(|line| line.starts_with("//! ") && line.trim().len() > 4);
    if !opens {
        findings.push(Finding::new(
            &file.path,
            1,
            "the file does not open with `//!` and what it is for",
        ));
    }
}

fn file_length(file: &File, findings: &mut Vec<Finding>) {
    let (what, max) = if file.is_test() {
        ("a file of tests", TEST_FILE_LINES_MAX)
    } else {
        ("a file", FILE_LINES_MAX)
    };
    limit(file, what, max, findings);
}

fn limit(file: &File, what: &str, max: usize, findings: &mut Vec<Finding>) {
    let lines = file.text.lines().count();
    if lines > max {
        findings.push(Finding::new(
            &file.path,
            max + 1,
            format!("{lines} lines; {what} has at most {max}"),
        ));
    }
}

fn functions(file: &File, source: &Source, findings: &mut Vec<Finding>) {
    for function in source.functions() {
        let first = source.line(function.span.start);
        let lines = source.line(function.span.end - 1) + 1 - first;
        if lines > FUNCTION_LINES_MAX {
            let what = format!(
                "fn {} has {lines} lines; a function has at most {FUNCTION_LINES_MAX}",
                function.name
            );
            findings.push(Finding::new(&file.path, first, what));
        }
    }
}

fn inline_tests(file: &File, source: &Source, findings: &mut Vec<Finding>) {
    for span in &source.test_spans {
        let first = source.line(span.start);
        let lines = source.line(span.end - 1) + 1 - first;
        if lines > INLINE_TESTS_LINES_MAX && !file.is_test() {
            let what = format!(
                "{lines} lines of inline tests; over {INLINE_TESTS_LINES_MAX} they move to a tests.rs"
            );
            findings.push(Finding::new(&file.path, first, what));
        }
    }
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

    fn body(lines: usize) -> String {
        "    x();\n".repeat(lines)
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(
            found("a/src/b.rs", "use x;\n"),
            ["a/src/b.rs:1: the file does not open with `//!` and what it is for"]
        );
        assert_eq!(found("a/build.rs", "//!\nfn main() {}\n").len(), 1);
        assert!(found("a/src/b.rs", "//! Purpose\n").is_empty());
    }

    #[test]
    fn a_long_file_is_found_and_tests_may_be_longer() {
        let long = format!("//! Long\n{}", "\n".repeat(500));
        assert_eq!(
            found("a/src/b.rs", &long),
            ["a/src/b.rs:501: 501 lines; a file has at most 500"]
        );
        assert!(found("a/src/b/tests.rs", &long).is_empty());
        assert!(found("a/tests/b.rs", &long).is_empty());
        assert_eq!(
            found("a/tests/b.rs", &format!("{long}{}", "\n".repeat(300))).len(),
            1
        );
    }

    #[test]
    fn a_long_function_is_found_at_its_line() {
        let text = format!(
            "//! F\n\nfn long() {{\n{}}}\nfn short() {{\n{}}}\n",
            body(69),
            body(68)
        );
        assert_eq!(
            found("a/src/b.rs", &text),
            ["a/src/b.rs:3: fn long has 71 lines; a function has at most 70"]
        );
    }

    #[test]
    fn braces_in_text_do_not_make_a_function_longer() {
        let text = format!(
            "//! F\nfn short() {{ f(\"{{\"); g('{{'); }} // {{\n{}",
            "// x\n".repeat(80)
        );
        assert!(found("a/src/b.rs", &text).is_empty());
    }

    #[test]
    fn long_inline_tests_are_found() {
        let text = format!(
            "//! F\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "    fn a() {}\n".repeat(200)
        );
        assert_eq!(
            found("a/src/b.rs", &text),
            ["a/src/b.rs:2: 203 lines of inline tests; over 200 they move to a tests.rs"]
        );
    }

    #[test]
    fn a_long_readme_is_found() {
        assert_eq!(
            found("README.md", &"x\n".repeat(121)),
            ["README.md:121: 121 lines; a README has at most 120"]
        );
        assert!(found("wal/README.md", &"x\n".repeat(120)).is_empty());
    }
}
