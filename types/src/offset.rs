//! Offsets and half-open ranges of them.
//!
//! *Owns*: `Offset`, the ordinal of a record in its stream, and `OffsetRange`.
//!
//! Invariants
//! 1. A range is half-open and never inverted.
//! 2. Arithmetic never wraps.
//!
//! *IO: none*

use std::fmt;

/// The ordinal of a record in a stream, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset `count` records further, unless that overflows.
    #[must_use]
    pub fn checked_add(self, count: u64) -> Option<Self> {
        self.0.checked_add(count).map(Self)
    }

    /// How many records lie between `earlier` and this offset; `None` if `earlier` is later.
    #[must_use]
    pub fn distance_from(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Offsets from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetRange {
    start: Offset,
    end: Offset,
}

impl OffsetRange {
    /// The range, or `None` if `end` lies before `start`.
    #[must_use]
    pub fn new(start: Offset, end: Offset) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// The first offset in the range, if it is not empty.
    #[must_use]
    pub fn start(self) -> Offset {
        self.start
    }

    /// One past the last offset.
    #[must_use]
    pub fn end(self) -> Offset {
        self.end
    }

    /// Number of offsets.
    #[must_use]
    pub fn len(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether the range holds no offset.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether `offset` lies in the range.
    #[must_use]
    pub fn contains(self, offset: Offset) -> bool {
        self.start <= offset && offset < self.end
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::{Offset, OffsetRange};

    #[test]
    fn inverted_range_is_refused() {
        assert_eq!(OffsetRange::new(Offset(2), Offset(1)), None);
        assert!(OffsetRange::new(Offset(2), Offset(2)).unwrap().is_empty());
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Offset(u64::MAX).checked_add(1), None);
        assert_eq!(Offset(1).distance_from(Offset(2)), None);
        assert_eq!(Offset(7).distance_from(Offset(2)), Some(5));
    }

    #[test]
    fn range_shows_as_half_open() {
        assert_eq!(
            OffsetRange::new(Offset(1), Offset(4)).unwrap().to_string(),
            "[1, 4)"
        );
    }
}
