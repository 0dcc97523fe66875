//! Which stream is compacted by key next, and when it is time to look again.
//!
//! *Owns*: the choice, from the metadata, the owners' policies and the clock.
//! *Does not own*: the pass.
//!
//! Invariants
//! 1. It costs no request.
//! 2. A stream is due only for records below its bound, its committed end and its owner's last
//!    state snapshot: what an owner would have to replay stays as it is.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_types::{Epoch, NodeId, Offset, StreamId};
use tokio::sync::Notify;

use crate::error::TierError;
use crate::format::mark::{self, Mark};
use crate::keyed::{KeyOwner, KeyPolicy};
use crate::meta::op::MetaOp;
use crate::meta::state::{MetaState, RangeState, SnapshotRef, StreamState};
use crate::object_id::ObjectId;
use crate::read::source::tier_error;

/// The owners of streams whose records have keys.
#[derive(Default)]
pub(crate) struct Owners {
    by_stream: Mutex<BTreeMap<StreamId, Arc<dyn KeyOwner>>>,
    changed: Notify,
}

impl Owners {
    pub(crate) fn set(&self, stream: StreamId, owner: Option<Arc<dyn KeyOwner>>) {
        let mut owners = self.by_stream.lock();
        match owner {
            Some(owner) => owners.insert(stream, owner),
            None => owners.remove(&stream),
        };
        self.changed.notify_one();
    }

    /// Completes once one was set since the last call. One caller at a time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// One pass over a stream.
pub(crate) struct KeyJob {
    pub(crate) stream: StreamId,
    pub(super) epoch: Epoch,
    pub(super) owner: Arc<dyn KeyOwner>,
    pub(super) policy: KeyPolicy,
    /// Where each range begins, ascending.
    pub(super) ranges: Vec<(Offset, RangeState)>,
    pub(super) snapshot: Option<SnapshotRef>,
    pub(super) mark: Mark,
    pub(super) mark_version: u64,
    /// The records from here on were never compacted.
    pub(super) clean_end: Offset,
    /// Those from here on are not to be.
    pub(super) bound: Offset,
    pub(super) committed_end: Offset,
    pub(crate) now_ms: i64,
}

/// What the last pass over a stream left undone.
#[derive(Clone, Copy, Debug)]
struct Rest {
    bound: Offset,
    /// When more of it may be compacted although the bound stays; never if it does not say.
    again_ms: Option<i64>,
}

/// What a process remembers between passes.
#[derive(Default)]
pub(crate) struct KeyPasses {
    rest: Mutex<BTreeMap<StreamId, Rest>>,
    /// Streams whose entries or marks cannot be read.
    unreadable: Mutex<BTreeSet<StreamId>>,
}

/// What is to be done.
pub(crate) struct Look {
    /// The next pass.
    pub(crate) job: Option<KeyJob>,
    /// If there is none: when there may be one without any change, in milliseconds since the Unix
    /// epoch.
    pub(crate) again_ms: Option<i64>,
}

impl KeyPasses {
    /// A pass ended; nothing below `bound` is left to do before `again_ms`.
    pub(super) fn passed(&self, job: &KeyJob, again_ms: Option<i64>) {
        let bound = job.bound;
        let rest = Rest { bound, again_ms };
        self.rest.lock().insert(job.stream, rest);
    }

    /// The stream is left as it is from now on.
    pub(crate) fn give_up(&self, stream: StreamId) {
        self.unreadable.lock().insert(stream);
    }

    /// The next pass over a stream of `node`. Streams with ranges in `bad` objects are left alone.
    ///
    /// # Errors
    /// A mark that cannot be read, with its stream.
    pub(crate) fn look(
        &self,
        state: &MetaState,
        node: NodeId,
        owners: &Owners,
        bad: &BTreeSet<ObjectId>,
        (now_ms, records_min): (i64, u64),
    ) -> Result<Look, (StreamId, TierError)> {
        let mut again_ms = None::<i64>;
        for (id, owner) in owners.by_stream.lock().iter() {
            let stream = state.stream(*id).filter(|known| {
                let is_bad = |range: &RangeState| bad.contains(&range.object);
                known.owner == Some(node) && !known.ranges().any(|(_, range)| is_bad(range))
            });
            let Some(stream) = stream.filter(|_| !self.unreadable.lock().contains(id)) else {
                continue;
            };
            let job = job(state, (*id, stream), owner, now_ms).map_err(|error| (*id, error))?;
            match self.due_ms(&job, records_min) {
                Some(due_ms) if due_ms <= now_ms => {
                    let job = Some(job);
                    return Ok(Look { job, again_ms });
                }
                due_ms => again_ms = again_ms.into_iter().chain(due_ms).min(),
            }
        }
        let job = None;
        Ok(Look { job, again_ms })
    }

    /// When the pass is due; `None` if only a change can make it so.
    fn due_ms(&self, job: &KeyJob, records_min: u64) -> Option<i64> {
        // The mark is of records that are there still.
        let has_clean = job.ranges.first()?.0 < job.mark.end;
        let horizon = (has_clean && job.mark.horizon_ms < i64::MAX).then_some(job.mark.horizon_ms);
        let rest = self.rest.lock().get(&job.stream).copied();
        let dirty = match rest.filter(|rest| rest.bound == job.bound) {
            Some(rest) => rest.again_ms,
            None => dirty_ms(job, records_min),
        };
        horizon.into_iter().chain(dirty).min()
    }
}

/// When it is worth to compact what never was.
fn dirty_ms(job: &KeyJob, records_min: u64) -> Option<i64> {
    let num_dirty = job.bound.distance_from(job.clean_end)?;
    let first = job
        .ranges
        .iter()
        .find(|(_, range)| range.end > job.clean_end);
    let (_, first) = first.filter(|_| num_dirty > 0)?;
    let after = |wait| first.timestamp_ms_max.saturating_add(wait);
    let KeyPolicy {
        lag_ms_min,
        lag_ms_max,
        dirty_permille,
        few_ms_max,
        ..
    } = job.policy;
    let num_all = u128::from(num_dirty) + u128::from(job.mark.num_records);
    let is_much = u128::from(num_dirty) * 1_000 >= u128::from(dirty_permille) * num_all;
    let worth = match (is_much, num_dirty >= records_min) {
        (true, true) => i64::MIN,
        (true, false) => after(few_ms_max),
        (false, _) => i64::MAX,
    };
    let due = worth.min(after(lag_ms_max)).max(after(lag_ms_min));
    (due < i64::MAX).then_some(due)
}

fn job(
    state: &MetaState,
    (id, stream): (StreamId, &StreamState),
    owner: &Arc<dyn KeyOwner>,
    now_ms: i64,
) -> Result<KeyJob, TierError> {
    let key = mark::key(id);
    let (mark, mark_version) = match state.key(&key) {
        Some((value, version)) => {
            let mark = mark::decode(value.clone()).map_err(|error| tier_error(&key, 0, error))?;
            (mark, version)
        }
        None => (Mark::default(), 0),
    };
    let snapshot = stream.snapshot;
    // Without a snapshot an owner that replays begins at the start.
    let never = if owner.replays() {
        stream.start
    } else {
        stream.end
    };
    let replayed_from = snapshot.map_or(never, |snapshot| snapshot.as_of);
    let ranges = stream.ranges();
    Ok(KeyJob {
        stream: id,
        epoch: stream.epoch,
        policy: owner.policy(),
        owner: Arc::clone(owner),
        ranges: ranges
            .map(|(offsets, range)| (offsets.start(), *range))
            .collect(),
        snapshot,
        mark,
        mark_version,
        clean_end: mark.end.max(stream.start),
        bound: owner.bound().min(stream.end).min(replayed_from),
        committed_end: stream.end,
        now_ms,
    })
}

/// Marks forgotten at a time: they must fit the smallest log entry.
const FORGOTTEN_AT_ONCE: usize = 64;

/// Forgets the marks of some streams that are no more; nothing if there are none.
pub(crate) fn forget(state: &MetaState) -> Vec<MetaOp> {
    let marks = state.keys_with_prefix(mark::PREFIX);
    let gone = marks.filter(|(key, _, _)| {
        mark::stream_of(key).is_some_and(|stream| state.stream(stream).is_none())
    });
    let delete = gone.map(|(key, _, _)| MetaOp::DeleteKey {
        key: key.to_owned(),
        expected_version: None,
    });
    delete.take(FORGOTTEN_AT_ONCE).collect()
}
