//! Metadata: brokers, topics, partitions and their leaders.
//!
//! *Owns*: the answer's shape and auto-creation on request.
//! *Does not own*: creating a topic (broker/admin.rs).
//!
//! *IO: none*

use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use tidewater_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};

use super::call::Call;
use crate::topics::names;
use crate::topics::registry::Topic;

pub(crate) async fn handle(call: &Call, request: MetadataRequest) -> MetadataResponse {
    let facts = &call.broker.facts;
    let all = match &request.topics {
        None => true,
        // Version 0 has no null: an empty list means all topics.
        Some(topics) => topics.is_empty() && call.header.api_version == 0,
    };
    let topics = if all {
        call.broker
            .topics
            .all()
            .iter()
            .map(|topic| described(call, topic))
            .collect()
    } else {
        let mut answers = Vec::new();
        for asked in request.topics.into_iter().flatten() {
            answers.push(one(call, asked, request.allow_auto_topic_creation).await);
        }
        answers
    };
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: facts.node_id,
            host: facts.host.clone(),
            port: facts.port.into(),
            rack: None,
        }],
        cluster_id: Some(facts.cluster_id.clone()),
        controller_id: facts.node_id,
        topics,
        ..Default::default()
    }
}

async fn one(
    call: &Call,
    asked: MetadataRequestTopic,
    allow_creation: bool,
) -> MetadataResponseTopic {
    let version = call.header.api_version;
    let answer = |code: ErrorCode, name: Option<String>| MetadataResponseTopic {
        error_code: code.code(),
        name: name.or_else(|| (version < 12).then(String::new)),
        topic_id: asked.topic_id,
        ..Default::default()
    };
    if !asked.topic_id.is_zero() && version < 12 {
        return answer(ErrorCode::INVALID_REQUEST, asked.name.clone());
    }
    let Some(name) = asked.name.clone() else {
        return match call.broker.topics.by_id(asked.topic_id) {
            Some(topic) => described(call, &topic),
            None => answer(ErrorCode::UNKNOWN_TOPIC_ID, None),
        };
    };
    if let Some(topic) = call.broker.topics.by_name(&name) {
        return described(call, &topic);
    }
    if names::refusal(&name).is_some() {
        return answer(ErrorCode::INVALID_TOPIC_EXCEPTION, Some(name));
    }
    // Versions before 4 cannot say and always mean yes.
    let create = call.broker.facts.auto_create_topics && (allow_creation || version < 4);
    if create {
        // Like Kafka: the request that creates the topic does not see it yet.
        if let Err(refusal) = call.broker.auto_create(&name).await {
            return answer(refusal.code, Some(name));
        }
    }
    answer(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(name))
}

fn described(call: &Call, topic: &Topic) -> MetadataResponseTopic {
    let leader_id = call.broker.facts.node_id;
    let partitions = (0..)
        .zip(&topic.partitions)
        .map(|(partition_index, partition)| MetadataResponsePartition {
            partition_index,
            leader_id,
            leader_epoch: partition.leader_epoch(),
            replica_nodes: vec![leader_id],
            isr_nodes: vec![leader_id],
            ..Default::default()
        });
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.record.id,
        is_internal: names::is_internal(&topic.name),
        partitions: partitions.collect(),
        ..Default::default()
    }
}
