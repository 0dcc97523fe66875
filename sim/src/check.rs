//! Checkers: what must hold, told from the outside.
//!
//! *Owns*: the violation, and the models that know what was promised to whom.
//! *Does not own*: when they are asked; the scenarios do that at every answer.
//!
//! Invariants
//! 1. A checker believes only what the code under test promised to its caller.
//! 2. Each is tested on bad histories first: in other projects the first bugs were in
//!    the checkers.
//!
//! *IO: none*

pub(crate) mod anomaly;
pub(crate) mod chain;
pub(crate) mod commit;
pub(crate) mod damage;
pub(crate) mod delay;
pub(crate) mod deleted;
pub(crate) mod durable;
pub(crate) mod excuse;
pub(crate) mod fence;
pub(crate) mod fork;
pub(crate) mod frames;
pub(crate) mod fsck;
pub(crate) mod gone;
pub(crate) mod group;
pub(crate) mod keyed;
pub(crate) mod liveness;
pub(crate) mod partition;
pub(crate) mod processed;
pub(crate) mod producers;
pub(crate) mod protocol;
pub(crate) mod read;
pub(crate) mod registers;
pub(crate) mod removed;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod streams;
pub(crate) mod swept;
pub(crate) mod theft;
pub(crate) mod topics;
pub(crate) mod watch;
pub(crate) mod watermarks;

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{checker}: {detail}")]
pub struct Violation {
    /// The checker that found it.
    pub checker: &'static str,
    /// What it found.
    pub detail: String,
}

impl Violation {
    /// A violation found by `checker`.
    #[must_use]
    pub fn new(checker: &'static str, detail: impl Into<String>) -> Self {
        Self {
            checker,
            detail: detail.into(),
        }
    }
}

/// A payload of at least 16 bytes that tells its value and whose every byte follows from it.
#[must_use]
pub fn payload(value: u64, len: usize) -> Vec<u8> {
    let len = len.max(16);
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend_from_slice(&value.to_le_bytes());
    let mut word = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    bytes.extend_from_slice(&(len as u64 ^ word).to_le_bytes());
    while bytes.len() < len {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The value of a payload, if every byte of it is right.
#[must_use]
pub fn value_of(bytes: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let value = word(0)?;
    (payload(value, bytes.len()) == bytes).then_some(value)
}

/// The values of all payloads that stand whole somewhere in `bytes`, in their order.
pub(crate) fn values_in(bytes: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 16) {
        let word = |from: usize| u64::from_le_bytes(head[from..from + 8].try_into().expect("8"));
        let value = word(0);
        let len = word(8) ^ (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let whole = usize::try_from(len)
            .ok()
            .and_then(|len| bytes.get(at..at.checked_add(len)?));
        match whole {
            Some(whole) if whole.len() >= 16 && value_of(whole) == Some(value) => {
                found.push(value);
                at += whole.len();
            }
            _ => at += 1,
        }
    }
    found
}

/// Whether `needle` stands somewhere in `bytes`.
pub(crate) fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    find(bytes, needle).is_some()
}

/// Where `needle`, of 16 bytes at least, stands first in `bytes`.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, len) = (needle.first_chunk::<16>()?, needle.len());
    bytes
        .windows(16)
        .enumerate()
        .find(|(at, window)| *window == &first[..] && bytes.get(*at..*at + len) == Some(needle))
        .map(|(at, _)| at)
}

/// `values=1,2`, as lines of the trace name them.
pub(crate) fn values_word(values: &[u64]) -> String {
    let words: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("values={}", words.join(","))
}

#[cfg(test)]
mod tests {
    use super::{holds, payload, value_of, values_in, values_word};

    #[test]
    fn payloads_are_found_wherever_they_stand() {
        let bytes = [
            vec![3; 21],
            payload(70_000, 33),
            payload(2, 16),
            vec![0; 7],
            payload(9, 500)[..499].to_vec(),
        ]
        .concat();
        assert_eq!(values_in(&bytes), [70_000, 2]);
        assert_eq!(values_word(&values_in(&bytes)), "values=70000,2");
        assert!(values_in(&[0; 15]).is_empty());
    }

    #[test]
    fn a_payload_tells_its_value_and_each_wrong_byte_is_seen() {
        for len in [16, 17, 100, 1000] {
            let bytes = payload(77, len);
            assert_eq!((bytes.len(), value_of(&bytes)), (len, Some(77)));
            for at in 0..len {
                let mut wrong = bytes.clone();
                wrong[at] ^= 4;
                assert_eq!(value_of(&wrong), None);
            }
        }
        assert_eq!(value_of(&payload(1, 40)[..39]), None);
        assert_eq!(value_of(b"short"), None);
    }

    #[test]
    fn bytes_are_found_whole_or_not_at_all() {
        let needle = payload(5, 100);
        let around = [vec![0; 37], needle.clone(), vec![1; 9]].concat();
        assert!(holds(&around, &needle));
        assert!(!holds(&around[..130], &needle));
        let mut torn = around;
        torn[100] ^= 1;
        assert!(!holds(&torn, &needle));
    }
}
