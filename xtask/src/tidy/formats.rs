//! Every codec has its page, every page its codec, and vectors stand beside both.
//!
//! *Owns*: the ties between the `Format` line of a codec, the pages and `docs/formats/vectors/`.
//! *Does not own*: whether a codec reads its vectors right; its own tests do.
//!
//! *IO: none*

use super::files::{File, Tree};
use super::finding::Finding;

const PAGES: &str = "docs/formats/";
const VECTORS: &str = "docs/formats/vectors/";
/// A page about a format of Kafka's needs no vectors of ours.
const FOREIGN: &str = "Kafka's own";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let codecs: Vec<&File> = tree
        .rust()
        .map(|(file, _)| file)
        .filter(|file| !file.is_test())
        .collect();
    let mut named: Vec<&str> = Vec::new();
    for file in &codecs {
        named.extend(pages_of(tree, file, &mut findings));
    }
    let is_page = |file: &&File| {
        file.path
            .strip_prefix(PAGES)
            .is_some_and(|rest| rest.ends_with(".md") && !rest.contains('/') && rest != "README.md")
    };
    for page in tree.files.iter().filter(is_page) {
        if !named.contains(&page.path.as_str()) {
            findings.push(Finding::new(
                &page.path,
                1,
                "no codec names this page with `*Format: …*`",
            ));
        }
        has_vectors(tree, page, &mut findings);
    }
    for vector in tree
        .files
        .iter()
        .filter(|file| file.path.starts_with(VECTORS) && file.name().ends_with(".hex"))
    {
        let read = tree
            .rust()
            .any(|(file, _)| file.text.contains(vector.name()));
        if !read {
            findings.push(Finding::new(&vector.path, 1, "no test reads this vector"));
        }
    }
    findings
}

/// The pages a file names; those that do not exist are found.
fn pages_of<'a>(tree: &Tree, file: &'a File, findings: &mut Vec<Finding>) -> Vec<&'a str> {
    let header = file
        .text
        .lines()
        .enumerate()
        .take_while(|(_, line)| line.starts_with("//!"));
    let pages: Vec<(usize, &str)> = header
        .filter(|(_, line)| line.contains("*Format:"))
        .flat_map(|(at, line)| pages_in(line).map(move |page| (at + 1, page)))
        .collect();
    let in_format = file
        .path
        .split('/')
        .rev()
        .skip(1)
        .any(|folder| folder == "format");
    if in_format && file.name() != "mod.rs" && pages.is_empty() {
        findings.push(Finding::new(
            &file.path,
            1,
            "a file in format/ names its page with `*Format: docs/formats/X.md*`",
        ));
    }
    for (line, page) in &pages {
        if tree.text(page).is_none() {
            findings.push(Finding::new(
                &file.path,
                *line,
                format!("{page} does not exist"),
            ));
        }
    }
    pages.into_iter().map(|(_, page)| page).collect()
}

fn pages_in(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_whitespace() || matches!(c, '*' | '`' | ',' | '(' | ')'))
        .filter(|word| word.starts_with(PAGES) && word.ends_with(".md"))
}

fn has_vectors(tree: &Tree, page: &File, findings: &mut Vec<Finding>) {
    let stem = page.name().trim_end_matches(".md");
    let own = |file: &&File| {
        file.path
            .strip_prefix(VECTORS)
            .is_some_and(|name| name.starts_with(stem) || page.text.contains(name))
    };
    if !page.text.contains(FOREIGN) && !tree.files.iter().any(|file| own(&file)) {
        findings.push(Finding::new(&page.path, 1, format!("no vectors {VECTORS}{stem}*, and the page does not say that the format is {FOREIGN}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODEC: &str = "//! A codec\n//!\n//! *Format: docs/formats/a.md*\n\n#[test] fn x() { include_str!(\"a-v1.hex\") }";

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_codec_with_page_and_vectors_is_fine() {
        assert!(
            found(&[
                ("x/src/format/a.rs", CODEC),
                ("docs/formats/a.md", "# A"),
                ("docs/formats/vectors/a-v1.hex", "00")
            ])
            .is_empty()
        );
        assert!(
            found(&[
                ("x/src/a.rs", CODEC),
                ("docs/formats/a.md", "The format is Kafka's own.")
            ])
            .is_empty()
        );
        assert!(found(&[("x/src/format/mod.rs", "//! The codecs")]).is_empty());
    }

    #[test]
    fn a_codec_without_its_page_is_found() {
        assert_eq!(
            found(&[("x/src/format/b.rs", "//! B\n")]),
            [
                "x/src/format/b.rs:1: a file in format/ names its page with `*Format: docs/formats/X.md*`"
            ]
        );
        assert_eq!(
            found(&[("x/src/a.rs", CODEC)]),
            ["x/src/a.rs:3: docs/formats/a.md does not exist"]
        );
    }

    #[test]
    fn a_page_without_codec_or_vectors_is_found() {
        let found_all = found(&[
            ("docs/formats/a.md", "# A"),
            ("docs/formats/vectors/b.hex", "00"),
        ]);
        assert_eq!(found_all.len(), 3, "{found_all:?}");
        assert!(found_all[0].contains("no codec names this page"));
        assert!(found_all[1].contains("no vectors"));
        assert_eq!(
            found_all[2],
            "docs/formats/vectors/b.hex:1: no test reads this vector"
        );
    }
}
