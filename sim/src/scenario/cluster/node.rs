//! One open store, as the tasks of a life share it.
//!
//! *Owns*: which refusals are excused. *Does not own*: what is done with the store (life.rs, work.rs).
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tidewater_stream_store::{StoreError, Stream, StreamStore};
use tidewater_types::StreamId;
use tidewater_wal::DeviceWal;

use super::world::{Work, World};
use crate::check::Violation;
use crate::check::excuse::{self, Facts};
use crate::exec::Tag;
use crate::scenario::common::reads_fail;

/// Where the opener shows a WAL on a device.
pub(super) type OpenedWal = Arc<Mutex<Option<Arc<DeviceWal>>>>;

/// What the tasks of a life share.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) world: Arc<World>,
    pub(super) store: StreamStore,
    /// The WAL on a device; none in the bucket.
    pub(super) wal: OpenedWal,
    pub(super) tag: Tag,
    pub(super) node: usize,
    pub(super) work: Work,
    /// The streams that it has.
    pub(super) held: Arc<Mutex<BTreeMap<StreamId, Stream>>>,
    /// Whether it is closing.
    pub(super) closing: Arc<AtomicBool>,
}

impl Node {
    pub(super) fn excuse(&self, what: &'static str, error: &StoreError) {
        let closing = self.closing.load(Ordering::Relaxed);
        let life = (self.node, self.tag, closing);
        excuse(&self.world, life, self.work, what, error);
    }

    /// How far streams are committed, as this node knows.
    pub(super) fn tell_progress(&self) {
        let world = &self.world;
        world.progress.tell(&world.handle, self.store.metadata());
    }

    pub(super) fn spawn(
        &self,
        label: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.world.handle.spawn(self.tag, label, Box::pin(task));
    }
}

/// A refusal that the faults of the plan do not explain is a violation; told by the life `tag` of
/// `node`, which is closing or not.
pub(super) fn excuse(
    world: &World,
    (node, tag, closing): (usize, Tag, bool),
    work: Work,
    what: &'static str,
    error: &StoreError,
) {
    world
        .handle
        .line(|| format!("node  {node} {what} refused: {error}"));
    let planned = work.is_planned();
    let contested = planned && world.is_contested(node, tag);
    let facts = Facts {
        planned,
        contested,
        disk_fails: !world.plan.disk_faults.are_harmless(),
        reads_fail: reads_fail(&world.plan.disk_faults),
        bucket_fails: !world.bucket_is_fine(),
        closing,
        logs_lost: what == "open" && matches!(work, Work::Steal(_)),
        ..Facts::default()
    };
    if !excuse::cluster_call(error, facts) {
        let detail = format!("{what} of node {node} in {work:?}: {error}");
        world.fail(Violation::new("refused", detail));
    }
}
