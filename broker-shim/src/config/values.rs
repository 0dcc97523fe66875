//! The forms a value may have: numbers, sizes, switches, choices, addresses.
//!
//! *Owns*: parsing each form and the text that says what is allowed.
//! *Does not own*: which setting has which form and range.
//!
//! Invariants
//! 1. Out of range is refused; nothing is clamped or rounded.
//!
//! *IO: none*

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::address::HostPort;
use super::error::{ConfigError, Source};
use super::layers::Layers;

const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl Layers {
    /// An integer in `range`.
    pub(crate) fn integer(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        let Some((text, source)) = self.get(name) else {
            return Ok(default);
        };
        let value = digits(text).filter(|value| range.contains(value));
        value.ok_or_else(|| {
            let expected = format!("an integer from {} to {}", range.start(), range.end());
            refuse(source, expected, text)
        })
    }

    /// A number of bytes in `range`, plain or with a binary unit.
    pub(crate) fn size(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        let Some((text, source)) = self.get(name) else {
            return Ok(default);
        };
        let value = parse_size(text).filter(|value| range.contains(value));
        value.ok_or_else(|| {
            let (min, max) = (print_size(*range.start()), print_size(*range.end()));
            let expected =
                format!("a size from {min} to {max} (bytes, or with KiB, MiB, GiB, TiB)");
            refuse(source, expected, text)
        })
    }

    /// `true` or `false`.
    pub(crate) fn truth(&self, name: &'static str, default: bool) -> Result<bool, ConfigError> {
        self.choice(name, &[("true", true), ("false", false)], default)
    }

    /// One of `choices`.
    pub(crate) fn choice<T: Copy>(
        &self,
        name: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> Result<T, ConfigError> {
        let Some((text, source)) = self.get(name) else {
            return Ok(default);
        };
        let chosen = choices.iter().find(|(word, _)| *word == text);
        chosen.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            refuse(source, format!("one of {}", words.join(", ")), text)
        })
    }

    /// `HOST:PORT`, if set.
    pub(crate) fn address(
        &self,
        name: &'static str,
    ) -> Result<Option<(HostPort, Source)>, ConfigError> {
        let Some((text, source)) = self.get(name) else {
            return Ok(None);
        };
        match HostPort::parse(text) {
            Some(address) => Ok(Some((address, source))),
            None => {
                let expected =
                    "HOST:PORT with a port from 0 to 65535 (an IPv6 address in brackets)";
                Err(refuse(source, expected.to_owned(), text))
            }
        }
    }

    /// A path, if set; never an empty one.
    pub(crate) fn path(&self, name: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        let Some((text, source)) = self.get(name) else {
            return Ok(None);
        };
        if text.is_empty() || text.contains('\0') {
            return Err(refuse(source, "a path".to_owned(), text));
        }
        Ok(Some(PathBuf::from(text)))
    }
}

/// The error for `found` where `expected` should stand.
pub(crate) fn refuse(source_of: Source, expected: String, found: &str) -> ConfigError {
    let found = found.to_owned();
    ConfigError::Value {
        source_of,
        expected,
        found,
    }
}

fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn parse_size(text: &str) -> Option<u64> {
    for (unit, shift) in UNITS {
        if let Some(number) = text.strip_suffix(unit) {
            return digits(number.trim_end())?.checked_mul(1 << shift);
        }
    }
    digits(text)
}

/// A size with the greatest unit that divides it.
pub(crate) fn print_size(num_bytes: u64) -> String {
    for (unit, shift) in UNITS {
        if num_bytes != 0 && num_bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", num_bytes >> shift);
        }
    }
    format!("{num_bytes} bytes")
}
