//! What a stream serves, in the words of its model.
//!
//! *Owns*: entries as a reader sees them, the read of everything that a stream holds.
//! *Does not own*: the models, reads that are held against them one by one.
//!
//! *IO: none*

use tidewater_stream_store::{Entry, StoreError, Stream};

use crate::check::streams::Seen;

pub(crate) fn seen_of(entries: &[Entry]) -> Vec<Seen> {
    let seen = |entry: &Entry| Seen {
        base: entry.base_offset.0,
        count: entry.record_count.into(),
        bytes: entry.payload.to_vec(),
    };
    entries.iter().map(seen).collect()
}

/// The entries of a stream from its start to its high watermark, up to an answer that shows none.
pub(crate) async fn all_of(stream: &Stream) -> Result<Vec<Entry>, StoreError> {
    let (mut next, end) = (stream.start(), stream.high_watermark());
    let mut all = Vec::new();
    while next < end {
        let fetched = stream.fetch(next, 1 << 20).await?;
        let Some(last) = fetched.entries.last() else {
            break;
        };
        next = last.end_offset();
        all.extend(fetched.entries);
    }
    Ok(all)
}
