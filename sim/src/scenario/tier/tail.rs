//! The tail of one life: what it took over and appended, until it is committed.
//!
//! *Owns*: the port that the uploader pulls through.
//! *Does not own*: what is durable; the world has it, and a later owner takes it from there.
//!
//! *IO: none*

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_s3stream::{
    CommitReport, Entry, Pending, SealedBatch, SealedRange, StateSnapshot, Tail,
};
use tidewater_types::{BoxFuture, Env, Epoch, Instant, StreamId};
use tokio::sync::Notify;

use super::world::World;
use crate::check::commit;
use crate::check::snapshot::{is_stored_at, state_of};

pub(super) struct LifeTail {
    pub(super) world: Arc<World>,
    pub(super) env: Arc<dyn Env>,
    streams: Mutex<BTreeMap<StreamId, Owned>>,
    /// The epochs under which the streams of each batch were sealed, oldest batch first.
    sealed: Mutex<VecDeque<BTreeMap<StreamId, Epoch>>>,
    changed: Notify,
}

struct Owned {
    epoch: Epoch,
    entries: VecDeque<Entry>,
    /// How many of them are in sealed batches.
    num_sealed: usize,
    oldest: Instant,
}

impl LifeTail {
    pub(super) fn new(world: Arc<World>, env: Arc<dyn Env>) -> Self {
        Self {
            world,
            env,
            streams: Mutex::default(),
            sealed: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// The stream under a new epoch, with what was not committed.
    pub(super) fn took_over(&self, stream: StreamId, epoch: Epoch, entries: Vec<Entry>) {
        let owned = Owned {
            epoch,
            entries: entries.into(),
            num_sealed: 0,
            oldest: self.env.now(),
        };
        self.streams.lock().insert(stream, owned);
        self.changed.notify_one();
    }

    pub(super) fn push(&self, stream: StreamId, entry: Entry) {
        if let Some(owned) = self.streams.lock().get_mut(&stream) {
            if owned.entries.len() == owned.num_sealed {
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

impl Tail for LifeTail {
    fn pending(&self) -> Pending {
        let streams = self.streams.lock();
        let mut pending = Pending::default();
        let unsealed = |owned: &&Owned| owned.entries.len() > owned.num_sealed;
        for owned in streams.values().filter(unsealed) {
            pending.num_bytes += owned
                .entries
                .iter()
                .skip(owned.num_sealed)
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

    fn start_over(&self) {
        self.sealed.lock().clear();
        for owned in self.streams.lock().values_mut() {
            owned.num_sealed = 0;
        }
    }

    fn seal(&self, bytes_max: u64) -> SealedBatch {
        let (mut room, mut ranges) = (bytes_max, Vec::new());
        for (stream, owned) in &mut *self.streams.lock() {
            let mut entries = Vec::new();
            for entry in owned.entries.iter().skip(owned.num_sealed) {
                let size = entry.payload.len() as u64;
                if size > room && !(entries.is_empty() && ranges.is_empty()) {
                    break;
                }
                room = room.saturating_sub(size);
                entries.push(entry.clone());
            }
            owned.num_sealed += entries.len();
            let Some(end) = entries.last().map(Entry::end_offset) else {
                continue;
            };
            let snapshot = is_stored_at(end).then(|| StateSnapshot {
                as_of: end,
                bytes: state_of(end),
            });
            ranges.push(SealedRange {
                stream: *stream,
                stream_epoch: owned.epoch,
                entries,
                snapshot,
            });
        }
        let epochs = |range: &SealedRange| (range.stream, range.stream_epoch);
        if !ranges.is_empty() {
            let epochs = ranges.iter().map(epochs).collect();
            self.sealed.lock().push_back(epochs);
        }
        SealedBatch { ranges }
    }

    fn committed(&self, report: &CommitReport) {
        for (stream, range) in &report.committed {
            let (world, end) = (&self.world, range.end().0);
            world.progress.tell_committed(&world.handle, *stream, end);
            let mut model = world.model.lock();
            let log = model.streams.get_mut(stream).expect("created before");
            log.states.committed(range.end());
        }
        let epochs = self.sealed.lock().pop_front().expect("a sealed batch");
        let mut streams = self.streams.lock();
        // What was opened again since does not hold what an older epoch sealed.
        let is_it = |id: &StreamId, owned: &Owned| epochs.get(id) == Some(&owned.epoch);
        for (stream, range) in report.committed.iter().chain(&report.dropped) {
            let Some(owned) = streams.get_mut(stream).filter(|owned| is_it(stream, owned)) else {
                continue;
            };
            while owned
                .entries
                .front()
                .is_some_and(|entry| entry.base_offset < range.end())
            {
                owned.entries.pop_front();
                owned.num_sealed -= 1;
            }
        }
        for (stream, _) in &report.dropped {
            // Somebody else has it: its new owner takes the rest from the durable tail.
            if streams
                .get(stream)
                .is_some_and(|owned| is_it(stream, owned))
            {
                streams.remove(stream);
            }
        }
        drop(streams);
        let nobody_moves = {
            let model = self.world.model.lock();
            model.is_healed && !model.is_moving
        };
        self.world.check(commit::told(report, nobody_moves));
    }
}
