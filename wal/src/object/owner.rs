//! Who writes: one life of the WAL, and the entries only it can make.
//!
//! *Owns*: headers and bodies of entries; comparing what was read back; what a foreign or
//! damaged entry means.
//! *Does not own*: when anything is written.
//!
//! *IO: none*

use bytes::{BufMut, Bytes, BytesMut};
use tidewater_types::{ClusterId, Epoch, Lsn, NodeId, WalId};

use super::format::entry::{Header, Kind, TrimPoint, VERSION, decode};
use super::format::{Place, key, place_of};
use crate::error::WalError;
use crate::format::Flaw;
use crate::format::group::PREFIX_BYTES;
use crate::port::Frame;

/// A frame's body from this length on is shared instead of copied.
const SHARED_BYTES_MIN: usize = 4096;

/// One life of a WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) wal: WalId,
    pub(crate) epoch: Epoch,
    pub(crate) nonce: [u8; 16],
}

impl Owner {
    /// The header of an entry of this life that holds and states nothing.
    pub(crate) fn blank(&self, kind: Kind, place: Place) -> Header {
        Header {
            kind,
            cluster: self.cluster,
            node: self.node,
            wal: self.wal,
            place,
            writer: self.epoch,
            nonce: self.nonce,
            num_frames: 0,
            payload_bytes: 0,
            lsn: Lsn(0),
            durable: Lsn(0),
            durable_seq: 0,
            trim: TrimPoint::default(),
        }
    }

    pub(crate) fn key(&self, place: Place) -> String {
        key(self.node, place)
    }

    /// The place that a listed key names; `None` for what is no entry.
    ///
    /// # Errors
    /// [`WalError::Corrupt`] for a place that no log can have reached.
    pub(crate) fn place_of(&self, key: &str) -> Result<Option<Place>, WalError> {
        match place_of(self.node, key) {
            Some(place) if !place.is_plausible() => {
                let expected = "an epoch and a number below 2^62".to_owned();
                Err(self.corrupt(place, Lsn(0), expected, place.to_string()))
            }
            place => Ok(place),
        }
    }

    /// Somebody else's bytes stand where this life wanted to write.
    pub(crate) fn foreign(&self, place: Place, found: &[u8]) -> WalError {
        match decode(found, place) {
            Ok(header) if header.nonce == self.nonce => {
                let expected = "the content sent before".to_owned();
                self.corrupt(
                    place,
                    Lsn(0),
                    expected,
                    "other content of one's own".to_owned(),
                )
            }
            Ok(header) => WalError::Fenced {
                key: self.key(place),
                epoch: self.epoch,
                by: header.writer,
            },
            Err(flaw) => self.flawed(place, Lsn(0), flaw),
        }
    }

    /// The entry at `place` cannot be decoded.
    pub(crate) fn flawed(&self, place: Place, lsn: Lsn, flaw: Flaw) -> WalError {
        if let Flaw::Newer(found) = flaw {
            return WalError::NewerFormat {
                path: self.key(place),
                found,
                supported: VERSION,
            };
        }
        let found = flaw.describe().to_owned();
        self.corrupt(place, lsn, "a valid entry".to_owned(), found)
    }

    pub(crate) fn corrupt(
        &self,
        place: Place,
        lsn: Lsn,
        expected: String,
        found: String,
    ) -> WalError {
        WalError::Corrupt {
            path: self.key(place),
            position: 0,
            lsn,
            expected,
            found,
        }
    }
}

/// Bytes a frame takes in a payload, and so of LSN.
pub(crate) fn framed_bytes(frame: &Frame) -> u64 {
    (PREFIX_BYTES + frame.num_bytes()) as u64
}

/// The frames as a payload: small ones copied together, large ones shared.
pub(crate) fn payload(frames: &[Frame]) -> Vec<Bytes> {
    let is_small = |frame: &Frame| frame.parts()[1].len() < SHARED_BYTES_MIN;
    let copied = |frame: &Frame| {
        let [head, body] = frame.parts();
        let body_bytes = if is_small(frame) { body.len() } else { 0 };
        PREFIX_BYTES + head.len() + body_bytes
    };
    let mut parts = Vec::new();
    let mut small = BytesMut::with_capacity(frames.iter().map(copied).sum());
    for frame in frames {
        let [head, body] = frame.parts();
        small.put_u32_le(u32::try_from(frame.num_bytes()).expect("bounded by the pool"));
        small.extend_from_slice(head);
        if is_small(frame) {
            small.extend_from_slice(body);
        } else {
            parts.push(small.split().freeze());
            parts.push(frame.body());
        }
    }
    if !small.is_empty() {
        parts.push(small.freeze());
    }
    parts
}

/// Whether `found` is exactly the concatenation of `body`.
pub(crate) fn is_same(body: &[Bytes], mut found: &[u8]) -> bool {
    for part in body {
        let Some(rest) = found.strip_prefix(&part[..]) else {
            return false;
        };
        found = rest;
    }
    found.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::frame_bytes;

    #[test]
    fn a_payload_is_the_frames_in_order_and_shares_large_bodies() {
        let large = frame_bytes(1, 10_000);
        let frames = [
            Frame::new(b"ab", frame_bytes(2, 5)),
            Frame::new(b"c", large.clone()),
            Frame::from(Bytes::new()),
        ];
        let parts = payload(&frames);
        assert!(parts.iter().any(|part| part.as_ptr() == large.as_ptr()));
        let mut expected = vec![7, 0, 0, 0, b'a', b'b'];
        expected.extend_from_slice(&frame_bytes(2, 5));
        expected.extend_from_slice(&10_001u32.to_le_bytes());
        expected.push(b'c');
        expected.extend_from_slice(&large);
        expected.extend_from_slice(&[0; 4]);
        assert!(is_same(&parts, &expected));
    }

    #[test]
    fn what_differs_in_any_byte_or_in_length_is_not_the_same() {
        let body = [Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
        assert!(is_same(&body, b"abc"));
        for other in [&b"ab"[..], b"abcd", b"abd", b"xbc", b""] {
            assert!(!is_same(&body, other), "{other:?}");
        }
    }
}
