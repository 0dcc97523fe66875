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

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use tidewater_types::{Offset, StreamId};

use crate::error::TierError;
use crate::format::block::{self, DataBlock};
use crate::format::index::{BlockKind, IndexRow, ObjectIndex};
use crate::meta::state::{ObjectState, RangeState, SnapshotRef};
use crate::object_id::ObjectId;
use crate::read::source::{Source, checked_block, decode_index, part_at};
use crate::reader::FormatError;

use super::plan::Run;

/// What was read and checked.
pub(crate) enum Piece {
    Data(DataBlock),
    /// The state of a stream's owner.
    State(Bytes),
}

/// An object that is open for reading.
pub(crate) struct OpenObject<'a> {
    source: &'a Source,
    id: ObjectId,
    index: ObjectIndex,
    /// The whole of a small object.
    whole: Option<Bytes>,
    /// Bytes that one request reads.
    pub(super) read_bytes: u64,
    /// Bytes between two blocks that it reads along.
    gap_bytes: u64,
}

impl<'a> OpenObject<'a> {
    /// Reads the index, and with it all of an object of at most `read_bytes`.
    pub(crate) async fn open(
        source: &'a Source,
        id: ObjectId,
        object: &ObjectState,
        (read_bytes, gap_bytes): (u64, u64),
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
            gap_bytes,
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

    /// The row of a state snapshot.
    pub(crate) fn state_row(
        &self,
        stream: StreamId,
        snapshot: &SnapshotRef,
    ) -> Result<IndexRow, TierError> {
        let row = self.index.snapshot(stream, snapshot.as_of);
        let is_it = |row: &&IndexRow| row.position == snapshot.position;
        row.filter(is_it)
            .copied()
            .ok_or_else(|| TierError::Corrupt {
                object: self.id.key(),
                position: snapshot.position,
                what: "block of a state snapshot",
                expected: 1,
                found: 0,
            })
    }

    /// Reads as many of the blocks, ascending by position, as one request brings; and the bytes
    /// requested.
    async fn read(&self, wanted: &[IndexRow]) -> Result<(Vec<Piece>, u64), TierError> {
        let Some(first) = wanted.first() else {
            return Ok((Vec::new(), 0));
        };
        let (start, mut end, mut count) = (first.position, first.position, 0);
        for row in wanted {
            let row_end = row.position + u64::from(row.size);
            let is_far = row.position - end > self.gap_bytes || row_end - start > self.read_bytes;
            // What is in memory is copied out a block at a time.
            if count > 0 && (is_far || self.whole.is_some()) {
                break;
            }
            (end, count) = (row_end, count + 1);
        }
        let wanted = &wanted[..count];
        let whole = self.whole.as_ref();
        if let Some(found) = whole.and_then(|whole| self.decode(wanted, 0, whole).ok()) {
            return Ok((found, 0));
        }
        let decode = |bytes: Bytes| self.decode(wanted, start, &bytes);
        let key = self.id.key();
        let found = self.source.decoded(&key, start, end, decode).await?;
        Ok((found, end - start))
    }

    /// Reads as many data blocks of a stream as one request brings, and the bytes requested.
    pub(crate) async fn blocks(
        &self,
        rows: &[IndexRow],
    ) -> Result<(Vec<DataBlock>, u64), TierError> {
        let (pieces, num_bytes) = self.read(rows).await?;
        let blocks = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Data(block) => Some(block),
            Piece::State(_) => None,
        });
        Ok((blocks.collect(), num_bytes))
    }

    /// The blocks of `rows` out of the bytes that begin at `from` of the object; an answer may be
    /// cut short.
    fn decode(
        &self,
        rows: &[IndexRow],
        from: u64,
        bytes: &Bytes,
    ) -> Result<Vec<Piece>, FormatError> {
        let decode = |row: &IndexRow| {
            let bytes = part_at(bytes, row.position - from, row.size)?;
            let nonce = self.id.nonce;
            Ok(match row.kind {
                BlockKind::Data => Piece::Data(checked_block(bytes, row)?.copied()),
                BlockKind::Snapshot => {
                    let (stream, as_of) = (row.stream, row.base_offset);
                    let state = block::decode_snapshot(bytes, stream, as_of, nonce)?;
                    Piece::State(Bytes::copy_from_slice(&state))
                }
            })
        };
        rows.iter().map(decode).collect()
    }
}

/// Hands out blocks of an object in the order of their positions, those of one request in memory at
/// a time.
pub(crate) struct Feed<'a> {
    open: OpenObject<'a>,
    /// Not read yet.
    wanted: VecDeque<IndexRow>,
    /// Read, and not handed out yet.
    read: VecDeque<(IndexRow, Piece)>,
}

impl<'a> Feed<'a> {
    pub(crate) fn new(open: OpenObject<'a>) -> Self {
        Self {
            open,
            wanted: VecDeque::new(),
            read: VecDeque::new(),
        }
    }

    pub(crate) fn object(&self) -> &OpenObject<'a> {
        &self.open
    }

    /// These will be asked for, behind all that were said before.
    pub(crate) fn want(&mut self, rows: &[IndexRow]) {
        self.wanted.extend(rows);
    }

    /// Bytes that one request reads from now on.
    pub(crate) fn set_read_bytes(&mut self, read_bytes: u64) {
        self.open.read_bytes = read_bytes;
    }

    /// Reads all that is wanted, if it is in the store alone; and the bytes requested.
    pub(crate) async fn fill(&mut self) -> Result<u64, TierError> {
        let mut requested = 0;
        while self.open.whole.is_none() && !self.wanted.is_empty() {
            requested += self.read_more().await?;
        }
        Ok(requested)
    }

    /// Reads as many of the wanted blocks as one request brings, and the bytes requested.
    async fn read_more(&mut self) -> Result<u64, TierError> {
        let (pieces, num_bytes) = self.open.read(self.wanted.make_contiguous()).await?;
        let rows = self.wanted.drain(..pieces.len());
        self.read.extend(rows.zip(pieces));
        Ok(num_bytes)
    }

    /// Whether the next block is still in the store alone.
    pub(crate) fn is_unread(&self) -> bool {
        self.read.is_empty() && self.open.whole.is_none()
    }

    /// Passes over the next blocks, which were not read.
    pub(crate) fn skip(&mut self, count: usize) {
        self.wanted.drain(..count);
    }

    /// The next block, which must be that of `row`, and the bytes that were requested for it.
    pub(crate) async fn next(&mut self, row: &IndexRow) -> Result<(Piece, u64), TierError> {
        let mut requested = 0;
        if self.read.is_empty() {
            requested = self.read_more().await?;
        }
        let (found, piece) = self
            .read
            .pop_front()
            .expect("only what is wanted is asked for");
        assert_eq!(
            found.position, row.position,
            "blocks are asked for in order"
        );
        Ok((piece, requested))
    }
}

/// The objects of runs, each once.
pub(crate) fn objects_of(runs: &[Run]) -> BTreeSet<ObjectId> {
    runs.iter()
        .flat_map(|run| run.sources.iter().map(|(_, range)| range.object))
        .collect()
}
