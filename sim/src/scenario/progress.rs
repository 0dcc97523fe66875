//! What a replay tells of the way of the records: committed, read, served by a recovery.
//!
//! *Owns*: these lines. *Does not own*: what they are made of (trace/story.rs), what a WAL is asked for
//! (told.rs).
//!
//! Invariants
//! 1. Telling reads state and changes none: a run that is told has the trace of one that is not.
//!
//! *IO: none*

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tidewater_s3stream::Metadata;
use tidewater_types::{Lsn, StreamId};

use crate::check::streams::Seen;
use crate::check::{value_of, values_in, values_word};
use crate::exec::Handle;

/// How far streams are committed, as far as was told.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    told: Mutex<BTreeMap<StreamId, u64>>,
}

impl Progress {
    /// How far each stream is committed, if that is further than was told before.
    pub(crate) fn tell(&self, handle: &Handle, metadata: &Metadata) {
        if !handle.is_told() {
            return;
        }
        let ends: Vec<(StreamId, u64)> = metadata.read(|state| {
            let streams = state.streams();
            streams.map(|(id, known)| (id, known.end.0)).collect()
        });
        for (stream, end) in ends {
            self.tell_committed(handle, stream, end);
        }
    }

    /// The stream is committed up to `end`; told once.
    pub(crate) fn tell_committed(&self, handle: &Handle, stream: StreamId, end: u64) {
        if !handle.is_told() {
            return;
        }
        {
            let mut told = self.told.lock();
            let before = told.entry(stream).or_default();
            if end <= *before {
                return;
            }
            *before = end;
        }
        handle.line(|| format!("meta  committed stream={stream} up_to={end}"));
    }
}

/// What a read gave.
pub(crate) fn tell_read(handle: &Handle, part: &str, stream: StreamId, seen: &[Seen]) {
    handle.line(|| {
        let values: Vec<u64> = seen.iter().flat_map(|s| values_in(&s.bytes)).collect();
        format!("{part:<5} read stream={stream} {}", values_word(&values))
    });
}

/// The values of frames that a recovery served, as lines of the trace name them.
pub(crate) fn served_word(served: &[(Lsn, Vec<u8>)]) -> String {
    let values = served.iter().filter_map(|(_, bytes)| value_of(bytes));
    values_word(&values.collect::<Vec<u64>>())
}
