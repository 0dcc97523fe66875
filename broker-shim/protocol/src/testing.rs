//! Random valid messages (feature `testing`).
//!
//! *Owns*: a small deterministic source of values, and [`Arbitrary`] for every message.
//!
//! *Does not own*: which fields a version has; the impls are generated from `schema/`.
//!
//! *IO: none*

use bytes::Bytes;

use crate::{Records, Uuid};

/// A message or a part of one that can be made up.
pub trait Arbitrary: Sized {
    /// A value that `version` can carry: fields the version does not have keep their defaults.
    fn arbitrary(entropy: &mut Entropy, version: i16) -> Self;
}

/// A deterministic source: the same seed makes the same values.
#[derive(Debug, Clone)]
pub struct Entropy(u64);

impl Entropy {
    /// A source for this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits (splitmix64).
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// Edge values as often as any others: they are where codecs differ.
    fn integer(&mut self) -> i64 {
        match self.below(6) {
            0 => 0,
            1 => -1,
            2 => i64::MAX,
            3 => i64::MIN,
            4 => self.below(256) as i64,
            _ => self.next_u64() as i64,
        }
    }

    fn i8(&mut self) -> i8 {
        self.integer() as i8
    }

    fn i16(&mut self) -> i16 {
        self.integer() as i16
    }

    #[allow(dead_code, reason = "no message of the schema has this type yet")]
    fn u16(&mut self) -> u16 {
        self.integer() as u16
    }

    fn i32(&mut self) -> i32 {
        self.integer() as i32
    }

    #[allow(dead_code, reason = "no message of the schema has this type yet")]
    fn u32(&mut self) -> u32 {
        self.integer() as u32
    }

    fn i64(&mut self) -> i64 {
        self.integer()
    }

    #[allow(dead_code, reason = "no message of the schema has this type yet")]
    fn f64(&mut self) -> f64 {
        // Never NaN, which would not equal itself.
        self.integer() as f64 / 3.0
    }

    fn bool(&mut self) -> bool {
        self.below(2) == 0
    }

    fn null(&mut self) -> bool {
        self.below(4) == 0
    }

    fn uuid(&mut self) -> Uuid {
        let bits = u128::from(self.next_u64()) << 64 | u128::from(self.next_u64());
        if self.below(4) == 0 {
            Uuid::ZERO
        } else {
            Uuid(bits.to_be_bytes())
        }
    }

    fn string(&mut self) -> String {
        const LETTERS: [char; 8] = ['a', 'Z', '0', '.', '_', '-', 'é', '€'];
        let len = self.len(200);
        (0..len).map(|_| LETTERS[self.below(8) as usize]).collect()
    }

    fn bytes(&mut self) -> Bytes {
        let len = self.len(1500);
        (0..len).map(|_| self.next_u64() as u8).collect()
    }

    fn records(&mut self) -> Records {
        Records::from(self.bytes())
    }

    fn array<T>(&mut self, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| item(self)).collect()
    }

    /// Mostly short, now and then long enough for a length of two bytes.
    fn len(&mut self, long: u64) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => self.below(long),
            _ => self.below(12),
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/testing.rs"));
