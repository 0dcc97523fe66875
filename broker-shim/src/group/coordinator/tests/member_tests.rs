//! Joining, syncing, heartbeats, leaving, time-outs.
//!
//! *Owns*: the tests of dynamic members. *Does not own*: static members.
//!
//! *IO: none*

use super::harness::{Harness, again, config, first_join, protocols};
use super::*;

#[test]
fn a_first_member_leads_generation_one_and_gets_its_assignment_once_it_is_durable() {
    let mut h = Harness::new(config());
    h.prompt = false;
    let ticket = h.join(&first_join("c0"));
    let joined = h.join_answer(ticket).clone();
    assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 1));
    assert_eq!(
        (joined.member_id.as_str(), joined.leader.as_str()),
        ("c0-uuid", "c0-uuid")
    );
    assert_eq!(
        (joined.protocol_type.as_deref(), joined.protocol.as_deref()),
        (Some("consumer"), Some("range"))
    );
    let metadata = protocols(&["range"])[0].metadata.clone();
    assert_eq!(
        joined.members,
        [JoinedMember {
            member_id: "c0-uuid".to_owned(),
            group_instance_id: None,
            metadata
        }]
    );
    let sync = h.sync("c0-uuid", 1, &[("c0-uuid", b"all")]);
    assert!(!h.answers.contains_key(&sync), "answered before durable");
    assert_eq!(h.state(), "CompletingRebalance");
    h.flush();
    assert_eq!(h.sync_answer(sync), (ErrorCode::NONE, &b"all"[..]));
    assert_eq!(h.state(), "Stable");
    let retried = h.sync("c0-uuid", 1, &[]);
    assert_eq!(h.sync_answer(retried), (ErrorCode::NONE, &b"all"[..]));
}

#[test]
fn a_member_id_is_required_first_where_the_version_asks_for_it() {
    let mut h = Harness::new(config());
    let ticket = h.join(&JoinRequest {
        require_member_id: true,
        ..first_join("c0")
    });
    let refused = h.join_answer(ticket).clone();
    assert_eq!(
        (refused.error, refused.generation),
        (ErrorCode::MEMBER_ID_REQUIRED, -1)
    );
    assert_eq!(refused.member_id, "c0-uuid");
    let ticket = h.join(&JoinRequest {
        require_member_id: true,
        ..again(&refused.member_id)
    });
    assert_eq!(h.join_answer(ticket).generation, 1);
}

#[test]
fn an_id_given_out_and_never_used_leaves_no_group_behind() {
    let mut h = Harness::new(config());
    h.join(&JoinRequest {
        require_member_id: true,
        ..first_join("c0")
    });
    assert_eq!(h.coordinator.list().count(), 1);
    h.pass(10_000);
    assert_eq!(h.coordinator.list().count(), 0);
    let ticket = h.join(&again("c0-uuid"));
    assert_eq!(h.join_answer(ticket).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_second_member_waits_for_the_first_to_join_again() {
    let mut h = Harness::new(config());
    h.stable(1);
    let second = h.join(&first_join("c1"));
    assert!(!h.answers.contains_key(&second));
    assert_eq!(h.heartbeat("c0-uuid", 1), ErrorCode::REBALANCE_IN_PROGRESS);
    let first = h.join(&again("c0-uuid"));
    assert_eq!(
        (
            h.join_answer(first).generation,
            h.join_answer(second).generation
        ),
        (2, 2)
    );
    assert_eq!(
        (
            h.join_answer(first).members.len(),
            h.join_answer(second).members.len()
        ),
        (2, 0)
    );
    assert_eq!(h.join_answer(second).leader, "c0-uuid");
    let follower = h.sync("c1-uuid", 2, &[]);
    assert!(!h.answers.contains_key(&follower), "waits for the leader");
    let leader = h.sync("c0-uuid", 2, &[("c0-uuid", b"a"), ("c1-uuid", b"b")]);
    assert_eq!(h.sync_answer(leader).1, b"a");
    assert_eq!(h.sync_answer(follower).1, b"b");
}

#[test]
fn a_member_that_does_not_rejoin_is_dropped_after_the_rebalance_timeout() {
    let mut h = Harness::new(config());
    h.stable(2);
    let third = h.join(&first_join("c2"));
    h.join(&again("c0-uuid"));
    for _ in 0..12 {
        h.pass(5_000);
        h.heartbeat("c1-uuid", 2);
    }
    assert_eq!(h.join_answer(third).generation, 3);
    assert_eq!(h.coordinator.describe("g").unwrap().members.len(), 2);
    assert_eq!(h.heartbeat("c1-uuid", 2), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_member_that_joined_and_never_synced_is_dropped() {
    let mut h = Harness::new(config());
    h.stable(1);
    h.join(&first_join("c1"));
    h.join(&again("c0-uuid"));
    h.sync("c0-uuid", 2, &[]);
    assert_eq!(h.state(), "Stable");
    for _ in 0..12 {
        assert_eq!(h.heartbeat("c0-uuid", 2), ErrorCode::NONE);
        h.heartbeat("c1-uuid", 2);
        h.pass(5_000);
    }
    assert_eq!(h.heartbeat("c1-uuid", 2), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(h.heartbeat("c0-uuid", 2), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_leader_that_never_syncs_is_dropped_and_the_others_rebalance() {
    let mut h = Harness::new(config());
    h.stable(1);
    h.join(&first_join("c1"));
    h.join(&again("c0-uuid"));
    let waiting = h.sync("c1-uuid", 2, &[]);
    for _ in 0..12 {
        h.pass(5_000);
        h.heartbeat("c0-uuid", 2);
    }
    assert_eq!(h.sync_answer(waiting).0, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(h.heartbeat("c0-uuid", 2), ErrorCode::UNKNOWN_MEMBER_ID);
    let rejoined = h.join(&again("c1-uuid"));
    assert_eq!(
        (
            h.join_answer(rejoined).generation,
            h.join_answer(rejoined).leader.as_str()
        ),
        (3, "c1-uuid")
    );
}

#[test]
fn a_silent_member_loses_its_session_and_heartbeats_keep_it() {
    let mut h = Harness::new(config());
    h.stable(2);
    for _ in 0..5 {
        h.pass(9_000);
        assert_ne!(h.heartbeat("c0-uuid", 2), ErrorCode::UNKNOWN_MEMBER_ID);
    }
    assert_eq!(h.heartbeat("c1-uuid", 2), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_member_that_waits_for_an_answer_keeps_its_session() {
    let mut h = Harness::new(config());
    h.stable(2);
    let waiting = h.join(&again("c0-uuid"));
    h.pass(9_000);
    h.heartbeat("c1-uuid", 2);
    h.pass(9_000);
    assert!(
        !h.answers.contains_key(&waiting),
        "its session would have ended"
    );
    let ticket = h.join(&again("c1-uuid"));
    assert_eq!(
        (
            h.join_answer(waiting).generation,
            h.join_answer(ticket).generation
        ),
        (3, 3)
    );
}

#[test]
fn unknown_groups_members_and_generations_have_their_codes() {
    let mut h = Harness::new(config());
    assert_eq!(h.heartbeat("nobody", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    let ticket = h.join(&again("nobody"));
    assert_eq!(h.join_answer(ticket).error, ErrorCode::UNKNOWN_MEMBER_ID);
    h.stable(1);
    assert_eq!(h.heartbeat("c0-uuid", 0), ErrorCode::ILLEGAL_GENERATION);
    let sync = h.sync("c0-uuid", 2, &[]);
    assert_eq!(h.sync_answer(sync).0, ErrorCode::ILLEGAL_GENERATION);
    let sync = h.sync("nobody", 1, &[]);
    assert_eq!(h.sync_answer(sync).0, ErrorCode::UNKNOWN_MEMBER_ID);
    let ticket = h.join(&JoinRequest {
        group: String::new(),
        ..first_join("c")
    });
    assert_eq!(h.join_answer(ticket).error, ErrorCode::INVALID_GROUP_ID);
}

#[test]
fn session_timeouts_out_of_bounds_and_foreign_protocols_are_refused() {
    let mut h = Harness::new(config());
    for session_timeout_ms in [5_999, 1_800_001] {
        let ticket = h.join(&JoinRequest {
            session_timeout_ms,
            ..first_join("c")
        });
        assert_eq!(
            h.join_answer(ticket).error,
            ErrorCode::INVALID_SESSION_TIMEOUT
        );
    }
    let ticket = h.join(&JoinRequest {
        protocols: Vec::new(),
        ..first_join("c")
    });
    assert_eq!(
        h.join_answer(ticket).error,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
    );
    assert_eq!(
        h.coordinator.list().count(),
        0,
        "a refused join makes no group"
    );
    h.stable(1);
    for wrong in [
        JoinRequest {
            protocol_type: "connect".to_owned(),
            ..first_join("c1")
        },
        JoinRequest {
            protocols: protocols(&["sticky"]),
            ..first_join("c1")
        },
    ] {
        let ticket = h.join(&wrong);
        assert_eq!(
            h.join_answer(ticket).error,
            ErrorCode::INCONSISTENT_GROUP_PROTOCOL
        );
    }
}

#[test]
fn the_protocol_most_members_prefer_is_elected() {
    let mut h = Harness::new(config());
    h.join(&first_join("c0"));
    let prefer = |id: &str| JoinRequest {
        protocols: protocols(&["roundrobin", "sticky", "range"]),
        ..first_join(id)
    };
    let last = [h.join(&prefer("c1")), h.join(&prefer("c2"))][1];
    h.join(&again("c0-uuid"));
    assert_eq!(h.join_answer(last).protocol.as_deref(), Some("roundrobin"));
}

#[test]
fn a_group_that_is_full_turns_the_next_member_away() {
    let mut h = Harness::new(config());
    h.stable(4);
    let ticket = h.join(&first_join("c4"));
    assert_eq!(
        h.join_answer(ticket).error,
        ErrorCode::GROUP_MAX_SIZE_REACHED
    );
    assert_eq!(h.state(), "Stable");
}

#[test]
fn a_follower_that_repeats_its_join_is_told_the_generation_and_a_leader_starts_a_new_one() {
    let mut h = Harness::new(config());
    h.stable(2);
    let repeated = h.join(&again("c1-uuid"));
    assert_eq!(h.join_answer(repeated).generation, 2);
    assert_eq!(h.state(), "Stable");
    h.join(&again("c0-uuid"));
    assert_eq!(h.state(), "PreparingRebalance");
}

#[test]
fn a_follower_with_new_metadata_starts_a_rebalance() {
    let mut h = Harness::new(config());
    h.stable(2);
    let changed = JoinRequest {
        protocols: protocols(&["range"]),
        ..again("c1-uuid")
    };
    h.join(&changed);
    assert_eq!(h.state(), "PreparingRebalance");
}

#[test]
fn the_last_member_that_leaves_leaves_an_empty_group() {
    let mut h = Harness::new(config());
    h.stable(1);
    assert_eq!(h.leave(&[("c0-uuid", None)]), [ErrorCode::NONE]);
    assert_eq!(h.state(), "Empty");
    assert_eq!(h.reload().describe("g").unwrap().state, "Empty");
    assert_eq!(
        h.leave(&[("c0-uuid", None)]),
        [ErrorCode::UNKNOWN_MEMBER_ID]
    );
    let ticket = h.join(&first_join("c1"));
    assert_eq!(h.join_answer(ticket).generation, 3, "generations go on");
}

#[test]
fn a_first_rebalance_waits_for_more_members_where_configured() {
    let mut h = Harness::new(GroupConfig {
        initial_rebalance_delay_ms: 3_000,
        ..config()
    });
    let first = h.join(&first_join("c0"));
    h.pass(2_000);
    let second = h.join(&first_join("c1"));
    h.pass(1_500);
    assert!(
        !h.answers.contains_key(&first),
        "a member came, so it waits another round"
    );
    h.pass(3_000);
    assert_eq!(
        (
            h.join_answer(first).generation,
            h.join_answer(second).generation
        ),
        (1, 1)
    );
}

#[test]
fn a_loaded_group_goes_on_in_its_generation() {
    let mut h = Harness::new(config());
    let (ids, generation) = h.stable(2);
    h.crash();
    assert_eq!(h.state(), "Stable");
    for id in &ids {
        assert_eq!(h.heartbeat(id, generation), ErrorCode::NONE);
    }
    h.pass(10_000);
    assert_eq!(h.state(), "Empty", "nobody was heard of");
}

#[test]
fn a_rebalance_that_begins_while_the_assignment_is_under_way_wins() {
    let mut h = Harness::new(config());
    h.prompt = false;
    h.join(&first_join("c0"));
    let sync = h.sync("c0-uuid", 1, &[("c0-uuid", b"all")]);
    let second = h.join(&first_join("c1"));
    assert_eq!(h.sync_answer(sync).0, ErrorCode::REBALANCE_IN_PROGRESS);
    h.flush();
    assert_eq!(h.state(), "PreparingRebalance");
    h.join(&again("c0-uuid"));
    assert_eq!(h.join_answer(second).generation, 2);
}

#[test]
fn closing_answers_everything_that_waits() {
    let mut h = Harness::new(config());
    h.stable(1);
    h.prompt = false;
    let join = h.join(&first_join("c1"));
    let delete = h.ask(|coordinator, ticket, now| coordinator.delete(ticket, "none", now));
    let now = h.now();
    let effects = h.coordinator.close(now);
    h.carry_out(effects);
    assert_eq!(h.join_answer(join).error, ErrorCode::NOT_COORDINATOR);
    assert_eq!(
        h.answers[&delete],
        Response::Delete(ErrorCode::GROUP_ID_NOT_FOUND)
    );
}
