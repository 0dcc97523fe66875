//! Finds and reads entries of committed streams.
//!
//! *Owns*: the way from an offset or a time through metadata, index and block to
//! entries; what happens when an object is gone.
//! *Does not own*: the tail that is not uploaded yet.
//!
//! Invariants
//! 1. Entries come whole, ascending, without a gap that the stream does not have.
//! 2. A missing object is believed only after the metadata was read again: the
//!    plan may have been older than a trim.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tidewater_types::{Offset, StreamId, sometimes};

use crate::counters::{Counters, add};
use crate::entry::{Entry, StateSnapshot};
use crate::error::TierError;
use crate::format::block::{DataBlock, HEADER_SIZE, TABLE_ROW_SIZE};
use crate::format::index::{IndexRow, ObjectIndex, ROW_SIZE};
use crate::meta::log::Metadata;
use crate::meta::state::{MetaState, ObjectState, RangeState};
use crate::object_id::ObjectId;

use super::cache::{Cache, NumBytes};
use super::source::Source;

/// Entries read from objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The entries, ascending.
    pub entries: Vec<Entry>,
    /// Data blocks that were in memory.
    pub from_memory: u32,
    /// Data blocks that were read from the bucket.
    pub from_bucket: u32,
}

impl NumBytes for DataBlock {
    fn num_bytes(&self) -> usize {
        DataBlock::num_bytes(self)
    }
}

impl NumBytes for Arc<ObjectIndex> {
    fn num_bytes(&self) -> usize {
        self.rows.len() * size_of::<IndexRow>()
    }
}

/// Reads of one tier.
pub(crate) struct Reads {
    pub(crate) metadata: Metadata,
    pub(crate) source: Source,
    pub(crate) blocks: Cache<DataBlock>,
    pub(crate) indices: Cache<Arc<ObjectIndex>>,
    pub(crate) counters: Arc<Counters>,
    /// Blocks of one fetch read at a time.
    pub(crate) parallel: usize,
}

/// Where a range of the stream lies.
struct Place {
    id: ObjectId,
    object: ObjectState,
    range: RangeState,
}

impl Reads {
    pub(crate) fn new(
        metadata: Metadata,
        source: Source,
        config: &crate::config::TierConfig,
    ) -> Self {
        // An object of the default upload size has about this many blocks.
        const ROWS_TYPICAL: u64 = 128;
        Self {
            metadata,
            source,
            blocks: Cache::new(config.block_cache_bytes, config.block_bytes as u64),
            indices: Cache::new(config.index_cache_bytes, ROWS_TYPICAL * ROW_SIZE as u64),
            counters: Arc::default(),
            parallel: config.read_parallel,
        }
    }

    pub(crate) async fn fetch(
        &self,
        stream: StreamId,
        offset: Offset,
        bytes_max: usize,
    ) -> Result<Fetched, TierError> {
        let first = self.try_fetch(stream, offset, bytes_max).await;
        let Err(TierError::Missing { .. }) = first else {
            return first;
        };
        self.believe_missing().await?;
        self.try_fetch(stream, offset, bytes_max).await
    }

    pub(crate) async fn find_timestamp(
        &self,
        stream: StreamId,
        from: Offset,
        timestamp_ms: i64,
    ) -> Result<Option<Entry>, TierError> {
        let first = self.try_find(stream, from, timestamp_ms).await;
        let Err(TierError::Missing { .. }) = first else {
            return first;
        };
        self.believe_missing().await?;
        self.try_find(stream, from, timestamp_ms).await
    }

    pub(crate) async fn snapshot(
        &self,
        stream: StreamId,
    ) -> Result<Option<StateSnapshot>, TierError> {
        let first = self.try_snapshot(stream).await;
        let Err(TierError::Missing { .. }) = first else {
            return first;
        };
        self.believe_missing().await?;
        self.try_snapshot(stream).await
    }

    pub(super) async fn believe_missing(&self) -> Result<(), TierError> {
        sometimes!("s3stream: object gone under a reader");
        Ok(self.metadata.refresh().await?)
    }

    async fn try_fetch(
        &self,
        stream: StreamId,
        offset: Offset,
        bytes_max: usize,
    ) -> Result<Fetched, TierError> {
        self.metadata
            .read(|state| check_range(state, stream, offset))?;
        let mut gathered = Gathered {
            fetched: Fetched::default(),
            next: offset,
            num_bytes: 0,
            bytes_max,
        };
        while !gathered.is_full() {
            let next = gathered.next;
            let Some(place) = self.place(stream, next, |_| true) else {
                break;
            };
            let index = self.index(&place).await?;
            let rows = rows_to_read(&index, stream, next, bytes_max - gathered.num_bytes);
            // By value: a closure over borrowed rows makes a future that no executor can send.
            let reads = rows.iter().copied();
            let reads = reads.map(|row| async move { self.block(place.id, &row).await });
            let mut reads = std::pin::pin!(stream::iter(reads).buffered(self.parallel));
            while let Some(read) = reads.next().await {
                gathered.take(read?);
                if gathered.is_full() {
                    return Ok(gathered.fetched);
                }
            }
            let done = rows.last().map_or(place.range.end, IndexRow::end_offset);
            let whole = index.blocks_from(stream, done).next().is_none();
            gathered.next = gathered
                .next
                .max(if whole { place.range.end } else { done });
        }
        Ok(gathered.fetched)
    }

    async fn try_find(
        &self,
        stream: StreamId,
        from: Offset,
        timestamp_ms: i64,
    ) -> Result<Option<Entry>, TierError> {
        let known = self
            .metadata
            .read(|state| state.stream(stream).map(|stream| stream.start));
        let mut next = from.max(known.ok_or(TierError::UnknownStream { stream })?);
        while let Some(place) =
            self.place(stream, next, |range| range.timestamp_ms_max >= timestamp_ms)
        {
            let index = self.index(&place).await?;
            for row in index
                .blocks_from(stream, next)
                .filter(|row| row.timestamp_ms_max >= timestamp_ms)
            {
                let (block, _) = self.block(place.id, row).await?;
                let found = block
                    .entries_from(next)
                    .find(|entry| entry.timestamp_ms_max >= timestamp_ms);
                if found.is_some() {
                    return Ok(found);
                }
            }
            next = place.range.end;
        }
        Ok(None)
    }

    async fn try_snapshot(&self, stream: StreamId) -> Result<Option<StateSnapshot>, TierError> {
        let known = self
            .metadata
            .read(|state| state.stream(stream).map(|stream| stream.snapshot));
        let Some(snapshot) = known.ok_or(TierError::UnknownStream { stream })? else {
            return Ok(None);
        };
        let bytes = self.source.snapshot(stream, &snapshot).await?;
        Ok(Some(StateSnapshot {
            as_of: snapshot.as_of,
            bytes,
        }))
    }

    /// The first range that ends above `offset` and is wanted.
    fn place(
        &self,
        stream: StreamId,
        offset: Offset,
        wanted: impl Fn(&RangeState) -> bool,
    ) -> Option<Place> {
        self.metadata.read(|state| {
            let mut ranges = state.stream(stream)?.ranges_from(offset);
            let (_, range) = ranges.find(|(_, range)| wanted(range))?;
            let object = *state
                .object(range.object)
                .expect("ranges reference known objects");
            Some(Place {
                id: range.object,
                object,
                range: *range,
            })
        })
    }

    /// The index of the object that holds the range.
    pub(super) async fn index_of(&self, range: &RangeState) -> Result<Arc<ObjectIndex>, TierError> {
        let id = range.object;
        let known = self.metadata.read(|state| state.object(id).copied());
        let object = known.ok_or_else(|| TierError::Missing { object: id.key() })?;
        let range = *range;
        self.index(&Place { id, object, range }).await
    }

    async fn index(&self, place: &Place) -> Result<Arc<ObjectIndex>, TierError> {
        let load = async {
            self.source
                .index(place.id, &place.object)
                .await
                .map(Arc::new)
        };
        let (index, _) = self
            .indices
            .get_or_load(place.id, place.object.index_position, load)
            .await?;
        Ok(index)
    }

    async fn block(&self, id: ObjectId, row: &IndexRow) -> Result<(DataBlock, bool), TierError> {
        let (block, from_memory) = self
            .blocks
            .get_or_load(id, row.position, self.source.block(id, row))
            .await?;
        let counters = &self.counters;
        add(
            if from_memory {
                &counters.blocks_from_memory
            } else {
                &counters.blocks_from_bucket
            },
            1,
        );
        Ok((block, from_memory))
    }
}

fn check_range(state: &MetaState, stream: StreamId, offset: Offset) -> Result<(), TierError> {
    let known = state
        .stream(stream)
        .ok_or(TierError::UnknownStream { stream })?;
    let (start, end) = (known.start, known.end);
    if offset < start || offset > end {
        return Err(TierError::OutOfRange {
            stream,
            offset,
            start,
            end,
        });
    }
    Ok(())
}

/// The blocks from `offset` on that hold about `num_bytes` of payload, at least one.
fn rows_to_read(
    index: &ObjectIndex,
    stream: StreamId,
    offset: Offset,
    num_bytes: usize,
) -> Vec<IndexRow> {
    let (mut rows, mut sum) = (Vec::new(), 0usize);
    for row in index.blocks_from(stream, offset) {
        rows.push(*row);
        sum += (row.size as usize)
            .saturating_sub(HEADER_SIZE + row.entry_count as usize * TABLE_ROW_SIZE);
        if sum >= num_bytes {
            break;
        }
    }
    rows
}

struct Gathered {
    fetched: Fetched,
    next: Offset,
    num_bytes: usize,
    bytes_max: usize,
}

impl Gathered {
    /// Takes the entries that fit; the first one always does.
    fn take(&mut self, (block, from_memory): (DataBlock, bool)) {
        let count = if from_memory {
            &mut self.fetched.from_memory
        } else {
            &mut self.fetched.from_bucket
        };
        *count += 1;
        for entry in block.entries_from(self.next) {
            let num_bytes = self.num_bytes + entry.payload.len();
            if num_bytes > self.bytes_max && !self.fetched.entries.is_empty() {
                self.num_bytes = self.bytes_max;
                return;
            }
            (self.num_bytes, self.next) = (num_bytes, entry.end_offset());
            self.fetched.entries.push(entry);
        }
    }

    fn is_full(&self) -> bool {
        self.num_bytes >= self.bytes_max && !self.fetched.entries.is_empty()
    }
}
