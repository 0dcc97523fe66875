//! The object WAL's format: keys and entries.
//!
//! *Owns*: the names of the objects of a chain.
//! *Does not own*: what follows from what lies there; the takeover decides.
//!
//! Invariants
//! 1. Keys sort as their epochs and sequence numbers do.
//!
//! *Format: docs/formats/object-wal.md* · *IO: none*

pub(crate) mod entry;
#[cfg(test)]
mod tests;

use std::fmt;

use tidewater_types::{Epoch, NodeId};

const ROOT: &str = "wal/";
const NODE_DIGITS: usize = 10;
const DIGITS: usize = 20;
/// No epoch and no number comes near: what is above was not written by a log.
const PLACE_MAX: u64 = 1 << 62;

/// The place of an entry: its epoch and its number in that epoch's chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) epoch: Epoch,
    pub(crate) seq: u64,
}

impl Place {
    pub(crate) fn new(epoch: Epoch, seq: u64) -> Self {
        Self { epoch, seq }
    }

    /// Whether a log can have come so far.
    pub(crate) fn is_plausible(self) -> bool {
        self.epoch.0 < PLACE_MAX && self.seq < PLACE_MAX
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}

/// What the keys of a node's chains begin with.
pub(crate) fn prefix(node: NodeId) -> String {
    format!("{ROOT}{:0NODE_DIGITS$}/", node.0)
}

/// What the keys of an epoch's chain begin with.
pub(crate) fn epoch_prefix(node: NodeId, epoch: Epoch) -> String {
    format!("{}{:0DIGITS$}/", prefix(node), epoch.0)
}

/// The key of the entry at `place`.
pub(crate) fn key(node: NodeId, place: Place) -> String {
    let Place { epoch, seq } = place;
    format!("{}{seq:0DIGITS$}", epoch_prefix(node, epoch))
}

/// The place a key names; `None` for a key that is no entry of this node.
pub(crate) fn place_of(node: NodeId, key: &str) -> Option<Place> {
    let (epoch, seq) = key.strip_prefix(&prefix(node))?.split_once('/')?;
    Some(Place::new(Epoch(number(epoch)?), number(seq)?))
}

fn number(digits: &str) -> Option<u64> {
    let plain = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}
