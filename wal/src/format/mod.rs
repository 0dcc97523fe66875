//! The on-disk format: superblock slots, groups, frames.
//!
//! *Owns*: the place of the fixed parts, and why a structure is not valid.
//! *Does not own*: what follows from that; recovery decides.
//!
//! *Format: docs/formats/wal.md* · *IO: none*

pub(crate) mod group;
pub(crate) mod superblock;

#[cfg(test)]
mod tests;

/// Newest version of superblocks and groups this release reads, and the one it writes.
pub(crate) const VERSION: u16 = 1;

/// Why bytes are not a valid structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing but zeros, or no bytes at all.
    Blank,
    /// Fewer bytes than the structure says it has.
    Short,
    /// Other bytes where the magic should be.
    Magic,
    /// A valid structure of a version this release does not know.
    Newer(u16),
    /// The checksum does not match.
    Checksum,
    /// A field outside its range under a right checksum.
    Field(&'static str),
}

impl Flaw {
    /// The flaw in words.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Short => "cut short",
            Self::Magic => "no magic",
            Self::Newer(_) => "a newer version",
            Self::Checksum => "checksum mismatch",
            Self::Field(field) => field,
        }
    }
}

/// Reads a little-endian integer; the caller has checked the length.
macro_rules! get {
    ($kind:ty, $bytes:expr, $at:expr) => {
        <$kind>::from_le_bytes(
            $bytes[$at..$at + size_of::<$kind>()]
                .try_into()
                .expect("a slice of that length"),
        )
    };
}
pub(crate) use get;

/// Writes a little-endian integer.
macro_rules! put {
    ($bytes:expr, $at:expr, $value:expr) => {{
        let raw = $value.to_le_bytes();
        $bytes[$at..$at + raw.len()].copy_from_slice(&raw);
    }};
}
pub(crate) use put;

/// `num_bytes` rounded up to a multiple of `block`, a power of two.
pub(crate) fn round_up(num_bytes: u64, block: u64) -> u64 {
    num_bytes.next_multiple_of(block)
}
