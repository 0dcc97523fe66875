//! LZ4 frames as Kafka understands them.
//!
//! *Owns*: what of the frame format Kafka allows: one frame, independent blocks.
//! *Does not own*: the codec and its checksums (`lz4_flex`).
//!
//! Invariants
//! 1. A frame with linked blocks is refused, as Kafka's own reader does: a Java
//!    consumer could not read it.
//!
//! *IO: none*

use std::io::{self, Read};

use lz4_flex::frame::FrameDecoder;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const BLOCK_INDEPENDENCE: u8 = 1 << 5;

/// Decompresses one LZ4 frame held in memory.
pub(crate) struct Lz4Reader<'a> {
    decoder: FrameDecoder<&'a [u8]>,
    acceptable: bool,
}

impl<'a> Lz4Reader<'a> {
    pub(crate) fn new(compressed: &'a [u8]) -> Self {
        let acceptable = compressed.starts_with(&MAGIC)
            && compressed
                .get(4)
                .is_some_and(|flags| flags & BLOCK_INDEPENDENCE != 0);
        Self {
            decoder: FrameDecoder::new(compressed),
            acceptable,
        }
    }
}

impl Read for Lz4Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.acceptable {
            self.decoder.read(buffer)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
    use std::io::Write;

    fn pack(mode: BlockMode) -> Vec<u8> {
        let mut encoder =
            FrameEncoder::with_frame_info(FrameInfo::new().block_mode(mode), Vec::new());
        encoder.write_all(&[7u8; 300_000]).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Lz4Reader::new(bytes).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn independent_blocks_are_read_and_linked_ones_refused() {
        assert_eq!(
            unpack(&pack(BlockMode::Independent)).unwrap(),
            [7u8; 300_000]
        );
        assert!(unpack(&pack(BlockMode::Linked)).is_err());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(unpack(b"").is_err());
        assert!(unpack(b"\x04\x22\x4d").is_err());
        assert!(unpack(b"not a frame at all").is_err());
    }
}
