//! Entries whose records have keys, and their owner.
//!
//! *Owns*: a small format for tests: a delete horizon, then records of a delta, a key and a value; passes
//! that are held up.
//! *Does not own*: which records stay.
//!
//! *IO: none*

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use parking_lot::Mutex;
use tidewater_types::{Offset, StreamId};

use crate::Entry;
use crate::keyed::{KeyOwner, KeyPolicy, KeyedRecord, NotKeyed};

use super::{Fault, FaultyBucket, Op};

/// A key and its value; a deletion has none.
pub(crate) type Pair = (u8, Option<u8>);

/// An entry of one record each for `pairs`; one record for no pair is a control batch.
pub(crate) fn keyed_entry(base_offset: u64, timestamp_ms: i64, pairs: &[Pair]) -> Entry {
    let records: Vec<_> = (0..).zip(pairs.iter().copied()).collect();
    let record_count = u32::try_from(pairs.len().max(1)).unwrap();
    build(
        (base_offset, record_count, timestamp_ms),
        i64::MIN,
        &records,
    )
}

fn build(
    (base_offset, record_count, timestamp_ms_max): (u64, u32, i64),
    horizon_ms: i64,
    records: &[(u8, Pair)],
) -> Entry {
    let mut payload = Vec::new();
    payload.put_i64_le(horizon_ms);
    for (delta, (key, value)) in records {
        payload.put_slice(&[*delta, *key, value.unwrap_or(0), u8::from(value.is_none())]);
    }
    Entry {
        base_offset: Offset(base_offset),
        record_count,
        timestamp_ms_max,
        payload: Bytes::from(payload),
    }
}

/// Delete horizon and records of an entry.
fn parse(payload: &Bytes) -> (i64, Vec<(u8, Pair)>) {
    let mut rest = payload.clone();
    let horizon = rest.get_i64_le();
    let records = rest.chunks(4).map(|record| {
        let value = (record[3] == 0).then_some(record[2]);
        (record[0], (record[1], value))
    });
    (horizon, records.collect())
}

/// What readers see: offset, key, value.
pub(crate) fn pairs_of(entries: &[Entry]) -> Vec<(u64, Pair)> {
    let of = |entry: &Entry| {
        let base = entry.base_offset.0;
        let records = parse(&entry.payload).1.into_iter();
        records.map(move |(delta, pair)| (base + u64::from(delta), pair))
    };
    entries.iter().flat_map(of).collect()
}

/// An owner whose answers can be set.
pub(crate) struct TestOwner {
    pub(crate) policy: Mutex<KeyPolicy>,
    pub(crate) bound: Mutex<Offset>,
    /// Key of a record that it says it cannot read.
    pub(crate) unreadable: Mutex<Option<u8>>,
}

impl Default for TestOwner {
    fn default() -> Self {
        let policy = KeyPolicy {
            lag_ms_min: 0,
            lag_ms_max: i64::MAX,
            dirty_permille: 0,
            few_ms_max: 0,
            delete_retention_ms: 1_000,
        };
        Self {
            policy: Mutex::new(policy),
            bound: Mutex::new(Offset(u64::MAX)),
            unreadable: Mutex::default(),
        }
    }
}

impl KeyOwner for TestOwner {
    fn policy(&self) -> KeyPolicy {
        *self.policy.lock()
    }

    fn replays(&self) -> bool {
        false
    }

    fn bound(&self) -> Offset {
        *self.bound.lock()
    }

    fn records(
        &self,
        stream: StreamId,
        entry: &Entry,
        each: &mut dyn FnMut(KeyedRecord<'_>),
    ) -> Result<Option<i64>, NotKeyed> {
        let (horizon, records) = parse(&entry.payload);
        for (delta, (key, value)) in records {
            if *self.unreadable.lock() == Some(key) {
                let (offset, what) = (entry.base_offset, "a test's key");
                return Err(NotKeyed {
                    stream,
                    offset,
                    what,
                });
            }
            each(KeyedRecord {
                offset: Offset(entry.base_offset.0 + u64::from(delta)),
                // As a record of Kafka's may have none.
                key: (key != 0).then_some(&[key]),
                is_tombstone: value.is_none(),
            });
        }
        Ok((horizon != i64::MIN).then_some(horizon))
    }

    fn rewrite(
        &self,
        _stream: StreamId,
        entry: &Entry,
        keep: &[bool],
        delete_horizon_ms: Option<i64>,
    ) -> Result<Option<Entry>, NotKeyed> {
        let (horizon, records) = parse(&entry.payload);
        if records.is_empty() {
            return Ok(Some(entry.clone()));
        }
        let kept = records.iter().zip(keep).filter(|(_, keep)| **keep);
        let kept: Vec<_> = kept.map(|(record, _)| *record).collect();
        let of = (
            entry.base_offset.0,
            entry.record_count,
            entry.timestamp_ms_max,
        );
        let horizon = delete_horizon_ms.unwrap_or(horizon);
        Ok((!kept.is_empty()).then(|| build(of, horizon, &kept)))
    }
}

/// Drives `work` up to its next object, whose creation is refused once; it has not begun it anew.
pub(crate) async fn hold_up(bucket: &FaultyBucket, work: &mut (impl Future + Unpin)) {
    let before = bucket.count(Op::Create, "data/");
    bucket.script(Op::Create, "data/", &[Fault::Throttle]);
    while bucket.count(Op::Create, "data/") == before {
        let once = |cx: &mut Context<'_>| Poll::Ready(Pin::new(&mut *work).poll(cx).is_ready());
        assert!(!poll_fn(once).await, "it ended without an object");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
