//! Metadata: which topics are answered, and what of them.
//!
//! *IO: none*

use tidewater_protocol::Uuid;
use tidewater_protocol::messages::metadata_request::MetadataRequestTopic;
use tidewater_protocol::messages::metadata_response::MetadataResponseTopic;
use tidewater_protocol::messages::{MetadataRequest, MetadataResponse};

use super::client::{Client, NODE};

fn named(name: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic {
        name: Some(name.to_owned()),
        ..Default::default()
    };
    MetadataRequest {
        topics: Some(vec![topic]),
        ..Default::default()
    }
}

fn by_id(topic_id: Uuid) -> MetadataRequest {
    let topic = MetadataRequestTopic {
        topic_id,
        name: None,
    };
    MetadataRequest {
        topics: Some(vec![topic]),
        ..Default::default()
    }
}

fn names(answer: &MetadataResponse) -> Vec<&str> {
    let names = answer.topics.iter().map(|topic| topic.name.as_deref());
    names.map(|name| name.unwrap()).collect()
}

async fn ask(client: &Client, version: i16, request: &MetadataRequest) -> MetadataResponseTopic {
    client.call(version, request).await.topics.remove(0)
}

#[tokio::test]
async fn null_is_all_and_empty_is_none_save_in_version_0() {
    let client = Client::open().await;
    client.create("b", 2, &[]).await;
    client.create("a", 1, &[]).await;
    for version in client.versions::<MetadataRequest>() {
        let empty = MetadataRequest {
            topics: Some(Vec::new()),
            ..Default::default()
        };
        let answer = client.call(version, &empty).await;
        let expected: &[&str] = if version == 0 { &["a", "b"] } else { &[] };
        assert_eq!(names(&answer), expected, "v{version}");
        if version >= 1 {
            let all = MetadataRequest {
                topics: None,
                ..Default::default()
            };
            assert_eq!(
                names(&client.call(version, &all).await),
                ["a", "b"],
                "v{version}"
            );
        }
    }
}

#[tokio::test]
async fn a_topic_is_described_as_far_as_the_version_goes() {
    let client = Client::open().await;
    let id = client.create("a", 2, &[]).await;
    let epoch = client.partition("a", 0).leader_epoch();
    for version in client.versions::<MetadataRequest>() {
        let answer = client.call(version, &named("a")).await;
        let broker = &answer.brokers[0];
        assert_eq!(
            (broker.node_id, broker.host.as_str(), broker.port),
            (NODE, "broker.test", 9092)
        );
        assert_eq!(answer.controller_id, if version >= 1 { NODE } else { -1 });
        let cluster = (version >= 2).then(|| client.broker.facts.cluster_id.clone());
        assert_eq!(answer.cluster_id, cluster);
        let topic = &answer.topics[0];
        assert_eq!((topic.error_code, topic.is_internal), (0, false));
        assert_eq!(topic.topic_id, if version >= 10 { id } else { Uuid::ZERO });
        assert_eq!(topic.topic_authorized_operations, i32::MIN);
        assert_eq!(topic.partitions.len(), 2);
        for (index, partition) in (0..).zip(&topic.partitions) {
            assert_eq!(
                (partition.partition_index, partition.leader_id),
                (index, NODE)
            );
            assert_eq!(
                partition.leader_epoch,
                if version >= 7 { epoch } else { -1 }
            );
            assert_eq!(
                (&partition.replica_nodes, &partition.isr_nodes),
                (&vec![NODE], &vec![NODE])
            );
        }
    }
}

#[tokio::test]
async fn an_unknown_topic_is_created_but_seen_by_the_next_request() {
    let client = Client::open().await;
    for version in client.versions::<MetadataRequest>() {
        let name = format!("auto-{version}");
        let topic = ask(&client, version, &named(&name)).await;
        assert_eq!(
            (topic.error_code, topic.partitions.len()),
            (3, 0),
            "v{version}"
        );
        let topic = ask(&client, version, &named(&name)).await;
        assert_eq!(
            (topic.error_code, topic.partitions.len()),
            (0, 3),
            "v{version}"
        );
    }
}

#[tokio::test]
async fn nothing_is_created_when_the_client_forbids_it() {
    let client = Client::open().await;
    let forbidding = MetadataRequest {
        allow_auto_topic_creation: false,
        ..named("a")
    };
    for version in 4..=13 {
        for _ in 0..2 {
            assert_eq!(
                ask(&client, version, &forbidding).await.error_code,
                3,
                "v{version}"
            );
        }
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_is_invalid() {
    let client = Client::open().await;
    for version in client.versions::<MetadataRequest>() {
        for name in ["a b", "..", "", "ä"] {
            let topic = ask(&client, version, &named(name)).await;
            assert_eq!(
                (topic.error_code, topic.name.as_deref()),
                (17, Some(name)),
                "v{version}"
            );
        }
    }
    assert!(client.broker.topics.all().is_empty());
}

#[tokio::test]
async fn topics_are_asked_for_by_id_from_version_12_on() {
    let client = Client::open().await;
    let id = client.create("a", 1, &[]).await;
    for version in 10..=13 {
        let topic = ask(&client, version, &by_id(id)).await;
        if version < 12 {
            assert_eq!(topic.error_code, 42, "v{version}");
            continue;
        }
        assert_eq!(
            (topic.error_code, topic.name.as_deref()),
            (0, Some("a")),
            "v{version}"
        );
        let unknown = Uuid([3; 16]);
        let topic = ask(&client, version, &by_id(unknown)).await;
        let found = (topic.error_code, topic.name, topic.topic_id);
        assert_eq!(found, (100, None, unknown), "v{version}");
    }
}
