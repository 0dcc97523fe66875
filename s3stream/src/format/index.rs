//! Codec of the index of a data object: one row a block.
//!
//! *Owns*: the rows, their order, the look-ups by stream and offset.
//! *Does not own*: the footer that says where the index lies.
//!
//! Invariants
//! 1. Rows ascend by (stream, kind, base offset); data blocks of a stream do not
//!    overlap.
//! 2. The blocks lie in the order of their rows and fill the object from the
//!    header to the index without a gap.
//! 3. A row knows which object its block was written for; one way to write each index.
//!
//! *Format: docs/formats/stream-set-object.md*
//! *IO: none*

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes};
use tidewater_types::{Offset, StreamId};

use super::object::HEADER_SIZE;
use crate::reader::{FormatError, Reader};

pub(crate) const ROW_SIZE: usize = 64;
pub(crate) const ORIGIN_SIZE: usize = 8;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BlockKind {
    /// Entries of a stream.
    Data,
    /// The state of a stream's owner.
    Snapshot,
}

impl BlockKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Snapshot => 2,
        }
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, FormatError> {
        match reader.u8()? {
            1 => Ok(Self::Data),
            2 => Ok(Self::Snapshot),
            other => Err(reader.damaged("block kind", 1, u64::from(other))),
        }
    }
}

/// One block of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexRow {
    pub(crate) stream: StreamId,
    pub(crate) kind: BlockKind,
    /// First offset; for a snapshot, the offset it is of.
    pub(crate) base_offset: Offset,
    /// Offsets the block covers; 0 for a snapshot.
    pub(crate) offset_delta: u64,
    /// Records in it; fewer than offsets once compaction leaves holes.
    pub(crate) record_count: u64,
    pub(crate) timestamp_ms_max: i64,
    pub(crate) position: u64,
    pub(crate) size: u32,
    pub(crate) entry_count: u32,
    pub(crate) crc: u32,
    /// Nonce of the object that the block was written for.
    pub(crate) origin: u64,
}

impl IndexRow {
    /// One past the last offset.
    pub(crate) fn end_offset(&self) -> Offset {
        self.base_offset
            .checked_add(self.offset_delta)
            .expect("checked when decoded")
    }

    fn order(&self) -> (StreamId, BlockKind, Offset) {
        (self.stream, self.kind, self.base_offset)
    }
}

/// The rows of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectIndex {
    pub(crate) rows: Vec<IndexRow>,
}

impl ObjectIndex {
    /// The data blocks of the stream that end above `offset`, ascending.
    pub(crate) fn blocks_from(
        &self,
        stream: StreamId,
        offset: Offset,
    ) -> impl Iterator<Item = &IndexRow> {
        let first = self.rows.partition_point(|row| {
            (row.stream, row.kind) < (stream, BlockKind::Data)
                || (row.stream == stream
                    && row.kind == BlockKind::Data
                    && row.end_offset() <= offset)
        });
        self.rows[first..]
            .iter()
            .take_while(move |row| row.stream == stream && row.kind == BlockKind::Data)
    }

    /// The state snapshot of the stream as of `as_of`.
    pub(crate) fn snapshot(&self, stream: StreamId, as_of: Offset) -> Option<&IndexRow> {
        let order = (stream, BlockKind::Snapshot, as_of);
        let at = self.rows.binary_search_by_key(&order, IndexRow::order);
        at.ok().map(|at| &self.rows[at])
    }
}

/// The bytes of the rows, in the order given, of the object `nonce`, with what they name of other
/// objects behind them; and how many those are.
pub(crate) fn encode(rows: &[IndexRow], nonce: u64) -> (Bytes, u16) {
    let mut out = Vec::with_capacity(rows.len() * ROW_SIZE);
    let mut origins: Vec<u64> = Vec::new();
    for row in rows {
        out.put_u64_le(row.stream.0);
        out.put_u64_le(row.base_offset.0);
        out.put_u64_le(row.offset_delta);
        out.put_u64_le(row.record_count);
        out.put_i64_le(row.timestamp_ms_max);
        out.put_u64_le(row.position);
        out.put_u32_le(row.size);
        out.put_u32_le(row.entry_count);
        out.put_u32_le(row.crc);
        out.put_u8(row.kind.code());
        out.put_u8(0);
        out.put_u16_le(place(&mut origins, row.origin, nonce));
    }
    origins.iter().for_each(|origin| out.put_u64_le(*origin));
    let count = u16::try_from(origins.len()).expect("bounded by who copies");
    (Bytes::from(out), count)
}

/// The number of an origin, from 1; 0 for the object itself.
fn place(origins: &mut Vec<u64>, origin: u64, nonce: u64) -> u16 {
    if origin == nonce {
        return 0;
    }
    // The last ones are asked for most: blocks of one origin follow each other.
    let known = origins.iter().rposition(|known| *known == origin);
    let place = known.unwrap_or_else(|| {
        origins.push(origin);
        origins.len() - 1
    });
    u16::try_from(place + 1).expect("bounded by who copies")
}

/// Reads the rows of the object `nonce`, whose index begins at `index_position`; the checksum held.
pub(crate) fn decode(
    bytes: Bytes,
    index_position: u64,
    nonce: u64,
    origin_count: u16,
) -> Result<ObjectIndex, FormatError> {
    let origins = read_origins(&bytes, nonce, origin_count)?;
    let num_bytes = bytes.len() - origins.len() * ORIGIN_SIZE;
    let mut reader = Reader::new(bytes.slice(..num_bytes));
    let mut rows: Vec<IndexRow> = Vec::with_capacity(reader.remaining() / ROW_SIZE);
    let (mut position, mut named) = (HEADER_SIZE as u64, 0);
    while reader.remaining() > 0 {
        let (mut row, origin) = read_row(&mut reader)?;
        row.origin = match usize::from(origin).checked_sub(1) {
            None => nonce,
            Some(at) => {
                let known = origins.get(at).copied();
                let is_next = at <= named && row.kind == BlockKind::Data;
                let origin = known.filter(|_| is_next);
                named = named.max(at + 1);
                origin.ok_or_else(|| reader.damaged("origin", named as u64, origin_of(at)))?
            }
        };
        reader.expect("position of the next block", position, row.position)?;
        position += u64::from(row.size);
        if let Some(last) = rows.last() {
            let follows = last.order() < row.order();
            reader.expect("ascending rows", 1, u64::from(follows))?;
            let both_data = (last.kind, row.kind) == (BlockKind::Data, BlockKind::Data);
            if last.stream == row.stream && both_data {
                let apart = last.end_offset() <= row.base_offset;
                reader.expect("blocks apart", 1, u64::from(apart))?;
            }
        }
        rows.push(row);
    }
    reader.expect("origins", origins.len() as u64, named as u64)?;
    reader.expect("index position", position, index_position)?;
    Ok(ObjectIndex { rows })
}

fn origin_of(at: usize) -> u64 {
    at as u64 + 1
}

/// The nonces behind the rows.
fn read_origins(bytes: &Bytes, nonce: u64, count: u16) -> Result<Vec<u64>, FormatError> {
    let size = usize::from(count) * ORIGIN_SIZE;
    let Some(at) = bytes.len().checked_sub(size) else {
        let reader = Reader::new(bytes.clone());
        return Err(reader.damaged("size of the origins", size as u64, bytes.len() as u64));
    };
    let mut reader = Reader::new(bytes.slice(at..));
    let mut origins = Vec::with_capacity(usize::from(count));
    let mut seen = BTreeSet::from([nonce]);
    for _ in 0..count {
        let origin = reader.u64()?;
        reader.expect("each origin once", 1, u64::from(seen.insert(origin)))?;
        origins.push(origin);
    }
    Ok(origins)
}

/// A row without its origin, and that one's number.
fn read_row(reader: &mut Reader) -> Result<(IndexRow, u16), FormatError> {
    let stream = StreamId(reader.u64()?);
    let (base_offset, offset_delta) = (Offset(reader.u64()?), reader.u64()?);
    let (record_count, timestamp_ms_max) = (reader.u64()?, reader.i64()?);
    let (position, size) = (reader.u64()?, reader.u32()?);
    let (entry_count, crc) = (reader.u32()?, reader.u32()?);
    let kind = BlockKind::read(reader)?;
    reader.zeros::<1>()?;
    let origin = reader.u16()?;
    if base_offset.checked_add(offset_delta).is_none() {
        return Err(reader.damaged("end offset", u64::MAX - base_offset.0, offset_delta));
    }
    let is_snapshot = kind == BlockKind::Snapshot;
    reader.expect(
        "snapshot covers no offset",
        u64::from(is_snapshot),
        u64::from(offset_delta == 0),
    )?;
    if record_count > offset_delta {
        return Err(reader.damaged("record count", offset_delta, record_count));
    }
    let row = IndexRow {
        stream,
        kind,
        base_offset,
        offset_delta,
        record_count,
        timestamp_ms_max,
        position,
        size,
        entry_count,
        crc,
        origin: 0,
    };
    Ok((row, origin))
}
