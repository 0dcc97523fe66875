//! A tail in memory.
//!
//! *Owns*: entries that a test appends, until they are committed. *Does not own*: durability.
//!
//! *IO: none*

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Epoch, Instant, StreamId};
use tokio::sync::Notify;

use crate::{CommitReport, Entry, Pending, SealedBatch, SealedRange, StateSnapshot, Tail};

/// A tail in memory: what a stream-store would hold.
#[derive(Default)]
pub(crate) struct MemoryTail {
    streams: Mutex<BTreeMap<StreamId, TailStream>>,
    changed: Notify,
    pub(crate) reports: Mutex<Vec<CommitReport>>,
}

#[derive(Default)]
struct TailStream {
    epoch: Epoch,
    entries: VecDeque<Entry>,
    /// How many of them were sealed and not reported.
    num_sealed: usize,
    snapshot: Option<StateSnapshot>,
}

impl MemoryTail {
    pub(crate) fn append(&self, stream: StreamId, epoch: Epoch, entries: Vec<Entry>) {
        let mut streams = self.streams.lock();
        let tail = streams.entry(stream).or_default();
        tail.epoch = epoch;
        tail.entries.extend(entries);
        drop(streams);
        self.changed.notify_one();
    }

    pub(crate) fn attach(&self, stream: StreamId, snapshot: StateSnapshot) {
        self.streams.lock().entry(stream).or_default().snapshot = Some(snapshot);
    }
}

impl Tail for MemoryTail {
    fn pending(&self) -> Pending {
        let streams = self.streams.lock();
        let unsealed = |tail: &TailStream| -> u64 {
            let entries = tail.entries.iter().skip(tail.num_sealed);
            entries.map(|entry| entry.payload.len() as u64).sum()
        };
        let num_bytes = streams.values().map(unsealed).sum();
        let with_entries = streams
            .values()
            .filter(|tail| tail.entries.len() > tail.num_sealed);
        let streams = with_entries.count();
        // All that is pending is as old as the test.
        Pending {
            num_bytes,
            oldest: (streams > 0).then_some(Instant(0)),
            streams,
            ..Pending::default()
        }
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.changed.notified())
    }

    fn start_over(&self) {
        for tail in self.streams.lock().values_mut() {
            tail.num_sealed = 0;
        }
    }

    fn seal(&self, bytes_max: u64) -> SealedBatch {
        let (mut room, mut ranges) = (bytes_max, Vec::new());
        for (stream, tail) in &mut *self.streams.lock() {
            let mut entries = Vec::new();
            for entry in tail.entries.iter().skip(tail.num_sealed) {
                let size = entry.payload.len() as u64;
                if size > room && !(entries.is_empty() && ranges.is_empty()) {
                    break;
                }
                room = room.saturating_sub(size);
                entries.push(entry.clone());
            }
            tail.num_sealed += entries.len();
            let end = entries.last().map(Entry::end_offset);
            let snapshot = tail
                .snapshot
                .clone()
                .filter(|snapshot| Some(snapshot.as_of) <= end);
            if !entries.is_empty() {
                ranges.push(SealedRange {
                    stream: *stream,
                    stream_epoch: tail.epoch,
                    entries,
                    snapshot,
                });
            }
        }
        SealedBatch { ranges }
    }

    fn committed(&self, report: &CommitReport) {
        let mut streams = self.streams.lock();
        for (stream, range) in report.committed.iter().chain(&report.dropped) {
            let tail = streams.get_mut(stream).expect("it sealed the stream");
            while tail
                .entries
                .front()
                .is_some_and(|entry| entry.base_offset < range.end())
            {
                tail.entries.pop_front();
                tail.num_sealed -= 1;
            }
        }
        self.reports.lock().push(report.clone());
    }
}
