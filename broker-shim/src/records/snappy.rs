//! Snappy as Kafka clients send it: the xerial framing of the Java library, or one
//! raw block.
//!
//! *Owns*: both framings of what is read, and the first of what is written. *Does not own*: the block codec (`snap`).
//!
//! Invariants
//! 1. A block may claim at most 32 times its compressed bytes (the format reaches
//!    about 22), so a claim never allocates much more than was received.
//! 2. One block is held at a time.
//!
//! *IO: none*

use std::io::{self, Read};

const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
/// Magic, version and the lowest version that can read it.
const XERIAL_HEADER_BYTES: usize = 16;
const RATIO_MAX: usize = 32;

/// Decompresses snappy bytes held in memory.
pub(crate) struct SnappyReader<'a> {
    compressed: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    position: usize,
}

impl<'a> SnappyReader<'a> {
    pub(crate) fn new(compressed: &'a [u8]) -> Self {
        let framed = compressed.starts_with(XERIAL_MAGIC);
        Self {
            compressed,
            framed,
            block: Vec::new(),
            position: 0,
        }
    }

    /// Decompresses the next block; `false` at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        if !self.framed {
            let whole = std::mem::take(&mut self.compressed);
            return if whole.is_empty() {
                Ok(false)
            } else {
                self.decompress(whole)
            };
        }
        // A header may come again where streams were concatenated.
        while self.compressed.starts_with(XERIAL_MAGIC) {
            self.compressed = self
                .compressed
                .get(XERIAL_HEADER_BYTES..)
                .ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        if self.compressed.is_empty() {
            return Ok(false);
        }
        let (length, rest) = self
            .compressed
            .split_first_chunk::<4>()
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let length =
            usize::try_from(i32::from_be_bytes(*length)).map_err(|_| io::ErrorKind::InvalidData)?;
        let (block, rest) = rest
            .split_at_checked(length)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        self.compressed = rest;
        self.decompress(block)
    }

    fn decompress(&mut self, block: &[u8]) -> io::Result<bool> {
        let claimed = snap::raw::decompress_len(block).map_err(|_| io::ErrorKind::InvalidData)?;
        if claimed > block.len().saturating_mul(RATIO_MAX) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.block.resize(claimed, 0);
        self.position = 0;
        snap::raw::Decoder::new()
            .decompress(block, &mut self.block)
            .map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(true)
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.block.len() - self.position);
        buffer[..count].copy_from_slice(&self.block[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

/// Bytes of a block in the framing of Java's library.
const BLOCK_BYTES: usize = 32 << 10;

/// `plain` in the framing that Java's clients write.
pub(super) fn pack(plain: &[u8]) -> Vec<u8> {
    let mut out = XERIAL_MAGIC.to_vec();
    // Version, and the oldest version that can read it.
    out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    for block in plain.chunks(BLOCK_BYTES) {
        let packed = snap::raw::Encoder::new().compress_vec(block);
        let packed = packed.expect("a block is far below the codec's limit");
        let length = u32::try_from(packed.len()).expect("a block is small");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&packed);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        SnappyReader::new(bytes).read_to_end(&mut out)?;
        Ok(out)
    }

    fn xerial(blocks: &[&[u8]]) -> Vec<u8> {
        let mut out = XERIAL_MAGIC.to_vec();
        out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        for block in blocks {
            let packed = snap::raw::Encoder::new().compress_vec(block).unwrap();
            out.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_be_bytes());
            out.extend_from_slice(&packed);
        }
        out
    }

    #[test]
    fn xerial_blocks_are_joined_across_empty_blocks_and_headers() {
        let mut bytes = xerial(&[b"one ", b"", b"two "]);
        bytes.extend_from_slice(&xerial(&[b"three"]));
        assert_eq!(unpack(&bytes).unwrap(), b"one two three");
    }

    #[test]
    fn a_claim_of_gigabytes_in_a_few_bytes_is_refused() {
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1];
        assert!(unpack(&claim).is_err());
        let mut framed = xerial(&[]);
        framed.extend_from_slice(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3]);
        assert!(unpack(&framed).is_err());
    }

    #[test]
    fn the_format_cannot_reach_the_ratio_limit() {
        let zeros = vec![0u8; 1 << 20];
        let packed = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
        assert!(zeros.len() < packed.len() * 24, "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap(), zeros);
    }
}
