//! Classic groups: join, sync, heartbeat, leave, and what admins ask about them.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use tidewater_protocol::messages::leave_group_request::MemberIdentity;
use tidewater_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use tidewater_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, SyncGroupRequest, SyncGroupResponse,
};

use super::client::Client;

pub(super) const GROUP: &str = "billing";

pub(super) fn join_request(version: i16, group: &str, member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: if version >= 1 { 30_000 } else { -1 },
        member_id: member_id.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"subscription"),
        }],
        ..Default::default()
    }
}

pub(super) async fn join(client: &Client, version: i16, member_id: &str) -> JoinGroupResponse {
    client
        .call(version, &join_request(version, GROUP, member_id))
        .await
}

/// Joins as a client of `version` does: from 4 on it is given a member id first.
pub(super) async fn join_new(client: &Client, version: i16, group: &str) -> JoinGroupResponse {
    let first = client
        .call(version, &join_request(version, group, ""))
        .await;
    if version < 4 {
        return first;
    }
    assert_eq!(
        (first.error_code, first.generation_id),
        (79, -1),
        "v{version}"
    );
    assert!(!first.member_id.is_empty());
    client
        .call(version, &join_request(version, group, &first.member_id))
        .await
}

async fn sync(
    client: &Client,
    version: i16,
    joined: &JoinGroupResponse,
    assignments: &[(&str, &'static [u8])],
) -> SyncGroupResponse {
    let assignments =
        assignments
            .iter()
            .map(|&(member_id, assignment)| SyncGroupRequestAssignment {
                member_id: member_id.to_owned(),
                assignment: Bytes::from_static(assignment),
            });
    let request = SyncGroupRequest {
        group_id: GROUP.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: assignments.collect(),
        ..Default::default()
    };
    client.call(version, &request).await
}

/// Joins and syncs the only member of a group.
pub(super) async fn sole_member(client: &Client, group: &str) -> (String, i32) {
    let joined = join_new(client, 5, group).await;
    let request = SyncGroupRequest {
        group_id: group.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(b"all"),
        }],
        ..Default::default()
    };
    assert_eq!(client.call(3, &request).await.error_code, 0);
    (joined.member_id, joined.generation_id)
}

async fn heartbeat(client: &Client, member_id: &str, generation_id: i32) -> i16 {
    let request = HeartbeatRequest {
        group_id: GROUP.to_owned(),
        generation_id,
        member_id: member_id.to_owned(),
        ..Default::default()
    };
    client.call(4, &request).await.error_code
}

/// The error of the group, and of the member.
pub(super) async fn leave(
    client: &Client,
    version: i16,
    group: &str,
    member_id: &str,
) -> (i16, i16) {
    let mut request = LeaveGroupRequest {
        group_id: group.to_owned(),
        ..Default::default()
    };
    if version < 3 {
        request.member_id = member_id.to_owned();
        return (client.call(version, &request).await.error_code, 0);
    }
    request.members = vec![MemberIdentity {
        member_id: member_id.to_owned(),
        ..Default::default()
    }];
    let answer = client.call(version, &request).await;
    (answer.error_code, answer.members[0].error_code)
}

async fn delete(client: &Client, version: i16, group: &str) -> i16 {
    let request = DeleteGroupsRequest {
        groups_names: vec![group.to_owned()],
    };
    client.call(version, &request).await.results[0].error_code
}

async fn listed(client: &Client, states: &[&str], types: &[&str]) -> Vec<(String, String)> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let request = ListGroupsRequest {
        states_filter: owned(states),
        types_filter: owned(types),
    };
    let answer = client.call(5, &request).await;
    assert_eq!(answer.error_code, 0);
    let mut groups: Vec<_> = answer
        .groups
        .into_iter()
        .map(|g| (g.group_id, g.group_state))
        .collect();
    groups.sort();
    groups
}

#[tokio::test]
async fn one_member_lives_through_every_version() {
    let client = Client::open().await;
    for version in client.versions::<JoinGroupRequest>() {
        let joined = join_new(&client, version, GROUP).await;
        assert_eq!(joined.error_code, 0, "v{version}");
        let member = joined.member_id.as_str();
        assert_eq!(joined.leader, member);
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        let kind = (version >= 7).then_some("consumer");
        assert_eq!(joined.protocol_type.as_deref(), kind);
        assert_eq!(joined.members.len(), 1);
        assert_eq!(joined.members[0].metadata, &b"subscription"[..]);
        let synced = sync(&client, version.min(5), &joined, &[(member, b"all")]).await;
        assert_eq!(
            (synced.error_code, &synced.assignment[..]),
            (0, &b"all"[..])
        );
        assert_eq!(heartbeat(&client, member, joined.generation_id).await, 0);
        assert_eq!(leave(&client, version.min(5), GROUP, member).await, (0, 0));
        assert_eq!(heartbeat(&client, member, joined.generation_id).await, 25);
    }
}

#[tokio::test]
async fn two_members_share_a_group_and_see_each_others_coming_and_going() {
    let client = Client::open().await;
    let first = join_new(&client, 5, GROUP).await;
    let a = first.member_id.clone();
    sync(&client, 3, &first, &[(&a, b"all")]).await;
    // The second one's join waits until the first has joined again.
    let second = async { join_new(&client, 5, GROUP).await };
    let again = async {
        while heartbeat(&client, &a, first.generation_id).await != 27 {
            tokio::task::yield_now().await;
        }
        join(&client, 5, &a).await
    };
    let (second, again) = tokio::join!(second, again);
    let b = second.member_id.clone();
    let found = (second.error_code, again.error_code, second.generation_id);
    assert_eq!(found, (0, 0, again.generation_id));
    assert!(again.generation_id > first.generation_id);
    assert_eq!(
        (again.leader.as_str(), second.leader.as_str()),
        (a.as_str(), a.as_str())
    );
    assert_eq!(
        (again.members.len(), second.members.len()),
        (2, 0),
        "the leader alone is told"
    );
    // The follower's sync waits for the leader's.
    let shares: [(&str, &'static [u8]); 2] = [(&a, b"left"), (&b, b"right")];
    let (follower, leader) = tokio::join!(
        sync(&client, 3, &second, &[]),
        sync(&client, 3, &again, &shares)
    );
    assert_eq!(
        (&leader.assignment[..], &follower.assignment[..]),
        (&b"left"[..], &b"right"[..])
    );
    let generation = again.generation_id;
    assert_eq!(heartbeat(&client, &b, generation).await, 0);
    assert_eq!(leave(&client, 4, GROUP, &a).await, (0, 0));
    assert_eq!(heartbeat(&client, &b, generation).await, 27);
    let alone = join(&client, 5, &b).await;
    assert_eq!(
        (alone.error_code, alone.leader.as_str(), alone.members.len()),
        (0, b.as_str(), 1)
    );
}

#[tokio::test]
async fn strangers_and_the_past_are_refused() {
    let client = Client::open().await;
    let (member, generation) = sole_member(&client, GROUP).await;
    assert_eq!(heartbeat(&client, "nobody", generation).await, 25);
    assert_eq!(heartbeat(&client, &member, generation - 1).await, 22);
    assert_eq!(heartbeat(&client, &member, generation + 1).await, 22);
    assert_eq!(join(&client, 5, "nobody").await.error_code, 25);
    assert_eq!(leave(&client, 2, GROUP, "nobody").await, (25, 0));
    assert_eq!(leave(&client, 5, GROUP, "nobody").await, (0, 25));
    let mut request = join_request(5, GROUP, &member);
    request.session_timeout_ms = 1;
    assert_eq!(client.call(5, &request).await.error_code, 26);
    let mut request = join_request(3, GROUP, "");
    request.protocol_type = "connect".to_owned();
    assert_eq!(client.call(3, &request).await.error_code, 23);
    let request = join_request(3, "", "");
    assert_eq!(client.call(3, &request).await.error_code, 24);
    assert_eq!(heartbeat(&client, &member, generation).await, 0, "unharmed");
}

#[tokio::test]
async fn a_static_member_needs_no_second_join() {
    let client = Client::open().await;
    let mut request = join_request(5, GROUP, "");
    request.group_instance_id = Some("host-1".to_owned());
    let joined = client.call(5, &request).await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    assert_eq!(
        joined.members[0].group_instance_id.as_deref(),
        Some("host-1")
    );
    sync(&client, 5, &joined, &[(&joined.member_id, b"all")]).await;
    // Its next life takes the old one's place; the old one is fenced.
    let replaced = client.call(9, &request).await;
    assert_eq!(replaced.error_code, 0);
    assert_ne!(replaced.member_id, joined.member_id);
    let old = HeartbeatRequest {
        group_id: GROUP.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id,
        group_instance_id: Some("host-1".to_owned()),
    };
    assert_eq!(client.call(4, &old).await.error_code, 82);
}

#[tokio::test]
async fn a_group_is_described_with_its_members() {
    let client = Client::open().await;
    let (member, _) = sole_member(&client, GROUP).await;
    for version in client.versions::<DescribeGroupsRequest>() {
        let request = DescribeGroupsRequest {
            groups: vec![GROUP.to_owned(), "missing".to_owned()],
            ..Default::default()
        };
        let answer = client.call(version, &request).await;
        let group = &answer.groups[0];
        assert_eq!(
            (group.error_code, group.group_state.as_str()),
            (0, "Stable")
        );
        let protocol = (group.protocol_type.as_str(), group.protocol_data.as_str());
        assert_eq!(protocol, ("consumer", "range"));
        let found = &group.members[0];
        assert_eq!(found.member_id, member);
        assert_eq!(
            (found.client_id.as_str(), found.client_host.as_str()),
            ("tests", "/127.0.0.1")
        );
        assert_eq!(&found.member_assignment[..], b"all");
        assert_eq!(&found.member_metadata[..], b"subscription");
        assert_eq!(group.authorized_operations, i32::MIN);
        let missing = &answer.groups[1];
        let code = if version >= 6 { 69 } else { 0 };
        assert_eq!(
            (missing.error_code, missing.group_state.as_str()),
            (code, "Dead"),
            "v{version}"
        );
        assert_eq!(missing.error_message.is_some(), version >= 6);
    }
}

#[tokio::test]
async fn groups_are_listed_by_state_and_type() {
    let client = Client::open().await;
    assert_eq!(listed(&client, &[], &[]).await, []);
    assert!(
        client.broker.topics.all().is_empty(),
        "listing creates nothing"
    );
    sole_member(&client, "stable").await;
    let (gone, _) = sole_member(&client, "empty").await;
    leave(&client, 5, "empty", &gone).await;
    let group = |name: &str, state: &str| (name.to_owned(), state.to_owned());
    let (empty, stable) = (group("empty", "Empty"), group("stable", "Stable"));
    let both = vec![empty.clone(), stable.clone()];
    assert_eq!(listed(&client, &[], &[]).await, both);
    assert_eq!(listed(&client, &["stable"], &[]).await, vec![stable]);
    assert_eq!(listed(&client, &["Empty", "Dead"], &[]).await, vec![empty]);
    assert_eq!(listed(&client, &[], &["Classic"]).await, both);
    assert_eq!(listed(&client, &[], &["consumer"]).await, []);
    for version in client.versions::<ListGroupsRequest>() {
        let answer = client.call(version, &ListGroupsRequest::default()).await;
        assert_eq!(
            (answer.error_code, answer.groups.len()),
            (0, 2),
            "v{version}"
        );
        assert!(answer.groups.iter().all(|g| g.protocol_type == "consumer"));
    }
}

#[tokio::test]
async fn only_a_group_without_members_is_deleted() {
    let client = Client::open().await;
    for version in client.versions::<DeleteGroupsRequest>() {
        let (member, _) = sole_member(&client, GROUP).await;
        assert_eq!(delete(&client, version, GROUP).await, 68, "v{version}");
        assert_eq!(delete(&client, version, "missing").await, 69);
        assert_eq!(leave(&client, 5, GROUP, &member).await, (0, 0));
        assert_eq!(delete(&client, version, GROUP).await, 0);
        assert_eq!(delete(&client, version, GROUP).await, 69);
    }
}
