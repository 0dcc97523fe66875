//! Codec of a block: the unit that is read, checked and cached.
//!
//! *Owns*: the header, the entry table, the checksum over all of it.
//! *Does not own*: how entries are divided into blocks.
//!
//! Invariants
//! 1. A block names the object it was written for (nonce), its stream and offsets, so bytes at a wrong
//!    place do not pass for right ones.
//! 2. Entries ascend and stay within the block's offsets and bytes; a block that
//!    was decoded needs no further check.
//! 3. Payloads are slices of the block, never copied.
//!
//! *Format: docs/formats/stream-set-object.md, docs/formats/state-snapshot.md*
//! *IO: none*

use bytes::{Buf, BufMut, Bytes};
use tidewater_types::{Offset, OffsetRange, StreamId, crc32c, mutant};

use crate::entry::Entry;

use super::index::{BlockKind, IndexRow};
use crate::reader::{FormatError, Reader};

pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"TWBK");
pub(crate) const HEADER_SIZE: usize = 64;
pub(crate) const TABLE_ROW_SIZE: usize = 24;
const CRC_AT: usize = 4;
const NONCE_AT: usize = 48;

/// Bytes an entry takes in a block.
pub(crate) fn entry_size(entry: &Entry) -> usize {
    TABLE_ROW_SIZE + entry.payload.len()
}

/// A block that was encoded: its bytes in parts, and its index row.
pub(crate) struct EncodedBlock {
    pub(crate) parts: Vec<Bytes>,
    pub(crate) row: IndexRow,
}

/// Encodes contiguous entries of a stream as the block at `position` of the object `nonce`.
pub(crate) fn encode_data(
    stream: StreamId,
    nonce: u64,
    position: u64,
    entries: &[Entry],
) -> EncodedBlock {
    let base = entries.first().expect("a block holds an entry").base_offset;
    let end = entries.last().expect("a block holds an entry").end_offset();
    let contiguous = entries
        .windows(2)
        .all(|pair| pair[0].end_offset() == pair[1].base_offset);
    assert!(contiguous, "entries are contiguous");
    let range = OffsetRange::new(base, end).expect("entries ascend");
    encode_covering(stream, nonce, position, range, entries)
}

/// Encodes ascending entries as a block that stands for all offsets of `range`; those that no
/// entry covers are holes.
pub(crate) fn encode_covering(
    stream: StreamId,
    nonce: u64,
    position: u64,
    range: OffsetRange,
    entries: &[Entry],
) -> EncodedBlock {
    let (base, end) = (range.start(), range.end());
    // With the small payloads that follow it in the same part: room that grows is twice what is filled.
    let small = entries.iter().map(|entry| entry.payload.len());
    let small: usize = small
        .take_while(|size| *size < PartsBuilder::COPY_BELOW)
        .sum();
    let mut table = Vec::with_capacity(HEADER_SIZE + entries.len() * TABLE_ROW_SIZE + small);
    table.put_slice(&[0; HEADER_SIZE]);
    let (mut payload_end, mut record_count) = (0usize, 0);
    let mut next = base;
    for entry in entries {
        assert!(
            entry.record_count > 0 && entry.base_offset >= next && entry.end_offset() <= end,
            "entries ascend within their block"
        );
        next = entry.end_offset();
        record_count += u64::from(entry.record_count);
        payload_end += entry.payload.len();
        let delta = entry
            .base_offset
            .distance_from(base)
            .expect("entries ascend");
        let delta = if mutant!(25) { delta & 0x0f } else { delta };
        table.put_u64_le(delta);
        table.put_u32_le(entry.record_count);
        table.put_u32_le(u32::try_from(payload_end).expect("blocks are closed long before 4 GiB"));
        table.put_i64_le(entry.timestamp_ms_max);
    }
    let offset_delta = end.distance_from(base).expect("entries ascend");
    let row = IndexRow {
        stream,
        kind: BlockKind::Data,
        base_offset: base,
        offset_delta,
        record_count,
        timestamp_ms_max: entries
            .iter()
            .map(|entry| entry.timestamp_ms_max)
            .max()
            .unwrap_or(i64::MIN),
        position,
        size: 0,
        entry_count: u32::try_from(entries.len()).expect("bounded by the block size"),
        crc: 0,
        origin: nonce,
    };
    seal(
        row,
        table,
        entries.iter().map(|entry| entry.payload.clone()),
    )
}

/// Encodes an owner's state as the block at `position` of the object `nonce`.
pub(crate) fn encode_snapshot(
    stream: StreamId,
    nonce: u64,
    position: u64,
    as_of: Offset,
    state: Bytes,
) -> EncodedBlock {
    let row = IndexRow {
        stream,
        kind: BlockKind::Snapshot,
        base_offset: as_of,
        offset_delta: 0,
        record_count: 0,
        timestamp_ms_max: 0,
        position,
        size: 0,
        entry_count: 0,
        crc: 0,
        origin: nonce,
    };
    seal(row, vec![0; HEADER_SIZE], std::iter::once(state))
}

/// A block as it is, for the place `position` in the object `nonce`: a new header and checksum
/// before the same entries, which are shared.
pub(crate) fn moved(block: &DataBlock, row: &IndexRow, nonce: u64, position: u64) -> EncodedBlock {
    let mut header = block.bytes[..HEADER_SIZE].to_vec();
    let rest = block.bytes.slice(HEADER_SIZE..);
    header[NONCE_AT..NONCE_AT + 8].copy_from_slice(&nonce.to_le_bytes());
    let crc = crc32c(&[&header[..CRC_AT], &header[CRC_AT + 4..], &rest]);
    header[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    let row = IndexRow {
        position,
        crc,
        origin: nonce,
        ..*row
    };
    EncodedBlock {
        parts: vec![Bytes::from(header), rest],
        row,
    }
}

fn seal(
    mut row: IndexRow,
    mut head: Vec<u8>,
    payloads: impl Iterator<Item = Bytes>,
) -> EncodedBlock {
    let table_size = head.len() - HEADER_SIZE;
    let mut parts = PartsBuilder::default();
    let mut payload_size = table_size;
    for payload in payloads {
        payload_size += payload.len();
        parts.push(&mut head, payload);
    }
    let mut header = &mut head[..HEADER_SIZE];
    header.put_u32_le(MAGIC);
    header.put_u32_le(0);
    header.put_u8(row.kind.code());
    header.put_slice(&[0; 3]);
    header.put_u32_le(row.entry_count);
    header.put_u64_le(row.stream.0);
    header.put_u64_le(row.base_offset.0);
    header.put_u64_le(row.offset_delta);
    header.put_i64_le(row.timestamp_ms_max);
    header.put_u64_le(row.origin);
    header.put_u32_le(u32::try_from(payload_size).expect("blocks are closed long before 4 GiB"));
    let rest = parts.finish();
    let mut covered: Vec<&[u8]> = vec![&head[..CRC_AT], &head[CRC_AT + 4..]];
    covered.extend(rest.iter().map(|part| &part[..]));
    row.crc = crc32c(&covered);
    row.size =
        u32::try_from(HEADER_SIZE + payload_size).expect("blocks are closed long before 4 GiB");
    head[CRC_AT..CRC_AT + 4].copy_from_slice(&row.crc.to_le_bytes());
    let mut parts = vec![Bytes::from(head)];
    parts.extend(rest);
    EncodedBlock { parts, row }
}

/// Joins small payloads, so that a request body has few parts; passes large ones on uncopied.
#[derive(Default)]
struct PartsBuilder {
    parts: Vec<Bytes>,
    open: Vec<u8>,
}

impl PartsBuilder {
    /// Payloads below this size in bytes are copied.
    const COPY_BELOW: usize = 1_024;

    /// Small payloads go to the end of `head` until the first large one.
    fn push(&mut self, head: &mut Vec<u8>, payload: Bytes) {
        if payload.len() >= Self::COPY_BELOW {
            self.close();
            self.parts.push(payload);
        } else if self.parts.is_empty() {
            head.put_slice(&payload);
        } else {
            self.open.put_slice(&payload);
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.parts.push(Bytes::from(std::mem::take(&mut self.open)));
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.parts
    }
}

/// A data block that was checked.
#[derive(Clone, Debug)]
pub(crate) struct DataBlock {
    bytes: Bytes,
    base_offset: Offset,
    entry_count: usize,
}

impl DataBlock {
    /// The block as it is stored.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same block in bytes of its own.
    pub(crate) fn copied(&self) -> Self {
        Self {
            bytes: Bytes::copy_from_slice(&self.bytes),
            ..*self
        }
    }

    /// Size in memory, in bytes.
    pub(crate) fn num_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The entries that end above `offset`, ascending.
    pub(crate) fn entries_from(&self, offset: Offset) -> impl Iterator<Item = Entry> + '_ {
        // Entries ascend, so those that end at or below the offset come first.
        let (mut low, mut high) = (0, self.entry_count);
        while low < high {
            let middle = (low + high) / 2;
            if self.entry(middle).end_offset() <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low..self.entry_count).map(|index| self.entry(index))
    }

    fn entry(&self, index: usize) -> Entry {
        let payloads = HEADER_SIZE + self.entry_count * TABLE_ROW_SIZE;
        let start = if index == 0 {
            0
        } else {
            self.table_row(index - 1).payload_end
        };
        let row = self.table_row(index);
        Entry {
            base_offset: self
                .base_offset
                .checked_add(row.offset_delta)
                .expect("checked when decoded"),
            record_count: row.record_count,
            timestamp_ms_max: row.timestamp_ms_max,
            payload: self
                .bytes
                .slice(payloads + start..payloads + row.payload_end),
        }
    }

    fn table_row(&self, index: usize) -> TableRow {
        let at = HEADER_SIZE + index * TABLE_ROW_SIZE;
        let mut row = &self.bytes[at..at + TABLE_ROW_SIZE];
        TableRow {
            offset_delta: row.get_u64_le(),
            record_count: row.get_u32_le(),
            payload_end: row.get_u32_le() as usize,
            timestamp_ms_max: row.get_i64_le(),
        }
    }
}

struct TableRow {
    offset_delta: u64,
    record_count: u32,
    payload_end: usize,
    timestamp_ms_max: i64,
}

/// Checks a data block against its index row.
pub(crate) fn decode_data(bytes: Bytes, row: &IndexRow) -> Result<DataBlock, FormatError> {
    let payload_size = check_header(&bytes, row)?;
    let reader = Reader::new(bytes.clone());
    let entry_count = row.entry_count as usize;
    let Some(payloads) = payload_size.checked_sub(entry_count.saturating_mul(TABLE_ROW_SIZE))
    else {
        return Err(reader.damaged(
            "entry count",
            (payload_size / TABLE_ROW_SIZE) as u64,
            entry_count as u64,
        ));
    };
    let block = DataBlock {
        bytes,
        base_offset: row.base_offset,
        entry_count,
    };
    let (mut next_delta, mut payload_start) = (0, 0);
    for index in 0..entry_count {
        let entry = block.table_row(index);
        let end = entry
            .offset_delta
            .checked_add(u64::from(entry.record_count));
        let in_order = entry.offset_delta >= next_delta
            && end.is_some_and(|end| end <= row.offset_delta)
            && entry.record_count > 0
            && entry.payload_end >= payload_start;
        if !in_order {
            return Err(reader.damaged("entry offset", next_delta, entry.offset_delta));
        }
        (next_delta, payload_start) = (end.unwrap_or(u64::MAX), entry.payload_end);
    }
    reader.expect("end of the payloads", payloads as u64, payload_start as u64)?;
    Ok(block)
}

/// Checks a snapshot block against what the metadata or the index say; the state inside.
pub(crate) fn decode_snapshot(
    bytes: Bytes,
    stream: StreamId,
    as_of: Offset,
    nonce: u64,
) -> Result<Bytes, FormatError> {
    let mut reader = Reader::new(bytes.clone());
    reader.bytes(CRC_AT)?;
    let row = IndexRow {
        stream,
        kind: BlockKind::Snapshot,
        base_offset: as_of,
        offset_delta: 0,
        record_count: 0,
        timestamp_ms_max: 0,
        position: 0,
        size: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        entry_count: 0,
        crc: reader.u32()?,
        origin: nonce,
    };
    check_header(&bytes, &row)?;
    Ok(bytes.slice(HEADER_SIZE..))
}

/// Everything but the entry table; the payload size.
fn check_header(bytes: &Bytes, row: &IndexRow) -> Result<usize, FormatError> {
    let mut reader = Reader::new(bytes.clone());
    reader.expect("block size", u64::from(row.size), bytes.len() as u64)?;
    let magic = reader.u32()?;
    reader.expect("magic", u64::from(MAGIC), u64::from(magic))?;
    let crc = reader.u32()?;
    reader.expect("checksum in the index", u64::from(row.crc), u64::from(crc))?;
    let found = crc32c(&[&bytes[..CRC_AT], &bytes[CRC_AT + 4..]]);
    reader.expect("checksum", u64::from(crc), u64::from(found))?;
    let kind = BlockKind::read(&mut reader)?;
    reader.expect(
        "block kind",
        u64::from(row.kind.code()),
        u64::from(kind.code()),
    )?;
    let flags = reader.u8()?;
    if flags != 0 {
        // Bit 0 is kept for compression; the checksum held, so a newer version wrote this.
        return Err(FormatError::Unsupported {
            version: u16::from(flags) << 8,
        });
    }
    reader.zeros::<2>()?;
    let entry_count = reader.u32()?;
    reader.expect(
        "entry count",
        u64::from(row.entry_count),
        u64::from(entry_count),
    )?;
    let stream = reader.u64()?;
    reader.expect("stream", row.stream.0, stream)?;
    let base = reader.u64()?;
    reader.expect("base offset", row.base_offset.0, base)?;
    let delta = reader.u64()?;
    reader.expect("offset delta", row.offset_delta, delta)?;
    let timestamp = reader.i64()?;
    reader.expect(
        "maximum timestamp",
        row.timestamp_ms_max.cast_unsigned(),
        timestamp.cast_unsigned(),
    )?;
    let found_nonce = reader.u64()?;
    reader.expect("object nonce", row.origin, found_nonce)?;
    let payload_size = reader.u32()? as usize;
    reader.zeros::<4>()?;
    reader.expect(
        "payload size",
        reader.remaining() as u64,
        payload_size as u64,
    )?;
    Ok(payload_size)
}
