//! `Uuid`: Kafka's topic ids and directory ids.
//!
//! *Owns*: the 16 bytes and the text form, URL-safe base64 of 22 characters without padding.
//!
//! *Does not own*: how ids are chosen.
//!
//! *IO: none*

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A UUID in network byte order. `Display` and `FromStr` use the form of Kafka's tools.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// All bytes zero: "no id".
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// Whether this is [`Uuid::ZERO`].
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 22];
        // 22 characters carry 132 bits: the 128 of the id and four zero bits behind them.
        let bits = u128::from_be_bytes(self.0);
        for (i, slot) in text.iter_mut().enumerate() {
            let shift = 122 - 6 * i as i32;
            let six = if shift >= 0 {
                bits >> shift
            } else {
                bits << -shift
            } & 63;
            *slot = ALPHABET[six as usize];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not 22 characters of URL-safe base64 with 128 bits in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a uuid in url-safe base64")]
pub struct ParseUuidError;

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        let (head, last) = match text.as_bytes() {
            [head @ .., last] if head.len() == 21 => (head, *last),
            _ => return Err(ParseUuidError),
        };
        let mut bits: u128 = 0;
        for byte in head {
            bits = bits << 6 | digit(*byte)?;
        }
        let tail = digit(last)?;
        if tail & 15 != 0 {
            return Err(ParseUuidError);
        }
        Ok(Uuid((bits << 2 | tail >> 4).to_be_bytes()))
    }
}

fn digit(byte: u8) -> Result<u128, ParseUuidError> {
    ALPHABET
        .iter()
        .position(|c| *c == byte)
        .map(|at| at as u128)
        .ok_or(ParseUuidError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_that_of_kafkas_tools() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid([255; 16]).to_string(), "_____________________w");
        let counting: [u8; 16] = std::array::from_fn(|i| i as u8);
        assert_eq!(Uuid(counting).to_string(), "AAECAwQFBgcICQoLDA0ODw");
    }

    #[test]
    fn text_reads_back() {
        let id = Uuid(*b"tidewater-topic!");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn bad_text_is_refused() {
        for text in [
            "",
            "AAAA",
            "AAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAB",
            "AAAAAAAAAAAAAAAAAAAAA+",
        ] {
            assert_eq!(text.parse::<Uuid>(), Err(ParseUuidError), "{text}");
        }
    }
}
