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
use crate::read::source::{Source, checked_block};
use crate::reader::{FormatError, Reader};

use super::report::{Finding, FindingKind, FsckOptions, FsckProgress, Severity};

/// Bytes of blocks read with one request: requests cost, and so does memory.
const READ_BYTES: u64 = 8 << 20;

/// What the metadata says about an object.
pub(super) struct Expected {
    pub(super) object: ObjectState,
    /// With the maximum timestamp.
    pub(super) ranges: Vec<(StreamId, (OffsetRange, i64))>,
    pub(super) snapshots: Vec<(StreamId, SnapshotRef)>,
}

/// What is wrong with the object, which is `size` bytes long, and how many of its bytes were read.
pub(super) async fn check_object(
    source: &Source,
    id: ObjectId,
    expected: &Expected,
    size: u64,
    options: &FsckOptions,
) -> Result<(Vec<Finding>, u64), TierError> {
    let (key, object) = (id.key(), &expected.object);
    let mut findings = Vec::new();
    if size != object.size {
        let detail = format!("size is {size}, metadata says {}", object.size);
        findings
            .push(Finding::new(Severity::Error, FindingKind::Format, detail).object(key.clone()));
        return Ok((findings, 0));
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
    options.progress.advance(num_bytes);
    if options.verify_checksums {
        let run = Run {
            source,
            id,
            key: &key,
            progress: &options.progress,
        };
        num_bytes += run.check(object, &index, &mut findings).await?;
    }
    Ok((findings, num_bytes))
}

/// The check of every byte of one object.
struct Run<'a> {
    source: &'a Source,
    id: ObjectId,
    key: &'a str,
    progress: &'a FsckProgress,
}

impl Run<'_> {
    /// Reads header and blocks; how many bytes that were.
    async fn check(
        &self,
        object: &ObjectState,
        index: &ObjectIndex,
        findings: &mut Vec<Finding>,
    ) -> Result<u64, TierError> {
        let header = |bytes: Bytes| {
            let reader = Reader::new(bytes.clone());
            let (found, kind) = decode_header(bytes)?;
            reader.expect(
                "object id",
                1,
                u64::from(found == self.id && kind == object.kind),
            )
        };
        let read = self
            .source
            .decoded(self.key, 0, HEADER_SIZE as u64, header)
            .await;
        if let Err(err) = read {
            findings.push(finding(self.key, err)?);
        }
        self.progress.advance(HEADER_SIZE as u64);
        let mut rest = &index.rows[..];
        while !rest.is_empty() {
            let (run, more) = rest.split_at(run_len(rest));
            self.blocks(run, findings).await?;
            rest = more;
        }
        Ok(object.index_position)
    }

    /// Reads adjacent blocks with one request; one that looks damaged is read again alone.
    async fn blocks(
        &self,
        rows: &[IndexRow],
        findings: &mut Vec<Finding>,
    ) -> Result<(), TierError> {
        let (start, end) = (rows[0].position, end_of(&rows[rows.len() - 1]));
        let all = self.source.decoded(self.key, start, end, Ok).await;
        for row in rows {
            let decode = |bytes: Bytes| decode_block(bytes, row, self.id.nonce);
            let is_sound = all.as_ref().is_ok_and(|all| {
                let at = |position: u64| usize::try_from(position - start).expect("it was read");
                let block = all.get(at(row.position)..at(end_of(row)));
                block.is_some_and(|block| decode(all.slice_ref(block)).is_ok())
            });
            if is_sound {
                continue;
            }
            let read = self
                .source
                .decoded(self.key, row.position, end_of(row), decode);
            if let Err(err) = read.await {
                let offsets = OffsetRange::new(row.base_offset, row.end_offset())
                    .expect("checked when decoded");
                findings.push(finding(self.key, err)?.range(row.stream, offsets));
            }
        }
        self.progress.advance(end - start);
        Ok(())
    }
}

/// How many of the blocks, which lie one behind the other, one request reads.
fn run_len(rows: &[IndexRow]) -> usize {
    let fits = |row: &&IndexRow| end_of(row) - rows[0].position <= READ_BYTES;
    rows.iter().take_while(fits).count().max(1)
}

fn end_of(row: &IndexRow) -> u64 {
    row.position + u64::from(row.size)
}

fn decode_block(bytes: Bytes, row: &IndexRow, nonce: u64) -> Result<(), FormatError> {
    match row.kind {
        BlockKind::Data => checked_block(bytes, row).map(drop),
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
