//! Judges compaction: new objects in the place of ranges, and objects that never will be committed.
//!
//! *Owns*: what must hold for ranges to be replaced, and for an object to be condemned.
//! *Does not own*: how objects are taken in and references counted (`apply`).
//!
//! Invariants
//! 1. A source that is not exactly there any more drops its stream's replacement: of two
//!    compactors that read the same ranges one wins, whoever is applied first.
//! 2. Targets cover exactly the offsets of their sources, so a stream is tiled before and after.
//! 3. What is condemned stays so: counters only ascend, and a later life has a later epoch.
//!
//! *IO: none*

use tidewater_types::{Epoch, NodeId, Offset, OffsetRange, mutant, sometimes};

use crate::error::Rejection;
use crate::meta::op::{MovedSnapshot, NewObject, Replacement};
use crate::meta::state::{RangeState, SnapshotRef};
use crate::object_id::ObjectId;

use super::{Judge, Verdict, object_of};

impl Judge<'_> {
    pub(super) fn replace_ranges(
        &mut self,
        node: (NodeId, Epoch),
        objects: &[NewObject],
        replacements: &[Replacement],
    ) -> Verdict {
        self.add_objects(node, objects, true)?;
        for replacement in replacements {
            self.replace(replacement, objects)?;
        }
        Ok(())
    }

    fn replace(&mut self, replacement: &Replacement, objects: &[NewObject]) -> Verdict {
        let run = covered(replacement)?;
        let stream = replacement.stream;
        let is_there = self.changes.state.stream(stream).is_some_and(|known| {
            let exact = replacement.sources.iter().all(|source| {
                let range = known.ranges.get(&source.start);
                range.is_some_and(|range| (range.end, range.object) == (source.end, source.object))
            });
            (known.epoch == replacement.epoch && exact) || mutant!(31)
        });
        if !is_there {
            sometimes!("s3stream: replacement dropped at commit");
            self.report.dropped.push((stream, run));
            return Ok(());
        }
        let start = self.changes.state.streams[&stream].start;
        let mut released = Vec::new();
        for source in &replacement.sources {
            let ranges = &self.changes.state.streams[&stream].ranges;
            released.extend(ranges.get(&source.start).map(|range| range.object));
            self.changes.set_range(stream, source.start, None);
        }
        for target in &replacement.targets {
            let object = object_of(objects, target.object)?;
            if target.end <= start {
                continue;
            }
            let range = RangeState {
                end: target.end,
                object,
                timestamp_ms_max: target.timestamp_ms_max,
            };
            self.changes.set_range(stream, target.start, Some(range));
            self.reference(object);
        }
        if let Some(moved) = &replacement.snapshot {
            let object = object_of(objects, moved.object)?;
            released.extend(self.move_snapshot(replacement, moved, object));
        }
        released.into_iter().for_each(|object| self.release(object));
        self.report.committed.push((stream, run));
        Ok(())
    }

    /// The object that the snapshot was moved from.
    fn move_snapshot(
        &mut self,
        replacement: &Replacement,
        moved: &MovedSnapshot,
        object: ObjectId,
    ) -> Option<ObjectId> {
        let mut head = self.changes.head(replacement.stream)?;
        let old = head.snapshot?;
        if (old.object, old.position) != (moved.from, moved.from_position) {
            sometimes!("s3stream: moved snapshot is superseded");
            return None;
        }
        head.snapshot = Some(SnapshotRef {
            as_of: old.as_of,
            object,
            position: moved.position,
            size: moved.size,
        });
        self.changes.set_head(replacement.stream, head);
        self.reference(object);
        Some(old.object)
    }

    pub(super) fn condemn(&mut self, node: NodeId, epoch: Epoch, counter: u64) -> Verdict {
        let known = self.changes.state.nodes.get(&node).copied();
        let mut state = known.ok_or(Rejection::NodeUnknown { node })?;
        if epoch > state.epoch {
            return Err(Rejection::NodeEpochNotNext {
                node,
                current: state.epoch,
            });
        }
        if epoch == state.epoch {
            let nonce = 0;
            state.set_committed(&ObjectId {
                node,
                epoch,
                counter,
                nonce,
            });
            self.changes.set_node(node, state);
        }
        Ok(())
    }
}

/// The offsets of the replacement, which sources and targets both tile.
fn covered(replacement: &Replacement) -> Result<OffsetRange, Rejection> {
    let sources = replacement
        .sources
        .iter()
        .map(|source| (source.start, source.end));
    let targets = replacement
        .targets
        .iter()
        .map(|target| (target.start, target.end));
    let run = tiled(sources).ok_or(Rejection::Malformed {
        what: "sources of a replacement are not a run",
    })?;
    if tiled(targets) == Some(run) {
        return Ok(run);
    }
    Err(Rejection::Malformed {
        what: "targets of a replacement do not cover its sources",
    })
}

/// What ranges cover if each begins where the one before ends.
fn tiled(mut ranges: impl Iterator<Item = (Offset, Offset)>) -> Option<OffsetRange> {
    let (start, mut end) = ranges.next()?;
    let mut holds = start < end;
    for (next_start, next_end) in ranges {
        holds &= next_start == end && next_start < next_end;
        end = next_end;
    }
    OffsetRange::new(start, end).filter(|_| holds)
}
