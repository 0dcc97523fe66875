//! One open store, as the tasks of a life share it.
//!
//! *Owns*: reads that are held against the model, and which refusals are excused.
//! *Does not own*: the workload (life.rs).
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_stream_store::{StoreError, Stream, StreamStore};
use tidewater_types::{ErrorKind, Offset, sometimes};
use tidewater_wal::{DeviceWal, WalError};

use super::progress;
use super::world::{Work, World};
use crate::check::Violation;
use crate::check::streams::Seen;
use crate::exec::Tag;
use crate::scenario::common::unreadable;

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
    // Somebody took the WAL over, or is at it.
    let contested = planned && world.model.lock().owners.is_contested(tag);
    let excused = match error.kind() {
        ErrorKind::Retry => planned,
        ErrorKind::Full => planned,
        // The WAL is poisoned by a disk that fails, or the life is closing.
        ErrorKind::Closed => {
            contested || planned && (!world.disk_is_fine() || world.model.lock().closing)
        }
        // The metadata of a WAL that somebody uses names it.
        ErrorKind::Invalid if matches!(error, StoreError::Wal(WalError::Exists { .. })) => false,
        ErrorKind::Fenced | ErrorKind::Invalid => contested,
        ErrorKind::Corrupt => {
            let wal = matches!(error, StoreError::Wal(error) if unreadable(&world.plan, error));
            planned && wal
        }
    };
    sometimes!("store call refused");
    if !excused {
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
    let floor = {
        let mut model = node.world.model.lock();
        if !is_owner && !model.streams.contains_key(&stream.id()) {
            return Ok(Vec::new());
        }
        let known = model.streams.entry(stream.id()).or_default();
        let floor = if is_owner { known.high_watermark() } else { 0 };
        if let Err(violation) = known.seen_high_watermark(stream.high_watermark().0, floor) {
            model.failure.get_or_insert(violation);
        }
        floor
    };
    let fetched = stream.fetch(Offset(offset), bytes_max).await?;
    let seen: Vec<Seen> = fetched
        .entries
        .iter()
        .map(|entry| Seen {
            base: entry.base_offset.0,
            count: entry.record_count.into(),
            bytes: entry.payload.to_vec(),
        })
        .collect();
    progress::tell(&node.world.handle, &node.store, stream.id());
    progress::tell_read(&node.world.handle, stream.id(), &seen);
    let mut model = node.world.model.lock();
    let known = model.streams.entry(stream.id()).or_default();
    let result = known.read(offset, &seen, fetched.high_watermark.0, floor);
    let result = result.and_then(|()| {
        let empty = seen.is_empty() && offset < fetched.high_watermark.0;
        let detail = || {
            format!(
                "nothing at {offset}, the high watermark is {}",
                fetched.high_watermark
            )
        };
        if empty {
            Err(Violation::new("log", detail()))
        } else {
            Ok(())
        }
    });
    if let Err(violation) = result {
        model.failure.get_or_insert(violation);
    }
    Ok(seen)
}
