//! `Records`: a field of record batches, kept as the bytes they came as.
//!
//! *Owns*: a list of segments that together are one field.
//!
//! *Does not own*: what is in the batches.
//!
//! *IO: none*

use bytes::{Bytes, BytesMut};

/// Record batches as raw bytes. Decoding yields one segment, a slice of the input; for encoding any
/// number of segments may stand one behind the other (batches from a cache, say), and none is
/// copied. Two values are equal if their bytes are, however they are cut.
#[derive(Debug, Clone, Default)]
pub struct Records(pub Vec<Bytes>);

impl Records {
    /// Number of bytes in all segments.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// The bytes in one piece; copies only if there are several segments.
    pub fn into_bytes(mut self) -> Bytes {
        match self.0.len() {
            0 => Bytes::new(),
            1 => self.0.remove(0),
            _ => {
                let mut whole = BytesMut::with_capacity(self.len());
                self.0
                    .iter()
                    .for_each(|segment| whole.extend_from_slice(segment));
                whole.freeze()
            }
        }
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.0.iter().flatten().eq(other.0.iter().flatten())
    }
}

impl Eq for Records {}

impl From<Bytes> for Records {
    fn from(segment: Bytes) -> Self {
        Self(vec![segment])
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(segments: Vec<Bytes>) -> Self {
        Self(segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_ignores_how_the_bytes_are_cut() {
        let cut = Records(vec![
            Bytes::from_static(b"ab"),
            Bytes::new(),
            Bytes::from_static(b"c"),
        ]);
        let whole = Records::from(Bytes::from_static(b"abc"));
        assert_eq!(cut, whole);
        assert_ne!(cut, Records::from(Bytes::from_static(b"abd")));
        assert_ne!(cut, Records::default());
        assert_eq!(cut.into_bytes(), Bytes::from_static(b"abc"));
    }

    #[test]
    fn one_segment_comes_out_without_a_copy() {
        let segment = Bytes::from(vec![7; 100]);
        let at = segment.as_ptr();
        assert_eq!(Records::from(segment).into_bytes().as_ptr(), at);
    }
}
