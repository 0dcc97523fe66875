//! Bounded reading of little-endian fields.
//!
//! *Owns*: the cursor and the two verdicts of every decoder.
//! *Does not own*: any layout.
//!
//! Invariants
//! 1. No input makes it panic or allocate more than the input's own size.
//!
//! *IO: none*

use bytes::Bytes;

/// Why bytes were not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormatError {
    /// The bytes are not what was written.
    Damaged {
        /// Byte in the buffer.
        position: u64,
        /// What was checked there.
        what: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// Written by a newer version.
    Unsupported {
        /// The version stated.
        version: u16,
    },
}

/// A cursor over bytes of unknown quality.
pub(crate) struct Reader {
    bytes: Bytes,
    position: usize,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position as u64
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `len` bytes, sharing the buffer.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<Bytes, FormatError> {
        if len > self.remaining() {
            return Err(self.damaged("bytes left", len as u64, self.remaining() as u64));
        }
        let part = self.bytes.slice(self.position..self.position + len);
        self.position += len;
        Ok(part)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let rest = &self.bytes[self.position..];
        let part = rest.first_chunk::<N>().copied();
        let part =
            part.ok_or_else(|| self.damaged("bytes left", N as u64, self.remaining() as u64))?;
        self.position += N;
        Ok(part)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A count of things of at least `size_min` bytes each: more than fit is damage.
    pub(crate) fn count(
        &mut self,
        size_min: usize,
        what: &'static str,
    ) -> Result<usize, FormatError> {
        let count = self.u32()? as usize;
        let most = self.remaining() / size_min;
        if count > most {
            return Err(self.damaged(what, most as u64, count as u64));
        }
        Ok(count)
    }

    /// A flag: 0 or 1 and nothing else.
    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, FormatError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.damaged(what, 1, u64::from(other))),
        }
    }

    /// Reserved bytes: zero.
    pub(crate) fn zeros<const N: usize>(&mut self) -> Result<(), FormatError> {
        let part: [u8; N] = self.array()?;
        match part.iter().find(|byte| **byte != 0) {
            Some(byte) => Err(self.damaged("reserved bytes", 0, u64::from(*byte))),
            None => Ok(()),
        }
    }

    /// The value must be `expected`.
    pub(crate) fn expect(
        &self,
        what: &'static str,
        expected: u64,
        found: u64,
    ) -> Result<(), FormatError> {
        if expected == found {
            Ok(())
        } else {
            Err(self.damaged(what, expected, found))
        }
    }

    /// Every byte was read.
    pub(crate) fn finish(&self) -> Result<(), FormatError> {
        self.expect("bytes left", 0, self.remaining() as u64)
    }

    pub(crate) fn damaged(&self, what: &'static str, expected: u64, found: u64) -> FormatError {
        FormatError::Damaged {
            position: self.position(),
            what,
            expected,
            found,
        }
    }
}
