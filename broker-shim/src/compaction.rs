//! What key compaction asks of a partition: the records of its batches, and batches with fewer.
//!
//! *Owns*: the owner of each partition of a compacted topic.
//! *Does not own*: which records stay (s3stream), how a batch is rewritten (`records`).
//!
//! Invariants
//! 1. Control batches and batches of transactions stay whole: without the outcome of a transaction
//!    nobody can tell which of its records count.
//! 2. The last batch of each producer stays, if need be without its records: its sequence is what
//!    the producer's next batch is judged by.
//!
//! *IO: none*

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tidewater_stream_store::Entry;
use tidewater_stream_store::keyed::{KeyOwner, KeyPolicy, KeyedRecord, NotKeyed};
use tidewater_types::{Offset, StreamId};

use crate::partition::{Partition, from_wire};
use crate::records::{BatchHeader, DecompressionLimit, records, rewrite, without_records};
use crate::topics::registry::Topic;

/// What was accepted is read in full; only a produced batch meets the limit.
const UNLIMITED: DecompressionLimit = DecompressionLimit(u64::MAX);
/// As the timestamp of a batch without records, which no look-up by time must find.
const NO_TIMESTAMP: i64 = -1;

/// The topic's partitions are compacted from now on, or no more, as its configuration says.
pub(crate) fn apply(topic: &Topic) {
    for partition in &topic.partitions {
        let owner = PartitionKeys {
            partition: Arc::downgrade(partition),
            policy: topic.config.keys,
        };
        let owner: Option<Arc<dyn KeyOwner>> = if topic.config.compacted {
            Some(Arc::new(owner))
        } else {
            None
        };
        partition.stream.set_key_owner(owner);
    }
}

struct PartitionKeys {
    partition: Weak<Partition>,
    policy: KeyPolicy,
}

impl KeyOwner for PartitionKeys {
    fn policy(&self) -> KeyPolicy {
        self.policy
    }

    /// Without transactions everything that is durable is decided.
    fn bound(&self) -> Offset {
        let partition = self.partition.upgrade();
        partition.map_or(Offset(0), |partition| partition.stream.high_watermark())
    }

    fn records(
        &self,
        stream: StreamId,
        entry: &Entry,
        each: &mut dyn FnMut(KeyedRecord<'_>),
    ) -> Result<Option<i64>, NotKeyed> {
        let bad = |_| unreadable(stream, entry);
        let header = BatchHeader::parse(&entry.payload).map_err(bad)?;
        if stays_whole(&header) {
            return Ok(None);
        }
        for record in records(&entry.payload, UNLIMITED).map_err(bad)? {
            let record = record.map_err(bad)?;
            let offset = from_wire(record.offset).ok_or_else(|| unreadable(stream, entry))?;
            each(KeyedRecord {
                offset,
                key: record.key.as_deref(),
                is_tombstone: record.value.is_none(),
            });
        }
        Ok(header.delete_horizon_ms())
    }

    fn rewrite(
        &self,
        stream: StreamId,
        entry: &Entry,
        keep: &[bool],
        delete_horizon_ms: Option<i64>,
    ) -> Result<Option<Entry>, NotKeyed> {
        let bad = |_| unreadable(stream, entry);
        let header = BatchHeader::parse(&entry.payload).map_err(bad)?;
        if stays_whole(&header) {
            return Ok(Some(entry.clone()));
        }
        if let Some(left) = rewrite(&entry.payload, keep, delete_horizon_ms).map_err(bad)? {
            let max_timestamp = BatchHeader::parse(&left).map_err(bad)?.max_timestamp;
            return Ok(Some(with(entry, left, max_timestamp)));
        }
        if !self.is_last_of_producer(&header) {
            return Ok(None);
        }
        let left = without_records(&entry.payload).map_err(bad)?;
        Ok(Some(with(entry, left, NO_TIMESTAMP)))
    }
}

impl PartitionKeys {
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let partition = self.partition.upgrade();
        header.has_producer_id()
            && partition.is_none_or(|partition| partition.is_last_of_producer(header))
    }
}

fn with(entry: &Entry, payload: Bytes, timestamp_ms_max: i64) -> Entry {
    Entry {
        timestamp_ms_max,
        payload,
        ..entry.clone()
    }
}

fn stays_whole(header: &BatchHeader) -> bool {
    header.is_control() || header.is_transactional()
}

fn unreadable(stream: StreamId, entry: &Entry) -> NotKeyed {
    NotKeyed {
        stream,
        offset: entry.base_offset,
        what: "a record batch",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{BatchBuilder, ProducerStamp};
    use crate::topics::configs::TopicConfig;

    const T: i64 = 1_700_000_000_000;

    fn owner() -> PartitionKeys {
        PartitionKeys {
            partition: Weak::new(),
            policy: TopicConfig::from_stored(&std::collections::BTreeMap::new()).keys,
        }
    }

    fn entry(producer_id: i64, transactional: bool) -> Entry {
        let mut builder = BatchBuilder::new();
        if producer_id >= 0 {
            builder = builder.with_producer(ProducerStamp {
                producer_id,
                producer_epoch: 1,
                base_sequence: 7,
                transactional,
            });
        }
        builder.append(T, Some(b"a"), Some(b"1"), &[]);
        builder.append(T + 1, None, Some(b"2"), &[]);
        builder.append(T + 2, Some(b"b"), None, &[]);
        Entry {
            base_offset: Offset(40),
            record_count: 3,
            timestamp_ms_max: T + 2,
            payload: builder.build(40, 1),
        }
    }

    type Told = (u64, Option<Vec<u8>>, bool);

    fn told(entry: &Entry) -> (Option<i64>, Vec<Told>) {
        let mut all = Vec::new();
        let horizon = owner().records(StreamId(1), entry, &mut |record| {
            let key = record.key.map(<[u8]>::to_vec);
            all.push((record.offset.0, key, record.is_tombstone));
        });
        (horizon.unwrap(), all)
    }

    fn rewritten(entry: &Entry, keep: &[bool], horizon: Option<i64>) -> Option<Entry> {
        owner().rewrite(StreamId(1), entry, keep, horizon).unwrap()
    }

    #[test]
    fn records_are_told_with_offset_key_and_deletion() {
        let (horizon, all) = told(&entry(-1, false));
        assert_eq!(horizon, None);
        let key = |key: &[u8]| Some(key.to_vec());
        assert_eq!(
            all,
            [
                (40, key(b"a"), false),
                (41, None, false),
                (42, key(b"b"), true)
            ]
        );
    }

    #[test]
    fn a_batch_keeps_its_place_and_tells_its_horizon() {
        let left = rewritten(&entry(-1, false), &[false, false, true], Some(T + 500)).unwrap();
        assert_eq!((left.base_offset, left.record_count), (Offset(40), 3));
        assert_eq!(left.timestamp_ms_max, T + 2);
        let (horizon, all) = told(&left);
        assert_eq!((horizon, all.len()), (Some(T + 500), 1));
        assert_eq!(all[0].0, 42);
        let first = rewritten(&entry(-1, false), &[true, false, false], None).unwrap();
        assert_eq!(first.timestamp_ms_max, T, "of what is left");
        assert_eq!(rewritten(&left, &[false], None), None);
    }

    #[test]
    fn the_last_batch_of_a_producer_stays_without_its_records() {
        let left = rewritten(&entry(9, false), &[false; 3], None).unwrap();
        assert_eq!(left.timestamp_ms_max, NO_TIMESTAMP);
        let header = BatchHeader::parse(&left.payload).unwrap();
        assert_eq!((header.producer_id, header.last_sequence()), (9, Some(9)));
        assert_eq!((header.base_offset, header.num_records), (40, 0));
        assert_eq!(told(&left), (None, Vec::new()));
        assert_eq!(rewritten(&left, &[], None), Some(left), "again and again");
    }

    #[test]
    fn batches_of_transactions_stay_whole() {
        let whole = entry(9, true);
        assert_eq!(told(&whole), (None, Vec::new()));
        assert_eq!(rewritten(&whole, &[], None), Some(whole));
    }

    #[test]
    fn what_is_no_batch_is_told() {
        let mut bad = entry(9, false);
        bad.payload = bad.payload.slice(..50);
        let result = owner().records(StreamId(1), &bad, &mut |_| ());
        assert_eq!(result.unwrap_err().offset, Offset(40));
    }
}
