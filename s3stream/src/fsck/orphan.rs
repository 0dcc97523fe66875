//! What an object that nobody references holds, by its own word.
//!
//! *Owns*: reading footer and index without the metadata's help.
//! *Does not own*: what follows from it; whoever knows the WAL decides.
//!
//! *IO: none* (requests go through the bucket port)

use tidewater_types::{OffsetRange, StreamId};

use crate::error::TierError;
use crate::format::index::{BlockKind, ROW_SIZE};
use crate::format::object::{FOOTER_SIZE, HEADER_SIZE, decode_footer};
use crate::meta::state::ObjectState;
use crate::object_id::ObjectId;
use crate::read::source::Source;

/// An index beyond this is not read: the largest objects need less.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// The ranges in the object of `size` bytes; none if it is not a whole object, or is gone.
pub(super) async fn held_by(
    source: &Source,
    id: ObjectId,
    size: u64,
) -> Result<Vec<(StreamId, OffsetRange)>, TierError> {
    let smallest = (HEADER_SIZE + FOOTER_SIZE) as u64;
    let Some(footer_at) = size
        .checked_sub(FOOTER_SIZE as u64)
        .filter(|_| size >= smallest)
    else {
        return Ok(Vec::new());
    };
    let key = id.key();
    let footer = source.decoded(&key, footer_at, size, decode_footer).await;
    let Some((footer, footer_crc)) = readable(footer)? else {
        return Ok(Vec::new());
    };
    // Also bounds what is read: an index is as long as its rows.
    let index_bytes = u64::from(footer.block_count) * ROW_SIZE as u64;
    let in_place = footer.index_position >= HEADER_SIZE as u64
        && footer.index_position.checked_add(index_bytes) == Some(footer_at);
    if footer.id != id || !in_place || index_bytes > INDEX_BYTES_MAX {
        return Ok(Vec::new());
    }
    let object = ObjectState {
        kind: footer.kind,
        size,
        index_position: footer.index_position,
        footer_crc,
        num_references: 0,
        died_seq: None,
    };
    let Some(index) = readable(source.index(id, &object).await)? else {
        return Ok(Vec::new());
    };
    let mut ranges: Vec<(StreamId, OffsetRange)> = Vec::new();
    for row in index.rows.iter().filter(|row| row.kind == BlockKind::Data) {
        let offsets =
            OffsetRange::new(row.base_offset, row.end_offset()).expect("checked when decoded");
        match ranges.last_mut() {
            Some((stream, last)) if *stream == row.stream && last.end() == offsets.start() => {
                *last = OffsetRange::new(last.start(), offsets.end()).expect("rows ascend");
            }
            _ => ranges.push((row.stream, offsets)),
        }
    }
    Ok(ranges)
}

/// What was read; `None` for what is not an object of ours, or is no more.
fn readable<T>(read: Result<T, TierError>) -> Result<Option<T>, TierError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(
            TierError::Corrupt { .. } | TierError::Missing { .. } | TierError::Unsupported { .. },
        ) => Ok(None),
        Err(err) => Err(err),
    }
}
