//! Bounded reading of Kafka's variable-length numbers from plain or decompressed
//! bytes.
//!
//! *Owns*: `Input`, the one reader the record parser uses, and its errors.
//! *Does not own*: codecs; it reads whatever `codec` opened.
//!
//! Invariants
//! 1. A number takes at most 5 (32-bit) or 10 (64-bit) bytes.
//! 2. Reading past the end is an error, never a default.
//!
//! *IO: none* (the `Read` inside is a decompressor over memory)

use std::io::BufRead;

use super::fault::Malformed;

/// Where records are read from.
pub(crate) struct Input<R> {
    source: R,
    num_read: u64,
}

/// Why a read failed: the record is malformed, or the decompressor gave up.
#[derive(Debug)]
pub(crate) enum InputError {
    Malformed(Malformed),
    Source(std::io::Error),
}

impl From<Malformed> for InputError {
    fn from(what: Malformed) -> Self {
        Self::Malformed(what)
    }
}

impl<R: BufRead> Input<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            num_read: 0,
        }
    }

    /// Bytes read so far.
    pub(crate) fn num_read(&self) -> u64 {
        self.num_read
    }

    pub(crate) fn is_at_end(&mut self) -> Result<bool, InputError> {
        Ok(self
            .source
            .fill_buf()
            .map_err(InputError::Source)?
            .is_empty())
    }

    pub(crate) fn byte(&mut self) -> Result<u8, InputError> {
        let buffer = self.source.fill_buf().map_err(InputError::Source)?;
        let byte = *buffer.first().ok_or(Malformed::CutOff)?;
        self.source.consume(1);
        self.num_read += 1;
        Ok(byte)
    }

    /// A zigzag number of at most 32 bits.
    pub(crate) fn varint(&mut self) -> Result<i32, InputError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        Err(Malformed::Varint.into())
    }

    /// A zigzag number of at most 64 bits.
    pub(crate) fn varlong(&mut self) -> Result<i64, InputError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        Err(Malformed::Varint.into())
    }

    /// Passes over `count` bytes.
    pub(crate) fn skip(&mut self, mut count: usize) -> Result<(), InputError> {
        self.num_read += count as u64;
        while count > 0 {
            let available = self.source.fill_buf().map_err(InputError::Source)?.len();
            if available == 0 {
                return Err(Malformed::CutOff.into());
            }
            let step = available.min(count);
            self.source.consume(step);
            count -= step;
        }
        Ok(())
    }

    /// All that is left, to hold it in memory.
    pub(crate) fn rest(mut self) -> Result<Vec<u8>, std::io::Error> {
        let mut all = Vec::new();
        self.source.read_to_end(&mut all)?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::{put_varint, put_varlong};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(short in any::<i32>(), long in any::<i64>()) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, short);
            put_varlong(&mut bytes, long);
            let mut input = Input::new(&bytes[..]);
            prop_assert_eq!(input.varint().unwrap(), short);
            prop_assert_eq!(input.varlong().unwrap(), long);
            prop_assert!(input.is_at_end().unwrap());
            prop_assert_eq!(input.num_read(), bytes.len() as u64);
        }
    }

    #[test]
    fn overlong_numbers_are_refused() {
        let endless = [0xffu8; 16];
        assert!(matches!(
            Input::new(&endless[..]).varint(),
            Err(InputError::Malformed(Malformed::Varint))
        ));
        assert!(matches!(
            Input::new(&endless[..]).varlong(),
            Err(InputError::Malformed(Malformed::Varint))
        ));
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        assert!(matches!(
            Input::new(&[0x80u8][..]).varint(),
            Err(InputError::Malformed(Malformed::CutOff))
        ));
        assert!(matches!(
            Input::new(&[1u8, 2][..]).skip(3),
            Err(InputError::Malformed(Malformed::CutOff))
        ));
    }
}
