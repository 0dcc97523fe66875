//! Cutting a stream of bytes into frames: four bytes of length, then that many.
//!
//! *Owns*: the read buffer, its growth, the checks of a length.
//! *Does not own*: reading bytes, what is in a frame.
//!
//! Invariants
//! 1. The buffer is at most twice the bytes that arrived plus one chunk, whatever
//!    a length says.
//! 2. A frame is a slice of the buffer, never a copy.
//! 3. A length that cannot be a request's is an error at its fourth byte.
//!
//! *Format: the Kafka protocol, <https://kafka.apache.org/protocol#protocol_common>*
//! *IO: none*

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the length in front of a frame.
pub(crate) const PREFIX: usize = 4;
/// The least a request can be: API key, version, correlation id.
pub(crate) const FRAME_BYTES_MIN: usize = 8;
/// Room made for reading while no larger frame is under way.
const CHUNK: usize = 16 << 10;
/// Room below which more is made.
const CHUNK_LEAST: usize = 2 << 10;

/// A length that cannot be a request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FramingError {
    /// Less than a header.
    #[error("frame length {found} is below {FRAME_BYTES_MIN}")]
    TooSmall { found: i32 },
    /// More than `frame_bytes_max`.
    #[error("frame length {found} is above {max}")]
    TooLarge { found: i32, max: usize },
}

/// The bytes of a connection that are not yet a whole frame.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl Frames {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        let buffer = BytesMut::new();
        Self {
            buffer,
            frame_bytes_max,
        }
    }

    /// Where arriving bytes go; there is room for some.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        let spare = self.buffer.capacity() - self.buffer.len();
        let missing = self
            .claimed()
            .map_or(0, |len| (PREFIX + len).saturating_sub(self.buffer.len()));
        if missing > CHUNK_LEAST {
            // A large frame: double what has arrived, but stop at its end, so that its
            // allocation is not shared with what follows.
            if spare < missing.min(CHUNK_LEAST) {
                self.grow(missing.min(self.buffer.len().max(CHUNK)));
            }
        } else if spare < CHUNK_LEAST {
            self.buffer.reserve(CHUNK);
        }
        &mut self.buffer
    }

    /// Makes room for exactly `more` bytes: `reserve` would round up to twice what there is, and
    /// records keep the buffer they came in.
    fn grow(&mut self, more: usize) {
        let mut grown = BytesMut::with_capacity(self.buffer.len() + more);
        grown.extend_from_slice(&self.buffer);
        self.buffer = grown;
    }

    /// The next whole frame without its length, if it has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, FramingError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let found = i32::from_be_bytes(*prefix);
        let len = usize::try_from(found).unwrap_or(0);
        if len < FRAME_BYTES_MIN {
            return Err(FramingError::TooSmall { found });
        }
        if len > self.frame_bytes_max {
            let max = self.frame_bytes_max;
            return Err(FramingError::TooLarge { found, max });
        }
        if self.buffer.len() < PREFIX + len {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(PREFIX + len).freeze();
        frame.advance(PREFIX);
        Ok(Some(frame))
    }

    /// Whether a frame has begun and not ended.
    pub(crate) fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The length of the frame under way; 0 while it is not known.
    pub(crate) fn partial_len(&self) -> usize {
        self.claimed().unwrap_or(0)
    }

    fn claimed(&self) -> Option<usize> {
        let prefix = self.buffer.first_chunk::<PREFIX>()?;
        usize::try_from(i32::from_be_bytes(*prefix)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, FRAME_BYTES_MIN, Frames, FramingError};
    use bytes::{BufMut, Bytes, BytesMut};
    use proptest::prelude::*;

    const MAX: usize = 100 << 20;

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.put_i32(i32::try_from(frame.len()).unwrap());
            bytes.extend_from_slice(frame);
        }
        bytes
    }

    /// Feeds `bytes` as a socket would: never more than there is room for.
    fn feed(frames: &mut Frames, mut bytes: &[u8], cuts: &[usize]) -> Vec<Bytes> {
        let mut cuts = cuts.iter().copied().cycle();
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let buffer: &mut BytesMut = frames.buffer();
            let room = buffer.capacity() - buffer.len();
            assert!(room > 0, "there is always room to read into");
            let cut = cuts
                .next()
                .unwrap_or(usize::MAX)
                .clamp(1, bytes.len().min(room));
            buffer.extend_from_slice(&bytes[..cut]);
            bytes = &bytes[cut..];
            while let Some(frame) = frames.next().unwrap() {
                found.push(frame);
            }
        }
        found
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_their_bytes_arrive(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), FRAME_BYTES_MIN..40_000), 1..6),
            cuts in prop::collection::vec(1usize..9_000, 1..20),
        ) {
            let mut reader = Frames::new(MAX);
            let found = feed(&mut reader, &framed(&frames), &cuts);
            prop_assert_eq!(found, frames);
            prop_assert!(!reader.is_partial());
        }
    }

    #[test]
    fn impossible_lengths_are_refused_at_their_fourth_byte() {
        for found in [0, 1, 7, -1, i32::MIN] {
            let mut frames = Frames::new(MAX);
            frames.buffer().put_i32(found);
            assert_eq!(frames.next(), Err(FramingError::TooSmall { found }));
        }
        for found in [i32::MAX, (100 << 20) + 1] {
            let mut frames = Frames::new(MAX);
            frames.buffer().put_i32(found);
            assert_eq!(
                frames.next(),
                Err(FramingError::TooLarge { found, max: MAX })
            );
            assert!(frames.buffer().capacity() <= 2 * CHUNK);
        }
    }

    #[test]
    fn a_length_alone_allocates_a_chunk_and_growth_follows_what_arrives() {
        let mut frames = Frames::new(MAX);
        frames.buffer().put_i32(100 << 20);
        assert_eq!(frames.next(), Ok(None));
        assert_eq!(frames.partial_len(), 100 << 20);
        let mut arrived = 4;
        while arrived < 4 << 20 {
            let buffer = frames.buffer();
            let room = buffer.capacity() - buffer.len();
            assert!(
                buffer.capacity() <= 2 * arrived + 2 * CHUNK,
                "{} at {arrived}",
                buffer.capacity()
            );
            buffer.put_bytes(7, room);
            arrived += room;
            assert_eq!(frames.next(), Ok(None));
        }
    }

    #[test]
    fn a_large_frame_has_its_allocation_to_itself() {
        let frame = vec![3u8; 300_000];
        let mut frames = Frames::new(MAX);
        let found = feed(
            &mut frames,
            &framed(std::slice::from_ref(&frame)),
            &[usize::MAX],
        );
        assert_eq!(found, vec![frame]);
        assert!(!frames.is_partial());
        drop(frames);
        let kept = found.into_iter().next().unwrap().try_into_mut().unwrap();
        assert!(kept.capacity() <= 300_000 + CHUNK, "{}", kept.capacity());
    }
}
