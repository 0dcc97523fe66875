//! The check of one object against the metadata.
//!
//! *Owns*: size, index, ranges, snapshots, and every byte if asked.
//! *Does not own*: which objects are checked.
//!
//! *IO: none* (requests go through the bucket port)

use bytes::Bytes;
use tidewater_types::{Offset, OffsetRange, StreamId};

use crate::error::TierError;
use crate::format::block;
use crate::format::index::{BlockKind, IndexRow, ObjectIndex};
use crate::format::object::{HEADER_SIZE, decode_header};
use crate::meta::state::{ObjectState, SnapshotRef};
use crate::object_id::ObjectId;
use crate::read::source::Source;
use crate::reader::{FormatError, Reader};

use super::report::{Finding, FindingKind, Severity};

/// What the metadata says about an object.
pub(super) struct Expected {
    pub(super) object: ObjectState,
    /// With the maximum timestamp.
    pub(super) ranges: Vec<(StreamId, (OffsetRange, i64))>,
    pub(super) snapshots: Vec<(StreamId, SnapshotRef)>,
}

/// What is wrong with the object, and how many of its bytes were read.
pub(super) async fn check_object(
    source: &Source,
    id: ObjectId,
    expected: &Expected,
    verify_checksums: bool,
) -> Result<(Vec<Finding>, u64), TierError> {
    let (key, object) = (id.key(), &expected.object);
    let mut findings = Vec::new();
    match source.size(&key).await {
        Ok(size) if size != object.size => {
            let detail = format!("size is {size}, metadata says {}", object.size);
            findings.push(
                Finding::new(Severity::Error, FindingKind::Format, detail).object(key.clone()),
            );
            return Ok((findings, 0));
        }
        Ok(_) => {}
        Err(err) => {
            findings.push(finding(&key, err)?);
            return Ok((findings, 0));
        }
    }
    let index = match source.index(id, object).await {
        Ok(index) => index,
        Err(err) => {
            findings.push(finding(&key, err)?);
            return Ok((findings, 0));
        }
    };
    let mut num_bytes = object.size - object.index_position;
    for (stream, (offsets, timestamp)) in &expected.ranges {
        if let Some(detail) = range_differs(&index, *stream, *offsets, *timestamp) {
            let wrong = Finding::new(Severity::Error, FindingKind::Format, detail);
            findings.push(wrong.object(key.clone()).range(*stream, *offsets));
        }
    }
    for (stream, snapshot) in &expected.snapshots {
        if !has_snapshot(&index, *stream, snapshot) {
            let detail = format!(
                "no state snapshot as of offset {} at {}",
                snapshot.as_of, snapshot.position
            );
            let wrong = Finding::new(Severity::Error, FindingKind::Format, detail);
            findings.push(wrong.object(key.clone()).stream(*stream));
        }
    }
    if verify_checksums {
        num_bytes += check_bytes(source, id, object, &index, &mut findings).await?;
    }
    Ok((findings, num_bytes))
}

/// Reads header and blocks; how many bytes that were.
async fn check_bytes(
    source: &Source,
    id: ObjectId,
    object: &ObjectState,
    index: &ObjectIndex,
    findings: &mut Vec<Finding>,
) -> Result<u64, TierError> {
    let key = id.key();
    let header = |bytes: Bytes| {
        let reader = Reader::new(bytes.clone());
        let (found, kind) = decode_header(bytes)?;
        reader.expect(
            "object id",
            1,
            u64::from(found == id && kind == object.kind),
        )
    };
    if let Err(err) = source.decoded(&key, 0, HEADER_SIZE as u64, header).await {
        findings.push(finding(&key, err)?);
    }
    for row in &index.rows {
        let end = row.position + u64::from(row.size);
        let decode = |bytes: Bytes| decode_block(bytes, row, id.nonce);
        if let Err(err) = source.decoded(&key, row.position, end, decode).await {
            let offsets =
                OffsetRange::new(row.base_offset, row.end_offset()).expect("checked when decoded");
            findings.push(finding(&key, err)?.range(row.stream, offsets));
        }
    }
    Ok(object.index_position)
}

fn decode_block(bytes: Bytes, row: &IndexRow, nonce: u64) -> Result<(), FormatError> {
    match row.kind {
        BlockKind::Data => block::decode_data(bytes, row, nonce).map(drop),
        BlockKind::Snapshot => {
            block::decode_snapshot(bytes, row.stream, row.base_offset, nonce).map(drop)
        }
    }
}

/// How the blocks of the stream differ from the range in the metadata.
fn range_differs(
    index: &ObjectIndex,
    stream: StreamId,
    offsets: OffsetRange,
    timestamp: i64,
) -> Option<String> {
    let rows: Vec<_> = index.blocks_from(stream, Offset(0)).collect();
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return Some("no block of the stream".to_owned());
    };
    let (start, end) = (first.base_offset, last.end_offset());
    if (start, end) != (offsets.start(), offsets.end()) {
        return Some(format!(
            "blocks hold [{start}, {end}), metadata says {offsets}"
        ));
    }
    if let Some(pair) = rows
        .windows(2)
        .find(|pair| pair[0].end_offset() != pair[1].base_offset)
    {
        return Some(format!(
            "a gap between blocks at offset {}",
            pair[0].end_offset()
        ));
    }
    let found = rows.iter().map(|row| row.timestamp_ms_max).max();
    (found != Some(timestamp))
        .then(|| format!("maximum timestamp is {found:?}, metadata says {timestamp}"))
}

fn has_snapshot(index: &ObjectIndex, stream: StreamId, snapshot: &SnapshotRef) -> bool {
    index.rows.iter().any(|row| {
        row.kind == BlockKind::Snapshot
            && (row.stream, row.base_offset) == (stream, snapshot.as_of)
            && (row.position, row.size) == (snapshot.position, snapshot.size)
    })
}

/// What an error of a read says about the object; other errors end the check.
fn finding(key: &str, err: TierError) -> Result<Finding, TierError> {
    let what = match &err {
        TierError::Corrupt { .. } => FindingKind::Checksum,
        TierError::Missing { .. } => FindingKind::Missing,
        TierError::Unsupported { .. } => FindingKind::Format,
        _ => return Err(err),
    };
    Ok(Finding::new(Severity::Error, what, err.to_string()).object(key.to_owned()))
}
