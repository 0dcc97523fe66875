//! Static members (KIP-345): they come back under a new id and nothing moves.
//!
//! *Owns*: the tests of instance ids. *Does not own*: dynamic members.
//!
//! *IO: none*

use super::harness::{Harness, again, config, first_join, protocols, static_join};
use super::*;

fn stable_static(h: &mut Harness) {
    h.join(&static_join("i", "1"));
    h.sync("i-1", 1, &[("i-1", b"all")]);
    assert_eq!(h.state(), "Stable");
}

#[test]
fn a_static_member_that_comes_back_takes_over_the_assignment_without_a_rebalance() {
    let mut h = Harness::new(config());
    stable_static(&mut h);
    h.prompt = false;
    let ticket = h.join(&static_join("i", "2"));
    assert!(
        !h.answers.contains_key(&ticket),
        "the new id must be durable first"
    );
    h.flush();
    let joined = h.join_answer(ticket).clone();
    assert_eq!(
        (joined.error, joined.generation, joined.member_id.as_str()),
        (ErrorCode::NONE, 1, "i-2")
    );
    assert_eq!(
        (joined.leader.as_str(), joined.members.len()),
        ("i-1", 0),
        "told of the old leader, it assigns nothing"
    );
    let sync = h.sync("i-2", 1, &[]);
    assert_eq!(h.sync_answer(sync), (ErrorCode::NONE, &b"all"[..]));
    assert_eq!(
        h.reload().describe("g").unwrap().members[0].member_id,
        "i-2"
    );
}

#[test]
fn from_v9_on_a_returning_leader_is_told_to_skip_the_assignment() {
    let mut h = Harness::new(config());
    stable_static(&mut h);
    let ticket = h.join(&JoinRequest {
        can_skip_assignment: true,
        ..static_join("i", "2")
    });
    let joined = h.join_answer(ticket);
    assert!(joined.skip_assignment);
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("i-2", 1));
}

#[test]
fn the_replaced_id_is_fenced_everywhere() {
    let mut h = Harness::new(config());
    stable_static(&mut h);
    h.join(&static_join("i", "2"));
    assert_eq!(
        h.heartbeat_as("i-1", 1, Some("i")),
        ErrorCode::FENCED_INSTANCE_ID
    );
    assert_eq!(h.heartbeat_as("i-1", 1, None), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(h.heartbeat_as("i-2", 1, Some("i")), ErrorCode::NONE);
    assert_eq!(
        h.leave(&[("i-1", Some("i"))]),
        [ErrorCode::FENCED_INSTANCE_ID]
    );
    let ticket = h.join(&JoinRequest {
        member_id: "i-1".to_owned(),
        ..static_join("i", "3")
    });
    assert_eq!(h.join_answer(ticket).error, ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn a_join_that_waits_under_the_replaced_id_is_fenced() {
    let mut h = Harness::new(config());
    h.stable(1);
    let old = h.join(&static_join("i", "1"));
    let new = h.join(&static_join("i", "2"));
    assert_eq!(h.join_answer(old).error, ErrorCode::FENCED_INSTANCE_ID);
    h.join(&again("c0-uuid"));
    assert_eq!(
        (
            h.join_answer(new).generation,
            h.join_answer(new).member_id.as_str()
        ),
        (2, "i-2")
    );
}

#[test]
fn a_returning_member_that_changes_the_protocol_starts_a_rebalance() {
    let mut h = Harness::new(config());
    stable_static(&mut h);
    let ticket = h.join(&JoinRequest {
        protocols: protocols(&["roundrobin"]),
        ..static_join("i", "2")
    });
    assert_eq!(
        (
            h.join_answer(ticket).generation,
            h.join_answer(ticket).protocol.as_deref()
        ),
        (2, Some("roundrobin"))
    );
}

#[test]
fn a_static_member_stays_through_a_rebalance_it_misses_until_its_session_ends() {
    let mut h = Harness::new(config());
    stable_static(&mut h);
    h.join(&JoinRequest {
        session_timeout_ms: 1_000_000,
        ..static_join("j", "1")
    });
    h.join(&JoinRequest {
        member_id: "i-1".to_owned(),
        ..static_join("i", "-")
    });
    h.sync("i-1", 2, &[]);
    h.sync("j-1", 2, &[]);
    h.join(&first_join("c"));
    h.join(&JoinRequest {
        member_id: "i-1".to_owned(),
        ..static_join("i", "-")
    });
    h.pass(60_000);
    let described = h.coordinator.describe("g").unwrap();
    assert_eq!(
        (described.state, described.members.len()),
        ("CompletingRebalance", 3)
    );
}

#[test]
fn an_administrator_removes_static_members_by_instance_id() {
    let mut h = Harness::new(config());
    stable_static(&mut h);
    assert_eq!(
        h.leave(&[("", Some("nobody")), ("", Some("i")), ("", None)]),
        [
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::NONE,
            ErrorCode::UNKNOWN_MEMBER_ID
        ]
    );
    assert_eq!(h.state(), "Empty");
}
