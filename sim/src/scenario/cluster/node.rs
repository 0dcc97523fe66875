//! One open store, as the tasks of a life share it.
//!
//! *Owns*: which refusals are excused. *Does not own*: what is done with the store (life.rs, work.rs).
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_stream_store::{StoreError, Stream, StreamStore};
use tidewater_types::{ErrorKind, StreamId};

use super::world::{Work, World};
use crate::check::Violation;
use crate::exec::Tag;
use crate::scenario::common::unreadable;

/// What the tasks of a life share.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) world: Arc<World>,
    pub(super) store: StreamStore,
    pub(super) tag: Tag,
    pub(super) node: usize,
    pub(super) work: Work,
    /// The streams that it has.
    pub(super) held: Arc<Mutex<BTreeMap<StreamId, Stream>>>,
}

impl Node {
    pub(super) fn excuse(&self, what: &'static str, error: &StoreError) {
        excuse(&self.world, (self.node, self.tag), self.work, what, error);
    }

    pub(super) fn spawn(
        &self,
        label: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.world.handle.spawn(self.tag, label, Box::pin(task));
    }
}

/// A refusal that the faults of the plan do not explain is a violation.
pub(super) fn excuse(
    world: &World,
    (node, tag): (usize, Tag),
    work: Work,
    what: &'static str,
    error: &StoreError,
) {
    world
        .handle
        .line(|| format!("node  {node} {what} refused: {error}"));
    let planned = work.is_planned();
    let contested = planned && world.is_contested(node, tag);
    let excused = match error.kind() {
        // Whoever used a stream that was given up at that moment.
        _ if matches!(error, StoreError::Released { .. }) => planned,
        ErrorKind::Retry | ErrorKind::Full => planned,
        // The WAL is poisoned by a disk that fails, somebody took it, or the life closes.
        ErrorKind::Closed => planned,
        ErrorKind::Fenced => contested,
        ErrorKind::Corrupt => {
            planned && matches!(error, StoreError::Wal(error) if unreadable(&world.plan, error))
        }
        // One that releases a stream while its release is under way.
        ErrorKind::Invalid => planned && matches!(error, StoreError::NoStream { .. }),
    };
    if !excused {
        let detail = format!("{what} of node {node} in {work:?}: {error}");
        world.fail(Violation::new("refused", detail));
    }
}
