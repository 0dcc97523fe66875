//! OffsetCommit and OffsetFetch.
//!
//! *IO: none*

use tidewater_protocol::Uuid;
use tidewater_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidewater_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use tidewater_protocol::messages::{DeleteGroupsRequest, OffsetCommitRequest, OffsetFetchRequest};

use super::client::{Client, TOPIC};
use super::group_tests::{GROUP, join_new, leave, sole_member};

/// A topic by name, or by id from version 10 on.
fn naming(client: &Client, version: i16, topic: &str) -> (String, Uuid) {
    if version < 10 {
        (topic.to_owned(), Uuid::ZERO)
    } else {
        (String::new(), client.id(topic))
    }
}

/// A commit of an anonymous reader, with metadata.
pub(super) fn commit_request(
    client: &Client,
    version: i16,
    offsets: &[(&str, i32, i64)],
) -> OffsetCommitRequest {
    let topic = |&(topic, partition_index, committed_offset): &(&str, i32, i64)| {
        let (name, topic_id) = naming(client, version, topic);
        OffsetCommitRequestTopic {
            name,
            topic_id,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index,
                committed_offset,
                committed_leader_epoch: if version >= 6 { 4 } else { -1 },
                committed_metadata: Some(format!("at {committed_offset}")),
            }],
        }
    };
    OffsetCommitRequest {
        group_id: GROUP.to_owned(),
        topics: offsets.iter().map(topic).collect(),
        ..Default::default()
    }
}

/// The error codes of a commit, one a topic.
pub(super) async fn commit(
    client: &Client,
    version: i16,
    request: &OffsetCommitRequest,
) -> Vec<i16> {
    let answer = client.call(version, request).await;
    let asked = request
        .topics
        .iter()
        .map(|t| (&t.name, t.topic_id, t.partitions[0].partition_index));
    let found = answer
        .topics
        .iter()
        .map(|t| (&t.name, t.topic_id, t.partitions[0].partition_index));
    assert!(asked.eq(found), "v{version}");
    answer
        .topics
        .iter()
        .map(|t| t.partitions[0].error_code)
        .collect()
}

/// Partition, offset, metadata and error of what a group committed to one topic.
pub(super) type Fetched = Vec<(i32, i64, String, i16)>;

pub(super) async fn fetch(client: &Client, version: i16, topic: &str, indexes: &[i32]) -> Fetched {
    let mut request = OffsetFetchRequest::default();
    if version < 8 {
        request.group_id = GROUP.to_owned();
        request.topics = Some(vec![OffsetFetchRequestTopic {
            name: topic.to_owned(),
            partition_indexes: indexes.to_vec(),
        }]);
        let mut answer = client.call(version, &request).await;
        assert_eq!(answer.error_code, 0);
        let found = answer.topics.remove(0).partitions.into_iter();
        return found
            .map(|p| {
                (
                    p.partition_index,
                    p.committed_offset,
                    p.metadata.unwrap(),
                    p.error_code,
                )
            })
            .collect();
    }
    let (name, topic_id) = naming(client, version, topic);
    request.groups = vec![OffsetFetchRequestGroup {
        group_id: GROUP.to_owned(),
        topics: Some(vec![OffsetFetchRequestTopics {
            name,
            topic_id,
            partition_indexes: indexes.to_vec(),
        }]),
        ..Default::default()
    }];
    let mut group = client.call(version, &request).await.groups.remove(0);
    assert_eq!((group.error_code, group.group_id.as_str()), (0, GROUP));
    let found = group.topics.remove(0).partitions.into_iter();
    found
        .map(|p| {
            (
                p.partition_index,
                p.committed_offset,
                p.metadata.unwrap(),
                p.error_code,
            )
        })
        .collect()
}

#[tokio::test]
async fn commits_are_read_back_in_every_version() {
    let client = Client::with_topic(3).await;
    for version in client.versions::<OffsetCommitRequest>() {
        let offset = 10 * i64::from(version);
        let request = commit_request(&client, version, &[(TOPIC, 1, offset)]);
        assert_eq!(commit(&client, version, &request).await, [0], "v{version}");
        for fetching in client.versions::<OffsetFetchRequest>() {
            let found = fetch(&client, fetching, TOPIC, &[1, 0]).await;
            let expected = [
                (1, offset, format!("at {offset}"), 0),
                (0, -1, String::new(), 0),
            ];
            assert_eq!(found, expected, "v{fetching}");
        }
    }
}

#[tokio::test]
async fn the_leader_epoch_comes_back() {
    let client = Client::with_topic(1).await;
    commit(&client, 6, &commit_request(&client, 6, &[(TOPIC, 0, 7)])).await;
    let request = OffsetFetchRequest {
        group_id: GROUP.to_owned(),
        topics: None,
        ..Default::default()
    };
    let answer = client.call(5, &request).await;
    assert_eq!(answer.topics[0].partitions[0].committed_leader_epoch, 4);
}

#[tokio::test]
async fn unknown_topics_and_partitions_are_refused_beside_others() {
    let client = Client::with_topic(1).await;
    for version in client.versions::<OffsetCommitRequest>() {
        let offsets = [("nowhere", 0, 1), (TOPIC, 0, 2), (TOPIC, 5, 3)];
        let request = commit_request(&client, version, &offsets);
        let unknown = if version >= 10 { 100 } else { 3 };
        assert_eq!(
            commit(&client, version, &request).await,
            [unknown, 0, 3],
            "v{version}"
        );
    }
    let found = fetch(&client, 10, "nowhere", &[0]).await;
    assert_eq!(found, [(0, -1, String::new(), 100)]);
    let found = fetch(&client, 9, "nowhere", &[0]).await;
    assert_eq!(found, [(0, -1, String::new(), 0)]);
}

#[tokio::test]
async fn metadata_may_have_4096_characters() {
    let client = Client::with_topic(2).await;
    let mut request = commit_request(&client, 8, &[(TOPIC, 0, 1), (TOPIC, 1, 2)]);
    request.topics[0].partitions[0].committed_metadata = Some("x".repeat(4097));
    request.topics[1].partitions[0].committed_metadata = Some("y".repeat(4096));
    assert_eq!(commit(&client, 8, &request).await, [12, 0]);
    let found = fetch(&client, 8, TOPIC, &[0, 1]).await;
    assert_eq!((found[0].1, found[1].1, found[1].2.len()), (-1, 2, 4096));
    request.topics[0].partitions[0].committed_metadata = None;
    assert_eq!(commit(&client, 8, &request).await, [0, 0]);
    assert_eq!(
        fetch(&client, 8, TOPIC, &[0]).await,
        [(0, 1, String::new(), 0)]
    );
}

#[tokio::test]
async fn null_topics_are_all_that_was_committed() {
    let client = Client::with_topic(2).await;
    client.create("other", 1, &[]).await;
    let request = commit_request(&client, 8, &[(TOPIC, 1, 5), ("other", 0, 6)]);
    assert_eq!(commit(&client, 8, &request).await, [0, 0]);
    for version in 2..8 {
        let request = OffsetFetchRequest {
            group_id: GROUP.to_owned(),
            topics: None,
            ..Default::default()
        };
        let answer = client.call(version, &request).await;
        let found: Vec<_> = answer
            .topics
            .iter()
            .map(|t| {
                let p = &t.partitions[0];
                (t.name.as_str(), p.partition_index, p.committed_offset)
            })
            .collect();
        assert_eq!(found, [(TOPIC, 1, 5), ("other", 0, 6)], "v{version}");
    }
    for version in 8..=10 {
        let group = |name: &str| OffsetFetchRequestGroup {
            group_id: name.to_owned(),
            topics: None,
            ..Default::default()
        };
        let request = OffsetFetchRequest {
            groups: vec![group("missing"), group(GROUP)],
            ..Default::default()
        };
        let answer = client.call(version, &request).await;
        let counts: Vec<_> = answer
            .groups
            .iter()
            .map(|g| (g.error_code, g.topics.len()))
            .collect();
        assert_eq!(counts, [(0, 0), (0, 2)], "v{version}");
        let found: Vec<_> = answer.groups[1]
            .topics
            .iter()
            .map(|t| (t.name.clone(), t.topic_id))
            .collect();
        let expected = [TOPIC, "other"].map(|topic| naming(&client, version, topic));
        assert_eq!(found, expected, "v{version}");
    }
}

#[tokio::test]
async fn members_commit_within_their_generation() {
    let client = Client::with_topic(1).await;
    let (member, generation) = sole_member(&client, GROUP).await;
    let cases = [
        (member.as_str(), generation, 0),
        (member.as_str(), generation + 1, 22),
        ("nobody", generation, 25),
        ("", -1, 25),
    ];
    for version in client.versions::<OffsetCommitRequest>() {
        for (member_id, generation, code) in cases {
            let mut request = commit_request(&client, version, &[(TOPIC, 0, 9)]);
            request.member_id = member_id.to_owned();
            request.generation_id_or_member_epoch = generation;
            let found = commit(&client, version, &request).await;
            assert_eq!(found, [code], "v{version} {member_id:?} {generation}");
        }
    }
}

#[tokio::test]
async fn commits_between_join_and_sync_see_the_rebalance() {
    let client = Client::with_topic(1).await;
    let joined = join_new(&client, 5, GROUP).await;
    let mut request = commit_request(&client, 8, &[(TOPIC, 0, 9)]);
    request.member_id = joined.member_id;
    request.generation_id_or_member_epoch = joined.generation_id;
    assert_eq!(commit(&client, 8, &request).await, [27]);
}

#[tokio::test]
async fn a_commit_to_a_group_nobody_knows_is_refused_by_version() {
    let client = Client::with_topic(1).await;
    for version in client.versions::<OffsetCommitRequest>() {
        let mut request = commit_request(&client, version, &[(TOPIC, 0, 9)]);
        request.member_id = "m".to_owned();
        request.generation_id_or_member_epoch = 3;
        let code = if version >= 9 { 69 } else { 22 };
        assert_eq!(
            commit(&client, version, &request).await,
            [code],
            "v{version}"
        );
    }
}

#[tokio::test]
async fn a_deleted_group_has_no_offsets() {
    let client = Client::with_topic(1).await;
    let (member, generation) = sole_member(&client, GROUP).await;
    let mut request = commit_request(&client, 8, &[(TOPIC, 0, 9)]);
    request.member_id = member.clone();
    request.generation_id_or_member_epoch = generation;
    assert_eq!(commit(&client, 8, &request).await, [0]);
    leave(&client, 5, GROUP, &member).await;
    assert_eq!(
        fetch(&client, 8, TOPIC, &[0]).await[0].1,
        9,
        "kept without members"
    );
    let deleted = DeleteGroupsRequest {
        groups_names: vec![GROUP.to_owned()],
    };
    assert_eq!(client.call(2, &deleted).await.results[0].error_code, 0);
    assert_eq!(fetch(&client, 8, TOPIC, &[0]).await[0].1, -1);
}

#[tokio::test]
async fn a_commit_to_a_topics_first_life_does_not_reach_its_second() {
    let client = Client::with_topic(1).await;
    let old = client.id(TOPIC);
    client.broker.delete_topic(TOPIC).await.unwrap();
    client.create(TOPIC, 1, &[]).await;
    let mut request = commit_request(&client, 10, &[(TOPIC, 0, 9)]);
    request.topics[0].topic_id = old;
    assert_eq!(commit(&client, 10, &request).await, [100]);
    assert_eq!(fetch(&client, 10, TOPIC, &[0]).await[0].1, -1);
}
