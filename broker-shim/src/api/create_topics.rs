//! CreateTopics: checks each topic of a request and creates it.
//!
//! *Owns*: the request's own rules (duplicates, manual assignments) and the answer.
//! *Does not own*: creating a topic (broker/admin.rs).
//!
//! *IO: none*

use std::collections::BTreeMap;

use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use tidewater_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};

use super::call::Call;
use super::configs::{SOURCE_DEFAULT, SOURCE_TOPIC};
use crate::broker::NewTopic;
use crate::refusal::Refusal;
use crate::topics::configs::TOPIC_KEYS;

pub(crate) async fn handle(call: &Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let mut topics = Vec::new();
    for topic in request.topics {
        // A name that stands in the request twice is answered once, with an error.
        match counts.remove(&topic.name) {
            Some(1) => topics.push(one(call, topic, request.validate_only).await),
            Some(_) => {
                let message = "the topic stands in the request more than once";
                let refusal = Refusal::new(ErrorCode::INVALID_REQUEST, message);
                topics.push(refused(topic.name, refusal));
            }
            None => {}
        }
    }
    CreateTopicsResponse {
        topics,
        ..Default::default()
    }
}

async fn one(call: &Call, topic: CreatableTopic, validate_only: bool) -> CreatableTopicResult {
    let name = topic.name.clone();
    match create(call, topic, validate_only).await {
        Ok(result) => result,
        Err(refusal) => refused(name, refusal),
    }
}

fn refused(name: String, refusal: Refusal) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: refusal.code.code(),
        error_message: Some(refusal.message),
        ..Default::default()
    }
}

async fn create(
    call: &Call,
    topic: CreatableTopic,
    validate_only: bool,
) -> Result<CreatableTopicResult, Refusal> {
    let (num_partitions, replication) = sizes(call, &topic)?;
    let mut configs = BTreeMap::new();
    for config in topic.configs {
        let value = config.value.ok_or_else(|| {
            let message = format!("the value of {} is null", config.name);
            Refusal::new(ErrorCode::INVALID_CONFIG, message)
        })?;
        configs.insert(config.name, value);
    }
    let new = NewTopic {
        name: topic.name.clone(),
        num_partitions,
        replication,
        configs,
    };
    let shown = shown_configs(&new.configs);
    let created = call.broker.create_topic(new, validate_only).await?;
    Ok(CreatableTopicResult {
        name: topic.name,
        topic_id: created.id,
        num_partitions: created.num_partitions,
        replication_factor: created.replication,
        configs: Some(shown),
        ..Default::default()
    })
}

/// The numbers of partitions and replicas: given, or counted from a manual assignment.
fn sizes(call: &Call, topic: &CreatableTopic) -> Result<(i32, i16), Refusal> {
    if topic.assignments.is_empty() {
        let defaults = topic.num_partitions == -1 || topic.replication_factor == -1;
        if defaults && call.header.api_version < 4 {
            let message = "-1 for the broker's default is understood from version 4 on";
            let code = if topic.num_partitions == -1 {
                ErrorCode::INVALID_PARTITIONS
            } else {
                ErrorCode::INVALID_REPLICATION_FACTOR
            };
            return Err(Refusal::new(code, message));
        }
        return Ok((topic.num_partitions, topic.replication_factor));
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "an assignment excludes a number of partitions and a replication factor";
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    }
    let mut indexes: Vec<i32> = topic
        .assignments
        .iter()
        .map(|a| a.partition_index)
        .collect();
    indexes.sort_unstable();
    let count = i32::try_from(indexes.len()).unwrap_or(i32::MAX);
    let node = call.broker.facts.node_id;
    let replicas = topic.assignments[0].broker_ids.len();
    let regular = topic.assignments.iter().all(|assignment| {
        let ids = &assignment.broker_ids;
        !ids.is_empty() && ids.len() == replicas && ids.iter().all(|&id| id == node)
    });
    if !indexes.into_iter().eq(0..count) || !regular || replicas != 1 {
        let message = format!("the assignment must name partitions from 0 on and node {node}");
        return Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    }
    Ok((count, 1))
}

fn shown_configs(set: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let shown = TOPIC_KEYS.iter().map(|key| {
        let value = set.get(key.name);
        CreatableTopicConfigs {
            name: key.name.to_owned(),
            value: Some(value.map_or(key.default, String::as_str).to_owned()),
            read_only: false,
            config_source: if value.is_some() {
                SOURCE_TOPIC
            } else {
                SOURCE_DEFAULT
            },
            is_sensitive: false,
        }
    });
    shown.collect()
}
