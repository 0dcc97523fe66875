//! Chooses what to compact next.
//!
//! *Owns*: which objects are joined. *Does not own*: how; which sets are split or wait (`split`).
//!
//! Invariants
//! 1. It follows from the metadata alone: no request, no state of its own.
//! 2. What is chosen is `growth_min` times as large as its largest object: a byte is written again
//!    only for an object so much larger, so the work a byte makes is bounded.
//! 3. Each step leaves fewer objects that this node references: it ends.
//! 4. Sets that are joined or split are neighbours in time: a stream's ranges in them follow each
//!    other.
//!
//! *IO: none*

mod split;
mod weight;

use std::collections::BTreeSet;
use std::ops::Range;

use rustc_hash::FxHashMap;
use tidewater_types::{Epoch, NodeId, Offset, StreamId};

use crate::meta::state::{MetaState, RangeState, SnapshotRef, StreamState};
use crate::object_id::{ObjectId, ObjectKind};

use weight::Weight;
pub(crate) use weight::{Limits, SplitLimits};

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
    /// Whether the sets they are in are split into objects of their streams.
    pub(crate) splits: bool,
}

/// Objects that are left alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftAlone<'a> {
    pub(crate) not_joined: &'a BTreeSet<ObjectId>,
    /// Sets that turned out to hold too little of too many streams; they are joined all the same.
    pub(crate) not_split: &'a BTreeSet<ObjectId>,
}

/// The next step for the streams of `node`; `None` if nothing is to be done.
pub(crate) fn plan(
    state: &MetaState,
    node: NodeId,
    limits: &Limits,
    left: LeftAlone<'_>,
) -> Option<Job> {
    let owned = || {
        let streams = state.streams();
        streams.filter(|(_, stream)| stream.owner == Some(node))
    };
    let weight = |id: ObjectId, kind: ObjectKind| {
        let object = state.object(id).filter(|object| object.kind == kind)?;
        (!left.not_joined.contains(&id)).then(|| Weight::from(object))
    };
    let mut sets = InOrder::default();
    for (id, stream) in owned() {
        let of_kind = |kind| {
            let ranges = stream.ranges();
            ranges.map(move |(_, range)| (range.object, weight(range.object, kind)))
        };
        let own: Vec<_> = of_kind(ObjectKind::Stream).map(|(_, own)| own).collect();
        if let Some(window) = window(&own, limits.sources_max, limits) {
            return Some(Job {
                runs: vec![run_of(id, stream, window)],
                splits: false,
            });
        }
        let is_set = |id: &ObjectId| {
            let object = state.object(*id);
            object.is_some_and(|object| object.kind == ObjectKind::StreamSet)
        };
        sets.add(of_kind(ObjectKind::StreamSet).filter(|(id, _)| is_set(id)));
    }
    let (ids, mut weights): (Vec<_>, Vec<_>) = sets.all().unzip();
    let splittable = |(id, weight): (&ObjectId, &Option<Weight>)| {
        let is_small = |weight: &Weight| weight.size <= limits.split.set_bytes_max;
        weight.filter(|weight| is_small(weight) && !left.not_split.contains(id))
    };
    let candidates: Vec<_> = ids.iter().zip(&weights).map(splittable).collect();
    let choice = split::choose(&candidates, &limits.split, |window| {
        split::is_worth(owned(), &ids[window.clone()], &candidates[window], limits)
    });
    let (window, splits) = match choice {
        split::Choice::Split(window) => (window, true),
        split::Choice::Wait(waits) => {
            // One that waits parts those on its sides.
            waits.into_iter().for_each(|place| weights[place] = None);
            let num_max = limits.sets_max.min(limits.sources_max);
            (window(&weights, num_max, limits)?, false)
        }
    };
    let chosen = ids[window].iter().copied().collect();
    let runs = Vec::new();
    let mut job = Job { runs, splits };
    for (id, stream) in owned() {
        self::runs(id, stream, &chosen, &mut job.runs);
    }
    Some(job)
}

/// Objects in an order that is close to their order in each stream: of neighbours in it, streams make
/// ranges that mostly follow each other. One without a weight parts those on its sides.
#[derive(Default)]
struct InOrder {
    /// What follows each; what follows nothing is first.
    next: FxHashMap<Option<ObjectId>, ObjectId>,
    weights: FxHashMap<ObjectId, Option<Weight>>,
}

impl InOrder {
    /// Takes those of one stream, ascending by offset.
    fn add(&mut self, objects: impl Iterator<Item = (ObjectId, Option<Weight>)>) {
        let mut last = None;
        for (id, weight) in objects {
            if self.weights.insert(id, weight).is_none()
                && let Some(after) = self.next.insert(last, id)
            {
                self.next.insert(Some(id), after);
            }
            last = Some(id);
        }
    }

    fn all(&self) -> impl Iterator<Item = (ObjectId, Option<Weight>)> + '_ {
        let first = self.next.get(&None).copied();
        std::iter::successors(first, |id| self.next.get(&Some(*id)).copied())
            .map(|id| (id, self.weights.get(&id).copied().flatten()))
    }
}

/// The first neighbours that are worth a step, as many as there may be.
fn window(weights: &[Option<Weight>], num_max: usize, limits: &Limits) -> Option<Range<usize>> {
    (0..weights.len()).find_map(|first| {
        let (mut total, mut index, mut largest, mut best) = (0u64, 0u64, 0, 0);
        let rest = weights[first..].iter().take(num_max);
        for (count, weight) in rest.map_while(|weight| *weight).enumerate() {
            total = total.saturating_add(weight.size);
            index = index.saturating_add(weight.index);
            // Two go together whatever their indices are, or some would never be joined.
            if total > limits.object_bytes || index > limits.index_bytes && count > 1 {
                break;
            }
            largest = weight.size.max(largest);
            if is_worth(count + 1, (total, index), largest, limits) {
                best = count + 1;
            }
        }
        (best > 0).then(|| first..first + best)
    })
}

/// Whether objects of these sizes are worth a step.
fn is_worth(count: usize, (total, index): (u64, u64), largest: u64, limits: &Limits) -> bool {
    // Indices that take all the room grow with the streams: more objects at a time do not fit.
    let is_crowded = index > limits.index_bytes / 2;
    // As good as full: with its like it would be too large.
    let is_full = is_crowded || total > limits.object_bytes / 2;
    let growth_min = if is_crowded { 2 } else { limits.growth_min };
    count >= 2
        && (count >= limits.objects_min || is_full)
        && total >= largest.saturating_mul(growth_min)
}

/// The ranges of a stream that become one of its own.
fn run_of(id: StreamId, stream: &StreamState, window: Range<usize>) -> Run {
    let ranges = stream.ranges().skip(window.start).take(window.len());
    let sources: Vec<_> = ranges
        .map(|(offsets, range)| (offsets.start(), *range))
        .collect();
    let objects = sources.iter().map(|(_, range)| range.object).collect();
    Run {
        stream: id,
        epoch: stream.epoch,
        snapshot: taken_along(stream, &objects),
        sources,
        alone: true,
    }
}

/// The runs of a stream in the chosen objects. The state snapshot goes with the last: in an
/// object it lies behind all data of its stream.
fn runs(id: StreamId, stream: &StreamState, chosen: &BTreeSet<ObjectId>, out: &mut Vec<Run>) {
    let first = out.len();
    let mut last_end = None;
    for (offsets, range) in stream.ranges() {
        if !chosen.contains(&range.object) {
            continue;
        }
        if last_end != Some(offsets.start()) {
            out.push(Run {
                stream: id,
                epoch: stream.epoch,
                sources: Vec::new(),
                snapshot: None,
                alone: out.len() > first,
            });
        }
        let run = out.last_mut().expect("pushed above");
        run.sources.push((offsets.start(), *range));
        last_end = Some(range.end);
    }
    if out.len() > first
        && let Some(last) = out.last_mut()
    {
        last.snapshot = taken_along(stream, chosen);
    }
}

/// The stream's state snapshot, if it lies in one of the objects: left behind, it would keep the
/// whole object alive.
fn taken_along(stream: &StreamState, objects: &BTreeSet<ObjectId>) -> Option<SnapshotRef> {
    stream
        .snapshot
        .filter(|snapshot| objects.contains(&snapshot.object))
}
