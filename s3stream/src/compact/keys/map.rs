//! The last offset of each key, in memory of a fixed size.
//!
//! *Owns*: the table. *Does not own*: which records go in.
//!
//! Invariants
//! 1. It takes as many bytes as it was given, however many keys come.
//! 2. A key that does not fit is refused, and nothing else of the table changes.
//!
//! *IO: none*

use tidewater_types::Offset;

use super::hash::siphash128;

/// Bytes of one key.
pub(crate) const SLOT_BYTES: u64 = size_of::<Slot>() as u64;
/// Of 10 slots so many are used: a look-up in a table that is fuller takes long.
const USED_OF_TEN: u64 = 9;

#[derive(Clone, Copy, Default)]
struct Slot {
    hash: [u64; 2],
    /// One past the offset; 0 in a free slot.
    after: u64,
}

/// Key → offset of its last record.
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    num_keys: usize,
    num_keys_max: usize,
    secret: [u64; 2],
}

impl OffsetMap {
    /// A table of at most `num_bytes` for at most `num_records` records.
    pub(super) fn new(num_bytes: u64, num_records: u64, secret: [u64; 2]) -> Self {
        let wanted = num_records.saturating_mul(10) / USED_OF_TEN + 2;
        let num_slots = wanted.min(num_bytes / SLOT_BYTES).max(2);
        let num_keys_max = (num_slots * USED_OF_TEN / 10).max(1);
        let count = |slots| usize::try_from(slots).expect("memory is addressed by usize");
        Self {
            slots: vec![Slot::default(); count(num_slots)],
            num_keys: 0,
            num_keys_max: count(num_keys_max),
            secret,
        }
    }

    /// The last record of `key` is at `offset`. `false` if there is no room for another key.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = siphash128(self.secret, key);
        let at = self.find(hash);
        let slot = &mut self.slots[at];
        if slot.after == 0 {
            if self.num_keys == self.num_keys_max {
                return false;
            }
            self.num_keys += 1;
        }
        assert!(slot.after <= offset.0, "records come in order");
        (slot.hash, slot.after) = (hash, offset.0 + 1);
        true
    }

    /// The offset of the last record of `key`, if it went in.
    pub(super) fn last(&self, key: &[u8]) -> Option<Offset> {
        let at = self.find(siphash128(self.secret, key));
        self.slots[at].after.checked_sub(1).map(Offset)
    }

    /// Whether no other key fits.
    pub(super) fn is_full(&self) -> bool {
        self.num_keys == self.num_keys_max
    }

    /// The slot that has the hash, or the free one that would.
    fn find(&self, hash: [u64; 2]) -> usize {
        let num_slots = self.slots.len();
        // The hash as a fraction of all hashes: no division, and no power of two is needed.
        let scaled = (u128::from(hash[0]) * num_slots as u128) >> 64;
        let mut at = usize::try_from(scaled).expect("below the number of slots");
        while self.slots[at].after != 0 && self.slots[at].hash != hash {
            at = (at + 1) % num_slots;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tidewater_types::Offset;

    use super::{OffsetMap, SLOT_BYTES};

    #[test]
    fn it_is_as_large_as_it_must_be_and_as_it_may_be() {
        let map = |num_bytes, num_records| {
            let map = OffsetMap::new(num_bytes, num_records, [1, 2]);
            (map.slots.len(), map.num_keys_max)
        };
        assert_eq!(map(1 << 30, 90), (102, 91));
        assert_eq!(map(SLOT_BYTES * 20, 90), (20, 18));
        assert_eq!(map(0, 90), (2, 1), "one key always fits");
    }

    proptest! {
        #[test]
        fn it_answers_as_a_map_until_it_is_full(
            keys in proptest::collection::vec(0_u16..40, 0..200),
            num_slots in 1_u64..40,
        ) {
            let mut map = OffsetMap::new(num_slots * SLOT_BYTES, 1_000, [3, 4]);
            let mut model = BTreeMap::new();
            for (offset, key) in (0..).zip(&keys) {
                let fits = model.contains_key(key) || model.len() < map.num_keys_max;
                prop_assert_eq!(map.put(&key.to_le_bytes(), Offset(offset)), fits);
                if fits {
                    model.insert(*key, Offset(offset));
                }
                prop_assert_eq!(map.is_full(), model.len() == map.num_keys_max);
            }
            for key in 0_u16..40 {
                prop_assert_eq!(map.last(&key.to_le_bytes()), model.get(&key).copied());
            }
        }
    }
}
