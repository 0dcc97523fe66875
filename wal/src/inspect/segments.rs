//! What each segment of the ring is used for.
//!
//! *Owns*: the count by segment during the walk, the look at segments the walk did not enter.
//! *Does not own*: the walk.
//!
//! Invariants
//! 1. Of a segment outside the chain one group is read at most, and of so many segments only.
//!
//! *IO: through the disk port*

use std::collections::BTreeSet;

use super::views::{SegmentState, SegmentView, Segments};
use crate::error::WalError;
use crate::format::group::{self, GroupHeader};
use crate::format::superblock::Superblock;
use crate::io::DiskIo;
use crate::recovery::judge::geometry;
use crate::recovery::reader::Reader;
use crate::ring::Geometry;

/// Segments outside the chain that are looked at.
const LOOKED_AT_MAX: usize = 4096;

/// The segments of the chain, as the walk enters them.
#[derive(Debug, Default)]
pub(super) struct Chain(Vec<SegmentView>);

impl Chain {
    /// The walk begins in, or comes to, the segment of `position`.
    pub(super) fn enter(&mut self, geometry: &Geometry, position: u64) -> &mut SegmentView {
        let segment = geometry.segment(position);
        if self.0.last().is_none_or(|last| last.segment != segment) {
            self.0
                .push(view(geometry, segment, SegmentState::Chain, None));
        }
        self.0.last_mut().expect("just entered")
    }

    /// Counts a group.
    pub(super) fn count(&mut self, geometry: &Geometry, header: &GroupHeader, num_bytes: u64) {
        let segment = self.enter(geometry, header.position);
        segment.groups += 1;
        segment.frames += u64::from(header.num_frames);
        segment.group_bytes += num_bytes;
        segment.lsn.get_or_insert(header.lsn.0);
        segment.end = Some(header.end().0);
        segment.epoch = Some(header.epoch.0);
    }
}

/// The whole ring: the chain in its order, then the others.
pub(super) async fn survey(
    io: &mut DiskIo,
    superblock: &Superblock,
    chain: Chain,
    next: Option<u32>,
) -> Segments {
    let geometry = geometry(superblock);
    let existing = geometry.segments_in(io.num_bytes());
    let in_chain: BTreeSet<u32> = chain.0.iter().map(|segment| segment.segment).collect();
    let mut segments = Segments {
        existing,
        chain: u32::try_from(in_chain.len()).expect("as many as segments"),
        list: chain.0,
        ..Segments::default()
    };
    let others = existing as usize - in_chain.range(..existing).count();
    let not_read = others.saturating_sub(LOOKED_AT_MAX);
    segments.not_read = u32::try_from(not_read).expect("as many as segments");
    let others = (0..existing).filter(|segment| !in_chain.contains(segment));
    for segment in others.take(LOOKED_AT_MAX) {
        let (mut state, header) = look(io, superblock, &geometry, segment).await;
        if next == Some(segment) {
            state = SegmentState::Next;
        }
        let count = match state {
            SegmentState::Next => &mut segments.next,
            SegmentState::Free => &mut segments.free,
            SegmentState::Blank => &mut segments.blank,
            SegmentState::NotRead => &mut segments.not_read,
            SegmentState::Chain | SegmentState::Unknown => &mut segments.unknown,
        };
        *count += 1;
        segments
            .list
            .push(view(&geometry, segment, state, header.as_ref()));
    }
    segments
}

/// What a segment that is not in the chain begins with.
async fn look(
    io: &mut DiskIo,
    superblock: &Superblock,
    geometry: &Geometry,
    segment: u32,
) -> (SegmentState, Option<GroupHeader>) {
    let start = geometry.start(segment);
    let mut reader = Reader::new(io, *geometry, geometry.block_bytes);
    let header = match reader.group(start).await {
        Ok(bytes) => bytes.and_then(group::decode).ok(),
        Err(_) => return (SegmentState::NotRead, None),
    };
    let ours = |header: &GroupHeader| (header.wal, header.position) == (superblock.wal, start);
    if let Some(header) = header.filter(ours) {
        return (SegmentState::Free, Some(header));
    }
    match is_blank(io, geometry, start).await {
        Ok(true) => (SegmentState::Blank, None),
        Ok(false) => (SegmentState::Unknown, None),
        Err(_) => (SegmentState::NotRead, None),
    }
}

async fn is_blank(io: &mut DiskIo, geometry: &Geometry, start: u64) -> Result<bool, WalError> {
    let block = usize::try_from(geometry.block_bytes).expect("a block");
    let bytes = io.read(start, block).await?;
    Ok(bytes.as_slice().iter().all(|&byte| byte == 0))
}

fn view(
    geometry: &Geometry,
    segment: u32,
    state: SegmentState,
    first: Option<&GroupHeader>,
) -> SegmentView {
    SegmentView {
        segment,
        position: geometry.start(segment),
        state,
        groups: 0,
        frames: 0,
        group_bytes: 0,
        lsn: first.map(|header| header.lsn.0),
        end: None,
        epoch: first.map(|header| header.epoch.0),
    }
}
