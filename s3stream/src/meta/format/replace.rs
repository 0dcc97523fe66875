//! Codec of what compaction replaces.
//!
//! *Owns*: the items of tag 20. *Does not own*: the operation around them (`op`).
//!
//! Invariants
//! 1. Decode then encode gives the same bytes.
//!
//! *Format: docs/formats/metadata-log.md*
//! *IO: none*

use bytes::BufMut;
use tidewater_types::{Epoch, Offset, StreamId};

use crate::meta::op::{MovedSnapshot, Replacement, SourceRange, TargetRange};
use crate::reader::{FormatError, Reader};

use super::field::{put_count, put_id, read_id};

pub(crate) const SOURCE_SIZE: usize = 44;
pub(crate) const TARGET_SIZE: usize = 28;
const SNAPSHOT_SIZE: usize = 52;
/// A replacement without its sources and targets, at most.
pub(crate) const REPLACEMENT_SIZE: usize = 16 + 4 + 4 + 1 + SNAPSHOT_SIZE;

pub(super) fn put(out: &mut Vec<u8>, replacements: &[Replacement]) {
    put_count(out, replacements.len());
    for replacement in replacements {
        out.put_u64_le(replacement.stream.0);
        out.put_u64_le(replacement.epoch.0);
        put_count(out, replacement.sources.len());
        for source in &replacement.sources {
            out.put_u64_le(source.start.0);
            out.put_u64_le(source.end.0);
            put_id(out, &source.object);
        }
        put_count(out, replacement.targets.len());
        for target in &replacement.targets {
            out.put_u64_le(target.start.0);
            out.put_u64_le(target.end.0);
            out.put_i64_le(target.timestamp_ms_max);
            out.put_u32_le(target.object);
        }
        out.put_u8(u8::from(replacement.snapshot.is_some()));
        if let Some(moved) = &replacement.snapshot {
            put_id(out, &moved.from);
            out.put_u64_le(moved.from_position);
            out.put_u32_le(moved.object);
            out.put_u64_le(moved.position);
            out.put_u32_le(moved.size);
        }
    }
}

pub(super) fn read(reader: &mut Reader) -> Result<Vec<Replacement>, FormatError> {
    let count = reader.count(REPLACEMENT_SIZE - SNAPSHOT_SIZE, "replacements")?;
    (0..count).map(|_| read_one(reader)).collect()
}

fn read_one(reader: &mut Reader) -> Result<Replacement, FormatError> {
    let (stream, epoch) = (StreamId(reader.u64()?), Epoch(reader.u64()?));
    let count = reader.count(SOURCE_SIZE, "sources")?;
    let sources = (0..count).map(|_| {
        Ok(SourceRange {
            start: Offset(reader.u64()?),
            end: Offset(reader.u64()?),
            object: read_id(reader)?,
        })
    });
    let sources = sources.collect::<Result<_, FormatError>>()?;
    let count = reader.count(TARGET_SIZE, "targets")?;
    let targets = (0..count).map(|_| {
        Ok(TargetRange {
            start: Offset(reader.u64()?),
            end: Offset(reader.u64()?),
            timestamp_ms_max: reader.i64()?,
            object: reader.u32()?,
        })
    });
    let targets = targets.collect::<Result<_, FormatError>>()?;
    let snapshot = if reader.flag("snapshot flag")? {
        Some(MovedSnapshot {
            from: read_id(reader)?,
            from_position: reader.u64()?,
            object: reader.u32()?,
            position: reader.u64()?,
            size: reader.u32()?,
        })
    } else {
        None
    };
    Ok(Replacement {
        stream,
        epoch,
        sources,
        targets,
        snapshot,
    })
}
