//! Committed offsets: OffsetCommit and OffsetFetch, held against the model of the group.
//!
//! *Owns*: the numbers by which commits are told.
//! *Does not own*: who commits when (member.rs).
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;

use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidewater_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use tidewater_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};

use super::conn::{Answer, Client};
use super::producer::refused;
use super::world::{GROUP, TOPIC};
use crate::check::Violation;
use crate::check::group::{CommitId, GroupModel};

/// Commits `positions`; the first error, or `None` if there was no answer.
pub(super) async fn commit(
    client: &mut Client,
    (member, instance): (&str, Option<&str>),
    generation: i32,
    positions: &BTreeMap<i32, i64>,
) -> Option<ErrorCode> {
    let world = Arc::clone(&client.world);
    let mut ids = BTreeMap::new();
    let mut partitions = Vec::new();
    for (&partition_index, &committed_offset) in positions {
        let mut model = world.model.lock();
        model.next_commit += 1;
        let id = model.next_commit;
        model
            .group
            .commit_begun(id, partition_index, generation, committed_offset);
        ids.insert(partition_index, id);
        partitions.push(OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_metadata: Some(id.to_string()),
            ..Default::default()
        });
    }
    let request = OffsetCommitRequest {
        group_id: GROUP.to_owned(),
        generation_id_or_member_epoch: generation,
        member_id: member.to_owned(),
        group_instance_id: instance.map(ToOwned::to_owned),
        topics: vec![OffsetCommitRequestTopic {
            name: TOPIC.to_owned(),
            partitions,
            ..Default::default()
        }],
        ..Default::default()
    };
    // Static members are known from version 7 on.
    let versions = if instance.is_some() {
        [7, 8, 7, 8]
    } else {
        [2, 6, 7, 8]
    };
    let version = versions[client.rng.index(4)];
    let answer: Answer<OffsetCommitResponse> = client.ask(version, &request).await.ok()?;
    let mut first = ErrorCode::NONE;
    let answered = answer.message.topics.into_iter();
    for part in answered.flat_map(|topic| topic.partitions) {
        let Some(id) = ids.get(&part.partition_index).copied() else {
            continue;
        };
        let code = ErrorCode(part.error_code);
        world.handle.line(|| {
            let (index, offset) = (part.partition_index, positions[&part.partition_index]);
            format!("group commit {id} of generation {generation}: {index}={offset} {code:?}")
        });
        let answered = answered_as(&mut world.model.lock().group, id, code);
        world.check(answered);
        if first == ErrorCode::NONE {
            first = code;
        }
    }
    Some(first)
}

fn answered_as(group: &mut GroupModel, id: CommitId, code: ErrorCode) -> Result<(), Violation> {
    match code {
        ErrorCode::NONE => return group.commit_acked(id),
        ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::FENCED_INSTANCE_ID
        | ErrorCode::REBALANCE_IN_PROGRESS => group.commit_refused(id),
        // It may be carried out all the same.
        _ => {}
    }
    Ok(())
}

/// The committed offsets of `partitions`; `None` if there was no answer to rely on.
pub(super) async fn committed(
    client: &mut Client,
    partitions: &[i32],
) -> Option<BTreeMap<i32, i64>> {
    let world = Arc::clone(&client.world);
    let request = OffsetFetchRequest {
        group_id: GROUP.to_owned(),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: TOPIC.to_owned(),
            partition_indexes: partitions.to_vec(),
        }]),
        ..Default::default()
    };
    let begun = world.model.lock().group.fetch_begun();
    let version = [2, 5, 7][client.rng.index(3)];
    let answer: Answer<OffsetFetchResponse> = client.ask(version, &request).await.ok()?;
    if answer.message.error_code != 0 {
        refused(&world, "offset fetch", answer.message.error_code);
        return None;
    }
    if answer.life != world.life() {
        // One that was paused and replaced may say old things until it notices.
        return None;
    }
    let mut found = BTreeMap::new();
    let answered = answer.message.topics.into_iter();
    for part in answered.flat_map(|topic| topic.partitions) {
        if part.error_code != 0 {
            refused(&world, "offset fetch", part.error_code);
            return None;
        }
        let (index, offset) = (part.partition_index, part.committed_offset);
        let id = part.metadata.as_deref().unwrap_or("").parse::<u64>();
        let seen = match (offset, id) {
            (-1, _) => None,
            (_, Ok(id)) => Some((id, offset)),
            (_, Err(_)) => {
                let detail = format!("partition {index} shows {offset} without its metadata");
                world.fail(Violation::new("group", detail));
                return None;
            }
        };
        world
            .handle
            .line(|| format!("group offset {index}: {seen:?}"));
        let result = world.model.lock().group.fetched(begun, index, seen);
        world.check(result);
        if seen.is_some() {
            found.insert(index, offset);
        }
    }
    Some(found)
}
