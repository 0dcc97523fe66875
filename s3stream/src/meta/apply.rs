//! Judges transactions: what is granted, and what follows from it.
//!
//! *Owns*: the rules, and that a transaction applies whole or not at all.
//! *Does not own*: the primitive changes (`state`), the order of the log (`log`).
//!
//! Invariants
//! 1. Judged when applied, by the state alone: every process that replays the
//!    log comes to the same state and the same verdicts.
//! 2. A rejected transaction leaves the state as it was.
//! 3. A committed end never goes back; a range is granted only at the end.
//!
//! *IO: none*

use tidewater_types::{Epoch, NodeId, Offset, OffsetRange, StreamId, mutant, sometimes};

use crate::entry::CommitReport;
use crate::error::Rejection;
use crate::object_id::{COMPACTION_COUNTERS, ObjectId};

use super::op::{MetaOp, NewObject, NewRange, NewSnapshot};
use super::state::{Changes, MetaState, NodeState, ObjectState, RangeState, SnapshotRef};
use super::watched::Watched;

mod keys;
mod owners;
mod replace;

/// Applies a transaction that nobody watches.
#[cfg(test)]
pub(crate) fn apply(
    state: &mut MetaState,
    seq: u64,
    txn: &[MetaOp],
) -> Result<CommitReport, (usize, Rejection)> {
    apply_and_tell(state, seq, txn, None)
}

/// Applies a transaction of log entry `seq`, whole or not at all. A rejection names the operation.
/// `changed`, if anybody watches, gets what it changed.
pub(crate) fn apply_and_tell(
    state: &mut MetaState,
    seq: u64,
    txn: &[MetaOp],
    changed: Option<&mut Vec<Watched>>,
) -> Result<CommitReport, (usize, Rejection)> {
    let mut judge = Judge {
        changes: Changes::new(state),
        seq,
        report: CommitReport::default(),
    };
    for (index, op) in txn.iter().enumerate() {
        if let Err(reason) = judge.op(op) {
            judge.changes.roll_back();
            return Err((index, reason));
        }
    }
    if let Some(changed) = changed {
        judge.changes.tell(changed);
    }
    Ok(judge.report)
}

struct Judge<'a> {
    changes: Changes<'a>,
    seq: u64,
    report: CommitReport,
}

type Verdict = Result<(), Rejection>;

impl Judge<'_> {
    fn op(&mut self, op: &MetaOp) -> Verdict {
        match op {
            MetaOp::RegisterNode { node, epoch } => self.register_node(*node, *epoch),
            MetaOp::SetNodeWal {
                node,
                node_epoch,
                wal,
            } => {
                let state = self.live_node(*node, *node_epoch)?;
                self.changes
                    .set_node(*node, NodeState { wal: *wal, ..state });
                Ok(())
            }
            MetaOp::CreateStream { stream } => self.create_stream(*stream),
            MetaOp::OpenStream {
                stream,
                node,
                node_epoch,
                epoch,
            } => self.open_stream(*stream, *node, *node_epoch, *epoch),
            MetaOp::CommitUpload {
                node,
                node_epoch,
                objects,
                ranges,
                snapshots,
            } => self.commit_upload((*node, *node_epoch), objects, ranges, snapshots),
            MetaOp::ReplaceRanges {
                node,
                node_epoch,
                objects,
                replacements,
            } => self.replace_ranges((*node, *node_epoch), objects, replacements),
            MetaOp::CondemnObjects {
                node,
                epoch,
                counter,
            } => self.condemn(*node, *epoch, *counter),
            MetaOp::SetDeleteDelay { delay_ns } => self.set_delete_delay(*delay_ns),
            MetaOp::TrimStream {
                stream,
                epoch,
                start,
            } => self.trim(*stream, *epoch, *start),
            MetaOp::DeleteStream { stream } => self.delete(*stream),
            MetaOp::PutKey {
                key,
                value,
                expected_version,
            } => self.put_key(key, value, *expected_version),
            MetaOp::DeleteKey {
                key,
                expected_version,
            } => {
                self.check_version(key, *expected_version)?;
                if self.changes.state.keys.contains_key(key) {
                    self.changes.set_key(key, None);
                }
                Ok(())
            }
            MetaOp::RequireNode { node, node_epoch } => self.require_node(*node, *node_epoch),
            MetaOp::RequireOwner { stream, node } => self.require_owner(*stream, *node),
            MetaOp::ReleaseStream { stream, epoch } => self.release_stream(*stream, *epoch),
            MetaOp::RemoveObjects { objects } => {
                objects.iter().try_for_each(|id| self.remove_object(*id))
            }
        }
    }

    fn register_node(&mut self, node: NodeId, epoch: Epoch) -> Verdict {
        let old = self.changes.state.nodes.get(&node).copied();
        let current = old.map_or(Epoch(0), |state| state.epoch);
        if current.next() != Some(epoch) {
            return Err(Rejection::NodeEpochNotNext { node, current });
        }
        let wal = old.and_then(|state| state.wal);
        self.changes.set_node(
            node,
            NodeState {
                epoch,
                wal,
                objects_committed: 0,
                compactions_committed: COMPACTION_COUNTERS,
            },
        );
        Ok(())
    }

    fn live_node(&self, node: NodeId, epoch: Epoch) -> Result<NodeState, Rejection> {
        let state = *self
            .changes
            .state
            .nodes
            .get(&node)
            .ok_or(Rejection::NodeUnknown { node })?;
        if state.epoch == epoch || mutant!(26) {
            return Ok(state);
        }
        Err(Rejection::NodeFenced {
            node,
            current: state.epoch,
        })
    }

    fn create_stream(&mut self, stream: StreamId) -> Verdict {
        let (next, version) = (
            self.changes.state.next_stream,
            self.changes.state.last_version,
        );
        if stream.0 < next {
            return Err(Rejection::StreamIdUsed {
                stream,
                next: StreamId(next),
            });
        }
        let next = stream.0.checked_add(1).ok_or(Rejection::Malformed {
            what: "stream id is used up",
        })?;
        self.changes.set_counters(next, version);
        self.changes.create_stream(stream);
        Ok(())
    }

    fn commit_upload(
        &mut self,
        (node, node_epoch): (NodeId, Epoch),
        objects: &[NewObject],
        ranges: &[NewRange],
        snapshots: &[NewSnapshot],
    ) -> Verdict {
        self.add_objects((node, node_epoch), objects, false)?;
        for range in ranges {
            let object = object_of(objects, range.object)?;
            self.commit_range(range, object)?;
        }
        for snapshot in snapshots {
            let object = object_of(objects, snapshot.object)?;
            self.commit_snapshot(snapshot, object);
        }
        Ok(())
    }

    /// Takes new objects in, without a reference yet.
    fn add_objects(
        &mut self,
        (node, node_epoch): (NodeId, Epoch),
        objects: &[NewObject],
        compacted: bool,
    ) -> Verdict {
        let mut state = self.live_node(node, node_epoch)?;
        for object in objects {
            // Counters ascend, so an id that was condemned or removed cannot come back either.
            let fresh = object.id.node == node
                && object.id.epoch == node_epoch
                && object.id.is_compacted() == compacted
                && object.id.counter > state.committed(&object.id)
                && !self.changes.state.objects.contains_key(&object.id);
            if !fresh && !mutant!(26) {
                return Err(Rejection::ObjectReused {
                    object: object.id.key(),
                });
            }
            state.set_committed(&object.id);
            let NewObject {
                id,
                kind,
                size,
                index_position,
                footer_crc,
            } = *object;
            let entry = ObjectState {
                kind,
                size,
                index_position,
                footer_crc,
                num_references: 0,
                died_seq: Some(self.seq),
            };
            self.changes.set_object(id, Some(entry));
        }
        self.changes.set_node(node, state);
        Ok(())
    }

    fn commit_range(&mut self, range: &NewRange, object: ObjectId) -> Verdict {
        let NewRange {
            stream,
            epoch,
            start,
            end,
            timestamp_ms_max,
            ..
        } = *range;
        let offsets = OffsetRange::new(start, end).filter(|offsets| !offsets.is_empty());
        let offsets = offsets.ok_or(Rejection::Malformed {
            what: "an empty or inverted range",
        })?;
        let head = self.changes.head(stream);
        let fits = |head: &super::state::StreamHead| {
            (head.epoch == epoch && head.end == start) || mutant!(26)
        };
        let Some(mut head) = head.filter(fits) else {
            sometimes!("s3stream: range dropped at commit");
            self.report.dropped.push((stream, offsets));
            return Ok(());
        };
        head.end = end;
        self.changes.set_head(stream, head);
        if end > head.start {
            self.changes.set_range(
                stream,
                start,
                Some(RangeState {
                    end,
                    object,
                    timestamp_ms_max,
                }),
            );
            self.reference(object);
        } else {
            sometimes!("s3stream: range trimmed before its commit");
        }
        self.report.committed.push((stream, offsets));
        Ok(())
    }

    fn commit_snapshot(&mut self, snapshot: &NewSnapshot, object: ObjectId) {
        let NewSnapshot {
            stream,
            epoch,
            as_of,
            position,
            size,
            ..
        } = *snapshot;
        let Some(mut head) = self.changes.head(stream) else {
            return;
        };
        let newer = head.snapshot.is_none_or(|old| old.as_of <= as_of);
        // A snapshot ahead of the committed end would vouch for records that may never exist.
        if head.epoch != epoch || as_of > head.end || !newer {
            sometimes!("s3stream: snapshot dropped at commit");
            return;
        }
        let old = head.snapshot.replace(SnapshotRef {
            as_of,
            object,
            position,
            size,
        });
        self.changes.set_head(stream, head);
        self.reference(object);
        if let Some(old) = old {
            self.release(old.object);
        }
    }

    fn trim(&mut self, stream: StreamId, epoch: Epoch, start: Offset) -> Verdict {
        let mut head = self
            .changes
            .head(stream)
            .ok_or(Rejection::StreamUnknown { stream })?;
        if head.epoch != epoch {
            return Err(Rejection::StreamEpochStale {
                stream,
                current: head.epoch,
            });
        }
        if start <= head.start {
            return Ok(());
        }
        head.start = start;
        self.changes.set_head(stream, head);
        let ranges = &self.changes.state.streams[&stream].ranges;
        let gone: Vec<_> = ranges
            .iter()
            .take_while(|(range_start, range)| {
                range.end <= start || (mutant!(36) && **range_start < start)
            })
            .map(|(range_start, range)| (*range_start, range.object))
            .collect();
        for (range_start, object) in gone {
            self.changes.set_range(stream, range_start, None);
            self.release(object);
        }
        Ok(())
    }

    fn delete(&mut self, stream: StreamId) -> Verdict {
        if !self.changes.state.streams.contains_key(&stream) {
            return Err(Rejection::StreamUnknown { stream });
        }
        let old = self.changes.remove_stream(stream);
        let snapshot = old.snapshot.map(|snapshot| snapshot.object);
        let gone: Vec<_> = old
            .ranges
            .values()
            .map(|range| range.object)
            .chain(snapshot)
            .collect();
        gone.into_iter().for_each(|object| self.release(object));
        Ok(())
    }

    fn remove_object(&mut self, id: ObjectId) -> Verdict {
        match self.changes.state.objects.get(&id) {
            Some(object) if object.died_seq.is_none() => {
                Err(Rejection::ObjectLive { object: id.key() })
            }
            Some(_) => {
                self.changes.set_object(id, None);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn reference(&mut self, id: ObjectId) {
        let mut object = self.changes.state.objects[&id];
        object.num_references += 1;
        object.died_seq = None;
        self.changes.set_object(id, Some(object));
    }

    fn release(&mut self, id: ObjectId) {
        let mut object = self.changes.state.objects[&id];
        object.num_references = object
            .num_references
            .checked_sub(1)
            .expect("references are counted");
        if object.num_references == 0 {
            object.died_seq = Some(self.seq);
        }
        self.changes.set_object(id, Some(object));
    }
}

fn object_of(objects: &[NewObject], index: u32) -> Result<ObjectId, Rejection> {
    let object = objects.get(index as usize);
    object.map(|object| object.id).ok_or(Rejection::Malformed {
        what: "no such object in the commit",
    })
}

#[cfg(test)]
mod replace_tests;
#[cfg(test)]
mod tests;
