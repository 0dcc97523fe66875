//! Fetch: whole batches from where each partition's reader stands, with a long poll.
//!
//! *Owns*: limits, the order of partitions, the wait for `min_bytes`.
//! *Does not own*: where the bytes come from (stream-store).
//!
//! Invariants
//! 1. Partitions are answered in request order; the first that has anything gives at least one
//!    whole batch, whatever the limits say.
//! 2. Nothing at or above the high watermark is served.
//! 3. Room for the records is taken before they are read.
//!
//! Incremental sessions are not kept: every answer carries session id 0, which KIP-227 allows.
//!
//! *IO: none*

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Either, select, select_all};
use tidewater_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use tidewater_protocol::messages::fetch_response::{
    FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use tidewater_protocol::{ErrorCode, Records};
use tidewater_stream_store::Stream;
use tidewater_types::{BoxFuture, Offset};

use super::call::Call;
use super::segments::segments;
use crate::net::Making;
use crate::partition::{from_wire, wire};
use crate::refusal::Refusal;

/// Most bytes of one answer, Kafka's `fetch.max.bytes` of brokers.
const RESPONSE_BYTES_MAX: usize = 55 << 20;

/// First version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;

/// `isolation_level` of a consumer with `isolation.level=read_committed`.
const READ_COMMITTED: i8 = 1;

/// One look at all partitions.
struct Pass {
    responses: Vec<FetchableTopicResponse>,
    num_bytes: usize,
    any_error: bool,
    /// More could be read now, but for the limits: waiting would not make the answer larger.
    any_more: bool,
    /// Where each readable partition would go on.
    next: Vec<(Stream, Offset)>,
    /// Its room, as long as its records are held here.
    making: Making,
}

pub(crate) async fn handle(call: &Call, request: FetchRequest) -> FetchResponse {
    let refuse = |code: ErrorCode| FetchResponse {
        error_code: code.code(),
        ..Default::default()
    };
    if request.session_id != 0 {
        return refuse(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }
    if !matches!(request.session_epoch, -1 | 0) {
        return refuse(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    }
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let mut deadline = call.broker.env.sleep(wait);
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
    let mut num_bytes_before = None;
    loop {
        let mut pass = look(call, &request).await;
        // Woken for nothing: the stream is closed, or gives no more than it gave.
        let in_vain = Some(pass.num_bytes) <= num_bytes_before;
        num_bytes_before = Some(pass.num_bytes);
        let enough = pass.num_bytes >= bytes_min || pass.any_error || wait.is_zero();
        // Whoever could read more now would be woken at once, and look again, until the time is up.
        if enough || in_vain || pass.any_more || pass.next.is_empty() {
            return respond(call, pass);
        }
        let next = std::mem::take(&mut pass.next);
        let waits: Vec<BoxFuture<'_, ()>> = next
            .iter()
            .map(|(stream, offset)| stream.wait_readable(*offset).boxed())
            .collect();
        match select(select_all(waits), &mut deadline).await {
            Either::Left(_) => {}
            Either::Right(_) => return respond(call, pass),
        }
    }
}

fn respond(call: &Call, pass: Pass) -> FetchResponse {
    let facts = &call.broker.facts;
    let moved = |code: i16| {
        code == ErrorCode::NOT_LEADER_OR_FOLLOWER.code()
            || code == ErrorCode::FENCED_LEADER_EPOCH.code()
    };
    let any_moved = pass
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .any(|p| moved(p.error_code));
    let endpoint = NodeEndpoint {
        node_id: facts.node_id,
        host: facts.host.clone(),
        port: facts.port.into(),
        rack: None,
    };
    let hints = any_moved && call.header.api_version >= 16;
    FetchResponse {
        responses: pass.responses,
        node_endpoints: if hints { vec![endpoint] } else { Vec::new() },
        ..Default::default()
    }
}

async fn look(call: &Call, request: &FetchRequest) -> Pass {
    let asked = usize::try_from(request.max_bytes).unwrap_or(0);
    let most = call.broker.facts.response_bytes_max;
    let making = call.pool.make(asked.min(most).min(RESPONSE_BYTES_MAX));
    let mut left = making.num_bytes();
    let isolation = request.isolation_level;
    let mut pass = Pass {
        responses: Vec::new(),
        num_bytes: 0,
        any_error: false,
        any_more: false,
        next: Vec::new(),
        making,
    };
    for topic in &request.topics {
        let mut partitions = Vec::new();
        for asked in &topic.partitions {
            let whole_batch = pass.num_bytes == 0;
            let data = match one(call, isolation, topic, asked, (left, whole_batch)).await {
                Ok((data, stream, next)) => {
                    pass.any_more |= wire(next) < data.high_watermark;
                    pass.next.push((stream, next));
                    data
                }
                Err(refusal) => {
                    pass.any_error = true;
                    refused(call, topic, asked, &refusal)
                }
            };
            let num_bytes = data.records.as_ref().map_or(0, Records::len);
            pass.num_bytes += num_bytes;
            left = left.saturating_sub(num_bytes);
            partitions.push(data);
        }
        let (topic, topic_id) = (topic.topic.clone(), topic.topic_id);
        pass.responses.push(FetchableTopicResponse {
            topic,
            topic_id,
            partitions,
        });
    }
    pass.making.made(pass.num_bytes);
    pass
}

async fn one(
    call: &Call,
    isolation: i8,
    topic: &FetchTopic,
    asked: &FetchPartition,
    (left, whole_batch): (usize, bool),
) -> Result<(PartitionData, Stream, Offset), Refusal> {
    let partition = if call.header.api_version >= TOPIC_ID_VERSION {
        let unknown = || Refusal::new(ErrorCode::UNKNOWN_TOPIC_ID, "no topic has this id");
        let found = call
            .broker
            .topics
            .by_id(topic.topic_id)
            .ok_or_else(unknown)?;
        found.partition(asked.partition).cloned()
    } else {
        let found = call.broker.topics.by_name(&topic.topic);
        found.and_then(|topic| topic.partition(asked.partition).cloned())
    };
    let unknown = || Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such partition");
    let partition = partition.ok_or_else(unknown)?;
    partition
        .check_epoch(asked.current_leader_epoch)
        .map_err(|code| Refusal::new(code, "another leader epoch"))?;
    let stream = &partition.stream;
    let beyond = || Refusal::new(ErrorCode::OFFSET_OUT_OF_RANGE, "negative offset");
    let offset = from_wire(asked.fetch_offset).ok_or_else(beyond)?;
    let bytes_max = usize::try_from(asked.partition_max_bytes)
        .unwrap_or(0)
        .min(left);
    let fetched = stream.fetch(offset, bytes_max).await?;
    let mut entries = fetched.entries;
    // Only the first partition with data may exceed the limits, and only by its first batch.
    if !whole_batch
        && entries
            .first()
            .is_some_and(|first| first.payload.len() > bytes_max)
    {
        entries.clear();
    }
    let next = entries.last().map_or(offset, |last| last.end_offset());
    let records = Records::from(segments(&entries));
    let high_watermark = wire(fetched.high_watermark);
    let data = PartitionData {
        partition_index: asked.partition,
        high_watermark,
        // Without transactions nothing is unstable.
        last_stable_offset: high_watermark,
        log_start_offset: wire(fetched.start),
        // A reader of committed data is told of none; any other is told nothing.
        aborted_transactions: (isolation == READ_COMMITTED).then(Vec::new),
        records: Some(records),
        ..Default::default()
    };
    Ok((data, stream.clone(), next))
}

fn refused(
    call: &Call,
    topic: &FetchTopic,
    asked: &FetchPartition,
    refusal: &Refusal,
) -> PartitionData {
    let known = if call.header.api_version >= TOPIC_ID_VERSION {
        call.broker.topics.by_id(topic.topic_id)
    } else {
        call.broker.topics.by_name(&topic.topic)
    };
    let partition = known.and_then(|topic| topic.partition(asked.partition).cloned());
    // The hint is a tagged field from version 12 on.
    let fenced = refusal.code == ErrorCode::FENCED_LEADER_EPOCH && call.header.api_version >= 12;
    let current_leader = partition
        .as_ref()
        .filter(|_| fenced)
        .map(|partition| LeaderIdAndEpoch {
            leader_id: call.broker.facts.node_id,
            leader_epoch: partition.leader_epoch(),
        });
    PartitionData {
        partition_index: asked.partition,
        error_code: refusal.code.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        current_leader: current_leader.unwrap_or_default(),
        records: Some(Records::default()),
        ..Default::default()
    }
}
