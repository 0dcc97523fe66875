//! What a replay tells of the way of the records: committed, trimmed, read.
//!
//! *Owns*: these lines. *Does not own*: what they are made of (trace/story.rs).
//!
//! Invariants
//! 1. Telling reads state and changes none: a run that is told has the trace of one that is not.
//!
//! *IO: none*

use tidewater_stream_store::StreamStore;
use tidewater_types::StreamId;

use crate::check::streams::Seen;
use crate::check::{value_of, values_word};
use crate::exec::Handle;

/// How far the stream is committed, and the WAL trimmed.
pub(super) fn tell(handle: &Handle, store: &StreamStore, stream: StreamId) {
    if !handle.is_told() {
        return;
    }
    let metadata = store.metadata();
    if let Some(end) = metadata.read(|state| state.stream(stream).map(|known| known.end)) {
        handle.line(|| format!("store committed stream={stream} up_to={end}"));
    }
    let trimmed = store.counters().watermarks.trimmed;
    handle.line(|| format!("store wal-trimmed up_to={trimmed}"));
}

/// What a read gave.
pub(super) fn tell_read(handle: &Handle, stream: StreamId, seen: &[Seen]) {
    handle.line(|| {
        let values: Vec<u64> = seen.iter().filter_map(|s| value_of(&s.bytes)).collect();
        format!("store read stream={stream} {}", values_word(&values))
    });
}
