//! Makes one object of blocks that were read.
//!
//! *Owns*: which blocks are joined and which move as they are, and the proof that nothing was lost.
//! *Does not own*: which runs share an object, reading, sending.
//!
//! Invariants
//! 1. A block of half the block size or more moves as it is: new header and checksum, its entries
//!    shared. Smaller ones are joined.
//! 2. The blocks of a run in the object tile what its blocks in the sources tiled, with as many
//!    records and entries and the same greatest timestamp: asked of the index that was written,
//!    before anybody believes it.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::{Offset, OffsetRange, StreamId, mutant};

use crate::entry::Entry;
use crate::format::block::{self, DataBlock, HEADER_SIZE};
use crate::format::index::{IndexRow, ObjectIndex};
use crate::upload::encode::{EncodedObject, ObjectBuilder};

use super::sum::{Sum, sum};

/// Whether the object holds of the stream what it must.
pub(crate) fn holds(index: &ObjectIndex, stream: StreamId, expected: &Sum) -> bool {
    let found = sum(index.blocks_from(stream, Offset(0)));
    // The seeded bug has no proof to catch it: the reader must.
    found == Some(*expected) || mutant!(32)
}

/// Blocks on their way to an object, ascending by stream and offset.
pub(crate) struct Merge {
    pub(crate) builder: ObjectBuilder,
    block_bytes: usize,
    open: Option<OpenBlock>,
}

/// Small blocks of one stream on their way to one.
struct OpenBlock {
    stream: StreamId,
    start: Offset,
    end: Offset,
    num_bytes: usize,
    entries: Vec<Entry>,
}

impl Merge {
    pub(crate) fn new(builder: ObjectBuilder, block_bytes: usize) -> Self {
        Self {
            builder,
            block_bytes,
            open: None,
        }
    }

    pub(crate) fn push(&mut self, row: &IndexRow, block: &DataBlock) {
        let size = row.size as usize;
        if size >= self.block_bytes / 2 {
            self.close();
            let (nonce, position) = (self.builder.id.nonce, self.builder.position);
            self.builder.push(block::moved(block, row, nonce, position));
            return;
        }
        let goes_on = |open: &OpenBlock| {
            open.stream == row.stream
                && open.end == row.base_offset
                && open.num_bytes + size <= self.block_bytes
        };
        if !self.open.as_ref().is_some_and(goes_on) {
            self.close();
        }
        let open = self.open.get_or_insert_with(|| OpenBlock {
            stream: row.stream,
            start: row.base_offset,
            end: row.base_offset,
            num_bytes: HEADER_SIZE,
            entries: Vec::new(),
        });
        open.end = row.end_offset();
        open.num_bytes += size - HEADER_SIZE;
        open.entries.extend(block.entries_from(Offset(0)));
    }

    /// Where the next block will begin.
    pub(crate) fn position(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |open| open.num_bytes as u64);
        self.builder.position + open
    }

    /// The builder, with all that was pushed in it.
    pub(crate) fn closed(&mut self) -> &mut ObjectBuilder {
        self.close();
        &mut self.builder
    }

    /// The state of a stream's owner, behind all blocks of the stream.
    pub(crate) fn state(&mut self, stream: StreamId, as_of: Offset, state: Bytes) {
        self.close();
        let (nonce, at) = (self.builder.id.nonce, self.builder.position);
        let block = block::encode_snapshot(stream, nonce, at, as_of, state);
        self.builder.push(block);
    }

    /// The object of `stream_count` streams.
    pub(crate) fn finish(mut self, stream_count: usize) -> EncodedObject {
        self.close();
        self.builder.finish(stream_count)
    }

    fn close(&mut self) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        if mutant!(32) && open.entries.len() > 1 {
            open.entries.pop();
        }
        let range = OffsetRange::new(open.start, open.end).expect("blocks ascend");
        let (nonce, position) = (self.builder.id.nonce, self.builder.position);
        let block = block::encode_covering(open.stream, nonce, position, range, &open.entries);
        self.builder.push(block);
    }
}
