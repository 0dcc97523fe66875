//! One object of what a pass leaves of neighbouring ranges.
//!
//! *Owns*: how entries with holes between them become blocks, and what the object must hold.
//! *Does not own*: which entries stay, sending.
//!
//! Invariants
//! 1. The blocks tile exactly the offsets of the sources, whatever is left of their entries.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::{Epoch, Offset, OffsetRange, StreamId};

use crate::compact::plan::Run;
use crate::compact::sum::Sum;
use crate::entry::Entry;
use crate::format::block::{self, HEADER_SIZE};
use crate::meta::state::{RangeState, SnapshotRef};
use crate::object_id::{ObjectId, ObjectKind};
use crate::upload::encode::{EncodedObject, ObjectBuilder};
use crate::upload::growing::Growing;

use super::filter::Verdict;

pub(super) struct Group {
    run: Run,
    pub(super) builder: ObjectBuilder,
    pub(super) growing: Growing,
    block_bytes: usize,
    /// Entries of the block that is not closed yet, and where it begins.
    open: Vec<Entry>,
    open_start: Offset,
    open_bytes: usize,
    sum: Sum,
    /// Bytes of the blocks it is made of.
    pub(super) num_bytes_in: u64,
    pub(super) is_changed: bool,
}

impl Group {
    pub(super) fn new(
        (id, growing): (ObjectId, Growing),
        of: (StreamId, Epoch),
        start: Offset,
        block_bytes: usize,
    ) -> Self {
        let (stream, epoch) = of;
        Self {
            run: Run {
                stream,
                epoch,
                sources: Vec::new(),
                snapshot: None,
                alone: true,
            },
            builder: ObjectBuilder::new(id, ObjectKind::Stream),
            growing,
            block_bytes,
            open: Vec::new(),
            open_start: start,
            open_bytes: HEADER_SIZE,
            sum: Sum {
                start,
                end: start,
                num_records: 0,
                num_entries: 0,
                timestamp_ms_max: i64::MIN,
            },
            num_bytes_in: 0,
            is_changed: false,
        }
    }

    pub(super) fn num_sources(&self) -> usize {
        self.run.sources.len()
    }

    /// The next range begins; its entries follow.
    pub(super) fn begin(&mut self, source: (Offset, RangeState), num_bytes: u64) {
        assert_eq!(source.0, self.sum.end, "ranges of a stream are contiguous");
        self.sum.end = source.1.end;
        self.num_bytes_in += num_bytes;
        self.run.sources.push(source);
    }

    pub(super) fn take(&mut self, verdict: Verdict) {
        self.is_changed |= !matches!(verdict, Verdict::Same(_));
        let (Verdict::Same(entry) | Verdict::Changed(entry)) = verdict else {
            return;
        };
        self.sum.num_records += u64::from(entry.record_count);
        self.sum.num_entries += 1;
        self.sum.timestamp_ms_max = self.sum.timestamp_ms_max.max(entry.timestamp_ms_max);
        let size = block::entry_size(&entry);
        if let Some(last) = self.open.last()
            && self.open_bytes + size > self.block_bytes
        {
            let end = last.end_offset();
            self.close(end);
        }
        self.open_bytes += size;
        self.open.push(entry);
    }

    /// The open block stands for everything below `end`.
    fn close(&mut self, end: Offset) {
        let entries = std::mem::take(&mut self.open);
        let range = OffsetRange::new(self.open_start, end).expect("entries ascend");
        let (nonce, position) = (self.builder.id.nonce, self.builder.position);
        let block = block::encode_covering(self.run.stream, nonce, position, range, &entries);
        self.builder.push(block);
        (self.open_start, self.open_bytes) = (end, HEADER_SIZE);
    }

    /// Whether the snapshot lies in one of the objects.
    pub(super) fn has(&self, snapshot: &SnapshotRef) -> bool {
        let mut sources = self.run.sources.iter();
        sources.any(|(_, range)| range.object == snapshot.object)
    }

    /// The object, with a state snapshot that moves along; what it replaces and must hold.
    pub(super) fn finish(
        mut self,
        snapshot: Option<(SnapshotRef, Bytes)>,
    ) -> (EncodedObject, Growing, Run, Sum) {
        // The last block stands for the holes behind it, too; of nothing but holes it is empty.
        self.close(self.sum.end);
        if let Some((old, state)) = snapshot {
            self.run.snapshot = Some(old);
            let (nonce, position) = (self.builder.id.nonce, self.builder.position);
            let stream = self.run.stream;
            let block = block::encode_snapshot(stream, nonce, position, old.as_of, state);
            self.builder.push(block);
        }
        (self.builder.finish(1), self.growing, self.run, self.sum)
    }
}
