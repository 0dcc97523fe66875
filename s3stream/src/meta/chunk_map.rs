//! A sorted map that is small in memory and cheap to clone.
//!
//! *Owns*: sorted chunks behind reference counts, copied when written while shared.
//! *Does not own*: what the entries mean.
//!
//! Invariants
//! 1. Chunks are not empty; entries ascend within each and from one to the next.
//! 2. A clone costs one counter a chunk, and is never changed by the original.
//! 3. Ascending inserts fill chunks to the brim: there is no slack in what only grows.
//!
//! *IO: none*

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Bound, Index, RangeBounds};
use std::sync::Arc;

/// Entries in a full chunk: a copy of one takes microseconds.
const CHUNK: usize = 256;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// A sorted map with the methods of a `BTreeMap` that the state needs.
pub(crate) struct ChunkMap<K, V> {
    /// Each with a copy of its first key, so that a search touches one chunk.
    chunks: Vec<(K, Chunk<K, V>)>,
    len: usize,
}

impl<K, V> Default for ChunkMap<K, V> {
    fn default() -> Self {
        let chunks = Vec::new();
        Self { chunks, len: 0 }
    }
}

impl<K: Clone, V> Clone for ChunkMap<K, V> {
    fn clone(&self) -> Self {
        let (chunks, len) = (self.chunks.clone(), self.len);
        Self { chunks, len }
    }
}

impl<K: Ord + Clone, V> ChunkMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where `key` is, or where it would be inserted: a chunk and a place in it.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<(usize, usize), (usize, usize)>
    where
        K: Borrow<Q>,
    {
        let after = self
            .chunks
            .partition_point(|(first, _)| first.borrow() <= key);
        let Some(at) = after.checked_sub(1) else {
            return Err((0, 0));
        };
        let place = self.chunks[at]
            .1
            .binary_search_by(|(other, _)| other.borrow().cmp(key));
        place.map(|place| (at, place)).map_err(|place| (at, place))
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (at, place) = self.find(key).ok()?;
        Some(&self.chunks[at].1[place].1)
    }

    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    pub(crate) fn iter(&self) -> Iter<'_, K, V> {
        let (front, back) = ((0, 0), (self.chunks.len(), 0));
        Iter {
            chunks: &self.chunks,
            front,
            back,
        }
    }

    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    pub(crate) fn last_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next_back()
    }

    /// The entries whose keys lie in `range`, ascending.
    pub(crate) fn range<Q: Ord + ?Sized, R: RangeBounds<Q>>(&self, range: R) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let front = match range.start_bound() {
            Bound::Unbounded => (0, 0),
            Bound::Included(key) => self.normal(self.find(key).unwrap_or_else(|place| place)),
            Bound::Excluded(key) => self.behind(key),
        };
        let back = match range.end_bound() {
            Bound::Unbounded => (self.chunks.len(), 0),
            Bound::Excluded(key) => self.normal(self.find(key).unwrap_or_else(|place| place)),
            Bound::Included(key) => self.behind(key),
        };
        Iter {
            chunks: &self.chunks,
            front,
            back,
        }
    }

    /// The place of the first entry above `key`.
    fn behind<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, usize)
    where
        K: Borrow<Q>,
    {
        match self.find(key) {
            Ok((at, place)) => self.normal((at, place + 1)),
            Err(place) => self.normal(place),
        }
    }

    /// The end of a chunk is the beginning of the next.
    fn normal(&self, (at, place): (usize, usize)) -> (usize, usize) {
        match self.chunks.get(at) {
            Some((_, chunk)) if place == chunk.len() => (at + 1, 0),
            _ => (at, place),
        }
    }

    /// Tells the ordinal of a key by searches alone; for codecs that refer to entries by number.
    pub(crate) fn ranks(&self) -> Ranks<'_, K, V> {
        let mut next = 0;
        let starts = self.chunks.iter().map(|(_, chunk)| {
            next += chunk.len();
            next - chunk.len()
        });
        Ranks {
            starts: starts.collect(),
            map: self,
        }
    }
}

impl<K: Ord + Clone, V: Clone> ChunkMap<K, V> {
    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (at, place) = self.find(key).ok()?;
        Some(&mut Arc::make_mut(&mut self.chunks[at].1)[place].1)
    }

    /// Sets the value of a key; the one it had.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (mut at, mut place) = match self.find(&key) {
            Ok((at, place)) => {
                let slot = &mut Arc::make_mut(&mut self.chunks[at].1)[place].1;
                return Some(std::mem::replace(slot, value));
            }
            Err(place) => place,
        };
        self.len += 1;
        if self.chunks.is_empty() || self.chunks[at].1.len() == CHUNK {
            (at, place) = self.make_room(at, place);
        }
        if at == self.chunks.len() {
            let chunk = Arc::new(vec![(key.clone(), value)]);
            grow(&mut self.chunks, usize::MAX);
            self.chunks.insert(at, (key, chunk));
            return None;
        }
        let (first, chunk) = &mut self.chunks[at];
        if place == 0 {
            *first = key.clone();
        }
        let chunk = Arc::make_mut(chunk);
        grow(chunk, CHUNK);
        chunk.insert(place, (key, value));
        None
    }

    /// Splits the full chunk `at`; where the insert goes now. Past the last chunk: a new one.
    fn make_room(&mut self, at: usize, place: usize) -> (usize, usize) {
        if at + 1 >= self.chunks.len() && (self.chunks.is_empty() || place == CHUNK) {
            return (self.chunks.len(), 0);
        }
        let chunk = Arc::make_mut(&mut self.chunks[at].1);
        let upper = chunk.split_off(CHUNK / 2);
        chunk.shrink_to_fit();
        let first = upper[0].0.clone();
        grow(&mut self.chunks, usize::MAX);
        self.chunks.insert(at + 1, (first, Arc::new(upper)));
        if place > CHUNK / 2 {
            (at + 1, place - CHUNK / 2)
        } else {
            (at, place)
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (at, place) = self.find(key).ok()?;
        self.len -= 1;
        let (first, chunk) = &mut self.chunks[at];
        let chunk = Arc::make_mut(chunk);
        let (_, value) = chunk.remove(place);
        match chunk.first() {
            None => drop(self.chunks.remove(at)),
            Some((key, _)) if place == 0 => *first = key.clone(),
            Some(_) => {}
        }
        self.merge(at);
        Some(value)
    }

    /// Joins a chunk with the next if both together fill a half: removals leave no crumbs.
    fn merge(&mut self, at: usize) {
        let Some([(_, left), (_, right)]) = self.chunks.get(at..at.saturating_add(2)) else {
            return;
        };
        if left.len() + right.len() > CHUNK / 2 {
            return;
        }
        let (_, right) = self.chunks.remove(at + 1);
        let left = Arc::make_mut(&mut self.chunks[at].1);
        left.reserve_exact(right.len());
        left.extend(Arc::unwrap_or_clone(right));
    }
}

/// Makes room for one more by halves: memory follows the entries closely.
fn grow<T>(entries: &mut Vec<T>, most: usize) {
    let len = entries.len();
    if len == entries.capacity() {
        entries.reserve_exact((len / 2).clamp(1, most - len));
    }
}

/// Entries in ascending order.
pub(crate) struct Iter<'a, K, V> {
    chunks: &'a [(K, Chunk<K, V>)],
    front: (usize, usize),
    /// One past the last.
    back: (usize, usize),
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let (at, place) = self.front;
        let chunk = &self.chunks[at].1;
        self.front = if place + 1 == chunk.len() {
            (at + 1, 0)
        } else {
            (at, place + 1)
        };
        chunk.get(place).map(|(key, value)| (key, value))
    }

    /// At least one if there is one.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.front < self.back), None)
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let (at, place) = self.back;
        self.back = match place.checked_sub(1) {
            Some(place) => (at, place),
            None => (at - 1, self.chunks[at - 1].1.len() - 1),
        };
        let (key, value) = &self.chunks[self.back.0].1[self.back.1];
        Some((key, value))
    }
}

impl<'a, K: Ord + Clone, V> IntoIterator for &'a ChunkMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for ChunkMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Ord + Clone, V> Index<&K> for ChunkMap<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        self.get(key).expect("the key is in the map")
    }
}

impl<K: Ord + Clone, V: PartialEq> PartialEq for ChunkMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone, V: Eq> Eq for ChunkMap<K, V> {}

impl<K: Ord + Clone + fmt::Debug, V: fmt::Debug> fmt::Debug for ChunkMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

/// Ordinals of the keys of a map.
pub(crate) struct Ranks<'a, K, V> {
    starts: Vec<usize>,
    map: &'a ChunkMap<K, V>,
}

impl<K: Ord + Clone, V> Ranks<'_, K, V> {
    /// How many keys lie below `key`, which is in the map.
    pub(crate) fn rank(&self, key: &K) -> usize {
        let (at, place) = self.map.find(key).expect("the key is in the map");
        self.starts[at] + place
    }
}

/// A sorted set of the same kind.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ChunkSet<K: Ord + Clone>(ChunkMap<K, ()>);

impl<K: Ord + Clone> Default for ChunkSet<K> {
    fn default() -> Self {
        Self(ChunkMap::default())
    }
}

impl<K: Ord + Clone> ChunkSet<K> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn insert(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }

    pub(crate) fn remove(&mut self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.keys()
    }
}

impl<K: Ord + Clone + fmt::Debug> fmt::Debug for ChunkSet<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
