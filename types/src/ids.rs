//! Identifiers and positions.
//!
//! *Owns*: `Lsn`, `StreamId`, `Epoch`, `NodeId`, and the 128-bit cluster and WAL
//! identifiers with their text forms.
//!
//! Invariants
//! 1. No identifier converts into another.
//! 2. `ClusterId` prints as 22 characters of URL-safe base64, the form Kafka uses
//!    for cluster and topic ids; `WalId` prints as 32 hex digits.
//!
//! *IO: none*

use std::fmt;
use std::str::FromStr;

/// Position in a write-ahead log: monotonic over the log's whole life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// A stream, unique in its cluster and never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A fencing number: the holder of a greater one has taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A node of a cluster, chosen by its operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// A cluster, drawn at random when the cluster's metadata is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

/// One write-ahead log, drawn at random when it is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalId(pub [u8; 16]);

/// A text that is not the identifier it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseIdError {
    expected: &'static str,
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for ParseIdError {}

macro_rules! plain_display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
plain_display!(Lsn, StreamId, Epoch, NodeId);

impl Lsn {
    /// The position `num_bytes` further, unless that overflows.
    #[must_use]
    pub fn checked_add(self, num_bytes: u64) -> Option<Self> {
        self.0.checked_add(num_bytes).map(Self)
    }
}

impl Epoch {
    /// The next epoch, unless the numbers are used up.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        for digit in 0..22u32 {
            // 22 digits of 6 bits hold 132 bits; the last digit carries 2 bits and 4 zeros.
            let shift = 122i32 - 6 * i32::try_from(digit).expect("small");
            let index = if shift >= 0 {
                bits >> shift
            } else {
                bits << -shift
            } & 0x3f;
            let index = usize::try_from(index).expect("6 bits");
            write!(f, "{}", char::from(BASE64_URL[index]))?;
        }
        Ok(())
    }
}

impl FromStr for ClusterId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = ParseIdError {
            expected: "22 characters of URL-safe base64",
        };
        if text.len() != 22 {
            return Err(wrong);
        }
        let mut bits: u128 = 0;
        for (digit, byte) in text.bytes().enumerate() {
            let index = BASE64_URL.iter().position(|&b| b == byte).ok_or(wrong)?;
            let index = index as u128;
            if digit < 21 {
                bits = (bits << 6) | index;
            } else if index & 0xf == 0 {
                bits = (bits << 2) | (index >> 4);
            } else {
                return Err(wrong);
            }
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for WalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for WalId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = ParseIdError {
            expected: "32 hex digits",
        };
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        let bits = u128::from_str_radix(text, 16).map_err(|_| wrong)?;
        Ok(Self(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::{ClusterId, WalId};
    use proptest::prelude::*;

    #[test]
    fn cluster_id_prints_as_kafka_does() {
        assert_eq!(ClusterId([0; 16]).to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(ClusterId([0xff; 16]).to_string(), "_____________________w");
    }

    #[test]
    fn wrong_text_is_refused() {
        assert!("AAAAAAAAAAAAAAAAAAAAA".parse::<ClusterId>().is_err());
        assert!("AAAAAAAAAAAAAAAAAAAAAB".parse::<ClusterId>().is_err());
        assert!("+AAAAAAAAAAAAAAAAAAAAA".parse::<ClusterId>().is_err());
        assert!("+0000000000000000000000000000000".parse::<WalId>().is_err());
    }

    proptest! {
        #[test]
        fn text_forms_round_trip(bytes in any::<[u8; 16]>()) {
            prop_assert_eq!(ClusterId(bytes).to_string().parse(), Ok(ClusterId(bytes)));
            prop_assert_eq!(WalId(bytes).to_string().parse(), Ok(WalId(bytes)));
        }
    }
}
