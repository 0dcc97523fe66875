//! Names of data objects.
//!
//! *Owns*: the identity of an object and the key it has in the bucket.
//! *Does not own*: what the object holds.
//!
//! Invariants
//! 1. An id is never used twice: the node epoch is given once, the counter only
//!    ascends within it, and a random nonce keeps even a broken clock or a
//!    restored backup from meeting an old key.
//! 2. Key and id determine each other.
//!
//! *IO: none*

use std::fmt;

use tidewater_types::{Epoch, NodeId, crc32c};

/// Where all data objects live.
pub(crate) const DATA_PREFIX: &str = "data/";

/// Counters of compaction lie above it, those of uploads below.
pub(crate) const COMPACTION_COUNTERS: u64 = 1 << 63;

/// Identity of a data object, unique for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// The node that uploaded it.
    pub node: NodeId,
    /// The epoch of that node.
    pub epoch: Epoch,
    /// Ascends within the node's epoch, from 1 for uploads and from 2⁶³ + 1 for compaction: each
    /// commits in its own order.
    pub counter: u64,
    /// Drawn at random for each object.
    pub nonce: u64,
}

/// What a data object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Small ranges of many streams.
    StreamSet,
    /// A range of one stream.
    Stream,
}

impl ObjectKind {
    /// The name used in counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::StreamSet => "stream_set",
            Self::Stream => "stream",
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::StreamSet => 1,
            Self::Stream => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::StreamSet),
            2 => Some(Self::Stream),
            _ => None,
        }
    }
}

impl ObjectId {
    /// Whether compaction wrote it.
    pub(crate) fn is_compacted(&self) -> bool {
        self.counter > COMPACTION_COUNTERS
    }

    /// The key of the object: `data/{hash}/{node}-{epoch}-{counter}-{nonce}`.
    ///
    /// The hash spreads the keys over 256 prefixes, because stores throttle by prefix.
    #[must_use]
    pub fn key(&self) -> String {
        let hash = crc32c(&[
            &self.node.0.to_le_bytes(),
            &self.epoch.0.to_le_bytes(),
            &self.counter.to_le_bytes(),
            &self.nonce.to_le_bytes(),
        ]) & 0xff;
        let Self {
            node,
            epoch,
            counter,
            nonce,
        } = self;
        format!("{DATA_PREFIX}{hash:02x}/{node}-{epoch}-{counter}-{nonce:016x}")
    }

    /// The id that has this key, if any has.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        let (_, name) = key.strip_prefix(DATA_PREFIX)?.split_once('/')?;
        let mut parts = name.split('-');
        let id = Self {
            node: NodeId(parts.next()?.parse().ok()?),
            epoch: Epoch(parts.next()?.parse().ok()?),
            counter: parts.next()?.parse().ok()?,
            nonce: u64::from_str_radix(parts.next()?, 16).ok()?,
        };
        // Other spellings of the same numbers are not keys of ours.
        (id.key() == key).then_some(id)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::ObjectId;
    use proptest::prelude::*;
    use tidewater_types::{Epoch, NodeId};

    proptest! {
        #[test]
        fn key_and_id_determine_each_other(node: u32, epoch: u64, counter: u64, nonce: u64) {
            let id = ObjectId { node: NodeId(node), epoch: Epoch(epoch), counter, nonce };
            prop_assert_eq!(ObjectId::from_key(&id.key()), Some(id));
        }
    }

    #[test]
    fn other_spellings_are_not_keys() {
        let id = ObjectId {
            node: NodeId(1),
            epoch: Epoch(2),
            counter: 3,
            nonce: 4,
        };
        let key = id.key();
        assert_eq!(ObjectId::from_key(&key.replace("/1-", "/01-")), None);
        assert_eq!(ObjectId::from_key(&format!("{key}#1")), None);
        assert_eq!(ObjectId::from_key("data/1-2-3-4"), None);
    }
}
