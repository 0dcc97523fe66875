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

use futures_util::poll;
use parking_lot::Mutex;
use tidewater_types::{Offset, StreamId, mutant, sometimes};

use crate::counters::{Counters, add};
use crate::entry::{Entry, StateSnapshot};
use crate::error::TierError;
use crate::format::block::{DataBlock, HEADER_SIZE, TABLE_ROW_SIZE};
use crate::format::index::{IndexRow, ObjectIndex, ROW_SIZE};
use crate::meta::log::Metadata;
use crate::meta::state::{MetaState, ObjectState, RangeState};
use crate::object_id::ObjectId;

use super::ahead::Readers;
use super::cache::{Cache, Key, NumBytes};
use super::loader::{Loader, Origin};
use super::source::Source;

/// Entries read from objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The entries, ascending.
    pub entries: Vec<Entry>,
    /// Data blocks that were in memory.
    pub from_memory: u32,
    /// Data blocks that were read from the disk cache.
    pub from_disk: u32,
    /// Data blocks that were read from the bucket.
    pub from_bucket: u32,
}

impl NumBytes for Arc<ObjectIndex> {
    fn num_bytes(&self) -> usize {
        self.rows.len() * size_of::<IndexRow>()
    }
}

/// Reads of one tier.
pub(crate) struct Reads {
    pub(crate) metadata: Metadata,
    pub(crate) sources: Sources,
    pub(crate) loader: Loader,
    pub(crate) indices: Cache<Arc<ObjectIndex>>,
    pub(crate) counters: Arc<Counters>,
    pub(super) readers: Mutex<Readers>,
}

/// The ways to the bucket.
pub(crate) struct Sources {
    /// For readers at the end of their stream.
    pub(crate) tail: Source,
    /// For all others, and for reading ahead.
    pub(crate) catch_up: Source,
}

/// Where a range of the stream lies.
pub(super) struct Place {
    pub(super) id: ObjectId,
    object: ObjectState,
    pub(super) range: RangeState,
    /// Whether nothing of the stream is committed behind it.
    is_last: bool,
}

impl Place {
    pub(super) fn key_of_index(&self) -> Key {
        Key::new(self.id, self.object.index_position)
    }
}

impl Reads {
    pub(crate) fn new(
        metadata: Metadata,
        sources: Sources,
        config: &crate::config::TierConfig,
        counters: Arc<Counters>,
    ) -> Self {
        // An object of the default upload size has about this many blocks.
        const ROWS_TYPICAL: u64 = 128;
        Self {
            metadata,
            sources,
            loader: Loader::new(config, Arc::clone(&counters)),
            indices: Cache::new(config.index_cache_bytes, ROWS_TYPICAL * ROW_SIZE as u64),
            counters,
            readers: Mutex::new(Readers::new(&config.read, config.block_cache_bytes)),
        }
    }

    /// What blocks and what indices take in memory now, in bytes.
    pub(crate) fn num_bytes(&self) -> (u64, u64) {
        (self.loader.num_bytes(), self.indices.num_bytes())
    }

    /// As [`Reads::try_fetch`], and reads ahead of those who read in sequence.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        stream: StreamId,
        offset: Offset,
        bytes_max: usize,
    ) -> Result<Fetched, TierError> {
        let first = self.try_fetch(stream, offset, bytes_max).await;
        let fetched = if let Err(TierError::Missing { .. }) = first {
            self.believe_missing().await?;
            self.try_fetch(stream, offset, bytes_max).await?
        } else {
            first?
        };
        if let Some(last) = fetched.entries.last() {
            let next = last.end_offset();
            let num_bytes: usize = fetched.entries.iter().map(|e| e.payload.len()).sum();
            let env = &self.sources.catch_up.env;
            let range = (offset, next);
            let grant = {
                let mut readers = self.readers.lock();
                readers.fetched(env.now(), stream, range, num_bytes as u64)
            };
            if let Some(grant) = grant {
                // Planned at once, unless an index is missing: the reader waits for what it leads to.
                let mut ahead = Box::pin(Arc::clone(self).read_ahead(grant));
                if poll!(ahead.as_mut()).is_pending() {
                    env.spawn("s3stream: read ahead", ahead);
                }
            }
        }
        Ok(fetched)
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
            let found = self.place(stream, next, |_| true);
            let is_trimmed = found.as_ref().is_some_and(|(start, _)| *start > next) && !mutant!(88);
            let Some((_, place)) = found.filter(|_| !is_trimmed) else {
                // The end; or trimmed or deleted meanwhile: nothing follows what was gathered.
                if is_trimmed {
                    sometimes!("s3stream: a trim overtook a read");
                }
                if gathered.fetched.entries.is_empty() {
                    self.metadata
                        .read(|state| check_range(state, stream, next))?;
                }
                break;
            };
            let source = self.source(&place);
            let index = self.index(source, &place).await?;
            let rows = rows_to_read(&index, stream, next, bytes_max - gathered.num_bytes);
            let mut claims = self.loader.claim(place.id, &rows);
            self.loader.load(source, &mut claims).await;
            for (row, asked) in claims.into_asked() {
                let landed = self.loader.arrive(source, place.id, &row, asked).await;
                let ((kept, origin), from) = (landed?, gathered.next);
                gathered.take(&kept.block, origin);
                let taken = (from, gathered.next);
                self.loader.was_read((place.id, &row), &kept, taken);
                // The seeded bug takes a block without an entry for the end of the stream.
                let is_lost = mutant!(94) && gathered.fetched.entries.is_empty();
                if gathered.is_full() || is_lost {
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
        while let Some((_, place)) =
            self.place(stream, next, |range| range.timestamp_ms_max >= timestamp_ms)
        {
            let source = self.source(&place);
            let index = self.index(source, &place).await?;
            for row in index
                .blocks_from(stream, next)
                .filter(|row| row.timestamp_ms_max >= timestamp_ms)
            {
                let block = self.block(source, place.id, row).await?;
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
        let bytes = self.sources.tail.snapshot(stream, &snapshot).await?;
        Ok(Some(StateSnapshot {
            as_of: snapshot.as_of,
            bytes,
        }))
    }

    /// The first range that ends above `offset` and is wanted, and where it begins.
    pub(super) fn place(
        &self,
        stream: StreamId,
        offset: Offset,
        wanted: impl Fn(&RangeState) -> bool,
    ) -> Option<(Offset, Place)> {
        self.metadata.read(|state| {
            let mut ranges = state.stream(stream)?.ranges_from(offset);
            let (start, range) = ranges.find(|(_, range)| wanted(range))?;
            let is_last = ranges.next().is_none();
            let object = *state
                .object(range.object)
                .expect("ranges reference known objects");
            let place = Place {
                id: range.object,
                object,
                range: *range,
                is_last,
            };
            Some((start, place))
        })
    }

    /// The index of the object that holds the range.
    pub(super) async fn index_of(&self, range: &RangeState) -> Result<Arc<ObjectIndex>, TierError> {
        let id = range.object;
        let known = self.metadata.read(|state| state.object(id).copied());
        let object = known.ok_or_else(|| TierError::Missing { object: id.key() })?;
        let range = *range;
        let place = Place {
            id,
            object,
            range,
            is_last: false,
        };
        self.index(self.source(&place), &place).await
    }

    /// Those who read the last object of a stream are about to be at its tail.
    pub(super) fn source(&self, place: &Place) -> &Source {
        if place.is_last {
            &self.sources.tail
        } else {
            &self.sources.catch_up
        }
    }

    pub(super) async fn index(
        &self,
        source: &Source,
        place: &Place,
    ) -> Result<Arc<ObjectIndex>, TierError> {
        let load = async {
            let index = source.index(place.id, &place.object).await?;
            add(&self.counters.indices_from_bucket, 1);
            Ok::<_, TierError>(Arc::new(index))
        };
        let (index, _) = (self.indices.get_or_load(place.key_of_index(), load)).await?;
        Ok(index)
    }

    async fn block(
        &self,
        source: &Source,
        id: ObjectId,
        row: &IndexRow,
    ) -> Result<DataBlock, TierError> {
        let mut claims = self.loader.claim(id, std::slice::from_ref(row));
        self.loader.load(source, &mut claims).await;
        let (_, asked) = claims.into_asked().next().expect("one was asked for");
        // Looking for a time takes nothing that a consumer would not take once more.
        let (kept, _) = self.loader.arrive(source, id, row, asked).await?;
        Ok(kept.block)
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
    let (mut rows, mut sum) = (Vec::new(), 0u64);
    for row in index.blocks_from(stream, offset) {
        rows.push(*row);
        sum += payload_bytes(row);
        if sum >= num_bytes as u64 {
            break;
        }
    }
    rows
}

pub(super) fn payload_bytes(row: &IndexRow) -> u64 {
    let around = HEADER_SIZE + row.entry_count as usize * TABLE_ROW_SIZE;
    u64::from(row.size).saturating_sub(around as u64)
}

struct Gathered {
    fetched: Fetched,
    next: Offset,
    num_bytes: usize,
    bytes_max: usize,
}

impl Gathered {
    /// Takes the entries that fit; the first one always does.
    fn take(&mut self, block: &DataBlock, origin: Origin) {
        let count = match origin {
            Origin::Memory => &mut self.fetched.from_memory,
            Origin::Disk => &mut self.fetched.from_disk,
            Origin::Bucket => &mut self.fetched.from_bucket,
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
