//! OffsetCommit and OffsetFetch: where a group's readers stand.
//!
//! *Owns*: translation to and from the wire, topics by name and by id.
//! *Does not own*: who may commit (group), the log behind it (coordinator).
//!
//! *IO: none*

use std::collections::BTreeMap;

use tidewater_protocol::messages::offset_commit_request::OffsetCommitRequest;
use tidewater_protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use tidewater_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use tidewater_protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use tidewater_protocol::{ErrorCode, Uuid};

use super::call::Call;
use crate::group::{CommitPartition, CommitRequest, CommittedOffset};

/// First version that names topics by id, in both APIs.
const TOPIC_ID_VERSION: i16 = 10;
/// First version of OffsetFetch that asks for several groups.
const GROUPS_VERSION: i16 = 8;
/// First version of OffsetCommit that knows GROUP_ID_NOT_FOUND.
const NOT_FOUND_VERSION: i16 = 9;

pub(crate) async fn commit(call: &Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let version = call.header.api_version;
    let mut topics = Vec::new();
    let mut partitions = Vec::new();
    // Where in the answer each committed partition's error belongs.
    let mut places = Vec::new();
    for topic in request.topics {
        let found = if version >= TOPIC_ID_VERSION {
            call.broker
                .topics
                .by_id(topic.topic_id)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
        } else {
            let known = call.broker.topics.by_name(&topic.name);
            known.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        };
        let mut answer = OffsetCommitResponseTopic {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions: Vec::new(),
        };
        for asked in topic.partitions {
            let partition_index = asked.partition_index;
            let error = match &found {
                Err(code) => *code,
                Ok(found) if found.partition(partition_index).is_none() => {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                }
                Ok(found) => {
                    places.push((topics.len(), answer.partitions.len()));
                    partitions.push(CommitPartition {
                        topic: found.name.clone(),
                        partition: partition_index,
                        offset: asked.committed_offset,
                        leader_epoch: asked.committed_leader_epoch,
                        metadata: asked.committed_metadata,
                    });
                    ErrorCode::NONE
                }
            };
            let error_code = error.code();
            answer.partitions.push(OffsetCommitResponsePartition {
                partition_index,
                error_code,
            });
        }
        topics.push(answer);
    }
    // Nothing left to commit: the group is still not created by it.
    if !partitions.is_empty() {
        let asked = CommitRequest {
            group: request.group_id,
            generation: request.generation_id_or_member_epoch,
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            retention_ms: Some(request.retention_time_ms).filter(|&ms| ms >= 0),
            knows_group_not_found: version >= NOT_FOUND_VERSION,
            partitions,
        };
        let committed = call.groups.commit(&call.broker, asked).await;
        for ((topic, partition), error) in places.into_iter().zip(committed.errors) {
            topics[topic].partitions[partition].error_code = error.code();
        }
    }
    OffsetCommitResponse {
        topics,
        ..Default::default()
    }
}

pub(crate) async fn fetch(call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if call.header.api_version >= GROUPS_VERSION {
        let mut groups = Vec::new();
        for group in request.groups {
            groups.push(fetch_group(call, group).await);
        }
        return OffsetFetchResponse {
            groups,
            ..Default::default()
        };
    }
    let topics = request.topics.map(|topics| {
        let topic =
            |t: tidewater_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
                OffsetFetchRequestTopics {
                    name: t.name,
                    topic_id: Uuid::ZERO,
                    partition_indexes: t.partition_indexes,
                }
            };
        topics.into_iter().map(topic).collect()
    });
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..Default::default()
    };
    single(fetch_group(call, group).await, call.header.api_version)
}

/// The answer of the versions that ask for one group.
fn single(group: OffsetFetchResponseGroup, version: i16) -> OffsetFetchResponse {
    let error_code = group.error_code;
    let topics = group
        .topics
        .into_iter()
        .map(|topic| OffsetFetchResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .map(|partition| OffsetFetchResponsePartition {
                    partition_index: partition.partition_index,
                    committed_offset: partition.committed_offset,
                    committed_leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.metadata,
                    // Version 1 has no error of its own for the group.
                    error_code: if version < 2 {
                        error_code
                    } else {
                        partition.error_code
                    },
                })
                .collect(),
        });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code,
        ..Default::default()
    }
}

async fn fetch_group(call: &Call, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let group_id = asked.group_id.clone();
    let committed = match call.groups.offsets(&call.broker, &group_id).await {
        Ok(committed) => committed,
        Err(error) => {
            // Each partition that was asked for is answered as unknown beside the error.
            let topics = asked.topics.into_iter().flatten();
            let nothing = BTreeMap::new();
            return OffsetFetchResponseGroup {
                group_id,
                error_code: error.code(),
                topics: topics.map(|topic| chosen(call, topic, &nothing)).collect(),
            };
        }
    };
    let topics = match asked.topics {
        Some(topics) => topics
            .into_iter()
            .map(|topic| chosen(call, topic, &committed))
            .collect(),
        None => all(call, &committed),
    };
    OffsetFetchResponseGroup {
        group_id,
        topics,
        ..Default::default()
    }
}

/// Committed offsets by topic and partition.
type Committed = BTreeMap<(String, i32), CommittedOffset>;

/// The partitions asked for; those without a commit get −1.
fn chosen(
    call: &Call,
    topic: OffsetFetchRequestTopics,
    committed: &Committed,
) -> OffsetFetchResponseTopics {
    let by_id = call.header.api_version >= TOPIC_ID_VERSION;
    let name = if by_id {
        call.broker
            .topics
            .by_id(topic.topic_id)
            .map(|found| found.name.clone())
    } else {
        Some(topic.name.clone())
    };
    let partitions = topic
        .partition_indexes
        .into_iter()
        .map(|index| match &name {
            Some(name) => answer(index, committed.get(&(name.clone(), index))),
            None => OffsetFetchResponsePartitions {
                error_code: ErrorCode::UNKNOWN_TOPIC_ID.code(),
                ..answer(index, None)
            },
        });
    OffsetFetchResponseTopics {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}

/// Everything the group ever committed and still keeps.
fn all(call: &Call, committed: &Committed) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: BTreeMap<&str, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    for ((topic, index), offset) in committed {
        topics
            .entry(topic)
            .or_default()
            .push(answer(*index, Some(offset)));
    }
    let by_id = call.header.api_version >= TOPIC_ID_VERSION;
    let named = topics.into_iter().filter_map(|(name, partitions)| {
        let id = call
            .broker
            .topics
            .by_name(name)
            .map(|topic| topic.record.id);
        // A topic that is gone has no id to be named by.
        let topic_id = if by_id { id? } else { Uuid::ZERO };
        Some(OffsetFetchResponseTopics {
            name: name.to_owned(),
            topic_id,
            partitions,
        })
    });
    named.collect()
}

fn answer(partition_index: i32, offset: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    match offset {
        Some(offset) => OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch,
            metadata: Some(offset.metadata.clone()),
            error_code: 0,
        },
        None => OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: -1,
            committed_leader_epoch: -1,
            metadata: Some(String::new()),
            error_code: 0,
        },
    }
}
