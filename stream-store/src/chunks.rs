//! A queue in chunks of a fixed size: it takes about what its elements take.
//!
//! *Owns*: pushing at the end, popping at the front, looking up by place.
//! *Does not own*: what the elements are.
//!
//! Invariants
//! 1. Every chunk but the first and the last is full; none is empty.
//! 2. Beside the elements it has room for fewer than a chunk at each end: growing moves no more than
//!    one chunk, and what was popped is given back. A queue that doubles holds three times its
//!    elements while it moves them, and keeps the room of its largest size.
//!
//! *IO: none*

use std::collections::VecDeque;

/// Elements of a chunk: streams are many, and each has a queue.
const CHUNK: usize = 32;

/// The queue.
#[derive(Debug)]
pub(crate) struct Chunks<T> {
    chunks: VecDeque<VecDeque<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        let chunks = VecDeque::new();
        Self { chunks }
    }
}

impl<T> Chunks<T> {
    pub(crate) fn push_back(&mut self, element: T) {
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK => last.push_back(element),
            last => {
                // Whoever has few elements has room for few.
                let room = if last.is_some() { CHUNK } else { 1 };
                let mut chunk = VecDeque::with_capacity(room);
                chunk.push_back(element);
                self.chunks.push_back(chunk);
            }
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let first = self.chunks.front_mut()?;
        let element = first.pop_front().expect("no chunk is empty");
        if first.is_empty() {
            self.chunks.pop_front();
        }
        Some(element)
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.chunks.front()?.front()
    }

    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        let (chunk, place) = self.find(place);
        self.chunks.get(chunk)?.get(place)
    }

    /// The elements from `place` on.
    pub(crate) fn iter_from(&self, place: usize) -> impl Iterator<Item = &T> {
        let (chunk, place) = self.find(place);
        let chunks = self.chunks.range(chunk.min(self.chunks.len())..);
        chunks.flatten().skip(place)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.iter_from(0)
    }

    /// The place of the first element for which `is_before` does not hold, where it holds for all in
    /// front of that one.
    pub(crate) fn partition_point(&self, mut is_before: impl FnMut(&T) -> bool) -> usize {
        let starts_before = |chunk: &VecDeque<T>| chunk.front().is_some_and(&mut is_before);
        let after = self.chunks.partition_point(starts_before);
        let Some(chunk) = after.checked_sub(1) else {
            return 0;
        };
        let in_front = match chunk {
            0 => 0,
            others => self.chunks[0].len() + (others - 1) * CHUNK,
        };
        in_front + self.chunks[chunk].partition_point(is_before)
    }

    /// The chunk of a place, and the place in it.
    fn find(&self, place: usize) -> (usize, usize) {
        let in_first = self.chunks.front().map_or(0, VecDeque::len);
        match place.checked_sub(in_first) {
            None => (0, place),
            Some(behind) => (1 + behind / CHUNK, behind % CHUNK),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_queue(steps in proptest::collection::vec((any::<bool>(), 0..3 * CHUNK), 0..30)) {
            let (mut queue, mut model) = (Chunks::default(), VecDeque::new());
            let mut next = 0;
            for (push, count) in steps {
                for _ in 0..count {
                    if push {
                        queue.push_back(next);
                        model.push_back(next);
                        next += 1;
                    } else {
                        prop_assert_eq!(queue.pop_front(), model.pop_front());
                    }
                }
                prop_assert_eq!(queue.front(), model.front());
                prop_assert!(queue.iter().eq(&model));
                for place in [0, 1, count, model.len() / 2, model.len(), model.len() + CHUNK] {
                    prop_assert_eq!(queue.get(place), model.get(place));
                    let from = place.min(model.len());
                    prop_assert!(queue.iter_from(place).eq(model.range(from..)));
                    let bound = model.front().copied().unwrap_or(0) + place;
                    let expected = model.partition_point(|element| *element < bound);
                    prop_assert_eq!(queue.partition_point(|element| *element < bound), expected);
                }
            }
        }
    }

    #[test]
    fn room_is_for_what_is_there() {
        let room = |queue: &Chunks<u64>| queue.chunks.iter().map(VecDeque::capacity).sum::<usize>();
        let mut queue = Chunks::default();
        queue.push_back(0);
        assert!(room(&queue) <= 4);
        (1..10_000).for_each(|element| queue.push_back(element));
        assert!(room(&queue) < 10_000 + CHUNK);
        assert_eq!((0..9_990).filter_map(|_| queue.pop_front()).count(), 9_990);
        assert!(room(&queue) <= 2 * CHUNK);
        assert_eq!((0..20).filter_map(|_| queue.pop_front()).count(), 10);
        assert_eq!(room(&queue), 0);
    }
}
