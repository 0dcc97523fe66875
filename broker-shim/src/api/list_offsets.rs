//! ListOffsets: where a partition begins, ends, or was at a time.
//!
//! *Owns*: the special timestamps and from which version on they are known.
//! *Does not own*: look-up inside a batch (records) and among batches (stream-store).
//!
//! *IO: none*

use std::collections::BTreeSet;

use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest,
};
use tidewater_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use tidewater_types::Offset;

use super::call::Call;
use crate::partition::{Partition, wire};
use crate::records::{BatchHeader, TimestampedOffset, find_timestamp, max_timestamp};
use crate::refusal::Refusal;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// What stands where there is no offset, timestamp or epoch to give.
const NONE: i64 = -1;

pub(crate) async fn handle(call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let version = call.header.api_version;
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = (topic.name.clone(), partition.partition_index);
            if !seen.insert(key.clone()) {
                twice.insert(key);
            }
        }
    }
    let mut topics = Vec::new();
    for topic in request.topics {
        let mut partitions = Vec::new();
        for asked in &topic.partitions {
            let index = asked.partition_index;
            let answer = if twice.contains(&(topic.name.clone(), index)) {
                let message = "the partition stands in the request more than once";
                Err(Refusal::new(ErrorCode::INVALID_REQUEST, message))
            } else {
                one(call, &topic.name, asked).await
            };
            let (error_code, found) = match answer {
                Ok(found) => (ErrorCode::NONE, found),
                Err(refusal) => (refusal.code, Found::nothing()),
            };
            partitions.push(ListOffsetsPartitionResponse {
                partition_index: index,
                error_code: error_code.code(),
                timestamp: found.timestamp,
                offset: found.offset,
                // Carried from version 4 on.
                leader_epoch: if version >= 4 { found.leader_epoch } else { -1 },
            });
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    ListOffsetsResponse {
        topics,
        ..Default::default()
    }
}

/// An offset with the time and epoch that belong to it.
struct Found {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

impl Found {
    fn nothing() -> Self {
        Self {
            offset: NONE,
            timestamp: NONE,
            leader_epoch: -1,
        }
    }

    /// A record of the batch `payload`; the epoch is that of its append, not today's.
    fn record(at: TimestampedOffset, payload: &[u8]) -> Result<Self, Refusal> {
        let header = BatchHeader::parse(payload).map_err(unreadable)?;
        let leader_epoch = header.partition_leader_epoch;
        Ok(Self {
            offset: at.offset,
            timestamp: at.timestamp,
            leader_epoch,
        })
    }
}

fn unreadable(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, error.to_string())
}

/// The first version that knows the special timestamp.
fn known_since(timestamp: i64) -> i16 {
    match timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        i64::MIN..0 if timestamp < EARLIEST_PENDING_UPLOAD => i16::MAX,
        _ => 0,
    }
}

async fn one(call: &Call, name: &str, asked: &ListOffsetsPartition) -> Result<Found, Refusal> {
    let unknown = || Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such partition");
    let topic = call.broker.topics.by_name(name).ok_or_else(unknown)?;
    let partition = topic.partition(asked.partition_index).ok_or_else(unknown)?;
    partition
        .check_epoch(asked.current_leader_epoch)
        .map_err(|code| Refusal::new(code, "another leader epoch"))?;
    if call.header.api_version < known_since(asked.timestamp) {
        let message = format!("timestamp {} is not known in this version", asked.timestamp);
        return Err(Refusal::new(ErrorCode::UNSUPPORTED_VERSION, message));
    }
    let stream = &partition.stream;
    match asked.timestamp {
        LATEST => Ok(Found {
            offset: wire(stream.high_watermark()),
            timestamp: NONE,
            leader_epoch: partition.leader_epoch(),
        }),
        EARLIEST | EARLIEST_LOCAL => earliest(partition).await,
        MAX_TIMESTAMP => latest_record(partition).await,
        // Topics here are not tiered in Kafka's sense: all of the log is local to its clients.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(Found::nothing()),
        timestamp => at_time(partition, timestamp).await,
    }
}

/// The log's start, with the epoch of the batch there, if there is one.
async fn earliest(partition: &Partition) -> Result<Found, Refusal> {
    let stream = &partition.stream;
    let start = stream.start();
    let mut leader_epoch = partition.leader_epoch();
    if start < stream.high_watermark()
        && let Some(first) = stream.fetch(start, 0).await?.entries.first()
    {
        let header = BatchHeader::parse(&first.payload).map_err(unreadable)?;
        leader_epoch = header.partition_leader_epoch;
    }
    Ok(Found {
        offset: wire(start),
        timestamp: NONE,
        leader_epoch,
    })
}

/// The first record at or after `timestamp`, inside compressed batches too.
async fn at_time(partition: &Partition, timestamp: i64) -> Result<Found, Refusal> {
    let Some(entry) = partition.stream.find_timestamp(timestamp).await? else {
        return Ok(Found::nothing());
    };
    match find_timestamp(&entry.payload, timestamp).map_err(unreadable)? {
        Some(at) => Found::record(at, &entry.payload),
        None => Ok(Found::nothing()),
    }
}

/// The first record that carries the greatest timestamp of the partition.
async fn latest_record(partition: &Partition) -> Result<Found, Refusal> {
    let stream = &partition.stream;
    if stream.start() == stream.high_watermark() {
        return Ok(Found::nothing());
    }
    let Some(greatest) = stream.timestamp_ms_max() else {
        return Ok(Found::nothing());
    };
    let Some(entry) = stream.find_timestamp(greatest).await? else {
        return Ok(Found::nothing());
    };
    match max_timestamp(&entry.payload).map_err(unreadable)? {
        Some(at) if Offset(u64::try_from(at.offset).unwrap_or(0)) >= stream.start() => {
            Found::record(at, &entry.payload)
        }
        _ => Ok(Found::nothing()),
    }
}
