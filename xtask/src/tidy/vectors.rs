//! Vectors of released versions stay as they were released.
//!
//! *Owns*: the lists in `docs/formats/vectors/released/`, the check against them.
//! *Does not own*: that a test reads each vector (formats); when a version is released.
//!
//! Invariants
//! 1. A vector that stands in any list has the bytes it had then. So the tests, which open every vector
//!    there is, open those of every released version.
//! 2. What is in no list may still change.
//!
//! *IO: none*

use std::fmt::Write;

use super::files::Tree;
use super::finding::Finding;

pub(crate) const VECTORS: &str = "docs/formats/vectors/";
/// One list a released version.
pub(crate) const RELEASED: &str = "docs/formats/vectors/released/";
const ENDING: &str = ".sums";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lists = tree
        .files
        .iter()
        .filter(|file| file.path.starts_with(RELEASED));
    for list in lists.filter(|file| file.path.ends_with(ENDING)) {
        let mut count = 0;
        for (at, line) in list.text.lines().enumerate() {
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            count += 1;
            if let Some(wrong) = wrong(tree, line) {
                findings.push(Finding::new(&list.path, at + 1, wrong));
            }
        }
        if count == 0 {
            findings.push(Finding::new(&list.path, 1, "names no vector".to_owned()));
        }
    }
    findings
}

/// What is wrong with a row: checksum, size and name of a vector.
fn wrong(tree: &Tree, row: &str) -> Option<String> {
    let words: Vec<&str> = row.split_whitespace().collect();
    let [crc, size, name] = words[..] else {
        return Some("is not `checksum size name`".to_owned());
    };
    let Some(text) = tree.text(&format!("{VECTORS}{name}")) else {
        return Some(format!("{name} was released and is gone"));
    };
    let now = sums(text);
    (now != format!("{crc} {size}"))
        .then(|| format!("{name} was released and has changed: expected {crc} {size}, found {now}"))
}

fn sums(text: &str) -> String {
    format!("{:08x} {}", crc32c(text.as_bytes()), text.len())
}

/// CRC-32C, bit by bit: this tool links none of the engine's crates.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let reduce = if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            (crc >> 1) ^ reduce
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// The list of all vectors as they are now.
pub(crate) fn list(tree: &Tree, version: &str) -> String {
    let mut text = format!("# The vectors of {version}: CRC-32C, bytes, name. Never changed.\n");
    for file in &tree.files {
        if let Some(name) = file.path.strip_prefix(VECTORS)
            && !name.contains('/')
            && name.ends_with(".hex")
        {
            let _ = writeln!(text, "{} {name}", sums(&file.text));
        }
    }
    text
}

/// Where the list of a version stands; `None` for what is no version.
pub(crate) fn path_of(version: &str) -> Option<String> {
    let parts: Vec<&str> = version.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    (parts.len() == 3 && parts.iter().all(is_number))
        .then(|| format!("{RELEASED}{version}{ENDING}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: (&str, &str) = ("docs/formats/vectors/a-v1.hex", "00 01\n");
    const B: (&str, &str) = ("docs/formats/vectors/b-v1.hex", "02\n");

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn vectors_may_change_until_they_are_released() {
        assert_eq!(found(&[A, B]), [""; 0]);
        let frozen = list(&Tree::of(&[A]), "0.1.0");
        let path = path_of("0.1.0").unwrap();
        assert_eq!(found(&[A, B, (&path, &frozen)]), [""; 0]);
        let later = ("docs/formats/vectors/b-v1.hex", "03\n");
        assert_eq!(
            found(&[A, later, (&path, &frozen)]),
            [""; 0],
            "b came later"
        );
    }

    #[test]
    fn a_released_vector_that_changed_or_went_is_found_for_each_version() {
        let first = list(&Tree::of(&[A]), "0.1.0");
        let second = list(&Tree::of(&[A, B]), "0.2.0");
        let lists = [
            ("docs/formats/vectors/released/0.1.0.sums", first.as_str()),
            ("docs/formats/vectors/released/0.2.0.sums", second.as_str()),
        ];
        let changed = ("docs/formats/vectors/a-v1.hex", "00 02\n");
        let all = found(&[changed, B, lists[0], lists[1]]);
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(
            all.iter()
                .all(|it| it.contains("a-v1.hex was released and has changed"))
        );
        let all = found(&[A, lists[0], lists[1]]);
        assert_eq!(
            all,
            ["docs/formats/vectors/released/0.2.0.sums:3: b-v1.hex was released and is gone"]
        );
    }

    #[test]
    fn a_list_that_says_nothing_is_found() {
        let path = "docs/formats/vectors/released/0.1.0.sums";
        assert_eq!(found(&[(path, "# nothing\n")]).len(), 1);
        assert_eq!(found(&[A, (path, "a-v1.hex\n")]).len(), 1);
    }

    #[test]
    fn the_checksum_is_the_one_it_is_called() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn only_versions_are_released() {
        assert!(path_of("1.2.3").is_some());
        for text in ["", "1.2", "v1.2.3", "1.2.x", "../1.2.3", "1..2"] {
            assert_eq!(path_of(text), None, "{text}");
        }
    }
}
