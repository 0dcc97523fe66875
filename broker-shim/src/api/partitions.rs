//! CreatePartitions: grows topics.
//!
//! *Owns*: the request's own rules and the answer.
//! *Does not own*: growing a topic (broker/admin.rs).
//!
//! *IO: none*

use std::collections::BTreeMap;

use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::create_partitions_request::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use tidewater_protocol::messages::create_partitions_response::{
    CreatePartitionsResponse, CreatePartitionsTopicResult,
};

use super::call::Call;
use crate::broker::unknown_topic;
use crate::refusal::Refusal;

pub(crate) async fn handle(
    call: &Call,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let mut results = Vec::new();
    for topic in request.topics {
        let result = match counts.remove(&topic.name) {
            Some(1) => one(call, &topic, request.validate_only).await,
            Some(_) => {
                let message = "the topic stands in the request more than once";
                Err(Refusal::new(ErrorCode::INVALID_REQUEST, message))
            }
            None => continue,
        };
        let (code, error_message) = match result {
            Ok(()) => (ErrorCode::NONE, None),
            Err(refusal) => (refusal.code, Some(refusal.message)),
        };
        let error_code = code.code();
        results.push(CreatePartitionsTopicResult {
            name: topic.name,
            error_code,
            error_message,
        });
    }
    CreatePartitionsResponse {
        results,
        ..Default::default()
    }
}

async fn one(
    call: &Call,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Refusal> {
    if let Some(assignments) = &topic.assignments {
        let known = call.broker.topics.by_name(&topic.name);
        let current = known
            .ok_or_else(|| unknown_topic(&topic.name))?
            .num_partitions();
        let added = usize::try_from(topic.count.saturating_sub(current)).unwrap_or(0);
        let node = call.broker.facts.node_id;
        let regular = assignments
            .iter()
            .all(|assignment| assignment.broker_ids == [node]);
        if assignments.len() != added || !regular {
            let message =
                format!("the assignment must name node {node} once for each new partition");
            return Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
        }
    }
    call.broker
        .add_partitions(&topic.name, topic.count, validate_only)
        .await
}
