//! Encodes an object: blocks, index, footer, and what metadata says about it.
//!
//! *Owns*: how entries are divided into blocks.
//! *Does not own*: the layouts (`format`), which ranges go together (`plan`).
//!
//! Invariants
//! 1. Large payloads are passed on, not copied.
//! 2. A stream's entries are contiguous, or it is a bug of the tail.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::crc32c;

use crate::entry::Entry;
use crate::format::block::{self, EncodedBlock};
use crate::format::index::{self, IndexRow};
use crate::format::object::{self, Footer, HEADER_SIZE};
use crate::meta::op::{NewObject, NewRange, NewSnapshot};
use crate::object_id::{ObjectId, ObjectKind};
use crate::tail::SealedRange;

use super::plan::ObjectPlan;

/// An object ready to be sent, and what to commit once it is there.
#[derive(Clone)]
pub(crate) struct EncodedObject {
    pub(crate) object: NewObject,
    pub(crate) ranges: Vec<NewRange>,
    pub(crate) snapshots: Vec<NewSnapshot>,
    /// What was not sent while it was made.
    pub(crate) body: Vec<Bytes>,
    pub(crate) footer: Bytes,
    /// Places of the rows of the first and the last block of each copy within the store.
    pub(crate) copied_edges: Vec<usize>,
}

/// Encodes the planned object under `id`.
pub(crate) fn encode(id: ObjectId, plan: &ObjectPlan, block_bytes: usize) -> EncodedObject {
    let mut builder = ObjectBuilder::new(id, plan.kind);
    let num_ranges = plan.ranges.len();
    let (mut ranges, mut snapshots) = (Vec::with_capacity(num_ranges), Vec::new());
    builder.body.reserve(num_ranges + 2);
    for range in &plan.ranges {
        if let Some(committed) = builder.entries(range, block_bytes) {
            ranges.push(committed);
        }
        snapshots.extend(builder.snapshot(range));
    }
    EncodedObject {
        ranges,
        snapshots,
        ..builder.finish(plan.ranges.len())
    }
}

/// An object that grows block by block.
pub(crate) struct ObjectBuilder {
    pub(crate) id: ObjectId,
    kind: ObjectKind,
    /// What was not sent yet.
    pub(crate) body: Vec<Bytes>,
    pub(crate) rows: Vec<IndexRow>,
    /// Where the next block begins.
    pub(crate) position: u64,
    copied_edges: Vec<usize>,
}

impl ObjectBuilder {
    pub(crate) fn new(id: ObjectId, kind: ObjectKind) -> Self {
        Self {
            id,
            kind,
            body: vec![object::encode_header(&id, kind)],
            rows: Vec::new(),
            position: HEADER_SIZE as u64,
            copied_edges: Vec::new(),
        }
    }

    /// The object of `stream_count` streams, without what is to be committed of it.
    pub(crate) fn finish(self, stream_count: usize) -> EncodedObject {
        let Self {
            id,
            kind,
            mut body,
            rows,
            position: index_position,
            copied_edges,
        } = self;
        let (index, origin_count) = index::encode(&rows, id.nonce);
        let footer = Footer {
            id,
            kind,
            index_position,
            index_crc: crc32c(&[&index]),
            block_count: u32::try_from(rows.len()).expect("bounded by the object size"),
            stream_count: u32::try_from(stream_count).expect("bounded by the configuration"),
            origin_count,
        };
        let (footer, footer_crc) = object::encode_footer(&footer);
        let size = index_position + (index.len() + footer.len()) as u64;
        body.extend([index, footer.clone()]);
        let object = NewObject {
            id,
            kind,
            size,
            index_position,
            footer_crc,
        };
        EncodedObject {
            object,
            ranges: Vec::new(),
            snapshots: Vec::new(),
            body,
            footer,
            copied_edges,
        }
    }

    fn entries(&mut self, range: &SealedRange, block_bytes: usize) -> Option<NewRange> {
        let (first, last) = (range.entries.first()?, range.entries.last()?);
        let contiguous = range
            .entries
            .windows(2)
            .all(|pair| pair[0].end_offset() == pair[1].base_offset);
        assert!(
            contiguous,
            "a sealed range of stream {} is contiguous",
            range.stream
        );
        for entries in blocks_of(&range.entries, block_bytes) {
            self.push(block::encode_data(
                range.stream,
                self.id.nonce,
                self.position,
                entries,
            ));
        }
        Some(NewRange {
            stream: range.stream,
            epoch: range.stream_epoch,
            start: first.base_offset,
            end: last.end_offset(),
            timestamp_ms_max: range
                .entries
                .iter()
                .map(|entry| entry.timestamp_ms_max)
                .max()?,
            object: 0,
        })
    }

    fn snapshot(&mut self, range: &SealedRange) -> Option<NewSnapshot> {
        let state = range.snapshot.as_ref()?;
        let nonce = self.id.nonce;
        let block = block::encode_snapshot(
            range.stream,
            nonce,
            self.position,
            state.as_of,
            state.bytes.clone(),
        );
        let (position, size) = (block.row.position, block.row.size);
        self.push(block);
        let (stream, epoch, as_of) = (range.stream, range.stream_epoch, state.as_of);
        Some(NewSnapshot {
            stream,
            epoch,
            as_of,
            object: 0,
            position,
            size,
        })
    }

    /// Adds blocks that one request copies to [`Self::position`] as they are.
    pub(crate) fn copied(&mut self, rows: &[IndexRow]) {
        let first = self.rows.len();
        for row in rows {
            let position = self.position;
            self.position += u64::from(row.size);
            self.rows.push(IndexRow { position, ..*row });
        }
        self.copied_edges.push(first);
        self.copied_edges.push(self.rows.len() - 1);
    }

    /// Adds a block that was encoded for this object and [`Self::position`].
    pub(crate) fn push(&mut self, block: EncodedBlock) {
        self.position += u64::from(block.row.size);
        self.rows.push(block.row);
        self.body.extend(block.parts);
    }
}

/// Divides entries into blocks of about `block_bytes`; an entry is never divided.
fn blocks_of(entries: &[Entry], block_bytes: usize) -> impl Iterator<Item = &[Entry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let (mut count, mut num_bytes) = (0, block::HEADER_SIZE);
        for entry in rest {
            num_bytes += block::entry_size(entry);
            if count > 0 && num_bytes > block_bytes {
                break;
            }
            count += 1;
        }
        let (block, next) = rest.split_at(count);
        rest = next;
        (!block.is_empty()).then_some(block)
    })
}

#[cfg(test)]
mod tests;
