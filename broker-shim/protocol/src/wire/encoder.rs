//! Writes primitives into a list of segments.
//!
//! *Owns*: the output buffer, and when a byte string is appended by reference instead of copied.
//!
//! *Does not own*: which primitive comes next (generated code), the four length bytes of a frame.
//!
//! Invariants:
//! 1. `len()` is the sum of all segments, in the order they will be sent.
//! 2. Records are never copied.
//!
//! *Format: the Kafka protocol, see <https://kafka.apache.org/protocol>*
//! *IO: none*

use bytes::{BufMut, Bytes, BytesMut};

use crate::{EncodeError, Records, Uuid, VersionRange};

/// Byte strings at least this long are appended by reference; below, a copy costs less than one
/// more segment for the socket to gather.
const SHARE_FROM: usize = 1024;

/// Collects encoded messages as segments for a vectored write. Records and long byte strings are
/// segments of their own that share memory with the message; all else is gathered in between.
#[derive(Debug, Default)]
pub struct Encoder {
    finished: Vec<Bytes>,
    num_bytes_finished: usize,
    tail: BytesMut,
    message: &'static str,
    version: i16,
}

type Result<T> = std::result::Result<T, EncodeError>;

macro_rules! scalars {
    ($($name:ident: $ty:ty, $put:ident;)*) => {$(
        #[allow(dead_code, reason = "the wire has these types; not every schema uses all of them")]
        pub(crate) fn $name(&mut self, value: $ty) {
            self.tail.$put(value);
        }
    )*};
}

impl Encoder {
    /// An empty encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of bytes written so far.
    pub fn len(&self) -> usize {
        self.num_bytes_finished + self.tail.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The segments, none of them empty, in the order they go to the socket.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.seal();
        self.finished
    }

    /// Names the message in errors from here on.
    pub(crate) fn begin(
        &mut self,
        message: &'static str,
        supported: VersionRange,
        version: i16,
    ) -> Result<()> {
        (self.message, self.version) = (message, version);
        if supported.contains(version) {
            return Ok(());
        }
        Err(EncodeError::UnsupportedVersion {
            message,
            version,
            min: supported.min,
            max: supported.max,
        })
    }

    scalars! {
        i8: i8, put_i8;
        i16: i16, put_i16;
        u16: u16, put_u16;
        i32: i32, put_i32;
        u32: u32, put_u32;
        i64: i64, put_i64;
        f64: f64, put_f64;
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.tail.put_u8(u8::from(value));
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.tail.put_slice(&value.0);
    }

    pub(crate) fn string(&mut self, field: &'static str, text: &str, flexible: bool) -> Result<()> {
        self.nullable_string(field, Some(text), flexible)
    }

    pub(crate) fn nullable_string(
        &mut self,
        field: &'static str,
        text: Option<&str>,
        flexible: bool,
    ) -> Result<()> {
        let Some(text) = text else {
            match flexible {
                true => self.uvarint(0),
                false => self.i16(-1),
            }
            return Ok(());
        };
        let max = i16::MAX as usize;
        let length =
            i16::try_from(text.len()).map_err(|_| self.too_long(field, text.len(), max))?;
        match flexible {
            true => self.uvarint(length as u32 + 1),
            false => self.i16(length),
        }
        self.tail.put_slice(text.as_bytes());
        Ok(())
    }

    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        data: &Bytes,
        flexible: bool,
    ) -> Result<()> {
        self.nullable_bytes(field, Some(data), flexible)
    }

    pub(crate) fn nullable_bytes(
        &mut self,
        field: &'static str,
        data: Option<&Bytes>,
        flexible: bool,
    ) -> Result<()> {
        match data {
            None => self.null_array(flexible),
            Some(data) => {
                self.array_len(field, data.len(), flexible)?;
                if data.len() < SHARE_FROM {
                    self.tail.put_slice(data);
                } else {
                    self.share(data);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn nullable_records(
        &mut self,
        field: &'static str,
        records: Option<&Records>,
        flexible: bool,
    ) -> Result<()> {
        match records {
            None => self.null_array(flexible),
            Some(records) => {
                self.array_len(field, records.len(), flexible)?;
                records.0.iter().for_each(|segment| self.share(segment));
            }
        }
        Ok(())
    }

    /// Arrays and byte strings have the same length prefix.
    pub(crate) fn array_len(
        &mut self,
        field: &'static str,
        length: usize,
        flexible: bool,
    ) -> Result<()> {
        let max = i32::MAX as usize;
        let known = i32::try_from(length).map_err(|_| self.too_long(field, length, max))?;
        match flexible {
            true => self.uvarint(known as u32 + 1),
            false => self.i32(known),
        }
        Ok(())
    }

    pub(crate) fn null_array(&mut self, flexible: bool) {
        match flexible {
            true => self.uvarint(0),
            false => self.i32(-1),
        }
    }

    pub(crate) fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.tail.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }

    /// An encoder for the value of one tagged field, whose size stands before it.
    pub(crate) fn nested(&self) -> Encoder {
        Encoder {
            message: self.message,
            version: self.version,
            ..Encoder::default()
        }
    }

    pub(crate) fn tagged(&mut self, tag: u32, field: &'static str, value: Encoder) -> Result<()> {
        let (length, max) = (value.len(), i32::MAX as usize);
        let size = i32::try_from(length).map_err(|_| self.too_long(field, length, max))?;
        self.uvarint(tag);
        self.uvarint(size as u32);
        for segment in value.finish() {
            if segment.len() < SHARE_FROM {
                self.tail.put_slice(&segment);
            } else {
                self.share(&segment);
            }
        }
        Ok(())
    }

    pub(crate) fn unsupported(&self, field: &'static str) -> EncodeError {
        EncodeError::UnsupportedField {
            message: self.message,
            field,
            version: self.version,
        }
    }

    pub(crate) fn unexpected_null(&self, field: &'static str) -> EncodeError {
        EncodeError::UnexpectedNull {
            message: self.message,
            field,
            version: self.version,
        }
    }

    fn too_long(&self, field: &'static str, length: usize, max: usize) -> EncodeError {
        EncodeError::TooLong {
            message: self.message,
            field,
            length,
            max,
        }
    }

    fn share(&mut self, segment: &Bytes) {
        if segment.is_empty() {
            return;
        }
        self.seal();
        self.num_bytes_finished += segment.len();
        self.finished.push(segment.clone());
    }

    /// Makes what was gathered so far a segment; the spare capacity serves the next one.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.num_bytes_finished += self.tail.len();
            self.finished.push(self.tail.split().freeze());
        }
    }
}
