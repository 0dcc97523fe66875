//! CreateTopics and DeleteTopics.
//!
//! *IO: none*

use tidewater_protocol::Uuid;
use tidewater_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use tidewater_protocol::messages::create_topics_response::CreatableTopicResult;
use tidewater_protocol::messages::delete_topics_request::DeleteTopicState;
use tidewater_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest};

use super::client::{Client, NODE, TOPIC};
use super::samples::batch;

fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions,
        replication_factor,
        ..Default::default()
    }
}

async fn create(client: &Client, version: i16, topic: CreatableTopic) -> CreatableTopicResult {
    let request = CreateTopicsRequest {
        topics: vec![topic],
        ..Default::default()
    };
    client.call(version, &request).await.topics.remove(0)
}

/// The error codes of a DeleteTopics request by name.
async fn delete(client: &Client, version: i16, names: &[&str]) -> Vec<i16> {
    let mut request = DeleteTopicsRequest::default();
    for name in names {
        if version < 6 {
            request.topic_names.push((*name).to_owned());
        } else {
            request.topics.push(DeleteTopicState {
                name: Some((*name).to_owned()),
                topic_id: Uuid::ZERO,
            });
        }
    }
    let answer = client.call(version, &request).await;
    let found = answer.responses.iter().map(|t| t.name.as_deref());
    assert!(found.eq(names.iter().map(|name| Some(*name))));
    answer.responses.iter().map(|t| t.error_code).collect()
}

#[tokio::test]
async fn a_created_topic_is_answered_as_far_as_the_version_goes() {
    let client = Client::open().await;
    for version in client.versions::<CreateTopicsRequest>() {
        let name = format!("t{version}");
        let answer = create(&client, version, topic(&name, 4, 1)).await;
        assert_eq!(
            (answer.error_code, answer.name.as_str()),
            (0, name.as_str())
        );
        let id = client.id(&name);
        assert_eq!(answer.topic_id, if version >= 7 { id } else { Uuid::ZERO });
        let sizes = if version >= 5 { (4, 1) } else { (-1, -1) };
        assert_eq!((answer.num_partitions, answer.replication_factor), sizes);
        let configs = answer.configs.unwrap_or_default();
        let shown = configs.iter().any(|c| c.name == "cleanup.policy");
        assert_eq!(shown, version >= 5, "v{version}");
        assert_eq!(client.produce(&name, 3, batch(1)).await, (0, 0));
    }
}

#[tokio::test]
async fn what_cannot_be_created_is_refused_by_name() {
    let client = Client::open().await;
    client.create("orders.eu", 1, &[]).await;
    let configured = |key: &str, value: Option<&str>| CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: key.to_owned(),
            value: value.map(str::to_owned),
        }],
        ..topic("new", 1, 1)
    };
    let assigned = |sizes: (i32, i16), ids: &[(i32, &[i32])]| CreatableTopic {
        assignments: ids
            .iter()
            .map(|&(partition_index, ids)| CreatableReplicaAssignment {
                partition_index,
                broker_ids: ids.to_vec(),
            })
            .collect(),
        ..topic("new", sizes.0, sizes.1)
    };
    for version in client.versions::<CreateTopicsRequest>() {
        let refused = [
            (topic("orders.eu", 1, 1), 36),
            (topic("new", 0, 1), 37),
            (topic("new", -2, 1), 37),
            (topic("new", i32::MAX, 1), 37),
            (topic("new", 1, 0), 38),
            (topic("new", 1, -2), 38),
            (assigned((-1, -1), &[(0, &[NODE + 1])]), 39),
            (assigned((-1, -1), &[(1, &[NODE])]), 39),
            (assigned((-1, -1), &[(0, &[NODE]), (0, &[NODE])]), 39),
            (assigned((-1, -1), &[(0, &[])]), 39),
            (assigned((1, 1), &[(0, &[NODE])]), 42),
            (configured("retention.ms", Some("soon")), 40),
            (configured("no.such.key", Some("1")), 40),
            (configured("retention.ms", None), 40),
            (topic("orders_eu", 1, 1), 17),
            (topic("a b", 1, 1), 17),
            (topic("", 1, 1), 17),
        ];
        for (asked, code) in refused {
            let answer = create(&client, version, asked.clone()).await;
            assert_eq!(answer.error_code, code, "v{version} {asked:?}");
            assert!(answer.error_message.is_some_and(|text| !text.is_empty()));
        }
        assert_eq!(client.broker.topics.all().len(), 1, "v{version}");
    }
    let answer = create(
        &client,
        7,
        assigned((-1, -1), &[(1, &[NODE]), (0, &[NODE])]),
    )
    .await;
    assert_eq!((answer.error_code, answer.num_partitions), (0, 2));
}

#[tokio::test]
async fn a_name_that_stands_twice_is_refused_once() {
    let client = Client::open().await;
    let request = CreateTopicsRequest {
        topics: vec![topic("a", 1, 1), topic("b", 1, 1), topic("a", 2, 1)],
        ..Default::default()
    };
    let answer = client.call(5, &request).await;
    let found: Vec<_> = answer
        .topics
        .iter()
        .map(|t| (t.name.as_str(), t.error_code))
        .collect();
    assert_eq!(found, [("a", 42), ("b", 0)]);
    assert!(client.broker.topics.by_name("a").is_none());
}

#[tokio::test]
async fn defaults_are_asked_for_from_version_4_on() {
    let client = Client::open().await;
    for version in client.versions::<CreateTopicsRequest>() {
        let name = format!("t{version}");
        let partitions = create(&client, version, topic(&name, -1, 1)).await;
        let replicas = create(&client, version, topic(&format!("{name}-r"), 1, -1)).await;
        if version < 4 {
            assert_eq!(
                (partitions.error_code, replicas.error_code),
                (37, 38),
                "v{version}"
            );
        } else {
            assert_eq!(
                (partitions.error_code, replicas.error_code),
                (0, 0),
                "v{version}"
            );
            assert_eq!(
                client
                    .broker
                    .topics
                    .by_name(&name)
                    .unwrap()
                    .num_partitions(),
                3
            );
        }
    }
}

#[tokio::test]
async fn validate_only_writes_nothing() {
    let client = Client::open().await;
    for (name, num_partitions, code) in [("a", 2, 0), ("a", 2, 0), ("a", 0, 37)] {
        let request = CreateTopicsRequest {
            topics: vec![topic(name, num_partitions, 1)],
            validate_only: true,
            ..Default::default()
        };
        let answer = client.call(7, &request).await.topics.remove(0);
        assert_eq!(answer.error_code, code);
    }
    assert!(client.broker.topics.all().is_empty());
    assert_eq!(client.produce("a", 0, batch(1)).await, (3, -1));
}

#[tokio::test]
async fn topics_are_deleted_by_name_with_their_records() {
    let client = Client::open().await;
    for version in client.versions::<DeleteTopicsRequest>() {
        client.create(TOPIC, 1, &[]).await;
        let id = client.id(TOPIC);
        assert_eq!(
            client.produce(TOPIC, 0, batch(3)).await,
            (0, 0),
            "v{version}"
        );
        let codes = delete(&client, version, &[TOPIC, "nowhere", TOPIC]).await;
        assert_eq!(codes, [0, 3, 42], "v{version}");
        assert_eq!(client.produce(TOPIC, 0, batch(1)).await, (3, -1));
        assert_eq!(client.fetch_as(12, TOPIC, 0, 0).await.error_code, 3);
        assert!(client.broker.topics.by_id(id).is_none());
    }
}

#[tokio::test]
async fn topics_are_deleted_by_id_in_version_6() {
    let client = Client::open().await;
    let id = client.create(TOPIC, 1, &[]).await;
    client.create("both", 1, &[]).await;
    let states = [
        (None, id),
        (None, Uuid([7; 16])),
        (Some("both"), client.id("both")),
    ];
    let request = DeleteTopicsRequest {
        topics: states
            .map(|(name, topic_id)| DeleteTopicState {
                name: name.map(str::to_owned),
                topic_id,
            })
            .to_vec(),
        ..Default::default()
    };
    let answer = client.call(6, &request).await;
    let found = answer
        .responses
        .iter()
        .map(|t| (t.name.as_deref(), t.topic_id, t.error_code));
    let expected = [
        (Some(TOPIC), states[0].1, 0),
        (None, states[1].1, 100),
        (Some("both"), states[2].1, 42),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert!(client.broker.topics.by_name(TOPIC).is_none());
    assert!(client.broker.topics.by_name("both").is_some());
}
