//! DeleteTopics: by name, or from version 6 on by id.
//!
//! *Owns*: the request's own rules and the answer.
//! *Does not own*: deleting a topic (broker/admin.rs).
//!
//! *IO: none*

use std::collections::BTreeSet;

use tidewater_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use tidewater_protocol::messages::delete_topics_response::{
    DeletableTopicResult, DeleteTopicsResponse,
};
use tidewater_protocol::{ErrorCode, Uuid};

use super::call::Call;
use crate::refusal::Refusal;

pub(crate) async fn handle(call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = |name| DeleteTopicState {
        name: Some(name),
        topic_id: Uuid::ZERO,
    };
    let mut asked: Vec<DeleteTopicState> = request.topic_names.into_iter().map(by_name).collect();
    asked.extend(request.topics);
    let mut seen = BTreeSet::new();
    let mut responses = Vec::new();
    for topic in asked {
        let first = seen.insert((topic.name.clone(), topic.topic_id.0));
        let result = if first {
            delete(call, &topic).await
        } else {
            let message = "the topic stands in the request more than once";
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, message))
        };
        responses.push(answer(topic, result));
    }
    DeleteTopicsResponse {
        responses,
        ..Default::default()
    }
}

fn answer(
    topic: DeleteTopicState,
    result: Result<(String, Uuid), Refusal>,
) -> DeletableTopicResult {
    match result {
        Ok((name, topic_id)) => DeletableTopicResult {
            name: Some(name),
            topic_id,
            ..Default::default()
        },
        Err(refusal) => DeletableTopicResult {
            name: topic.name,
            topic_id: topic.topic_id,
            error_code: refusal.code.code(),
            error_message: Some(refusal.message),
        },
    }
}

/// Deletes the topic; answers what it was called.
async fn delete(call: &Call, topic: &DeleteTopicState) -> Result<(String, Uuid), Refusal> {
    let topics = &call.broker.topics;
    let found = match &topic.name {
        Some(_) if !topic.topic_id.is_zero() => {
            let message = "a topic is named by its name or by its id, not by both";
            return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
        }
        Some(name) => topics.by_name(name),
        None => {
            let unknown = || Refusal::new(ErrorCode::UNKNOWN_TOPIC_ID, "no topic has this id");
            Some(topics.by_id(topic.topic_id).ok_or_else(unknown)?)
        }
    };
    let unknown = || {
        Refusal::new(
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "the topic does not exist",
        )
    };
    let found = found.ok_or_else(unknown)?;
    call.broker.delete_topic(&found.name).await?;
    Ok((found.name.clone(), found.record.id))
}
