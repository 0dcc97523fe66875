//! Opening the records of a batch, whatever compressed them.
//!
//! *Owns*: the limit on decompressed bytes, the reader over plain
//! or decompressed records.
//! *Does not own*: the framing of snappy and lz4 (`snappy`, `lz4`), record parsing.
//!
//! Invariants
//! 1. No reader yields more than the limit; the byte after it is an error.
//! 2. A decompressor holds its codec's window and one block, nothing that grows
//!    with the decompressed size.
//!
//! *IO: none*

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective};

use super::compression::Codec;
use super::fault::RecordsError;
use super::lz4::Lz4Reader;
use super::snappy::SnappyReader;

const BUFFER_BYTES: usize = 16 * 1024;

/// Most bytes the records of one batch may decompress to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DecompressionLimit(pub(crate) u64);

impl Default for DecompressionLimit {
    /// 128 MiB.
    fn default() -> Self {
        Self(128 << 20)
    }
}

/// The records of one batch as plain bytes.
pub(crate) enum Payload<'a> {
    Plain(&'a [u8]),
    Packed(BufReader<Limited<Box<dyn Read + 'a>>>),
}

impl<'a> Payload<'a> {
    /// Opens `records`, the bytes after a batch's header.
    pub(crate) fn open(codec: Codec, records: &'a [u8], limit: DecompressionLimit) -> Self {
        let reader: Box<dyn Read + 'a> = match codec {
            Codec::None => return Self::Plain(records),
            Codec::Gzip => Box::new(MultiGzDecoder::new(records)),
            Codec::Snappy => Box::new(SnappyReader::new(records)),
            Codec::Lz4 => Box::new(Lz4Reader::new(records)),
            Codec::Zstd => Box::new(ZstdReader::new(records)),
        };
        Self::Packed(BufReader::with_capacity(
            BUFFER_BYTES,
            Limited {
                inner: reader,
                left: limit.0,
            },
        ))
    }
}

impl Read for Payload<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(bytes) => bytes.read(buffer),
            Self::Packed(reader) => reader.read(buffer),
        }
    }
}

impl BufRead for Payload<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Plain(bytes) => Ok(bytes),
            Self::Packed(reader) => reader.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Self::Plain(bytes) => *bytes = &bytes[count..],
            Self::Packed(reader) => reader.consume(count),
        }
    }
}

/// Tells a limit that was reached from bytes that do not decompress.
pub(crate) fn source_error(
    error: &io::Error,
    codec: Codec,
    limit: DecompressionLimit,
) -> RecordsError {
    if error.kind() == io::ErrorKind::FileTooLarge {
        RecordsError::DecompressedTooLarge { limit: limit.0 }
    } else {
        RecordsError::Decompress { codec }
    }
}

/// A reader that fails with `FileTooLarge` instead of yielding one byte too many.
pub(crate) struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => {
                self.left = left;
                Ok(count)
            }
            None => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }
}

thread_local! {
    // A context takes longer to make than a small batch to decompress; it holds
    // no state between batches.
    static ZSTD: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

/// zstd over bytes in memory, with this thread's context.
struct ZstdReader<'a> {
    context: Option<DCtx<'static>>,
    compressed: &'a [u8],
    /// What the decoder last said: 0 at the end of a frame alone.
    hint: usize,
}

impl<'a> ZstdReader<'a> {
    fn new(compressed: &'a [u8]) -> Self {
        let context = ZSTD.take().or_else(DCtx::try_create);
        Self {
            context,
            compressed,
            hint: 1,
        }
    }
}

impl Read for ZstdReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let context = self.context.as_mut().ok_or(io::ErrorKind::OutOfMemory)?;
        loop {
            // Asking again after the last frame would start to wait for another.
            if self.compressed.is_empty() && self.hint == 0 {
                return Ok(0);
            }
            let before = self.compressed.len();
            let mut input = InBuffer::around(self.compressed);
            let mut output = OutBuffer::around(&mut *buffer);
            self.hint = context
                .decompress_stream(&mut output, &mut input)
                .map_err(|_| io::ErrorKind::InvalidData)?;
            let (read, written) = (input.pos(), output.pos());
            self.compressed = &self.compressed[read..];
            if written > 0 || buffer.is_empty() {
                return Ok(written);
            }
            if before == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl Drop for ZstdReader<'_> {
    fn drop(&mut self) {
        if let Some(mut context) = self.context.take()
            && context.reset(ResetDirective::SessionOnly).is_ok()
        {
            ZSTD.set(Some(context));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::BATCH_OVERHEAD;
    use super::super::testdata;
    use super::*;

    fn unpack(codec: Codec, bytes: &[u8], limit: u64) -> Result<Vec<u8>, RecordsError> {
        let limit = DecompressionLimit(limit);
        let mut out = Vec::new();
        Payload::open(codec, bytes, limit)
            .read_to_end(&mut out)
            .map_err(|error| source_error(&error, codec, limit))?;
        Ok(out)
    }

    const CODECS: [(Codec, &str); 4] = [
        (Codec::Gzip, "gzip"),
        (Codec::Snappy, "snappy"),
        (Codec::Lz4, "lz4"),
        (Codec::Zstd, "zstd"),
    ];

    #[test]
    fn bytes_of_other_peoples_encoders_unpack_to_the_plain_records() {
        let plain = testdata::aiokafka("none");
        for (codec, name) in CODECS {
            for batch in [testdata::aiokafka(name), testdata::kafka_python(name)] {
                assert_eq!(
                    unpack(codec, &batch[BATCH_OVERHEAD..], 1000).unwrap(),
                    plain[BATCH_OVERHEAD..],
                    "{name}"
                );
            }
        }
        let raw = testdata::raw_snappy();
        assert_eq!(
            unpack(Codec::Snappy, &raw[BATCH_OVERHEAD..], 1000).unwrap(),
            plain[BATCH_OVERHEAD..]
        );
    }

    #[test]
    fn the_byte_past_the_limit_is_an_error() {
        let num_plain = (testdata::aiokafka("none").len() - BATCH_OVERHEAD) as u64;
        for (codec, name) in CODECS {
            let batch = testdata::aiokafka(name);
            assert!(
                unpack(codec, &batch[BATCH_OVERHEAD..], num_plain).is_ok(),
                "{name}"
            );
            assert_eq!(
                unpack(codec, &batch[BATCH_OVERHEAD..], num_plain - 1),
                Err(RecordsError::DecompressedTooLarge {
                    limit: num_plain - 1
                }),
                "{name}"
            );
        }
    }

    #[test]
    fn every_cut_short_stream_is_refused_or_short() {
        let plain = testdata::aiokafka("none");
        for (codec, name) in CODECS {
            let batch = testdata::aiokafka(name);
            for cut in BATCH_OVERHEAD..batch.len() {
                if let Ok(out) = unpack(codec, &batch[BATCH_OVERHEAD..cut], 1000) {
                    assert!(
                        plain[BATCH_OVERHEAD..].starts_with(&out),
                        "{name} cut at {cut}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_zstd_bomb_stops_at_the_limit() {
        let bomb = zstd::bulk::compress(&vec![0u8; 64 << 20], 1).unwrap();
        assert!(bomb.len() < 16 << 10);
        assert_eq!(
            unpack(Codec::Zstd, &bomb, 1 << 20),
            Err(RecordsError::DecompressedTooLarge { limit: 1 << 20 })
        );
        // The context that was left mid-frame serves the next batch.
        let good = testdata::aiokafka("zstd");
        assert!(unpack(Codec::Zstd, &good[BATCH_OVERHEAD..], 1000).is_ok());
    }
}
