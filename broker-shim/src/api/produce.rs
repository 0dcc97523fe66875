//! Produce: validates each batch, appends it in order, answers when it is durable.
//!
//! *Owns*: the request's rules, the two stages, the answer.
//! *Does not own*: what makes a batch valid (records), its place (partition), durability
//! (stream-store).
//!
//! Invariants
//! 1. Batches of one connection are appended in the order of its requests.
//! 2. No answer with error 0 leaves before its batch is durable, whatever `acks` says.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest};
use tidewater_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};

use super::call::{Call, reply};
use crate::net::{Reply, Staged};
use crate::partition::{Partition, Placed, wire};
use crate::records::{DecompressionLimit, ProduceRules, TimestampType, validate_produce};
use crate::refusal::Refusal;
use crate::topics::names;
use crate::topics::registry::Topic;

/// From this size on records may stay in the buffer of their request: what is around them there
/// is small beside them.
const OWN_BUFFER_BYTES: usize = 64 << 10;
/// The client id Kafka's own tools write internal topics with.
const ADMIN_CLIENT: &str = "__admin_client";

/// A partition's part of the answer, perhaps still waiting for the device.
struct Part {
    answer: PartitionProduceResponse,
    waits: Option<(Arc<Partition>, Placed)>,
}

/// A refusal with the records it names.
struct Fault {
    refusal: Refusal,
    record_errors: Vec<BatchIndexAndErrorMessage>,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            record_errors: Vec::new(),
        }
    }
}

/// Appends in order; what is left to the second stage is the wait.
pub(crate) async fn handle(call: Call, request: ProduceRequest) -> Staged {
    let ProduceRequest {
        acks,
        timeout_ms,
        topic_data,
        transactional_id,
        ..
    } = request;
    let mut topics = Vec::new();
    let is_alone = matches!(&topic_data[..], [topic] if topic.partition_data.len() == 1);
    for topic in topic_data {
        let found = if call.header.api_version >= 13 {
            call.broker
                .topics
                .by_id(topic.topic_id)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
        } else {
            let known = call.broker.topics.by_name(&topic.name);
            known.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        };
        let mut parts = Vec::new();
        for data in topic.partition_data {
            let index = data.index;
            let appended = match &found {
                _ if !matches!(acks, -1..=1) => {
                    let message = format!("acks is {acks}, expected 0, 1 or -1");
                    Err(Refusal::new(ErrorCode::INVALID_REQUIRED_ACKS, message).into())
                }
                _ if transactional_id.is_some() => Err(no_transactions().into()),
                Err(code) => Err(Refusal::new(*code, "no such topic").into()),
                Ok(found) => append(&call, found, data, is_alone).await,
            };
            parts.push(part(index, appended));
        }
        let answer = TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            ..Default::default()
        };
        topics.push((answer, parts));
    }
    if acks == 0 {
        // There is no answer to put an error into: Kafka closes the connection instead.
        let failed = topics
            .iter()
            .flat_map(|(_, parts)| parts)
            .any(|p| p.answer.error_code != 0);
        return Staged::ready(if failed { Reply::Close } else { Reply::None });
    }
    // As in Kafka the time-out is for acks=-1; here acks=1 waits for the device too.
    let timeout_ms = if acks == 1 { i32::MAX } else { timeout_ms };
    Staged::concurrent(async move { finish(&call, topics, timeout_ms).await })
}

fn no_transactions() -> Refusal {
    Refusal::new(ErrorCode::INVALID_TXN_STATE, "transactions are not served")
}

fn part(index: i32, appended: Result<(Arc<Partition>, Placed), Fault>) -> Part {
    match appended {
        Ok((partition, placed)) => Part {
            answer: PartitionProduceResponse {
                index,
                base_offset: placed.base_offset,
                log_append_time_ms: placed.log_append_time,
                ..Default::default()
            },
            waits: Some((partition, placed)),
        },
        Err(Fault {
            refusal,
            record_errors,
        }) => Part {
            answer: PartitionProduceResponse {
                index,
                error_code: refusal.code.code(),
                base_offset: -1,
                record_errors,
                error_message: Some(refusal.message),
                ..Default::default()
            },
            waits: None,
        },
    }
}

async fn append(
    call: &Call,
    topic: &Topic,
    data: PartitionProduceData,
    is_alone: bool,
) -> Result<(Arc<Partition>, Placed), Fault> {
    // The group coordinator writes its log itself and keeps its state with it: what another wrote
    // there it would not know, and the producers' state would take the place of the groups'.
    let is_owned = topic.name == names::CONSUMER_OFFSETS;
    let is_admin = call.header.client_id.as_deref() == Some(ADMIN_CLIENT);
    if is_owned || (names::is_internal(&topic.name) && !is_admin) {
        let message = format!("{} is an internal topic", topic.name);
        return Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message).into());
    }
    let partition = topic.partition(data.index).ok_or_else(|| {
        let message = format!("{} has no partition {}", topic.name, data.index);
        Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
    })?;
    let config = &topic.config;
    let now_ms = call.broker.env.wall_ms();
    let timestamp_type = if config.log_append_time {
        TimestampType::LogAppendTime
    } else {
        TimestampType::CreateTime
    };
    let rules = ProduceRules {
        produce_version: call.header.api_version,
        num_bytes_max: config.max_message_bytes,
        decompression_limit: DecompressionLimit::default(),
        compacted: config.compacted,
        timestamp_type,
        timestamp_before_ms_max: config.timestamp_before_ms_max,
        timestamp_after_ms_max: config.timestamp_after_ms_max,
        now_ms,
    };
    let bytes = owned(data.records.unwrap_or_default().into_bytes(), is_alone);
    let batch = validate_produce(&bytes, &rules).map_err(|fault| Fault {
        refusal: Refusal::new(ErrorCode(fault.code()), fault.to_string()),
        record_errors: fault
            .record_errors()
            .iter()
            .map(|error| BatchIndexAndErrorMessage {
                batch_index: error.batch_index,
                batch_index_error_message: Some(error.reason.to_string()),
            })
            .collect(),
    })?;
    // Only the validated batch may hold the request's buffer, so that it can be patched in place.
    drop(bytes);
    if batch.header.is_transactional() {
        return Err(no_transactions().into());
    }
    let placed = partition.append(batch, now_ms).await?;
    Ok((Arc::clone(partition), placed))
}

/// Records in a buffer of about their size. A slice keeps the whole buffer of its request in
/// memory, for as long as the records stay there, and nobody would count that: only what is nearly
/// all of a large buffer is kept as it came.
fn owned(records: Bytes, is_alone: bool) -> Bytes {
    if is_alone && records.len() >= OWN_BUFFER_BYTES {
        return records;
    }
    Bytes::copy_from_slice(&records)
}

/// Waits until everything is durable, at most for the request's time-out, and answers.
async fn finish(
    call: &Call,
    topics: Vec<(TopicProduceResponse, Vec<Part>)>,
    timeout_ms: i32,
) -> Reply {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let mut deadline = call.broker.env.sleep(timeout);
    let mut late = false;
    let mut responses = Vec::new();
    for (mut topic, parts) in topics {
        for Part { mut answer, waits } in parts {
            if let Some((partition, placed)) = waits {
                let durable = std::pin::pin!(partition.stream.wait_durable(placed.end));
                let outcome = if late {
                    // Those that are durable by now are still acknowledged.
                    futures_util::FutureExt::now_or_never(durable)
                } else {
                    match select(durable, &mut deadline).await {
                        Either::Left((outcome, _)) => Some(outcome),
                        Either::Right(_) => {
                            late = true;
                            None
                        }
                    }
                };
                let refusal = match outcome {
                    Some(Ok(())) => None,
                    Some(Err(error)) => Some(Refusal::from(error)),
                    None => {
                        let message = format!("not durable within {timeout_ms} ms");
                        Some(Refusal::new(ErrorCode::REQUEST_TIMED_OUT, message))
                    }
                };
                if let Some(refusal) = refusal {
                    answer.error_code = refusal.code.code();
                    answer.error_message = Some(refusal.message);
                    answer.base_offset = -1;
                }
                answer.log_start_offset = wire(partition.stream.start());
            }
            topic.partition_responses.push(answer);
        }
        responses.push(topic);
    }
    reply(
        &call.header,
        &ProduceResponse {
            responses,
            ..Default::default()
        },
    )
}
