//! Reads what a step compacts.
//!
//! *Owns*: which requests bring the blocks, and the proof that they are all of a run.
//! *Does not own*: retries and checksums (`read::source`).
//!
//! Invariants
//! 1. The blocks of a source tile exactly the range that the metadata names; anything else is
//!    damage, and nothing is made of it.
//! 2. A small object costs one request, a large one two and one for each `read_bytes`.
//!
//! *IO: none* (requests go through the bucket port)

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewater_types::{Offset, StreamId};

use crate::error::TierError;
use crate::format::block::{self, DataBlock};
use crate::format::index::{IndexRow, ObjectIndex};
use crate::meta::state::{ObjectState, RangeState};
use crate::object_id::ObjectId;
use crate::read::source::{Source, decode_index, part_at};

use super::plan::Run;

/// A block that was read and checked.
pub(crate) struct SourceBlock {
    pub(crate) row: IndexRow,
    pub(crate) block: DataBlock,
}

/// A run with everything in it.
pub(crate) struct RunData {
    pub(crate) run: Run,
    /// Ascending; they tile the run.
    pub(crate) blocks: Vec<SourceBlock>,
    /// The owner's state, if it moves along.
    pub(crate) snapshot: Option<Bytes>,
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

    /// The blocks of contiguous rows: few requests for many of them. Also the bytes requested.
    pub(crate) async fn blocks(
        &self,
        rows: &[IndexRow],
    ) -> Result<(Vec<SourceBlock>, u64), TierError> {
        let mut blocks = Vec::with_capacity(rows.len());
        let mut num_bytes = 0;
        for part in parts_of(rows, self.read_bytes) {
            let (start, last) = (part[0].position, part[part.len() - 1]);
            let end = last.position + u64::from(last.size);
            // Of bytes that begin at `from` of the object; an answer may be cut short.
            let decode = |bytes: &Bytes, from: u64| {
                let block = |row: &IndexRow| {
                    let bytes = part_at(bytes, row.position - from, row.size)?;
                    let block = block::decode_data(bytes, row, self.id.nonce)?;
                    Ok(SourceBlock { row: *row, block })
                };
                part.iter().map(block).collect::<Result<Vec<_>, _>>()
            };
            let known = self.whole.as_ref().and_then(|whole| decode(whole, 0).ok());
            match known {
                Some(part) => blocks.extend(part),
                None => {
                    let key = self.id.key();
                    let decode = |bytes: Bytes| decode(&bytes, start);
                    blocks.extend(self.source.decoded(&key, start, end, decode).await?);
                    num_bytes += end - start;
                }
            }
        }
        Ok((blocks, num_bytes))
    }
}

/// The rows in parts that lie one behind the other and that one request of about `bytes_max`
/// brings.
pub(crate) fn parts_of(rows: &[IndexRow], bytes_max: u64) -> impl Iterator<Item = &[IndexRow]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let start = rest.first()?.position;
        let (mut end, mut count) = (start, 0);
        for row in rest {
            let row_end = row.position + u64::from(row.size);
            if row.position != end || (count > 0 && row_end - start > bytes_max) {
                break;
            }
            (end, count) = (row_end, count + 1);
        }
        let (part, next) = rest.split_at(count);
        rest = next;
        Some(part)
    })
}

/// The objects of runs, each once.
pub(crate) fn objects_of(runs: &[Run]) -> BTreeMap<ObjectId, ()> {
    runs.iter()
        .flat_map(|run| run.sources.iter().map(|(_, range)| (range.object, ())))
        .collect()
}
