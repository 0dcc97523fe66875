//! A handle on one open stream: append, fetch, trim, wait.
//!
//! *Owns*: the order of one stream's calls on the tail, the WAL and the tier.
//! *Does not own*: the watermarks' rules (tail.rs), the WAL's order (shared.rs).
//!
//! Invariants
//! 1. Offsets follow the order of `append_reserved` calls, and so do LSNs.
//! 2. Nothing is handed to a reader that a crash could take back.
//!
//! *IO: none* (through ports)

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use tidewater_s3stream::{Entry, MetaOp};
use tidewater_types::{Epoch, Lsn, Offset, StreamId};
use tidewater_wal::{Permit, WalError};
use tokio::sync::TryAcquireError;

use crate::error::StoreError;
use crate::format::frame::HEAD_BYTES;
use crate::shared::{Shared, StreamInner};
use crate::tail::Found;
use crate::uplink;

/// What is appended, besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct AppendRequest {
    /// Records in the payload, at least 1; each takes one offset.
    pub record_count: u32,
    /// Greatest timestamp of the records in milliseconds since the Unix epoch.
    pub timestamp_ms_max: i64,
    /// Length of the payload in bytes.
    pub num_bytes: usize,
}

/// Room for one append, in the store and in the WAL. Dropped unused, it goes back.
#[derive(Debug)]
pub struct Reservation {
    permit: Permit,
    room: Room,
}

/// Room in the store, given back when dropped.
struct Room {
    shared: Arc<Shared>,
    /// The largest payload it is for.
    payload_bytes: usize,
    /// Bytes of memory.
    num_bytes: usize,
}

impl Room {
    /// `num_bytes` now belong to an entry until its upload is committed.
    fn keep(mut self, num_bytes: u64) {
        let kept = usize::try_from(num_bytes).expect("room fits usize");
        self.num_bytes -= kept;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.give_room_back(self.num_bytes as u64);
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room")
            .field("payload_bytes", &self.payload_bytes)
            .finish_non_exhaustive()
    }
}

/// An append that has its offsets. It is acknowledged by [`Stream::wait_durable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// One past the offset of the last record.
    pub end_offset: Offset,
    /// Position in the WAL.
    pub lsn: Lsn,
}

/// Where a fetch was answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadSource {
    /// Nothing was there to read.
    Nothing,
    /// The tail, in memory.
    Tail,
    /// Objects; their blocks came from memory or the bucket.
    Objects,
}

/// The answer to a fetch.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whole entries, the first one holding the offset asked for; empty at the high watermark.
    pub entries: Vec<Entry>,
    /// Log start offset.
    pub start: Offset,
    /// One past the last visible offset.
    pub high_watermark: Offset,
    /// Where the entries came from.
    pub source: ReadSource,
}

/// One open stream. Clones share it.
#[derive(Clone)]
pub struct Stream {
    pub(crate) inner: Arc<StreamInner>,
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("id", &self.inner.id)
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.inner.id
    }

    /// The epoch it was opened with.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// Log start offset: the first offset that can be read.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.inner.tail.lock().start()
    }

    /// One past the last offset that is durable and can be read.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.inner.tail.lock().high_watermark()
    }

    /// The offset the next append gets.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.inner.tail.lock().end()
    }

    /// Whether two handles are on the same stream of the same store.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Why the stream takes no more calls, if it does not.
    fn refusal(&self) -> Option<StoreError> {
        self.shared
            .failure()
            .or_else(|| self.inner.closed.lock().clone())
    }

    /// Takes room for a payload of `num_bytes`; waits while uploads or the WAL lag behind.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] at once, [`StoreError::Full`] after the configured patience,
    /// [`StoreError::Closed`].
    pub async fn reserve(&self, num_bytes: usize) -> Result<Reservation, StoreError> {
        let num_bytes_max = self.shared.config.append_bytes_max;
        if num_bytes as u64 > num_bytes_max {
            return Err(StoreError::TooLarge {
                num_bytes: num_bytes as u64,
                num_bytes_max,
            });
        }
        let room = self.take_room(num_bytes).await?;
        let permit = self.take_permit(HEAD_BYTES + num_bytes).await?;
        Ok(Reservation { permit, room })
    }

    async fn take_permit(&self, num_bytes: usize) -> Result<Permit, StoreError> {
        match self.shared.wal.try_reserve(num_bytes) {
            Err(WalError::Full { .. }) => {
                uplink::make_room(&self.shared);
                Ok(self.shared.wal.reserve(num_bytes).await?)
            }
            reserved => Ok(reserved?),
        }
    }

    async fn take_room(&self, payload_bytes: usize) -> Result<Room, StoreError> {
        let shared = &self.shared;
        let num_bytes = shared.waiting_cost_most(payload_bytes);
        let wanted = u32::try_from(num_bytes).expect("append_bytes_max is at most 1 GiB");
        let acquired = match shared.room.try_acquire_many(wanted) {
            Err(TryAcquireError::NoPermits) => {
                uplink::make_room(shared);
                let patience = Duration::from_millis(shared.config.append_wait_ms_max);
                let acquire = std::pin::pin!(shared.room.acquire_many(wanted));
                match select(acquire, shared.env.sleep(patience)).await {
                    Either::Left((acquired, _)) => acquired.ok(),
                    Either::Right(_) => {
                        let waiting_bytes = shared.queue.lock().waiting_bytes();
                        return Err(StoreError::Full { waiting_bytes });
                    }
                }
            }
            acquired => acquired.ok(),
        };
        let Some(permits) = acquired else {
            let closed = || StoreError::Closed {
                cause: Arc::from("shut down"),
            };
            return Err(self.refusal().unwrap_or_else(closed));
        };
        permits.forget();
        Ok(Room {
            shared: Arc::clone(shared),
            payload_bytes,
            num_bytes: wanted as usize,
        })
    }

    /// Appends into the room taken before: gives the offsets, asks `fill` for the payload with the
    /// base offset in it, and hands it to the WAL. Never blocks on I/O; order is call order.
    /// The payload stays in memory for long: if it is a slice of a much larger buffer, copy it before,
    /// since all of the buffer stays with it and its length is what is counted.
    ///
    /// # Errors
    /// [`StoreError::Closed`], [`StoreError::Wal`], [`StoreError::OffsetsExhausted`],
    /// [`StoreError::TooLarge`] if the payload is larger than what was reserved. Nothing was appended.
    ///
    /// # Panics
    /// If `record_count` is 0.
    pub fn append_reserved(
        &self,
        reservation: Reservation,
        request: AppendRequest,
        fill: impl FnOnce(Offset) -> Bytes,
    ) -> Result<Appended, StoreError> {
        assert!(request.record_count > 0, "an append without records");
        // Under the lock: whoever closes the stream knows its end once it had the lock.
        let mut tail = self.inner.tail.lock();
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let base_offset = tail.end();
        let end_offset =
            tail.end_after(request.record_count)
                .ok_or(StoreError::OffsetsExhausted {
                    stream: self.inner.id,
                })?;
        let payload = fill(base_offset);
        let Reservation { permit, room } = reservation;
        let num_bytes = payload.len();
        if num_bytes > room.payload_bytes {
            let num_bytes_max = room.payload_bytes as u64;
            return Err(StoreError::TooLarge {
                num_bytes: num_bytes as u64,
                num_bytes_max,
            });
        }
        let entry = Entry {
            base_offset,
            record_count: request.record_count,
            timestamp_ms_max: request.timestamp_ms_max,
            payload,
        };
        let lsn = self.shared.submit(&self.inner, &mut tail, permit, entry)?;
        room.keep(self.shared.waiting_cost(num_bytes));
        Ok(Appended {
            base_offset,
            end_offset,
            lsn,
        })
    }

    /// Reserves and appends. See [`Stream::reserve`] and [`Stream::append_reserved`].
    ///
    /// # Errors
    /// Those of both.
    pub async fn append(
        &self,
        request: AppendRequest,
        fill: impl FnOnce(Offset) -> Bytes,
    ) -> Result<Appended, StoreError> {
        let reservation = self.reserve(request.num_bytes).await?;
        self.append_reserved(reservation, request, fill)
    }

    /// Completes when everything below `end` is durable: the moment to acknowledge.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when the WAL failed before; the append may or may not survive.
    pub async fn wait_durable(&self, end: Offset) -> Result<(), StoreError> {
        self.wait_until(|stream| {
            if stream.high_watermark() >= end {
                return Some(Ok(()));
            }
            stream.refusal().map(Err)
        })
        .await
    }

    /// Completes when there is something to read at `offset`, or when reading there would fail.
    pub async fn wait_readable(&self, offset: Offset) {
        self.wait_until(|stream| {
            let tail = stream.inner.tail.lock();
            let ready = tail.high_watermark() > offset || tail.start() > offset;
            drop(tail);
            (ready || stream.refusal().is_some()).then_some(())
        })
        .await;
    }

    pub(crate) async fn wait_until<R>(&self, mut check: impl FnMut(&Self) -> Option<R>) -> R {
        loop {
            let changed = self.inner.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if let Some(answer) = check(self) {
                return answer;
            }
            changed.await;
        }
    }

    /// Reads whole entries from the one that holds `offset`, at least one if any is visible there,
    /// up to about `bytes_max` bytes of payload.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] below the start or above the end; [`StoreError::Closed`] and
    /// [`StoreError::NoStream`] at the high watermark, if it will never move again; tier errors.
    pub async fn fetch(&self, offset: Offset, bytes_max: usize) -> Result<Fetched, StoreError> {
        let (found, (mut start, mut high_watermark, end)) = {
            let tail = self.inner.tail.lock();
            let marks = (tail.start(), tail.high_watermark(), tail.end());
            (tail.find(offset, bytes_max), marks)
        };
        let (entries, source) = match found {
            Found::OutOfRange => {
                let stream = self.inner.id;
                return Err(StoreError::OutOfRange {
                    stream,
                    offset,
                    start,
                    end,
                });
            }
            Found::Held(entries) if entries.is_empty() => {
                if let Some(refusal) = self.refusal() {
                    return Err(refusal);
                }
                (entries, ReadSource::Nothing)
            }
            Found::Held(entries) => {
                Shared::count(&self.shared.reads.tail, 1);
                (entries, ReadSource::Tail)
            }
            Found::InObjects => {
                let tier = &self.shared.tier;
                let mut fetched = tier.fetch(self.inner.id, offset, bytes_max).await?;
                let reads = &self.shared.reads;
                reads.count(fetched.from_memory, fetched.from_disk, fetched.from_bucket);
                // Commits and trims went on meanwhile, and the objects were chosen after them.
                let tail = self.inner.tail.lock();
                (start, high_watermark) = (tail.start(), tail.high_watermark());
                // What a later owner committed is not this one's to show.
                fetched
                    .entries
                    .retain(|entry| entry.end_offset() <= high_watermark);
                if offset < start {
                    let (stream, end) = (self.inner.id, tail.end());
                    return Err(StoreError::OutOfRange {
                        stream,
                        offset,
                        start,
                        end,
                    });
                }
                (fetched.entries, ReadSource::Objects)
            }
        };
        Ok(Fetched {
            entries,
            start,
            high_watermark,
            source,
        })
    }

    /// The first visible entry whose greatest timestamp is at or above `timestamp_ms`.
    ///
    /// # Errors
    /// Tier errors.
    pub async fn find_timestamp(&self, timestamp_ms: i64) -> Result<Option<Entry>, StoreError> {
        // The tail first: what it lets go of meanwhile is in the objects by then.
        let (start, committed, in_tail) = {
            let tail = self.inner.tail.lock();
            let start = tail.start();
            let wanted = |entry: &&Entry| {
                entry.end_offset() > start && entry.timestamp_ms_max >= timestamp_ms
            };
            (
                start,
                tail.committed(),
                tail.visible().find(wanted).cloned(),
            )
        };
        if start >= committed {
            return Ok(in_tail);
        }
        let tier = &self.shared.tier;
        let in_objects = tier.find_timestamp(self.inner.id, start, timestamp_ms);
        let in_objects = in_objects.await?;
        // What a later owner committed is not this one's to show.
        let high_watermark = self.inner.tail.lock().high_watermark();
        let in_objects = in_objects.filter(|entry| entry.end_offset() <= high_watermark);
        let found = in_objects.into_iter().chain(in_tail);
        Ok(found.min_by_key(|entry| entry.base_offset))
    }

    /// The greatest timestamp of any visible entry; `None` of an empty stream.
    #[must_use]
    pub fn timestamp_ms_max(&self) -> Option<i64> {
        // The tail first: what it lets go of meanwhile is in the objects by then.
        let in_tail = {
            let tail = self.inner.tail.lock();
            tail.visible().map(|entry| entry.timestamp_ms_max).max()
        };
        let in_objects = self.shared.tier.metadata().read(|state| {
            let stream = state.stream(self.inner.id)?;
            let live = stream
                .ranges()
                .filter(|(range, _)| range.end() > stream.start);
            live.map(|(_, range)| range.timestamp_ms_max).max()
        });
        in_tail.max(in_objects)
    }

    /// Moves the log start up to `start`, at most the high watermark. What lies below can no longer
    /// be read and its objects are let go.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] above the high watermark; metadata errors.
    pub async fn trim(&self, start: Offset) -> Result<(), StoreError> {
        let (old_start, committed, high_watermark) = {
            let tail = self.inner.tail.lock();
            (tail.start(), tail.committed(), tail.high_watermark())
        };
        let stream = self.inner.id;
        if start > high_watermark {
            let end = high_watermark;
            return Err(StoreError::OutOfRange {
                stream,
                offset: start,
                start: old_start,
                end,
            });
        }
        if start <= old_start {
            return Ok(());
        }
        if start > committed {
            // An entry may be trimmed only once an object holds it: the WAL's recovery expects
            // every entry above the committed end.
            uplink::flush(&self.shared).await?;
        }
        let op = MetaOp::TrimStream {
            stream,
            epoch: self.inner.epoch,
            start,
        };
        self.shared.tier.metadata().propose(vec![op]).await?;
        self.inner.tail.lock().trim(start);
        self.inner.changed.notify_waiters();
        Ok(())
    }
}
