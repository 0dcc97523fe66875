//! Responses on their way to the socket.
//!
//! *Owns*: the queue of segments, the length in front of a response, taking away
//! what a vectored write took.
//! *Does not own*: writing.
//!
//! Invariants
//! 1. Segments are never copied together.
//! 2. A response's length is that of all its segments.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Most segments of one write.
pub(crate) const SLICES_MAX: usize = 64;

/// Bytes to write.
#[derive(Debug, Default)]
pub(crate) struct Out {
    segments: VecDeque<Bytes>,
    len: usize,
}

impl Out {
    /// Appends a response and returns its bytes with the length in front; `None`, and nothing
    /// is appended, if it is longer than a length can say.
    pub(crate) fn push(&mut self, response: Vec<Bytes>) -> Option<usize> {
        let len: usize = response.iter().map(Bytes::len).sum();
        let prefix = i32::try_from(len).ok()?.to_be_bytes();
        self.segments.push_back(Bytes::copy_from_slice(&prefix));
        self.segments
            .extend(response.into_iter().filter(|segment| !segment.is_empty()));
        self.len += prefix.len() + len;
        Some(prefix.len() + len)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The front of the queue as slices for a vectored write.
    pub(crate) fn slices(&self) -> ([IoSlice<'_>; SLICES_MAX], usize) {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slot, segment) in slices.iter_mut().zip(&self.segments) {
            *slot = IoSlice::new(segment);
            count += 1;
        }
        (slices, count)
    }

    /// Takes away `num_bytes` that were written.
    pub(crate) fn advance(&mut self, num_bytes: usize) {
        assert!(num_bytes <= self.len, "no more is written than there was");
        self.len -= num_bytes;
        let mut left = num_bytes;
        while let Some(front) = self.segments.front_mut() {
            if left < front.len() {
                front.advance(left);
                return;
            }
            left -= front.len();
            self.segments.pop_front();
        }
    }

    /// Drops everything and returns how many bytes that were.
    pub(crate) fn discard(&mut self) -> usize {
        self.segments.clear();
        std::mem::take(&mut self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::Out;
    use bytes::Bytes;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_a_write_takes_the_bytes_come_out_whole_and_in_order(
            responses in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..90), 1..4),
            takes in prop::collection::vec(1usize..60, 1..8),
        ) {
            let (mut out, mut expected, mut written) = (Out::default(), Vec::new(), Vec::new());
            for response in &responses {
                let len: usize = response.iter().map(Vec::len).sum();
                expected.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
                expected.extend(response.concat());
                let segments = response.iter().map(|s| Bytes::copy_from_slice(s)).collect();
                prop_assert_eq!(out.push(segments), Some(len + 4));
            }
            let mut takes = takes.iter().cycle();
            while !out.is_empty() {
                let (slices, count) = out.slices();
                let front: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                let take = front.len().min(*takes.next().unwrap());
                written.extend_from_slice(&front[..take]);
                out.advance(take);
            }
            prop_assert_eq!(written, expected);
        }
    }
}
