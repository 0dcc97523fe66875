//! Which keys every store can hold.
//!
//! *Owns*: the rule for keys and list prefixes, one for all adapters.
//! *Does not own*: what keys mean.
//!
//! Invariants
//! 1. A key that passes names a path below the bucket's directory, never above it.
//! 2. No part of a key starts with a dot, so adapters may keep names of their own.
//!
//! The rule is the smallest that all stores share: file systems cap a name at 255
//! bytes, S3 keys lose odd characters in proxies and URLs.
//!
//! *IO: none*

use std::fmt;

/// The longest key in bytes.
pub const KEY_BYTES_MAX: usize = 512;

const PART_BYTES_MAX: usize = 255;

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// It is empty.
    Empty,
    /// It is longer than [`KEY_BYTES_MAX`].
    TooLong,
    /// A part between slashes is empty: a leading, trailing or double slash.
    EmptyPart,
    /// A part starts with a dot.
    DotPart,
    /// A part is longer than 255 bytes.
    PartTooLong,
    /// It has a byte that is not an ASCII letter, a digit, `.`, `-`, `_` or `/`.
    OddByte,
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::TooLong => "is longer than 512 bytes",
            Self::EmptyPart => "has an empty part (a leading, trailing or double slash)",
            Self::DotPart => "has a part that starts with a dot",
            Self::PartTooLong => "has a part longer than 255 bytes",
            Self::OddByte => "has a byte other than ASCII letters, digits, '.', '-', '_', '/'",
        })
    }
}

/// Checks a key of an object.
///
/// # Errors
/// What is wrong with it.
pub fn check_key(key: &str) -> Result<(), KeyProblem> {
    if key.is_empty() {
        return Err(KeyProblem::Empty);
    }
    check_bytes(key)?;
    key.split('/').try_for_each(check_part)
}

/// Checks a prefix for a listing: like a key, but its last part may be cut anywhere.
///
/// # Errors
/// What is wrong with it.
pub fn check_prefix(prefix: &str) -> Result<(), KeyProblem> {
    check_bytes(prefix)?;
    let (whole, cut) = prefix
        .rsplit_once('/')
        .map_or((None, prefix), |(w, c)| (Some(w), c));
    if let Some(whole) = whole {
        whole.split('/').try_for_each(check_part)?;
    }
    if cut.is_empty() {
        Ok(())
    } else {
        check_part(cut)
    }
}

fn check_bytes(text: &str) -> Result<(), KeyProblem> {
    if text.len() > KEY_BYTES_MAX {
        return Err(KeyProblem::TooLong);
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/');
    if text.bytes().all(plain) {
        Ok(())
    } else {
        Err(KeyProblem::OddByte)
    }
}

fn check_part(part: &str) -> Result<(), KeyProblem> {
    if part.is_empty() {
        Err(KeyProblem::EmptyPart)
    } else if part.starts_with('.') {
        Err(KeyProblem::DotPart)
    } else if part.len() > PART_BYTES_MAX {
        Err(KeyProblem::PartTooLong)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_keys_pass() {
        for key in ["a", "wal/3/7/00000000000000000012", "A-b_c.d/e", "x..y/z."] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        assert_eq!(
            check_key(&format!("{}/{}", "a".repeat(255), "b".repeat(255))),
            Ok(())
        );
    }

    #[test]
    fn odd_keys_name_their_problem() {
        assert_eq!(check_key(""), Err(KeyProblem::Empty));
        for key in ["/a", "a/", "a//b", "/"] {
            assert_eq!(check_key(key), Err(KeyProblem::EmptyPart), "{key}");
        }
        for key in ["..", "../a", "a/../b", "a/./b", ".tmp/a", "a/.b"] {
            assert_eq!(check_key(key), Err(KeyProblem::DotPart), "{key}");
        }
        for key in ["a b", "ä", "a\\b", "a\0b", "a%2fb", "a\nb", "a+b"] {
            assert_eq!(check_key(key), Err(KeyProblem::OddByte), "{key:?}");
        }
        assert_eq!(check_key(&"a".repeat(256)), Err(KeyProblem::PartTooLong));
        assert_eq!(check_key(&"a/".repeat(257)), Err(KeyProblem::TooLong));
    }

    #[test]
    fn prefixes_may_be_cut_anywhere_but_never_lead_out() {
        for prefix in ["", "a", "a/", "a/b", "wal/3/"] {
            assert_eq!(check_prefix(prefix), Ok(()), "{prefix}");
        }
        assert_eq!(check_prefix("/"), Err(KeyProblem::EmptyPart));
        assert_eq!(check_prefix("a//"), Err(KeyProblem::EmptyPart));
        assert_eq!(check_prefix("../"), Err(KeyProblem::DotPart));
        assert_eq!(check_prefix("a/.."), Err(KeyProblem::DotPart));
        assert_eq!(check_prefix("a*"), Err(KeyProblem::OddByte));
    }
}
