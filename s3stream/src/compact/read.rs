//! Reads what a step compacts.
//!
//! *Owns*: which requests bring the blocks, and the proof that they are all of a run.
//! *Does not own*: retries and checksums (`read::source`).
//!
//! Invariants
//! 1. The blocks of a source tile exactly the range that the metadata names; anything else is
//!    damage, and nothing is made of it.
//! 2. A small object costs one request, a large one two and one for each `read_bytes`, however many
//!    streams share it.
//! 3. A block has bytes of its own: one that was passed on keeps nothing else in memory.
//!
//! *IO: none* (requests go through the bucket port)

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidewater_types::{Offset, StreamId};

use crate::error::TierError;
use crate::format::block::{self, DataBlock};
use crate::format::index::{BlockKind, IndexRow, ObjectIndex};
use crate::meta::state::{ObjectState, RangeState};
use crate::object_id::ObjectId;
use crate::read::source::{Source, decode_index, part_at};
use crate::reader::FormatError;

use super::plan::Run;
use super::sum::{Sum, sum};

/// Bytes that nobody asked for are read along if no more of them lie between two blocks: a request
/// costs more.
const GAP_BYTES: u64 = 256 << 10;

/// A block that was read and checked.
pub(crate) struct SourceBlock {
    pub(crate) row: IndexRow,
    pub(crate) block: DataBlock,
}

/// A run with everything in it.
pub(crate) struct RunData {
    pub(crate) run: Run,
    /// What its blocks add up to.
    pub(crate) expected: Sum,
    /// Bytes of its blocks and its snapshot.
    pub(crate) num_bytes: u64,
    /// Ascending; they tile the run. Gone once they were merged.
    pub(crate) blocks: Vec<SourceBlock>,
    /// The owner's state, if it moves along. Gone once it was merged.
    pub(crate) snapshot: Option<Bytes>,
}

impl RunData {
    pub(crate) fn new(run: Run, blocks: Vec<SourceBlock>, snapshot: Option<Bytes>) -> Self {
        let expected =
            sum(blocks.iter().map(|block| &block.row)).expect("checked when it was read");
        let sizes = blocks.iter().map(|block| u64::from(block.row.size));
        let state = snapshot.as_ref().map_or(0, |state| state.len() as u64);
        let num_bytes = sizes.sum::<u64>() + state;
        Self {
            run,
            expected,
            num_bytes,
            blocks,
            snapshot,
        }
    }
}

/// What was read of the objects of a step. A stream's ranges are disjoint, so an offset names a block.
#[derive(Default)]
pub(crate) struct Pieces {
    blocks: BTreeMap<(StreamId, Offset), SourceBlock>,
    snapshots: BTreeMap<StreamId, Bytes>,
}

impl Pieces {
    /// Takes everything of the run.
    pub(crate) fn take(&mut self, run: Run) -> RunData {
        let mut blocks = Vec::new();
        for (start, range) in &run.sources {
            let range = (run.stream, *start)..(run.stream, range.end);
            let keys: Vec<_> = self.blocks.range(range).map(|(key, _)| *key).collect();
            blocks.extend(keys.iter().filter_map(|key| self.blocks.remove(key)));
        }
        let snapshot = run
            .snapshot
            .and_then(|_| self.snapshots.remove(&run.stream));
        RunData::new(run, blocks, snapshot)
    }
}

/// An object that is open for reading.
pub(crate) struct OpenObject<'a> {
    source: &'a Source,
    id: ObjectId,
    index: ObjectIndex,
    /// The whole of a small object.
    whole: Option<Bytes>,
    read_bytes: u64,
}

impl<'a> OpenObject<'a> {
    /// Reads the index, and with it all of an object of at most `read_bytes`.
    pub(crate) async fn open(
        source: &'a Source,
        id: ObjectId,
        object: &ObjectState,
        read_bytes: u64,
    ) -> Result<(Self, u64), TierError> {
        let is_small = object.size <= read_bytes;
        let (index, whole, num_bytes) = if is_small {
            let decode = |bytes: Bytes| {
                let tail = bytes.slice(bytes.len().min(object.index_position as usize)..);
                Ok((decode_index(tail, id, object)?, bytes))
            };
            let (index, bytes) = source.decoded(&id.key(), 0, object.size, decode).await?;
            (index, Some(bytes), object.size)
        } else {
            let num_bytes = object.size.saturating_sub(object.index_position);
            (source.index(id, object).await?, None, num_bytes)
        };
        let open = Self {
            source,
            id,
            index,
            whole,
            read_bytes,
        };
        Ok((open, num_bytes))
    }

    /// The rows of a source range, which they tile.
    pub(crate) fn rows(
        &self,
        stream: StreamId,
        start: Offset,
        range: &RangeState,
    ) -> Result<Vec<IndexRow>, TierError> {
        let rows: Vec<_> = self
            .index
            .blocks_from(stream, start)
            .take_while(|row| row.base_offset < range.end)
            .copied()
            .collect();
        let end = rows.iter().try_fold(start, |next, row| {
            (row.base_offset == next).then(|| row.end_offset())
        });
        if end == Some(range.end) && start < range.end {
            return Ok(rows);
        }
        Err(TierError::Corrupt {
            object: self.id.key(),
            position: self.index.rows.last().map_or(0, |row| row.position),
            what: "end of the blocks that tile a range",
            expected: range.end.0,
            found: end.unwrap_or(start).0,
        })
    }

    /// The rows of everything that the runs want of this object, in order of position.
    pub(crate) fn wanted(&self, runs: &[Run]) -> Result<Vec<IndexRow>, TierError> {
        let mut wanted = Vec::new();
        for run in runs {
            for (start, range) in &run.sources {
                if range.object == self.id {
                    wanted.extend(self.rows(run.stream, *start, range)?);
                }
            }
            if let Some(snapshot) = run.snapshot.filter(|it| it.object == self.id) {
                let row = self.index.snapshot(run.stream, snapshot.as_of);
                let is_it = |row: &&IndexRow| row.position == snapshot.position;
                let row = row.filter(is_it).ok_or_else(|| TierError::Corrupt {
                    object: self.id.key(),
                    position: snapshot.position,
                    what: "block of a state snapshot",
                    expected: 1,
                    found: 0,
                })?;
                wanted.push(*row);
            }
        }
        wanted.sort_unstable_by_key(|row| row.position);
        Ok(wanted)
    }

    /// Reads as many of the wanted blocks as one request brings. How many, and the bytes requested.
    pub(crate) async fn read(
        &self,
        wanted: &[IndexRow],
        pieces: &mut Pieces,
    ) -> Result<(usize, u64), TierError> {
        let Some(first) = wanted.first() else {
            return Ok((0, 0));
        };
        let (start, mut end, mut count) = (first.position, first.position, 0);
        for row in wanted {
            let row_end = row.position + u64::from(row.size);
            let is_far = row.position - end > GAP_BYTES || row_end - start > self.read_bytes;
            if count > 0 && is_far {
                break;
            }
            (end, count) = (row_end, count + 1);
        }
        let decode = |bytes: Bytes| self.decode(&wanted[..count], start, &bytes);
        let whole = self.whole.as_ref();
        let known = whole.and_then(|whole| self.decode(&wanted[..count], 0, whole).ok());
        let (found, num_bytes) = match known {
            Some(found) => (found, 0),
            None => {
                let key = self.id.key();
                let found = self.source.decoded(&key, start, end, decode).await?;
                (found, end - start)
            }
        };
        pieces.blocks.extend(found.blocks);
        pieces.snapshots.extend(found.snapshots);
        Ok((count, num_bytes))
    }

    /// Reads as many data blocks of a stream as one request brings; `read` for one stream alone.
    pub(crate) async fn blocks(
        &self,
        rows: &[IndexRow],
    ) -> Result<(Vec<SourceBlock>, usize, u64), TierError> {
        let mut pieces = Pieces::default();
        let (count, num_bytes) = self.read(rows, &mut pieces).await?;
        Ok((pieces.blocks.into_values().collect(), count, num_bytes))
    }

    /// The blocks of `rows` out of the bytes that begin at `from` of the object; an answer may be
    /// cut short.
    fn decode(&self, rows: &[IndexRow], from: u64, bytes: &Bytes) -> Result<Pieces, FormatError> {
        let mut pieces = Pieces::default();
        for row in rows {
            let bytes = part_at(bytes, row.position - from, row.size)?;
            let (stream, nonce) = (row.stream, self.id.nonce);
            match row.kind {
                BlockKind::Data => {
                    let block = block::decode_data(bytes, row, nonce)?.copied();
                    let (key, row) = ((stream, row.base_offset), *row);
                    pieces.blocks.insert(key, SourceBlock { row, block });
                }
                BlockKind::Snapshot => {
                    let state = block::decode_snapshot(bytes, stream, row.base_offset, nonce)?;
                    let state = Bytes::copy_from_slice(&state);
                    pieces.snapshots.insert(stream, state);
                }
            }
        }
        Ok(pieces)
    }
}

/// The objects of runs, each once.
pub(crate) fn objects_of(runs: &[Run]) -> BTreeSet<ObjectId> {
    runs.iter()
        .flat_map(|run| run.sources.iter().map(|(_, range)| range.object))
        .collect()
}
