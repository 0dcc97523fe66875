//! Blocks that were asked for once.
//!
//! *Owns*: the memory of them, bounded; the oldest is forgotten first.
//! *Does not own*: the blocks.
//!
//! Invariants
//! 1. What follows depends on the order of calls alone: the hash is fixed.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::hash::BuildHasher;

use rustc_hash::{FxBuildHasher, FxHashSet};

use crate::read::cache::Key;

pub(crate) struct Ghost {
    known: FxHashSet<u64>,
    order: VecDeque<u64>,
    most: usize,
}

impl Ghost {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            known: FxHashSet::default(),
            order: VecDeque::new(),
            most,
        }
    }

    /// Whether the block was asked for before, as far as is remembered. It is remembered now.
    pub(crate) fn was_asked_for(&mut self, key: &Key) -> bool {
        // Two blocks with one hash: one of them is kept a request too early.
        let hash = FxBuildHasher.hash_one(key);
        if !self.known.insert(hash) {
            return true;
        }
        self.order.push_back(hash);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        false
    }
}
