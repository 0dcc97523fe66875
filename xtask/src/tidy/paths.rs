//! Paths in Rust code: `a::b::c`, and the trees behind `use`.
//!
//! *Owns*: finding every path of two or more segments, and what a `use` names.
//! *Does not own*: what a path means (`modules.rs`).
//!
//! *IO: none*

use super::scan::{Source, is_word};

/// One path, spelled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) at: usize,
    pub(crate) segments: Vec<String>,
    /// Set when a `use` brings this path into scope.
    pub(crate) import: Option<Import>,
}

/// Who else sees a name that a `use` brings in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Here,
    InCrate,
    Everywhere,
}

/// The name a `use` gives, and whether it hands the name on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) seen: Seen,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Separator,
    Mark(u8),
}

/// Every path in the file, tests included.
pub(crate) fn references(source: &Source) -> Vec<Reference> {
    let tokens = tokens(&source.masked);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].1 == Token::Word("use") && !is_precise_capture(&tokens, at) {
            let mut reader = Reader {
                tokens: &tokens,
                at: at + 1,
                found: &mut found,
                import: Some(seen(&tokens, at)),
            };
            reader.tree(&mut Vec::new());
            at = reader.at.max(at + 1);
        } else if starts_path(&tokens, at) {
            let mut reader = Reader {
                tokens: &tokens,
                at,
                found: &mut found,
                import: None,
            };
            reader.tree(&mut Vec::new());
            at = reader.at.max(at + 1);
        } else {
            at += 1;
        }
    }
    found
}

/// `impl Trait + use<'a>` is no import.
fn is_precise_capture(tokens: &[(usize, Token<'_>)], at: usize) -> bool {
    tokens
        .get(at + 1)
        .is_some_and(|token| token.1 == Token::Mark(b'<'))
}

fn starts_path(tokens: &[(usize, Token<'_>)], at: usize) -> bool {
    let is_word = matches!(tokens[at].1, Token::Word(_));
    let goes_on = tokens
        .get(at + 1)
        .is_some_and(|token| token.1 == Token::Separator);
    let behind = at.checked_sub(1).map(|before| tokens[before].1);
    is_word && goes_on && !matches!(behind, Some(Token::Separator | Token::Mark(b'.')))
        || (is_word && goes_on && behind == Some(Token::Separator) && is_global(tokens, at))
}

/// `::std::fs`: a separator that follows nothing.
fn is_global(tokens: &[(usize, Token<'_>)], at: usize) -> bool {
    at < 2 || !matches!(tokens[at - 2].1, Token::Word(_) | Token::Mark(b'>'))
}

fn seen(tokens: &[(usize, Token<'_>)], at: usize) -> Seen {
    let behind = |back: usize| at.checked_sub(back).map(|before| tokens[before].1);
    let is_restricted = |back| behind(back) == Some(Token::Word("pub"));
    match behind(1) {
        Some(Token::Word("pub")) => Seen::Everywhere,
        // `pub(crate) use`, `pub(in crate::a) use`
        Some(Token::Mark(b')')) if (2..9).any(is_restricted) => Seen::InCrate,
        _ => Seen::Here,
    }
}

struct Reader<'a, 'b> {
    tokens: &'a [(usize, Token<'a>)],
    at: usize,
    found: &'b mut Vec<Reference>,
    /// Set inside a `use`.
    import: Option<Seen>,
}

impl Reader<'_, '_> {
    fn peek(&self) -> Option<Token<'_>> {
        self.tokens.get(self.at).map(|token| token.1)
    }

    /// Reads one branch: segments, then perhaps a group, a star or an alias.
    fn tree(&mut self, prefix: &mut Vec<String>) {
        let depth = prefix.len();
        let begin = self.tokens.get(self.at).map_or(0, |token| token.0);
        if self.peek() == Some(Token::Separator) {
            self.at += 1;
        }
        loop {
            match self.tokens.get(self.at).map(|token| token.1) {
                Some(Token::Word(word)) => {
                    prefix.push(word.to_owned());
                    self.at += 1;
                    if self.peek() != Some(Token::Separator) {
                        self.emit(begin, prefix);
                        break;
                    }
                    self.at += 1;
                }
                Some(Token::Mark(b'{')) if self.import.is_some() => {
                    self.group(prefix);
                    break;
                }
                Some(Token::Mark(b'*')) if self.import.is_some() => {
                    self.at += 1;
                    prefix.push("*".to_owned());
                    self.emit(begin, prefix);
                    break;
                }
                // `Vec::<u8>::new` and the like: the path ends here.
                _ => {
                    self.emit(begin, prefix);
                    break;
                }
            }
        }
        prefix.truncate(depth);
    }

    fn group(&mut self, prefix: &mut Vec<String>) {
        self.at += 1;
        loop {
            match self.peek() {
                Some(Token::Mark(b'}')) => {
                    self.at += 1;
                    return;
                }
                Some(Token::Mark(b',')) => self.at += 1,
                Some(Token::Word(_) | Token::Separator | Token::Mark(b'{' | b'*')) => {
                    self.tree(prefix)
                }
                _ => return,
            }
        }
    }

    fn emit(&mut self, at: usize, path: &[String]) {
        let mut segments = path.to_vec();
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        let import = self.import.map(|seen| {
            let mut name = segments.last().cloned().unwrap_or_default();
            if self.peek() == Some(Token::Word("as")) {
                if let Some(Token::Word(alias)) = self.tokens.get(self.at + 1).map(|token| token.1)
                {
                    alias.clone_into(&mut name);
                }
                self.at += 2;
            }
            Import { name, seen }
        });
        if !segments.is_empty() {
            self.found.push(Reference {
                at,
                segments,
                import,
            });
        }
    }
}

fn tokens(masked: &str) -> Vec<(usize, Token<'_>)> {
    let bytes = masked.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &masked[at..];
        let Some(first) = rest.chars().next() else {
            break;
        };
        if is_word(first) {
            let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            found.push((at, Token::Word(&rest[..end])));
            at += end;
        } else if rest.starts_with("::") {
            found.push((at, Token::Separator));
            at += 2;
        } else {
            if !first.is_whitespace() && first.is_ascii() {
                found.push((at, Token::Mark(bytes[at])));
            }
            at += first.len_utf8();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        references(&Source::new(text))
            .iter()
            .map(|reference| reference.segments.join("::"))
            .collect()
    }

    #[test]
    fn a_tree_is_spelled_out() {
        assert_eq!(
            found("use std::{fs, io::{self, Read as _}, time::*};"),
            ["std::fs", "std::io", "std::io::Read", "std::time::*"]
        );
        assert_eq!(found("use {a::b, c};"), ["a::b", "c"]);
    }

    #[test]
    fn paths_in_expressions_and_types_are_found() {
        assert_eq!(
            found("fn f(x: crate::a::B<std::fs::File>) { x.y(super::c()); ::tokio::spawn(z) }"),
            ["crate::a::B", "std::fs::File", "super::c", "tokio::spawn"]
        );
        assert_eq!(found("Vec::<u8>::new(); // std::fs::read"), ["Vec"]);
    }

    #[test]
    fn a_use_knows_its_name_and_whether_it_is_handed_on() {
        let found = references(&Source::new(
            "pub(crate) use a::b as c; pub use d::e; use f::g; fn h() -> impl X + use<> {}",
        ));
        let imports: Vec<(String, Seen)> = found
            .into_iter()
            .filter_map(|reference| reference.import)
            .map(|import| (import.name, import.seen))
            .collect();
        assert_eq!(
            imports,
            [
                ("c".to_owned(), Seen::InCrate),
                ("e".to_owned(), Seen::Everywhere),
                ("g".to_owned(), Seen::Here)
            ]
        );
    }
}
