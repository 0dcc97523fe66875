//! One open store, as the tasks of a life share it.
//!
//! *Owns*: reads that are held against the model, and which refusals are excused.
//! *Does not own*: the workload (life.rs).
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_stream_store::{StoreError, Stream, StreamStore};
use tidewater_types::{Offset, sometimes};
use tidewater_wal::DeviceWal;

use super::world::{Work, World};
use crate::check::excuse::{self, Facts};
use crate::check::streams::Seen;
use crate::check::{Violation, read};
use crate::exec::Tag;
use crate::scenario::common::reads_fail;
use crate::scenario::common::served::seen_of;
use crate::scenario::progress::tell_read;

/// What the tasks of a life share.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) world: Arc<World>,
    pub(super) store: StreamStore,
    /// The WAL on a device; `None` for one in the bucket.
    pub(super) wal: Option<Arc<DeviceWal>>,
    pub(super) tag: Tag,
    pub(super) work: Work,
}

/// A refusal that the faults of the plan do not explain is a violation.
pub(super) fn excuse(world: &World, tag: Tag, work: Work, what: &'static str, error: &StoreError) {
    world
        .handle
        .line(|| format!("store {what} refused: {error}"));
    let planned = work == Work::Planned;
    let facts = {
        let model = world.model.lock();
        Facts {
            planned,
            disk_fails: !world.disk_is_fine(),
            reads_fail: reads_fail(&world.plan.disk_faults),
            // Somebody took the WAL over, or is at it.
            contested: planned && model.owners.is_contested(tag),
            closing: model.closing,
            ..Facts::default()
        }
    };
    sometimes!("store call refused");
    if !excuse::store_call(error, facts) {
        world.fail(Violation::new(
            "refused",
            format!("{what} in {work:?}: {error}"),
        ));
    }
}

impl Node {
    /// Whether nobody took the WAL over: what a zombie knows is old.
    pub(super) fn is_owner(&self) -> bool {
        self.world.is_owner(self.tag)
    }

    pub(super) fn excuse(&self, what: &'static str, error: &StoreError) {
        excuse(&self.world, self.tag, self.work, what, error);
    }

    pub(super) fn spawn(
        &self,
        label: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.world.handle.spawn(self.tag, label, Box::pin(task));
    }
}

/// Reads from `offset` and holds what it saw against the model.
pub(super) async fn read_checked(
    node: &Node,
    stream: &Stream,
    offset: u64,
    bytes_max: usize,
) -> Result<Vec<Seen>, StoreError> {
    let is_owner = node.is_owner();
    let (floor, start) = {
        let mut model = node.world.model.lock();
        if !is_owner && !model.streams.contains_key(&stream.id()) {
            return Ok(Vec::new());
        }
        let known = model.streams.entry(stream.id()).or_default();
        let start = if is_owner { known.start() } else { 0 };
        let floor = if is_owner { known.high_watermark() } else { 0 };
        if let Err(violation) = known.seen_high_watermark(stream.high_watermark().0, floor) {
            model.failure.get_or_insert(violation);
        }
        (floor, start.max(stream.start().0))
    };
    let answer = stream.fetch(Offset(offset), bytes_max).await;
    let result = read::below_start(Offset(offset), Offset(start), &answer);
    node.world.check(result);
    let fetched = answer?;
    let seen = seen_of(&fetched.entries);
    let world = &node.world;
    world.progress.tell(&world.handle, node.store.metadata());
    tell_read(&world.handle, "store", stream.id(), &seen);
    let mut model = node.world.model.lock();
    let known = model.streams.entry(stream.id()).or_default();
    let marks = (fetched.high_watermark.0, floor);
    let result = known.fetched_above(start, offset, &seen, marks);
    if let Err(violation) = result {
        model.failure.get_or_insert(violation);
    }
    Ok(seen)
}
