//! Makes one object of runs that were read.
//!
//! *Owns*: which runs share an object, which blocks are joined and which move as they are, and
//! the proof that nothing was lost. *Does not own*: reading, sending.
//!
//! Invariants
//! 1. A block of half the block size or more moves as it is: new header and checksum, its entries
//!    shared. Smaller ones are joined.
//! 2. The blocks of a run in the object tile what its blocks in the sources tiled, with as many
//!    records and entries and the same greatest timestamp: asked of the index that was written,
//!    before anybody believes it.
//!
//! *IO: none*

use tidewater_types::{Offset, OffsetRange, StreamId, mutant};

use crate::entry::Entry;
use crate::format::block::{self, HEADER_SIZE};
use crate::format::index::ObjectIndex;
use crate::object_id::{ObjectId, ObjectKind};
use crate::upload::encode::{EncodedObject, ObjectBuilder};

use super::read::{RunData, SourceBlock};
use super::sum::{Sum, sum};

/// Whether the object holds of the stream what it must.
pub(crate) fn holds(index: &ObjectIndex, stream: StreamId, expected: &Sum) -> bool {
    let found = sum(index.blocks_from(stream, Offset(0)));
    // The seeded bug has no proof to catch it: the reader must.
    found == Some(*expected) || mutant!(32)
}

/// An object of runs, one a stream, ascending. Takes their blocks and snapshots away, one by one: what
/// is joined is never all in memory twice.
pub(crate) fn merge(id: ObjectId, runs: &mut [RunData], block_bytes: usize) -> EncodedObject {
    let kind = if runs.len() == 1 {
        ObjectKind::Stream
    } else {
        ObjectKind::StreamSet
    };
    let mut builder = ObjectBuilder::new(id, kind);
    let num_streams = runs.len();
    for run in runs {
        let stream = run.run.stream;
        let mut merge = Merge {
            builder: &mut builder,
            stream,
            block_bytes,
            open: None,
        };
        for block in std::mem::take(&mut run.blocks) {
            merge.push(&block);
        }
        merge.close();
        if let (Some(snapshot), Some(state)) = (run.run.snapshot, run.snapshot.take()) {
            let at = builder.position;
            let block = block::encode_snapshot(stream, id.nonce, at, snapshot.as_of, state);
            builder.push(block);
        }
    }
    builder.finish(num_streams)
}

struct Merge<'a> {
    builder: &'a mut ObjectBuilder,
    stream: StreamId,
    block_bytes: usize,
    open: Option<OpenBlock>,
}

/// Small blocks on their way to one.
struct OpenBlock {
    start: Offset,
    end: Offset,
    num_bytes: usize,
    entries: Vec<Entry>,
}

impl Merge<'_> {
    fn push(&mut self, source: &SourceBlock) {
        let SourceBlock { row, block } = source;
        let size = row.size as usize;
        if size >= self.block_bytes / 2 {
            self.close();
            let (nonce, position) = (self.builder.id.nonce, self.builder.position);
            self.builder.push(block::moved(block, row, nonce, position));
            return;
        }
        let grown = self.open.as_ref().map_or(0, |open| open.num_bytes) + size;
        if grown > self.block_bytes {
            self.close();
        }
        let open = self.open.get_or_insert_with(|| OpenBlock {
            start: row.base_offset,
            end: row.base_offset,
            num_bytes: HEADER_SIZE,
            entries: Vec::new(),
        });
        open.end = row.end_offset();
        open.num_bytes += size - HEADER_SIZE;
        open.entries.extend(block.entries_from(Offset(0)));
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
        let block = block::encode_covering(self.stream, nonce, position, range, &open.entries);
        self.builder.push(block);
    }
}
