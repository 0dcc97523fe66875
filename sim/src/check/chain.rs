//! Whether an entry of a write-ahead log in a bucket stands where every takeover reads it.
//!
//! *Owns*: the fields of an entry that this hangs on, and the quick verdict.
//! *Does not own*: a takeover, which decides where this one is in doubt (scenario/common/kept.rs).
//!
//! Invariants
//! 1. An entry is sure only if whoever takes over now serves it; one in doubt may be served or not.
//!
//! *Format: docs/formats/object-wal.md. IO: none*

use std::collections::BTreeMap;

/// Where an entry stands in the log of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) node: u32,
    pub(crate) place: Place,
    kind: u8,
    /// Entries below it may be gone.
    trim: Place,
}

const STATE: u8 = 2;
const DATA: u8 = 3;

impl Entry {
    /// The entry at `key`; none if it is no entry of a log.
    pub(crate) fn read(key: &str, object: &[u8]) -> Option<Self> {
        let mut parts = key.strip_prefix("wal/")?.split('/');
        let mut number = || parts.next()?.parse().ok();
        let [node, epoch, number] = [number()?, number()?, number()?];
        let field = |at: usize| object.get(at..)?.first_chunk().copied();
        Some(Self {
            node: u32::try_from(node).ok()?,
            place: Place { epoch, number },
            kind: *object.get(16)?,
            trim: Place {
                epoch: u64::from_le_bytes(field(136)?),
                number: u64::from_le_bytes(field(144)?),
            },
        })
    }
}

/// The entries of the log of one node.
pub(crate) type Log = BTreeMap<Place, Entry>;

/// Whether whoever takes the log over now serves the entry at `place`: it is of the last epoch, whose
/// chain nobody can have ended, nothing below it is missing that no trim took away, and no trim is
/// beyond it.
pub(crate) fn is_sure(log: &Log, place: Place) -> bool {
    let Some(entry) = log.get(&place).filter(|entry| entry.kind == DATA) else {
        return false;
    };
    let is_last = log.keys().all(|other| other.epoch <= place.epoch);
    let is_wanted = log.values().all(|other| other.trim <= place);
    let first = match entry.trim {
        trim if trim.epoch == place.epoch => trim.number,
        _ => 1,
    };
    let is_there = |number| {
        let below = log.get(&Place { number, ..place });
        below.is_some_and(|entry| matches!(entry.kind, STATE | DATA))
    };
    is_last && is_wanted && (first..place.number).all(is_there)
}

#[cfg(test)]
mod tests {
    use super::{DATA, Entry, Log, Place, STATE, is_sure};

    const START: u8 = 1;
    const FENCE: u8 = 4;
    const BARRIER: u8 = 5;

    fn at(epoch: u64, number: u64) -> Place {
        Place { epoch, number }
    }

    fn entry(kind: u8, place: Place) -> Entry {
        Entry {
            node: 1,
            place,
            kind,
            trim: at(1, 1),
        }
    }

    fn put(log: &mut Log, kind: u8, place: Place) {
        log.insert(place, entry(kind, place));
    }

    /// Epoch 2 behind an epoch 1, which has frames in 2; its own are in 2 to 4.
    fn log() -> Log {
        let mut log = Log::new();
        for (number, kind) in (0..).zip([START, STATE, DATA, FENCE]) {
            put(&mut log, kind, at(1, number));
        }
        for (number, kind) in (0..).zip([START, STATE, DATA, DATA, DATA]) {
            put(&mut log, kind, at(2, number));
        }
        log
    }

    fn without(place: Place) -> Log {
        let mut log = log();
        log.remove(&place);
        log
    }

    /// An entry at `by` says that what lies below `trim` is not wanted.
    fn trim(log: &mut Log, by: Place, trim: Place) {
        log.get_mut(&by).expect("it is there").trim = trim;
    }

    #[test]
    fn what_the_last_owner_wrote_without_a_gap_is_sure() {
        for number in 2..5 {
            assert!(is_sure(&log(), at(2, number)), "{number}");
        }
    }

    #[test]
    fn below_its_trim_point_an_entry_may_be_missing() {
        let mut log = without(at(2, 2));
        trim(&mut log, at(2, 4), at(2, 3));
        assert!(is_sure(&log, at(2, 4)));
    }

    #[test]
    fn what_an_earlier_life_wrote_is_in_doubt_behind_its_fence_and_before() {
        let mut log = log();
        put(&mut log, DATA, at(1, 4));
        assert!(!is_sure(&log, at(1, 4)));
        assert!(!is_sure(&log, at(1, 2)));
    }

    #[test]
    fn what_the_last_owner_wrote_is_in_doubt_once_somebody_claims_the_next_epoch() {
        let mut log = log();
        put(&mut log, START, at(3, 0));
        assert!(!is_sure(&log, at(2, 4)));
    }

    #[test]
    fn what_stands_behind_a_hole_a_fence_or_a_barrier_is_in_doubt() {
        assert!(!is_sure(&without(at(2, 1)), at(2, 2)));
        assert!(!is_sure(&without(at(2, 3)), at(2, 4)));
        for kind in [FENCE, BARRIER] {
            let mut log = without(at(2, 3));
            put(&mut log, kind, at(2, 3));
            assert!(!is_sure(&log, at(2, 4)));
            assert!(is_sure(&log, at(2, 2)));
        }
    }

    #[test]
    fn what_is_trimmed_is_in_doubt_as_is_what_is_not_there_or_holds_no_frames() {
        let mut trimmed = log();
        trim(&mut trimmed, at(2, 4), at(2, 4));
        assert!(!is_sure(&trimmed, at(2, 3)));
        assert!(is_sure(&trimmed, at(2, 4)));
        assert!(!is_sure(&log(), at(2, 5)));
        assert!(!is_sure(&without(at(2, 4)), at(2, 4)));
        assert!(!is_sure(&log(), at(2, 1)));
        assert!(!is_sure(&Log::new(), at(2, 1)));
    }

    #[test]
    fn the_fields_are_where_the_format_has_them() {
        let mut bytes = vec![0; 160];
        bytes[16] = DATA;
        (bytes[136], bytes[144]) = (5, 6);
        let key = "wal/0000000003/00000000000000000007/00000000000000000009";
        let read = Entry {
            node: 3,
            place: at(7, 9),
            kind: DATA,
            trim: at(5, 6),
        };
        assert_eq!(Entry::read(key, &bytes), Some(read));
        assert_eq!(Entry::read(key, &bytes[..151]), None);
        assert_eq!(Entry::read("wal/0000000003/x", &bytes), None);
        assert_eq!(Entry::read("data/3/7/9", &bytes), None);
    }
}
