//! How the process ends.
//!
//! *Owns*: the exit codes scripts rely on and the one line that says why.
//! *Does not own*: deciding that something failed.
//!
//! Invariants
//! 1. The reason is one line: what, where, expected, found. It is the last line
//!    on standard error.
//!
//! *IO: none*

use std::fmt;

/// The exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the whole table stands here, used or not")]
pub(crate) enum Code {
    /// Data is damaged, or a check failed.
    Wrong = 1,
    /// Bad usage or configuration.
    Usage = 2,
    /// The environment refuses: port or data directory in use, permission, disk full, bucket
    /// unreachable.
    Environment = 3,
    /// Data of another cluster, or of a newer format.
    Foreign = 4,
    /// Damage that forbids to go on.
    Damage = 5,
}

/// An end that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: Code,
    reason: String,
}

impl Exit {
    /// An end with `code`. `what` failed at `place`, where `expected` should be and `found` is.
    pub(crate) fn new(
        code: Code,
        what: &str,
        place: impl fmt::Display,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        let reason = format!("{what}: {place}: expected {expected}, found {found}");
        Self::because(code, reason)
    }

    /// An end with `code` whose error already says what, where, expected and found.
    pub(crate) fn because(code: Code, reason: impl fmt::Display) -> Self {
        let reason = reason.to_string();
        let lines: Vec<&str> = reason.lines().map(str::trim).collect();
        let reason = lines.join(" ");
        Self { code, reason }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tidewater: {}", self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Exit};

    #[test]
    fn the_reason_is_one_line_whatever_the_parts_hold() {
        let exit = Exit::new(
            Code::Environment,
            "cannot listen",
            "a:1",
            "a free\n port",
            "in use",
        );
        assert_eq!(
            exit.to_string(),
            "tidewater: cannot listen: a:1: expected a free port, found in use"
        );
        assert_eq!(exit.code as u8, 3);
    }
}
