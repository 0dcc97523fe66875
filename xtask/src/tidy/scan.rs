//! A scanner that knows what is code in a Rust file and what is only text.
//!
//! *Owns*: masking (comments, strings and characters become spaces), the spans of
//! `#[cfg(test)]` items, functions and inline modules.
//! *Does not own*: paths and imports (`paths.rs`).
//!
//! Invariants
//! 1. The masked text has as many bytes and lines as the original.
//! 2. In masked text every brace, bracket and parenthesis is code.
//!
//! *IO: none*

use std::ops::Range;

/// A Rust file with its text masked.
pub(crate) struct Source {
    /// The code; comments and literals are spaces.
    pub(crate) masked: String,
    /// Byte ranges of items behind `#[cfg(test)]`.
    pub(crate) test_spans: Vec<Range<usize>>,
    line_starts: Vec<usize>,
}

/// Something with a name and a body in braces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) name: String,
    pub(crate) span: Range<usize>,
}

impl Source {
    pub(crate) fn new(text: &str) -> Self {
        let masked = mask(text);
        let line_starts = std::iter::once(0)
            .chain(
                masked
                    .bytes()
                    .enumerate()
                    .filter(|(_, byte)| *byte == b'\n')
                    .map(|(at, _)| at + 1),
            )
            .collect();
        let test_spans = test_spans(&masked);
        Self {
            masked,
            test_spans,
            line_starts,
        }
    }

    /// The line of a byte, counted from one.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    pub(crate) fn is_test(&self, at: usize) -> bool {
        self.test_spans.iter().any(|span| span.contains(&at))
    }

    /// Where `word` stands as a whole identifier.
    pub(crate) fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        words(&self.masked, word)
    }

    /// Functions with a body.
    pub(crate) fn functions(&self) -> Vec<Block> {
        self.blocks("fn")
    }

    /// Modules written inline.
    pub(crate) fn inline_modules(&self) -> Vec<Block> {
        self.blocks("mod")
    }

    fn blocks(&self, keyword: &str) -> Vec<Block> {
        self.words(keyword)
            .filter_map(|at| {
                let name_at = at + keyword.len() + skip_spaces(&self.masked[at + keyword.len()..]);
                let name = identifier(&self.masked[name_at..])?;
                let end = item_end(&self.masked, name_at)?;
                self.masked[..end].ends_with('}').then(|| Block {
                    name: name.to_owned(),
                    span: at..end,
                })
            })
            .collect()
    }
}

/// Where `word` stands as a whole identifier in masked text.
pub(crate) fn words<'a>(masked: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    masked
        .match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| {
            let before = masked[..at].chars().next_back();
            let after = masked[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
}

pub(crate) fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The identifier that `text` begins with.
pub(crate) fn identifier(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
    let starts_well = text
        .chars()
        .next()
        .is_some_and(|c| c == '_' || c.is_alphabetic());
    starts_well.then(|| &text[..end])
}

pub(crate) fn skip_spaces(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

/// The end of the item that `at` is inside the head of: behind its `;` or its closing brace.
fn item_end(masked: &str, at: usize) -> Option<usize> {
    let bytes = masked.as_bytes();
    let mut depth = 0_i64;
    for (index, &byte) in bytes.iter().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth <= 0 => return Some(index + 1),
            b'}' if depth <= 0 => return None,
            b'{' if depth <= 0 => return closing(bytes, index).map(|end| end + 1),
            _ => {}
        }
    }
    None
}

/// The brace that closes the one at `open`.
fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, &byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

/// Items behind an attribute `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn test_spans(masked: &str) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (at, _) in masked.match_indices("#[cfg(") {
        let Some(length) = masked[at..].find(']') else {
            continue;
        };
        let condition = &masked[at..at + length];
        let is_test = words(condition, "test").next().is_some()
            && words(condition, "not").next().is_none()
            && words(condition, "any").next().is_none();
        if !is_test || spans.last().is_some_and(|span| span.contains(&at)) {
            continue;
        }
        if let Some(end) = item_end(masked, skip_attributes(masked, at)) {
            spans.push(at..end);
        }
    }
    spans
}

/// The first byte behind the attributes that begin at `at`.
fn skip_attributes(masked: &str, mut at: usize) -> usize {
    while masked[at..].starts_with("#[") {
        let mut depth = 0_usize;
        let end = masked[at..].bytes().position(|byte| {
            match byte {
                b'[' => depth += 1,
                b']' => depth -= 1,
                _ => return false,
            }
            depth == 0
        });
        let Some(end) = end else { return masked.len() };
        at += end + 1;
        at += skip_spaces(&masked[at..]);
    }
    at
}

/// Replaces comments, strings and characters by spaces, line breaks kept.
fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if let Some(end) = end {
            for byte in &mut out[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            at = end;
        } else {
            at += 1;
        }
    }
    String::from_utf8(out).expect("whole literals were replaced by spaces")
}

/// The end of the comment or literal that begins at `at`, if one does.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return Some(
            at + rest
                .iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(rest.len()),
        );
    }
    if rest.starts_with(b"/*") {
        return Some(at + block_comment(rest));
    }
    let inside_word = at > 0 && (bytes[at - 1] == b'_' || bytes[at - 1].is_ascii_alphanumeric());
    match rest[0] {
        b'"' => Some(at + string(rest)),
        b'\'' => character(rest).map(|length| at + length),
        b'b' | b'c' | b'r' if !inside_word => prefixed(rest).map(|length| at + length),
        _ => None,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of `"…"`, escapes honoured.
fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `'x'` or `'\…'`; `None` for a lifetime or a label.
fn character(rest: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(&rest[1..]).ok()?;
    let first = text.chars().next()?;
    if first == '\\' {
        let behind = 3.min(rest.len());
        return rest[behind..]
            .iter()
            .position(|&byte| byte == b'\'')
            .map(|end| behind + end + 1);
    }
    text[first.len_utf8()..]
        .starts_with('\'')
        .then(|| first.len_utf8() + 2)
}

/// Length of `b'…'`, `b"…"`, `c"…"`, `r"…"`, `r#"…"#`, `br#"…"#`; `None` for an identifier.
fn prefixed(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"b'") {
        return character(&rest[1..]).map(|length| length + 1);
    }
    let letters = rest
        .iter()
        .take_while(|byte| matches!(byte, b'b' | b'c' | b'r'))
        .count();
    if letters > 2 {
        return None;
    }
    let is_raw = rest[letters - 1] == b'r';
    let hashes = rest[letters..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let quote = letters + hashes;
    if rest.get(quote) != Some(&b'"') {
        return None;
    }
    if !is_raw {
        return (hashes == 0).then(|| letters + string(&rest[letters..]));
    }
    let mut end = vec![b'"'];
    end.resize(hashes + 1, b'#');
    let body = &rest[quote + 1..];
    Some(
        body.windows(end.len())
            .position(|window| window == end)
            .map_or(rest.len(), |at| quote + 1 + at + end.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new(text)
            .masked
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn text_is_masked_and_code_is_not() {
        assert_eq!(code(r#"a("{ // }") /* { /* } */ */ b // {"#), "a( ) b");
        assert_eq!(code(r##"let x = r#"quote " { "#; y"##), "let x = ; y");
        assert_eq!(
            code(r##"let x = br"\"; y; b"\"{"; c"{""##),
            "let x = ; y; ;"
        );
        assert_eq!(code("r#type.br"), "r#type.br");
        assert_eq!(code("\"\\\\\" {"), "{");
    }

    #[test]
    fn a_lifetime_is_not_a_character() {
        assert_eq!(
            code("fn f<'a>(x: &'a str) { '{' ; b'}' ; '\\'' ; '\\u{7b}' ; 'é' }"),
            "fn f<'a>(x: &'a str) { ; ; ; ; }"
        );
        assert_eq!(
            code("'outer: loop { break 'outer; }"),
            "'outer: loop { break 'outer; }"
        );
        assert_eq!(code("f::<'_>('\\\\', '\"')"), "f::<'_>( , )");
    }

    #[test]
    fn lines_survive_masking() {
        let text = "a\n\"two\nlines\"\n/* x\n */ b\n";
        let source = Source::new(text);
        assert_eq!(source.masked.len(), text.len());
        assert_eq!(source.line(source.masked.find('b').unwrap()), 5);
        assert_eq!(source.line(0), 1);
    }

    #[test]
    fn functions_with_their_bodies_are_found() {
        let source = Source::new(
            "trait T { fn a(&self) -> [u8; 4]; }\nfn b<const N: usize>(f: fn(u8) -> u8) -> [u8; 2]\nwhere u8: Copy\n{ { } }\n",
        );
        let functions = source.functions();
        assert_eq!(functions.len(), 1);
        assert_eq!(functions[0].name, "b");
        assert_eq!(source.line(functions[0].span.start), 2);
        assert_eq!(source.line(functions[0].span.end - 1), 4);
    }

    #[test]
    fn what_is_only_compiled_for_tests_is_known() {
        let source = Source::new(
            "fn a() {}\n#[cfg(test)]\n#[allow(dead_code)]\nmod tests { fn b() {} }\n#[cfg(test)]\nuse x::y;\nfn c() {}\n#[cfg(not(test))] fn d() {}",
        );
        let is_test = |name: &str| source.is_test(source.masked.find(name).unwrap());
        assert!(!is_test("a()"));
        assert!(is_test("b()"));
        assert!(is_test("y;"));
        assert!(!is_test("c()"));
        assert!(!is_test("d()"));
    }
}
