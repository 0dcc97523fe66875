//! Loads what readers in sequence will want next.
//!
//! *Owns*: which blocks and indices these are.
//! *Does not own*: how much of it, and for whom (`ahead.rs`); loading it once (`loader.rs`).
//!
//! Invariants
//! 1. What fails here is told to nobody but those who wait for that very load; a reader that wants it
//!    asks again.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;

use tidewater_types::{Offset, StreamId};

use crate::counters::add;
use crate::format::index::{IndexRow, ObjectIndex};
use crate::object_id::ObjectId;

use super::ahead::Grant;
use super::fetch::{Reads, payload_bytes};

impl Reads {
    /// Has the blocks loaded that a reader will want next. The grant is given back once it is known
    /// which ones, so that the next one is planned while these are on their way. What fails is told
    /// to whoever waits for it; the reader will ask again.
    pub(super) async fn read_ahead(self: Arc<Self>, grant: Grant) {
        let (mut next, mut num_bytes, mut is_used) = (grant.from, 0u64, false);
        while num_bytes < grant.num_bytes && !is_used {
            let Some((_, place)) = self.place(grant.stream, next, |_| true) else {
                break;
            };
            let Ok(index) = self.index(self.source(&place), &place).await else {
                break;
            };
            let room = grant.num_bytes - num_bytes;
            let request_bytes_max = self.loader.request_bytes_max;
            let (rows, has_more) =
                rows_ahead(&index, (grant.stream, next), room, request_bytes_max);
            self.load_ahead(place.id, &rows);
            self.index_ahead(grant.stream, place.range.end);
            num_bytes += rows.iter().map(payload_bytes).sum::<u64>();
            is_used = has_more;
            let done = rows.last().map_or(next, IndexRow::end_offset);
            next = next.max(if is_used { done } else { place.range.end });
        }
        self.readers.lock().done(&grant, next, num_bytes);
    }

    /// Has the index of the object from `next` on loaded, so that reading ahead does not stop for it.
    fn index_ahead(self: &Arc<Self>, stream: StreamId, next: Offset) {
        let Some((_, place)) = self.place(stream, next, |_| true) else {
            return;
        };
        if self.indices.peek(&place.key_of_index()).is_some() {
            return;
        }
        let reads = Arc::clone(self);
        let load = async move {
            // Whoever needs it asks again, and is told what is wrong.
            let _index = reads.index(reads.source(&place), &place).await;
        };
        let env = &self.sources.catch_up.env;
        env.spawn("s3stream: index ahead", Box::pin(load));
    }

    /// A task of its own each time: one core checks these blocks while another reads the next.
    fn load_ahead(self: &Arc<Self>, object: ObjectId, rows: &[IndexRow]) {
        let mut claims = self.loader.claim(object, rows);
        if claims.num_own() == 0 {
            return;
        }
        add(&self.counters.blocks_ahead, claims.num_own());
        let reads = Arc::clone(self);
        let load = async move {
            let source = &reads.sources.catch_up;
            reads.loader.load(source, &mut claims).await;
        };
        let env = &self.sources.catch_up.env;
        env.spawn("s3stream: blocks ahead", Box::pin(load));
    }
}

/// The blocks from an offset on that hold at most `room` bytes of payload, at least one, and whether
/// more follow here. What would make a small request behind large ones is left to the next grant.
fn rows_ahead(
    index: &ObjectIndex,
    (stream, offset): (StreamId, Offset),
    room: u64,
    request_bytes_max: u64,
) -> (Vec<IndexRow>, bool) {
    let (mut rows, mut payload) = (Vec::new(), 0u64);
    let (mut request, mut in_whole_requests) = (0u64, 0);
    for row in index.blocks_from(stream, offset) {
        payload += payload_bytes(row);
        if payload > room && !rows.is_empty() {
            if in_whole_requests > 0 {
                rows.truncate(in_whole_requests);
            }
            return (rows, true);
        }
        request += u64::from(row.size);
        if request > request_bytes_max {
            (request, in_whole_requests) = (u64::from(row.size), rows.len());
        }
        rows.push(*row);
    }
    (rows, false)
}
