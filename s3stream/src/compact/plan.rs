//! Chooses what to compact next.
//!
//! *Owns*: which objects are joined. *Does not own*: how.
//!
//! Invariants
//! 1. It follows from the metadata alone: no request, no state of its own.
//! 2. What is chosen is at least twice as large as its largest object: a byte is written again
//!    only for an object twice the size, so the work a byte makes is bounded.
//! 3. Each step leaves fewer objects that this node references: it ends.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};

use tidewater_types::{Epoch, NodeId, Offset, StreamId};

use crate::meta::state::{MetaState, RangeState, SnapshotRef, StreamState};
use crate::object_id::{ObjectId, ObjectKind};

/// Contiguous ranges of a stream that become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) stream: StreamId,
    pub(crate) epoch: Epoch,
    /// Where each begins, ascending.
    pub(crate) sources: Vec<(Offset, RangeState)>,
    /// The stream's state snapshot, if it lies in one of the objects.
    pub(crate) snapshot: Option<SnapshotRef>,
    /// A set holds at most one run of a stream, so every further one needs an object of its own.
    pub(crate) alone: bool,
}

/// One step: what is read, rewritten and committed together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Job {
    /// Ascending by stream.
    pub(crate) runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) objects_min: usize,
    /// Bytes of the objects of a step.
    pub(crate) object_bytes: u64,
    /// Sources of a run: they must fit a log entry.
    pub(crate) sources_max: usize,
}

/// The next step for the streams of `node`; `None` if nothing is to be done. Objects in `bad`
/// are left alone.
pub(crate) fn plan(
    state: &MetaState,
    node: NodeId,
    limits: &Limits,
    bad: &BTreeSet<ObjectId>,
) -> Option<Job> {
    let owned = || {
        let streams = state.streams();
        streams.filter(|(_, stream)| stream.owner == Some(node))
    };
    let mut sets = BTreeMap::new();
    for (id, stream) in owned() {
        if let Some(run) = stream_run(state, id, stream, limits, bad) {
            return Some(Job { runs: vec![run] });
        }
        for (object, size) in objects(state, stream, ObjectKind::StreamSet, bad) {
            sets.insert(object, size);
        }
    }
    let chosen = choose_sets(sets, limits)?;
    let mut job = Job::default();
    for (id, stream) in owned() {
        runs(id, stream, &chosen, limits.sources_max, &mut job.runs);
    }
    Some(job)
}

fn objects(
    state: &MetaState,
    stream: &StreamState,
    kind: ObjectKind,
    bad: &BTreeSet<ObjectId>,
) -> impl Iterator<Item = (ObjectId, u64)> {
    stream.ranges().filter_map(move |(_, range)| {
        let object = state.object(range.object)?;
        (object.kind == kind && !bad.contains(&range.object)).then_some((range.object, object.size))
    })
}

/// Whether objects of these sizes are worth a step.
fn is_worth(count: usize, total: u64, largest: u64, limits: &Limits) -> bool {
    // As good as full: with its like it would be too large.
    let is_full = total > limits.object_bytes / 2;
    count >= 2 && (count >= limits.objects_min || is_full) && total >= largest.saturating_mul(2)
}

/// The smallest sets that are worth a step.
fn choose_sets(sets: BTreeMap<ObjectId, u64>, limits: &Limits) -> Option<BTreeSet<ObjectId>> {
    let mut by_size: Vec<_> = sets.into_iter().map(|(id, size)| (size, id)).collect();
    by_size.sort_unstable();
    let (mut total, mut best) = (0u64, 0);
    for (index, (size, _)) in by_size.iter().enumerate() {
        total = total.saturating_add(*size);
        if total > limits.object_bytes {
            break;
        }
        if is_worth(index + 1, total, *size, limits) {
            best = index + 1;
        }
    }
    let chosen = by_size.into_iter().take(best);
    (best > 0).then(|| chosen.map(|(_, id)| id).collect())
}

/// The first run of stream objects that is worth a step, as long as it may be.
fn stream_run(
    state: &MetaState,
    id: StreamId,
    stream: &StreamState,
    limits: &Limits,
    bad: &BTreeSet<ObjectId>,
) -> Option<Run> {
    let mut sizes = Vec::new();
    for (offsets, range) in stream.ranges() {
        let object = state.object(range.object)?;
        let fits = object.kind == ObjectKind::Stream && !bad.contains(&range.object);
        sizes.push((offsets.start(), *range, fits.then_some(object.size)));
    }
    let mut first = 0;
    while first < sizes.len() {
        let (mut total, mut largest, mut best) = (0u64, 0, 0);
        let window = sizes[first..].iter().take(limits.sources_max);
        for (count, size) in window.map_while(|(_, _, size)| *size).enumerate() {
            total = total.saturating_add(size);
            if total > limits.object_bytes {
                break;
            }
            largest = size.max(largest);
            if is_worth(count + 1, total, largest, limits) {
                best = count + 1;
            }
        }
        if best > 0 {
            let sources: Vec<_> = sizes[first..first + best]
                .iter()
                .map(|(start, range, _)| (*start, *range))
                .collect();
            let objects = sources.iter().map(|(_, range)| range.object).collect();
            let alone = true;
            let snapshot = taken_along(stream, &objects);
            return Some(Run {
                stream: id,
                epoch: stream.epoch,
                sources,
                snapshot,
                alone,
            });
        }
        first += 1;
    }
    None
}

/// The runs of a stream in the chosen objects.
fn runs(
    id: StreamId,
    stream: &StreamState,
    chosen: &BTreeSet<ObjectId>,
    sources_max: usize,
    out: &mut Vec<Run>,
) {
    let mut sources: Vec<(Offset, RangeState)> = Vec::new();
    let (epoch, mut snapshot, mut alone) = (stream.epoch, taken_along(stream, chosen), false);
    let mut push = |sources: Vec<_>| {
        out.push(Run {
            stream: id,
            epoch,
            sources,
            snapshot: snapshot.take(),
            alone,
        });
        alone = true;
    };
    for (offsets, range) in stream.ranges() {
        let follows = sources
            .last()
            .is_none_or(|(_, last)| last.end == offsets.start());
        if !sources.is_empty() && (!follows || sources.len() == sources_max) {
            push(std::mem::take(&mut sources));
        }
        if chosen.contains(&range.object) {
            sources.push((offsets.start(), *range));
        }
    }
    if !sources.is_empty() {
        push(sources);
    }
}

/// The stream's state snapshot, if it lies in one of the objects: left behind, it would keep the
/// whole object alive.
fn taken_along(stream: &StreamState, objects: &BTreeSet<ObjectId>) -> Option<SnapshotRef> {
    stream
        .snapshot
        .filter(|snapshot| objects.contains(&snapshot.object))
}
