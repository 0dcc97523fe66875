//! Reads primitives from bytes that nobody has checked yet.
//!
//! *Owns*: every bound on what input may cost.
//!
//! *Does not own*: which primitive comes next (generated code), the limit on a request's size (the
//! caller's framing).
//!
//! Invariants:
//! 1. No allocation before its size is checked against the bytes that remain: an array of `count`
//!    elements needs `count × (least wire size of an element)` bytes.
//! 2. All lists and strings of one message together take at most `MAX_EXPANSION` times the bytes
//!    that were given, as a budget that every reservation is charged to. The generated code asserts
//!    for each struct that its size in memory is within `MAX_EXPANSION` times its least wire size,
//!    so the budget never refuses a well-formed message.
//! 3. A reservation is exact, so growth never doubles it. Byte strings and records are slices.
//! 4. Recursion is as deep as the schema, which the build bounds; there are no recursive types.
//! 5. Varints end after five bytes and fit 32 bits.
//!
//! *Format: the Kafka protocol, see <https://kafka.apache.org/protocol>*
//! *IO: none*

use bytes::{Buf, Bytes};

use crate::{DecodeError, Place, Records, Uuid, VersionRange};

/// Bytes of memory that decoding may take for each byte of input.
pub const MAX_EXPANSION: usize = 32;

// Lists of these take one byte an element on the wire at least; structs assert their own size.
const _: () = assert!(size_of::<String>() <= MAX_EXPANSION && size_of::<Bytes>() <= MAX_EXPANSION);

pub(crate) struct Decoder<'a> {
    buf: &'a mut Bytes,
    message: &'static str,
    num_bytes_given: usize,
    budget_left: usize,
}

type Result<T> = std::result::Result<T, DecodeError>;

macro_rules! scalars {
    ($($name:ident: $ty:ty, $get:ident;)*) => {$(
        #[allow(dead_code, reason = "the wire has these types; not every schema uses all of them")]
        pub(crate) fn $name(&mut self, field: &'static str) -> Result<$ty> {
            self.need(field, size_of::<$ty>())?;
            Ok(self.buf.$get())
        }
    )*};
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(buf: &'a mut Bytes, message: &'static str) -> Self {
        let num_bytes_given = buf.len();
        let budget_left = num_bytes_given.saturating_mul(MAX_EXPANSION);
        Self {
            buf,
            message,
            num_bytes_given,
            budget_left,
        }
    }

    pub(crate) fn check_version(&self, supported: VersionRange, version: i16) -> Result<()> {
        if supported.contains(version) {
            return Ok(());
        }
        Err(DecodeError::UnsupportedVersion {
            message: self.message,
            version,
            min: supported.min,
            max: supported.max,
        })
    }

    scalars! {
        i8: i8, get_i8;
        i16: i16, get_i16;
        u16: u16, get_u16;
        i32: i32, get_i32;
        u32: u32, get_u32;
        i64: i64, get_i64;
        f64: f64, get_f64;
    }

    /// Any byte but zero is true, as in Kafka.
    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool> {
        Ok(self.i8(field)? != 0)
    }

    pub(crate) fn uuid(&mut self, field: &'static str) -> Result<Uuid> {
        let mut id = [0; 16];
        self.need(field, id.len())?;
        self.buf.copy_to_slice(&mut id);
        Ok(Uuid(id))
    }

    pub(crate) fn string(&mut self, field: &'static str, flexible: bool) -> Result<String> {
        self.nullable_string(field, flexible)?
            .ok_or_else(|| self.unexpected_null(field))
    }

    pub(crate) fn nullable_string(
        &mut self,
        field: &'static str,
        flexible: bool,
    ) -> Result<Option<String>> {
        let length = match flexible {
            true => self.compact_length(field)?,
            false => i64::from(self.i16(field)?),
        };
        // Compact lengths could be longer; Kafka refuses those too.
        if length > i64::from(i16::MAX) {
            return Err(DecodeError::BadLength {
                at: self.at(field),
                length,
            });
        }
        let Some(length) = self.length(field, length)? else {
            return Ok(None);
        };
        self.charge(field, length)?;
        let Ok(text) = std::str::from_utf8(&self.buf[..length]) else {
            return Err(DecodeError::InvalidUtf8 { at: self.at(field) });
        };
        let text = text.to_owned();
        self.buf.advance(length);
        Ok(Some(text))
    }

    pub(crate) fn bytes(&mut self, field: &'static str, flexible: bool) -> Result<Bytes> {
        self.nullable_bytes(field, flexible)?
            .ok_or_else(|| self.unexpected_null(field))
    }

    pub(crate) fn nullable_bytes(
        &mut self,
        field: &'static str,
        flexible: bool,
    ) -> Result<Option<Bytes>> {
        let length = self.long_length(field, flexible)?;
        let length = self.length(field, length)?;
        Ok(length.map(|length| self.buf.split_to(length)))
    }

    pub(crate) fn nullable_records(
        &mut self,
        field: &'static str,
        flexible: bool,
    ) -> Result<Option<Records>> {
        let Some(segment) = self.nullable_bytes(field, flexible)? else {
            return Ok(None);
        };
        self.charge(field, size_of::<Bytes>())?;
        Ok(Some(Records::from(segment)))
    }

    #[allow(dead_code, reason = "the wire has this type; not every schema uses it")]
    pub(crate) fn nullable_struct<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.i8(field)? {
            -1 => Ok(None),
            1 => read(self).map(Some),
            found => Err(DecodeError::BadStructMarker {
                at: self.at(field),
                found,
            }),
        }
    }

    pub(crate) fn array<T>(
        &mut self,
        field: &'static str,
        flexible: bool,
        min_wire_size: usize,
        read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.nullable_array(field, flexible, min_wire_size, read)?
            .ok_or_else(|| self.unexpected_null(field))
    }

    pub(crate) fn nullable_array<T>(
        &mut self,
        field: &'static str,
        flexible: bool,
        min_wire_size: usize,
        mut read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let count = match self.long_length(field, flexible)? {
            -1 => return Ok(None),
            length => usize::try_from(length).map_err(|_| DecodeError::BadLength {
                at: self.at(field),
                length,
            })?,
        };
        let remaining = self.buf.len();
        if count > remaining / min_wire_size {
            return Err(DecodeError::TooManyElements {
                at: self.at(field),
                count,
                remaining,
            });
        }
        self.charge(field, count.saturating_mul(size_of::<T>()))?;
        let mut list = Vec::new();
        list.try_reserve_exact(count)
            .map_err(|_| self.over_budget(field))?;
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(Some(list))
    }

    /// Null read by `read` is an error unless `allowed`: the field is nullable in other versions.
    pub(crate) fn refuse_null<T>(
        &mut self,
        field: &'static str,
        allowed: bool,
        read: impl FnOnce(&mut Self) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        match read(self)? {
            None if !allowed => Err(self.unexpected_null(field)),
            value => Ok(value),
        }
    }

    pub(crate) fn skip_tags(&mut self, owner: &'static str) -> Result<()> {
        self.tags(owner, |_, _| Ok(false))
    }

    /// Reads the tag section of a struct; `read` returns false for a tag it does not know.
    pub(crate) fn tags(
        &mut self,
        owner: &'static str,
        mut read: impl FnMut(&mut Self, u32) -> Result<bool>,
    ) -> Result<()> {
        // No bound on the count is needed: each round takes two bytes at least.
        for _ in 0..self.uvarint(owner)? {
            let tag = self.uvarint(owner)?;
            let announced = self.uvarint(owner)? as usize;
            self.need(owner, announced)?;
            let before = self.buf.len();
            if !read(self, tag)? {
                self.buf.advance(announced);
            }
            let found = before - self.buf.len();
            if found != announced {
                return Err(DecodeError::TagSize {
                    at: self.at(owner),
                    tag,
                    announced,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Length of a byte string or an array, −1 for null.
    fn long_length(&mut self, field: &'static str, flexible: bool) -> Result<i64> {
        match flexible {
            true => self.compact_length(field),
            false => Ok(i64::from(self.i32(field)?)),
        }
    }

    /// Compact lengths are written plus one, so that zero can be null.
    fn compact_length(&mut self, field: &'static str) -> Result<i64> {
        Ok(i64::from(self.uvarint(field)?) - 1)
    }

    fn uvarint(&mut self, field: &'static str) -> Result<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            self.need(field, 1)?;
            let byte = self.buf.get_u8();
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintOverflow { at: self.at(field) })
    }

    /// A length of bytes that are there; `None` for −1.
    fn length(&self, field: &'static str, length: i64) -> Result<Option<usize>> {
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| DecodeError::BadLength {
            at: self.at(field),
            length,
        })?;
        self.need(field, length)?;
        Ok(Some(length))
    }

    fn need(&self, field: &'static str, needed: usize) -> Result<()> {
        let remaining = self.buf.len();
        if needed <= remaining {
            return Ok(());
        }
        Err(DecodeError::Truncated {
            at: self.at(field),
            needed,
            remaining,
        })
    }

    fn charge(&mut self, field: &'static str, num_bytes: usize) -> Result<()> {
        let left = self.budget_left.checked_sub(num_bytes);
        self.budget_left = left.ok_or_else(|| self.over_budget(field))?;
        Ok(())
    }

    fn over_budget(&self, field: &'static str) -> DecodeError {
        let budget = self.num_bytes_given.saturating_mul(MAX_EXPANSION);
        DecodeError::MemoryBudget {
            at: self.at(field),
            budget,
        }
    }

    fn unexpected_null(&self, field: &'static str) -> DecodeError {
        DecodeError::UnexpectedNull { at: self.at(field) }
    }

    fn at(&self, field: &'static str) -> Place {
        Place {
            message: self.message,
            field,
            position: self.num_bytes_given - self.buf.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: &str = "Test.field";

    fn with<T>(wire: &[u8], run: impl FnOnce(&mut Decoder<'_>) -> Result<T>) -> (Result<T>, usize) {
        let mut buf = Bytes::copy_from_slice(wire);
        let result = run(&mut Decoder::new(&mut buf, "Test"));
        (result, buf.len())
    }

    #[test]
    fn varints_end_after_five_bytes_and_32_bits() {
        let read = |wire: &[u8]| with(wire, |d| d.uvarint(FIELD));
        assert_eq!(read(&[0]), (Ok(0), 0));
        assert_eq!(read(&[0x80, 0x01, 9]), (Ok(128), 1));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), (Ok(u32::MAX), 0));
        for wire in [
            [0xff, 0xff, 0xff, 0xff, 0x10],
            [0x80, 0x80, 0x80, 0x80, 0x80],
        ] {
            assert!(matches!(
                read(&wire).0,
                Err(DecodeError::VarintOverflow { .. })
            ));
        }
        assert!(matches!(
            read(&[0x80]).0,
            Err(DecodeError::Truncated { .. })
        ));
    }

    #[test]
    fn lists_in_lists_share_one_memory_budget() {
        // Each of the two counts is honest about the bytes that follow; together they are not.
        let mut wire = vec![0, 0, 0, 100, 0, 0, 0, 100];
        wire.resize(8 + 100, 0);
        let (result, _) = with(&wire, |d| {
            d.array::<(Vec<[u8; 32]>, [u8; 8])>(FIELD, false, 1, |d| {
                let inner =
                    d.array::<[u8; 32]>(FIELD, false, 1, |d| d.i8(FIELD).map(|_| [0; 32]))?;
                Ok((inner, [0; 8]))
            })
        });
        assert!(
            matches!(result, Err(DecodeError::MemoryBudget { budget: 3456, .. })),
            "{result:?}"
        );
    }

    #[test]
    fn a_list_may_fill_the_budget_to_the_last_byte() {
        let wire = [0, 0, 0, 4, 1, 2, 3, 4];
        let (result, _) = with(&wire, |d| {
            d.array::<[u8; 64]>(FIELD, false, 1, |d| d.i8(FIELD).map(|_| [0; 64]))
        });
        assert_eq!(result.map(|list| list.len()), Ok(4));
    }

    #[test]
    fn a_nullable_struct_has_a_marker() {
        let read = |wire: &[u8]| with(wire, |d| d.nullable_struct(FIELD, |d| d.u16(FIELD)));
        assert_eq!(read(&[0xff]), (Ok(None), 0));
        assert_eq!(read(&[1, 0xff, 0xfe]), (Ok(Some(0xfffe)), 0));
        let (result, _) = read(&[2, 0, 0]);
        assert!(matches!(
            result,
            Err(DecodeError::BadStructMarker { found: 2, .. })
        ));
    }

    #[test]
    fn scalars_are_big_endian() {
        assert_eq!(
            with(&[0xff, 0xff, 0xff, 0xfe], |d| d.u32(FIELD)),
            (Ok(u32::MAX - 1), 0)
        );
        assert_eq!(with(&1.5f64.to_be_bytes(), |d| d.f64(FIELD)), (Ok(1.5), 0));
        assert_eq!(with(&[7], |d| d.bool(FIELD)), (Ok(true), 0));
        let (result, left) = with(&[1, 2, 3], |d| d.i32(FIELD));
        let at = Place {
            message: "Test",
            field: FIELD,
            position: 0,
        };
        assert_eq!(
            result,
            Err(DecodeError::Truncated {
                at,
                needed: 4,
                remaining: 3
            })
        );
        assert_eq!(left, 3);
    }

    #[test]
    fn an_unknown_tag_is_skipped_and_never_reads_past_the_message() {
        let read = |wire: &[u8]| with(wire, |d| d.skip_tags("Test"));
        assert_eq!(read(&[2, 5, 1, 9, 6, 0, 7]), (Ok(()), 1));
        assert!(matches!(
            read(&[1, 5, 9, 0]).0,
            Err(DecodeError::Truncated { needed: 9, .. })
        ));
    }
}
