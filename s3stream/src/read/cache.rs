//! The memory cache of blocks and indices.
//!
//! *Owns*: what names a block, scan-resistant eviction by bytes, and that an index is loaded once
//! however many readers want it.
//! *Does not own*: how a block is loaded and checked, that it is loaded once (`flight.rs`).
//!
//! Invariants
//! 1. The key names the object for ever: an entry is never stale.
//! 2. Eviction follows from the order of requests alone: fixed hasher, fixed shards.
//!
//! *IO: none*

use std::future::Future;

use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use rustc_hash::FxBuildHasher;
use tidewater_types::{Epoch, mutant};

use crate::object_id::ObjectId;

/// A block: its object and its position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) object: ObjectId,
    pub(crate) position: u64,
}

impl Key {
    pub(crate) fn new(object: ObjectId, position: u64) -> Self {
        let object = if mutant!(34) {
            // Counters begin again with each epoch of a node.
            let (epoch, nonce) = (Epoch(0), 0);
            ObjectId {
                epoch,
                nonce,
                ..object
            }
        } else {
            object
        };
        Self { object, position }
    }
}

/// Something whose size in memory is known.
pub(crate) trait NumBytes {
    fn num_bytes(&self) -> usize;
}

#[derive(Clone)]
struct ByBytes;

impl<V: NumBytes> Weighter<Key, V> for ByBytes {
    fn weight(&self, _key: &Key, value: &V) -> u64 {
        // What an entry takes beside its bytes: its places in the cache, with as much again for room
        // that is not filled, and what counts those who share it. A test of the store measures it.
        const OVERHEAD: u64 = 480;
        value.num_bytes() as u64 + OVERHEAD
    }
}

pub(crate) struct Cache<V: NumBytes + Clone> {
    entries: QuickCache<Key, V, ByBytes, FxBuildHasher, DefaultLifecycle<Key, V>>,
}

impl<V: NumBytes + Clone> Cache<V> {
    /// A cache of `num_bytes` for values of about `value_bytes` each.
    pub(crate) fn new(num_bytes: u64, value_bytes: u64) -> Self {
        // The number of shards would follow the number of cores, and eviction with it. A small cache
        // has one: a shard that holds a handful of values evicts whatever its hash brings together.
        const SHARDS: usize = 4;
        const SHARD_VALUES_MIN: u64 = 64;
        // A new entry competes with other new ones alone until it was of use again. What was read
        // ahead is new, and may be half of all (`ahead_percent`): it must stay until its reader comes,
        // together with what readers take by themselves.
        const FOR_WHAT_IS_USED_AGAIN: f64 = 0.4;
        let num_values = num_bytes / value_bytes.max(1);
        let is_small = num_values < SHARD_VALUES_MIN * SHARDS as u64;
        let items = usize::try_from(num_values).unwrap_or(usize::MAX).max(128);
        let options = OptionsBuilder::new()
            .shards(if is_small { 1 } else { SHARDS })
            .estimated_items_capacity(items)
            .weight_capacity(num_bytes)
            .hot_allocation(FOR_WHAT_IS_USED_AGAIN)
            // What comes again after it left is new: readers alone say what is used again.
            .ghost_allocation(0.0)
            .build()
            .expect("both capacities are given");
        let entries =
            QuickCache::with_options(options, ByBytes, FxBuildHasher, DefaultLifecycle::default());
        Self { entries }
    }

    /// The value, if it is in memory. It stays no longer for that.
    pub(crate) fn peek(&self, key: &Key) -> Option<V> {
        self.entries.peek(key)
    }

    /// The entry was of use: it stays longer than those that were not.
    pub(crate) fn touch(&self, key: &Key) {
        let _value = self.entries.get(key);
    }

    /// What all values take, in bytes.
    pub(crate) fn num_bytes(&self) -> u64 {
        self.entries.weight()
    }

    #[cfg(test)]
    pub(crate) fn clear(&self) {
        self.entries.clear();
    }

    pub(crate) fn insert(&self, key: Key, value: V) {
        self.entries.insert(key, value);
    }

    /// The value, and whether it was in memory. Of several callers one runs `load`; if that
    /// fails, the next one tries.
    pub(crate) async fn get_or_load<E>(
        &self,
        key: Key,
        load: impl Future<Output = Result<V, E>>,
    ) -> Result<(V, bool), E> {
        match self.entries.get_value_or_guard_async(&key).await {
            Ok(value) => Ok((value, true)),
            Err(guard) => {
                let value = load.await?;
                // Refused if it was removed meanwhile: then it is just not cached.
                let _cached = guard.insert(value.clone());
                Ok((value, false))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, Key, NumBytes};
    use crate::object_id::ObjectId;
    use tidewater_types::{Epoch, NodeId};

    #[derive(Clone)]
    struct Block;

    impl NumBytes for Block {
        fn num_bytes(&self) -> usize {
            512 << 10
        }
    }

    #[test]
    fn what_is_read_ahead_stays_for_its_reader_in_a_full_cache() {
        let object = ObjectId {
            node: NodeId(1),
            epoch: Epoch(1),
            counter: 1,
            nonce: 7,
        };
        let cache = Cache::new(64 << 20, 512 << 10);
        for position in 0..400 {
            cache.insert(Key::new(object, position), Block);
        }
        // 12 MiB, of 32 that may be read ahead: the cache is divided by a hash, not evenly.
        let ahead = (1_000..1_024).map(|position| Key::new(object, position));
        ahead.clone().for_each(|key| cache.insert(key, Block));
        let gone = ahead.filter(|key| cache.peek(key).is_none()).count();
        assert_eq!(gone, 0);
    }
}
