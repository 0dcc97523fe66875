//! What metadata and frames say together: each stream is covered once.
//!
//! *Owns*: the rules. *Does not own*: reading anything.
//!
//! Invariants
//! 1. They are the rules by which opening a store accepts or refuses what a WAL gives back.
//!
//! *IO: none*

use std::collections::BTreeMap;

use tidewater_s3stream::{Finding, FindingKind, FsckReport, MetaState, Severity};
use tidewater_types::{Epoch, Lsn, NodeId, Offset, OffsetRange, StreamId};

use super::log::Log;
use crate::format::frame::FrameHead;
use crate::open::is_tail;

/// The frames of one stream: epoch and position order them. Each with the node and the name of its log.
type Frames<'a> = Vec<(Epoch, Lsn, &'a FrameHead, (NodeId, &'a str))>;

/// The proof under way.
pub(super) struct Union<'a> {
    state: &'a MetaState,
    by_stream: BTreeMap<StreamId, Frames<'a>>,
    /// Where each stream ends that has frames beyond its objects.
    ends: BTreeMap<StreamId, Offset>,
    /// Whether every log that the metadata name was read.
    complete: bool,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Union<'a> {
    pub(super) fn new(state: &'a MetaState) -> Self {
        Self {
            state,
            by_stream: BTreeMap::new(),
            ends: BTreeMap::new(),
            complete: true,
            findings: Vec::new(),
        }
    }

    /// A log was not read: what only it may hold cannot be missed.
    pub(super) fn incomplete(&mut self) {
        self.complete = false;
    }

    /// Takes the frames of a log.
    pub(super) fn add(&mut self, log: &'a Log) {
        for (lsn, head) in &log.frames {
            match head {
                Ok(head) => {
                    let of = (log.identity.node, log.name.as_str());
                    let frame = (head.stream_epoch, *lsn, head, of);
                    self.by_stream.entry(head.stream).or_default().push(frame);
                }
                Err(bad) => {
                    let detail = format!("frame at lsn {lsn}: {} is {}", bad.field, bad.found);
                    let finding = Finding::new(Severity::Error, FindingKind::Format, detail);
                    self.findings.push(finding.object(log.name.clone()));
                }
            }
        }
    }

    /// The frames of each stream go on where its objects end.
    pub(super) fn frames(&mut self) {
        for (id, mut frames) in std::mem::take(&mut self.by_stream) {
            let Some(stream) = self.state.stream(id) else {
                if id >= self.state.next_stream_id() {
                    let detail = format!(
                        "{} frames of a stream that the metadata never had",
                        frames.len()
                    );
                    let mut finding = Finding::new(Severity::Error, FindingKind::Missing, detail)
                        .object(frames[0].3.1.to_owned());
                    finding.stream = Some(id);
                    self.findings.push(finding);
                }
                continue;
            };
            let owned = (stream.owner, stream.owned_since);
            frames.retain(|(_, _, head, (node, _))| is_tail(owned, *node, head));
            frames.sort_by_key(|(epoch, lsn, ..)| (*epoch, *lsn));
            let mut reached = stream.end.max(stream.start);
            for (_, lsn, head, (_, name)) in frames {
                let base = head.base_offset;
                let end = Offset(base.0 + u64::from(head.record_count));
                if end <= reached {
                    continue;
                }
                let wrong = if base > reached {
                    Some((FindingKind::Hole, reached, base))
                } else if base < reached {
                    Some((FindingKind::Overlap, base, reached))
                } else {
                    None
                };
                if let Some((what, from, to)) = wrong {
                    let detail = format!("in front of the frame at lsn {lsn} of {name}");
                    self.findings.push(named(what, id, from, to, detail));
                }
                reached = end;
            }
            self.ends.insert(id, reached);
        }
    }

    /// An upload that was not committed leaves its frames in the WAL. Where they are not, either a
    /// commit or the WAL was lost.
    pub(super) fn orphans(&mut self, report: &FsckReport) {
        if !self.complete {
            return;
        }
        for orphan in &report.orphans {
            let has_wal = |node: NodeId| self.state.node(node).is_some_and(|it| it.wal.is_some());
            let Some(uploader) = orphan.id.map(|id| id.node).filter(|node| has_wal(*node)) else {
                // Kept in memory before the upload: it went with the process, as was asked for.
                continue;
            };
            for (id, range) in &orphan.ranges {
                let moved = self.has_moved(*id, uploader);
                let Some(from) = self.unknown_from(*id, *range) else {
                    continue;
                };
                let detail = "held by an object nobody references, and by no write-ahead log";
                let mut finding =
                    named(FindingKind::Hole, *id, from, range.end(), detail.to_owned());
                finding.object = Some(orphan.key.clone());
                if moved {
                    finding.severity = Severity::Warning;
                }
                self.findings.push(finding);
            }
        }
    }

    /// Whether the stream was taken from `node`, or back by it: the loss of what was on its way before
    /// may have been accepted, and an object does not tell whether it is from before.
    fn has_moved(&self, id: StreamId, node: NodeId) -> bool {
        let stream = self.state.stream(id);
        stream.is_some_and(|it| it.owner != Some(node) || it.owned_since > Epoch(0))
    }

    /// The first offset of the range that neither objects nor WALs reach.
    fn unknown_from(&self, id: StreamId, range: OffsetRange) -> Option<Offset> {
        let end = match self.state.stream(id) {
            Some(stream) => {
                let end = self.ends.get(&id).copied().unwrap_or(stream.end);
                end.max(stream.end).max(stream.start)
            }
            None if id >= self.state.next_stream_id() => Offset(0),
            None => return None,
        };
        (range.end() > end).then(|| range.start().max(end))
    }
}

fn named(what: FindingKind, id: StreamId, from: Offset, to: Offset, detail: String) -> Finding {
    let range = OffsetRange::new(from, to).expect("the caller ordered them");
    Finding::new(Severity::Error, what, detail).range(id, range)
}
