//! Producer ids, handed out from blocks that are reserved in the metadata first.
//!
//! *Owns*: the block in hand, and the stored value that reserves the next.
//! *Does not own*: writing that value; the caller does, by compare-and-swap.
//!
//! Invariants
//! 1. An id is given out at most once in a cluster: only from a block whose
//!    reservation was committed, and blocks never overlap.
//! 2. What a crash leaves of a block is lost, never reused.
//!
//! *IO: none*

use tidewater_types::ErrorKind;

/// Ids reserved at a time, Kafka's own number.
pub(crate) const BLOCK_IDS: i64 = 1000;

/// Why no block can be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdError {
    /// The stored value is not one this code wrote.
    #[error("stored producer id value has {num_bytes} bytes or a negative number")]
    Stored { num_bytes: usize },
    /// 2⁶³ ids were given out.
    #[error("producer ids are used up")]
    UsedUp,
}

impl IdError {
    #[allow(
        dead_code,
        reason = "the caller has one reaction to all of them so far"
    )]
    pub(crate) fn kind(self) -> ErrorKind {
        match self {
            Self::Stored { .. } => ErrorKind::Corrupt,
            Self::UsedUp => ErrorKind::Full,
        }
    }
}

/// Ids from `next` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdBlock {
    pub(crate) next: i64,
    pub(crate) end: i64,
}

/// What to store to reserve `block`: commit `value` if and only if the stored
/// value is still the one the refill was made from, then hand `block` over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdRefill {
    pub(crate) block: IdBlock,
    /// The first id no block holds, 8 bytes little-endian.
    pub(crate) value: [u8; 8],
}

impl IdRefill {
    /// Plans the next reservation from the stored value (`None`: nothing stored yet).
    ///
    /// # Errors
    /// The value is damaged, or ids are used up.
    pub(crate) fn plan(stored: Option<&[u8]>) -> Result<Self, IdError> {
        let next = match stored {
            None => 0,
            Some(bytes) => {
                let wrong = IdError::Stored {
                    num_bytes: bytes.len(),
                };
                let next = i64::from_le_bytes(bytes.try_into().map_err(|_| wrong)?);
                if next < 0 {
                    return Err(wrong);
                }
                next
            }
        };
        let end = next.checked_add(BLOCK_IDS).ok_or(IdError::UsedUp)?;
        Ok(Self {
            block: IdBlock { next, end },
            value: end.to_le_bytes(),
        })
    }
}

/// The ids a broker has in hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProducerIds {
    block: Option<IdBlock>,
}

impl ProducerIds {
    /// The next id, or `None` until a committed block is handed over.
    pub(crate) fn take(&mut self) -> Option<i64> {
        let block = self.block.as_mut()?;
        let id = block.next;
        block.next += 1;
        if block.next == block.end {
            self.block = None;
        }
        Some(id)
    }

    /// Hands over a block whose reservation is committed.
    ///
    /// # Panics
    /// If ids are still in hand: they would be lost for nothing.
    pub(crate) fn refill(&mut self, committed: IdBlock) {
        assert!(self.block.is_none(), "a block is in hand");
        assert!(committed.next < committed.end, "a block holds ids");
        self.block = Some(committed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn brokers_that_share_a_stored_value_never_give_the_same_id() {
        let mut stored: Option<[u8; 8]> = None;
        let mut seen = BTreeSet::new();
        let mut brokers = [
            ProducerIds::default(),
            ProducerIds::default(),
            ProducerIds::default(),
        ];
        for turn in 0..10_000usize {
            let broker = &mut brokers[turn * turn % 3];
            let id = broker.take().unwrap_or_else(|| {
                let refill = IdRefill::plan(stored.as_ref().map(|s| &s[..])).unwrap();
                stored = Some(refill.value);
                broker.refill(refill.block);
                broker.take().unwrap()
            });
            assert!(seen.insert(id));
        }
        // A broker that crashes takes the rest of its block with it.
        let refill = IdRefill::plan(stored.as_ref().map(|s| &s[..])).unwrap();
        assert!(refill.block.next > *seen.last().unwrap());
    }

    #[test]
    fn damaged_values_and_the_last_id_are_refused() {
        assert_eq!(
            IdRefill::plan(Some(b"123")),
            Err(IdError::Stored { num_bytes: 3 })
        );
        assert_eq!(
            IdRefill::plan(Some(&(-1i64).to_le_bytes())),
            Err(IdError::Stored { num_bytes: 8 })
        );
        assert_eq!(
            IdRefill::plan(Some(&i64::MAX.to_le_bytes())),
            Err(IdError::UsedUp)
        );
    }
}
