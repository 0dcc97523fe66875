//! Committed offsets: who may commit, when they show, how long they stay.
//!
//! *Owns*: the tests of commit, fetch, delete, expiry, snapshots.
//! *Does not own*: the records' bytes.
//!
//! *IO: none*

use super::super::super::types::{CommitPartition, CommitRequest, CommitResponse};
use super::harness::{Harness, again, config, first_join};
use super::*;

const WEEK_MS: i64 = 7 * 24 * 3_600_000;

pub(super) fn commit_request(
    member_id: &str,
    generation: i32,
    topic: &str,
    offset: i64,
) -> CommitRequest {
    let partition = CommitPartition {
        topic: topic.to_owned(),
        partition: 0,
        offset,
        leader_epoch: 3,
        metadata: Some("m".to_owned()),
    };
    CommitRequest {
        group: "g".to_owned(),
        generation,
        member_id: member_id.to_owned(),
        group_instance_id: None,
        retention_ms: None,
        knows_group_not_found: false,
        partitions: vec![partition],
    }
}

fn commit(h: &mut Harness, request: &CommitRequest) -> Ticket {
    h.ask(|coordinator, ticket, now| coordinator.commit(ticket, request, now))
}

fn code(h: &Harness, ticket: Ticket) -> ErrorCode {
    match &h.answers[&ticket] {
        Response::Commit(commit) => commit.errors[0],
        Response::Delete(error) => *error,
        other => panic!("{other:?}"),
    }
}

fn delete(h: &mut Harness) -> Ticket {
    h.ask(|coordinator, ticket, now| coordinator.delete(ticket, "g", now))
}

fn committed(h: &Harness, topic: &str) -> Option<i64> {
    h.coordinator
        .fetch("g", topic, 0)
        .map(|offset| offset.offset)
}

#[test]
fn a_commit_is_answered_and_shown_only_once_it_is_durable() {
    let mut h = Harness::new(config());
    h.prompt = false;
    let ticket = commit(&mut h, &commit_request("", -1, "t", 5));
    assert!(!h.answers.contains_key(&ticket));
    assert_eq!(committed(&h, "t"), None);
    h.flush();
    assert_eq!(
        (code(&h, ticket), committed(&h, "t")),
        (ErrorCode::NONE, Some(5))
    );
    let stored = h.coordinator.fetch("g", "t", 0).unwrap();
    assert_eq!(
        (
            stored.leader_epoch,
            stored.metadata.as_str(),
            stored.commit_ms
        ),
        (3, "m", h.now().wall_ms)
    );
    assert_eq!(committed(&h, "other"), None);
}

#[test]
fn a_commit_that_was_not_durable_is_gone_after_a_crash() {
    let mut h = Harness::new(config());
    commit(&mut h, &commit_request("", -1, "t", 5));
    h.prompt = false;
    commit(&mut h, &commit_request("", -1, "t", 6));
    h.crash();
    assert_eq!(committed(&h, "t"), Some(5));
}

#[test]
fn members_commit_in_their_generation_alone() {
    let mut h = Harness::new(config());
    let (_, generation) = h.stable(1);
    for (request, expected) in [
        (
            commit_request("c0-uuid", generation, "t", 1),
            ErrorCode::NONE,
        ),
        (
            commit_request("c0-uuid", generation - 1, "t", 1),
            ErrorCode::ILLEGAL_GENERATION,
        ),
        (
            commit_request("nobody", generation, "t", 1),
            ErrorCode::UNKNOWN_MEMBER_ID,
        ),
        (commit_request("", -1, "t", 1), ErrorCode::UNKNOWN_MEMBER_ID),
    ] {
        let ticket = commit(&mut h, &request);
        assert_eq!(code(&h, ticket), expected, "{request:?}");
    }
    let fenced = CommitRequest {
        group_instance_id: Some("i".to_owned()),
        ..commit_request("c0-uuid", 1, "t", 1)
    };
    let ticket = commit(&mut h, &fenced);
    assert_eq!(code(&h, ticket), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_commit_while_members_sync_is_told_of_the_rebalance_and_one_before_passes() {
    let mut h = Harness::new(config());
    h.stable(1);
    h.join(&first_join("c1"));
    let preparing = commit(&mut h, &commit_request("c0-uuid", 1, "t", 1));
    assert_eq!(
        code(&h, preparing),
        ErrorCode::NONE,
        "it commits before it rejoins"
    );
    h.join(&again("c0-uuid"));
    let completing = commit(&mut h, &commit_request("c0-uuid", 2, "t", 2));
    assert_eq!(code(&h, completing), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_commit_to_an_unknown_group_with_a_generation_is_refused_by_version() {
    let mut h = Harness::new(config());
    let old = commit(&mut h, &commit_request("m", 3, "t", 1));
    assert_eq!(code(&h, old), ErrorCode::ILLEGAL_GENERATION);
    let new = CommitRequest {
        knows_group_not_found: true,
        ..commit_request("m", 3, "t", 1)
    };
    let new = commit(&mut h, &new);
    assert_eq!(code(&h, new), ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(h.coordinator.list().count(), 0);
}

#[test]
fn metadata_over_the_limit_fails_its_partition_alone() {
    let mut h = Harness::new(config());
    let mut request = commit_request("", -1, "t", 1);
    let long = |len| Some("x".repeat(len));
    request.partitions.push(CommitPartition {
        partition: 1,
        metadata: long(4097),
        ..request.partitions[0].clone()
    });
    request.partitions.push(CommitPartition {
        partition: 2,
        metadata: long(4096),
        ..request.partitions[0].clone()
    });
    let ticket = commit(&mut h, &request);
    let codes = [
        ErrorCode::NONE,
        ErrorCode::OFFSET_METADATA_TOO_LARGE,
        ErrorCode::NONE,
    ];
    assert_eq!(
        h.answers[&ticket],
        Response::Commit(CommitResponse {
            errors: codes.to_vec()
        })
    );
    let partitions: Vec<i32> = h
        .coordinator
        .fetch_all("g")
        .map(|(_, partition, _)| partition)
        .collect();
    assert_eq!(partitions, [0, 2]);
}

#[test]
fn commits_keep_a_member_alive() {
    let mut h = Harness::new(config());
    h.stable(1);
    for _ in 0..5 {
        h.pass(9_000);
        let ticket = commit(&mut h, &commit_request("c0-uuid", 1, "t", 1));
        assert_eq!(code(&h, ticket), ErrorCode::NONE);
    }
}

#[test]
fn only_an_empty_group_is_deleted_and_its_offsets_go_with_it() {
    let mut h = Harness::new(config());
    h.stable(1);
    commit(&mut h, &commit_request("c0-uuid", 1, "t", 1));
    let refused = delete(&mut h);
    assert_eq!(code(&h, refused), ErrorCode::NON_EMPTY_GROUP);
    h.leave(&[("c0-uuid", None)]);
    h.prompt = false;
    let under_way = commit(&mut h, &commit_request("", -1, "late", 2));
    let ticket = delete(&mut h);
    let too_late = commit(&mut h, &commit_request("", -1, "t", 3));
    assert_eq!(code(&h, too_late), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    h.flush();
    assert_eq!(
        (code(&h, under_way), code(&h, ticket)),
        (ErrorCode::NONE, ErrorCode::NONE)
    );
    assert_eq!(h.coordinator.fetch_all("g").count(), 0);
    assert_eq!(h.coordinator.list().count(), 0);
    let again = delete(&mut h);
    assert_eq!(code(&h, again), ErrorCode::GROUP_ID_NOT_FOUND);
    let reloaded = h.reload();
    assert_eq!(
        (reloaded.list().count(), reloaded.fetch_all("g").count()),
        (0, 0)
    );
}

#[test]
fn offsets_expire_a_week_after_the_group_became_empty() {
    let mut h = Harness::new(config());
    h.stable(1);
    commit(&mut h, &commit_request("c0-uuid", 1, "orders", 1));
    for _ in 0..WEEK_MS / 9_000 / 20 {
        h.heartbeat("c0-uuid", 1);
        h.pass(9_000);
    }
    h.leave(&[("c0-uuid", None)]);
    h.pass(WEEK_MS - 600_001);
    assert_eq!(committed(&h, "orders"), Some(1));
    h.pass(1_200_002);
    assert_eq!(
        (committed(&h, "orders"), h.coordinator.list().count()),
        (None, 0)
    );
    assert_eq!(h.reload().list().count(), 0);
}

#[test]
fn offsets_of_a_live_group_expire_only_for_topics_it_left() {
    let mut h = Harness::new(config());
    h.stable(1);
    commit(&mut h, &commit_request("c0-uuid", 1, "orders", 1));
    commit(&mut h, &commit_request("c0-uuid", 1, "old-topic", 1));
    for _ in 0..(WEEK_MS + 1_200_000) / 9_000 {
        h.heartbeat("c0-uuid", 1);
        h.pass(9_000);
    }
    assert_eq!(
        (committed(&h, "orders"), committed(&h, "old-topic")),
        (Some(1), None)
    );
    assert_eq!(h.state(), "Stable");
}

#[test]
fn a_retention_asked_for_by_an_old_client_replaces_the_configured_one() {
    let mut h = Harness::new(config());
    commit(
        &mut h,
        &CommitRequest {
            retention_ms: Some(1_000_000),
            ..commit_request("", -1, "t", 1)
        },
    );
    h.pass(600_001);
    assert_eq!(committed(&h, "t"), Some(1));
    h.pass(600_001);
    assert_eq!(committed(&h, "t"), None);
}

#[test]
fn a_snapshot_and_the_records_behind_it_give_the_whole_state() {
    let mut h = Harness::new(config());
    h.stable(2);
    commit(&mut h, &commit_request("c0-uuid", 2, "t", 1));
    let cut = h.coordinator.next_offset();
    commit(&mut h, &commit_request("c0-uuid", 2, "t", 2));
    let snapshot = h.coordinator.snapshot_at(cut).unwrap();
    let mut restored = Coordinator::restore(config(), &snapshot).unwrap();
    assert_eq!(restored.fetch("g", "t", 0).unwrap().offset, 1);
    for (offset, record) in h.log.iter().enumerate().skip(usize::try_from(cut).unwrap()) {
        restored
            .replay(
                i64::try_from(offset).unwrap(),
                &record.key,
                record.value.as_ref(),
            )
            .unwrap();
    }
    assert_eq!(restored.fetch("g", "t", 0).unwrap().offset, 2);
    assert_eq!(restored.describe("g"), h.coordinator.describe("g"));
    let end = h.coordinator.next_offset();
    assert_eq!(
        restored.snapshot_at(end).unwrap(),
        h.coordinator.snapshot_at(end).unwrap()
    );
}

#[test]
fn a_commit_that_does_not_fit_the_log_is_refused_alone() {
    let mut h = Harness::new(config());
    let (members, generation) = h.stable(1);
    h.prompt = false;
    let large = commit(&mut h, &commit_request(&members[0], generation, "t", 1));
    let next = commit(&mut h, &commit_request(&members[0], generation, "t", 2));
    let (id, _) = h.appends.pop_front().unwrap();
    let now = h.now();
    let effects = h
        .coordinator
        .refused(id, ErrorCode::UNKNOWN_SERVER_ERROR, now);
    h.carry_out(effects);
    assert_eq!(code(&h, large), ErrorCode::UNKNOWN_SERVER_ERROR);
    assert_eq!(committed(&h, "t"), None);
    h.flush();
    assert_eq!(code(&h, next), ErrorCode::NONE);
    assert_eq!(committed(&h, "t"), Some(2));
}

#[test]
fn an_assignment_that_does_not_fit_the_log_fails_the_sync_and_the_group_can_go_on() {
    let mut h = Harness::new(config());
    h.prompt = false;
    let first = h.join(&first_join("c0"));
    let id = h.join_answer(first).member_id.clone();
    let joined = h.join(&again(&id));
    let generation = h.join_answer(joined).generation;
    let sync = h.sync(&id, generation, &[(&id, b"huge")]);
    let (append, _) = h.appends.pop_front().unwrap();
    let now = h.now();
    let effects = h
        .coordinator
        .refused(append, ErrorCode::UNKNOWN_SERVER_ERROR, now);
    h.carry_out(effects);
    assert_eq!(h.sync_answer(sync).0, ErrorCode::UNKNOWN_SERVER_ERROR);
    h.prompt = true;
    let joined = h.join(&again(&id));
    let generation = h.join_answer(joined).generation;
    let sync = h.sync(&id, generation, &[(&id, b"small")]);
    assert_eq!(h.sync_answer(sync), (ErrorCode::NONE, &b"small"[..]));
}
