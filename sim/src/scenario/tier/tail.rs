//! The tail of one life: what it took over and appended, until it is committed.
//!
//! *Owns*: the port that the uploader pulls through.
//! *Does not own*: what is durable; the world has it, and a later owner takes it from there.
//!
//! *IO: none*

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_s3stream::{
    CommitReport, Entry, Pending, SealedBatch, SealedRange, StateSnapshot, Tail,
};
use tidewater_types::{BoxFuture, Env, Epoch, Instant, StreamId};
use tokio::sync::Notify;

use super::world::World;
use crate::check::Violation;

pub(super) struct LifeTail {
    pub(super) world: Arc<World>,
    pub(super) env: Arc<dyn Env>,
    streams: Mutex<BTreeMap<StreamId, Owned>>,
    changed: Notify,
}

struct Owned {
    epoch: Epoch,
    entries: VecDeque<Entry>,
    oldest: Instant,
}

impl LifeTail {
    pub(super) fn new(world: Arc<World>, env: Arc<dyn Env>) -> Self {
        Self {
            world,
            env,
            streams: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// The stream under a new epoch, with what was not committed.
    pub(super) fn took_over(&self, stream: StreamId, epoch: Epoch, entries: Vec<Entry>) {
        let owned = Owned {
            epoch,
            entries: entries.into(),
            oldest: self.env.now(),
        };
        self.streams.lock().insert(stream, owned);
        self.changed.notify_one();
    }

    pub(super) fn push(&self, stream: StreamId, entry: Entry) {
        if let Some(owned) = self.streams.lock().get_mut(&stream) {
            if owned.entries.is_empty() {
                owned.oldest = self.env.now();
            }
            owned.entries.push_back(entry);
        }
        self.changed.notify_one();
    }

    pub(super) fn owned(&self) -> Vec<(StreamId, Epoch)> {
        let streams = self.streams.lock();
        streams
            .iter()
            .map(|(id, owned)| (*id, owned.epoch))
            .collect()
    }
}

/// The owner's state as of an offset tells that offset.
pub(super) fn state_of(offset: u64) -> Bytes {
    Bytes::from(crate::check::payload(offset, 40))
}

impl Tail for LifeTail {
    fn pending(&self) -> Pending {
        let streams = self.streams.lock();
        let mut pending = Pending::default();
        for owned in streams.values().filter(|owned| !owned.entries.is_empty()) {
            pending.num_bytes += owned
                .entries
                .iter()
                .map(|entry| entry.payload.len() as u64)
                .sum::<u64>();
            pending.oldest = Some(
                pending
                    .oldest
                    .map_or(owned.oldest, |old| old.min(owned.oldest)),
            );
            pending.streams += 1;
        }
        pending
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.changed.notified())
    }

    fn seal(&self, bytes_max: u64) -> SealedBatch {
        let (mut room, mut ranges) = (bytes_max, Vec::new());
        for (stream, owned) in &*self.streams.lock() {
            let mut entries = Vec::new();
            for entry in &owned.entries {
                let size = entry.payload.len() as u64;
                if size > room && !(entries.is_empty() && ranges.is_empty()) {
                    break;
                }
                room = room.saturating_sub(size);
                entries.push(entry.clone());
            }
            let Some(end) = entries.last().map(Entry::end_offset) else {
                continue;
            };
            let snapshot = (end.0 % 3 == 0).then(|| StateSnapshot {
                as_of: end,
                bytes: state_of(end.0),
            });
            ranges.push(SealedRange {
                stream: *stream,
                stream_epoch: owned.epoch,
                entries,
                snapshot,
            });
        }
        SealedBatch { ranges }
    }

    fn committed(&self, report: &CommitReport) {
        let mut streams = self.streams.lock();
        for (stream, range) in report.committed.iter().chain(&report.dropped) {
            let Some(owned) = streams.get_mut(stream) else {
                continue;
            };
            while owned
                .entries
                .front()
                .is_some_and(|entry| entry.base_offset < range.end())
            {
                owned.entries.pop_front();
            }
        }
        for (stream, _) in &report.dropped {
            // Somebody else has it: its new owner takes the rest from the durable tail.
            streams.remove(stream);
        }
        drop(streams);
        let is_healed = self.world.model.lock().is_healed;
        if is_healed && !report.dropped.is_empty() {
            let detail = format!("dropped although nobody else owns it: {:?}", report.dropped);
            self.world.fail(Violation::new("commit", detail));
        }
    }
}
