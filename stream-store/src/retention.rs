//! Up to where a stream may be trimmed by age and by size.
//!
//! *Owns*: joining what objects hold with the tail that is in none yet.
//! *Does not own*: the trim, which is the owner's to ask for; the part in objects (the tier).
//!
//! *IO: none*

use tidewater_s3stream::MetaState;
use tidewater_types::Offset;

use crate::error::StoreError;
use crate::stream::Stream;
use crate::tail::Tail;

impl Stream {
    /// Up to which offset the stream may be trimmed so that every record below is older than
    /// `older_than_ms` (milliseconds since the Unix epoch), or so that at least `bytes_max` bytes stay:
    /// the greater of the two. In objects it is the start of a block and the bytes are those of blocks;
    /// above them it is the start of an entry and the bytes are those of payloads. Never less is kept
    /// than was asked for; more, by what is uploaded while this looks. Reads indices only.
    ///
    /// # Errors
    /// Tier errors.
    pub async fn trim_point(
        &self,
        older_than_ms: Option<i64>,
        bytes_max: Option<u64>,
    ) -> Result<Offset, StoreError> {
        // The tail first: what it lets go of meanwhile is in the objects by then.
        let (committed, high_watermark, young, kept) = {
            let tail = self.inner.tail.lock();
            let young = older_than_ms.map(|timestamp_ms| first_young(&tail, timestamp_ms));
            let kept = bytes_max.map(|bytes_max| keeping(&tail, bytes_max));
            (tail.committed(), tail.high_watermark(), young, kept)
        };
        let in_objects = |age, size| self.shared.tier.trim_point(self.inner.id, age, size);
        let mut point = self.start();
        if let Some(young) = young {
            let old = in_objects(older_than_ms, None).await?;
            // What is committed by now goes on behind what the tail told.
            let all_old = old >= committed;
            point = point.max(if all_old { young.max(old) } else { old });
        }
        point = point.max(match kept {
            None => point,
            Some(Kept::From(offset)) => offset,
            Some(Kept::More(num_bytes)) => {
                let kept = in_objects(None, Some(num_bytes)).await?;
                // Metadata know of a commit before the tail does, so they are asked: bytes that moved
                // to objects meanwhile would count twice.
                if self.committed_in_metadata() <= committed {
                    kept
                } else {
                    in_objects(None, bytes_max).await?
                }
            }
        });
        // What a later owner committed is not this one's to let go of.
        Ok(point.min(high_watermark))
    }

    fn committed_in_metadata(&self) -> Offset {
        let end = |state: &MetaState| state.stream(self.inner.id).map(|stream| stream.end);
        self.shared.tier.metadata().read(end).unwrap_or_default()
    }
}

/// What of a size the tail holds.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    /// All of it, from here on.
    From(Offset),
    /// So many bytes are still to be found in objects.
    More(u64),
}

/// The greatest offset from which on the visible entries in no object have `bytes_max` bytes.
fn keeping(tail: &Tail, bytes_max: u64) -> Kept {
    let mut missing = bytes_max;
    let mut from = tail.high_watermark();
    let entries: Vec<_> = uncommitted(tail)
        .map(|entry| (entry.base_offset, entry.payload.len() as u64))
        .collect();
    for (base_offset, num_bytes) in entries.into_iter().rev() {
        if missing == 0 {
            break;
        }
        missing = missing.saturating_sub(num_bytes);
        from = base_offset;
    }
    match missing {
        0 => Kept::From(from),
        missing => Kept::More(missing),
    }
}

/// Where the first visible entry in no object begins that is as young as `timestamp_ms`, or the end.
fn first_young(tail: &Tail, timestamp_ms: i64) -> Offset {
    uncommitted(tail)
        .find(|entry| entry.timestamp_ms_max >= timestamp_ms)
        .map_or(tail.high_watermark(), |entry| entry.base_offset)
}

fn uncommitted(tail: &Tail) -> impl Iterator<Item = &tidewater_s3stream::Entry> {
    let committed = tail.committed();
    tail.visible()
        .filter(move |entry| entry.base_offset >= committed)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewater_s3stream::Entry;

    use super::*;

    /// Entries of ten bytes, of one record each, the first `committed` of which are in objects.
    fn tail(times: &[i64], committed: u64, visible: u64) -> Tail {
        let mut tail = Tail::new(Offset(0), Offset(0));
        for (base_offset, &timestamp_ms_max) in (0..).map(Offset).zip(times) {
            tail.accept(Entry {
                base_offset,
                record_count: 1,
                timestamp_ms_max,
                payload: Bytes::from_static(b"ten bytes!"),
            });
        }
        tail.mark_durable(Offset(visible));
        tail.mark_committed(Offset(committed));
        tail
    }

    #[test]
    fn the_size_that_a_tail_keeps_is_never_less_than_asked() {
        let tail = tail(&[0; 6], 2, 5);
        for (bytes_max, kept) in [
            (0, Kept::From(Offset(5))),
            (1, Kept::From(Offset(4))),
            (10, Kept::From(Offset(4))),
            (11, Kept::From(Offset(3))),
            (30, Kept::From(Offset(2))),
            (31, Kept::More(1)),
            (100, Kept::More(70)),
        ] {
            assert_eq!(keeping(&tail, bytes_max), kept, "{bytes_max} bytes");
        }
    }

    #[test]
    fn the_first_young_entry_is_looked_for_above_the_objects() {
        let tail = tail(&[9, 1, 3, 2, 7, 8], 1, 5);
        for (timestamp_ms, first) in [(0, 1), (2, 2), (4, 4), (7, 4), (8, 5)] {
            let found = first_young(&tail, timestamp_ms);
            assert_eq!(found, Offset(first), "{timestamp_ms} ms");
        }
    }
}
