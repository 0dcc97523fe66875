//! The compression of a batch, as its attributes name it.
//!
//! *Owns*: the ids. *Does not own*: decompressing (`codec`).
//!
//! *IO: none*

use std::fmt;

/// The bits of a batch's attributes that name its codec.
pub(crate) const CODEC_BITS: i16 = 0b111;

/// How the records of a batch are compressed; the discriminant is Kafka's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    /// The codec in a batch's attributes, or an id that means nothing.
    pub(crate) fn from_attributes(attributes: i16) -> Result<Self, u8> {
        match attributes & CODEC_BITS {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(u8::try_from(other).expect("3 bits")),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}
