//! CreatePartitions: growth that keeps what is there.
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_protocol::messages::CreatePartitionsRequest;
use tidewater_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use tidewater_stream_store::bucket::MemoryBucket;

use super::client::{Client, NODE, TOPIC, memory_wal};
use super::samples::{base_offsets, batch, stamped};

fn grow(name: &str, count: i32) -> CreatePartitionsRequest {
    let topic = CreatePartitionsTopic {
        name: name.to_owned(),
        count,
        assignments: None,
    };
    CreatePartitionsRequest {
        topics: vec![topic],
        ..Default::default()
    }
}

async fn code(client: &Client, version: i16, request: &CreatePartitionsRequest) -> i16 {
    let result = client.call(version, request).await.results.remove(0);
    assert_eq!(result.error_message.is_some(), result.error_code != 0);
    result.error_code
}

#[tokio::test]
async fn a_topic_only_grows() {
    let client = Client::with_topic(3).await;
    for version in client.versions::<CreatePartitionsRequest>() {
        for count in [-1, 0, 1, 3, i32::MAX] {
            assert_eq!(
                code(&client, version, &grow(TOPIC, count)).await,
                37,
                "{count}"
            );
        }
        assert_eq!(code(&client, version, &grow("nowhere", 5)).await, 3);
    }
    assert_eq!(
        client
            .broker
            .topics
            .by_name(TOPIC)
            .unwrap()
            .num_partitions(),
        3
    );
}

#[tokio::test]
async fn growth_keeps_records_and_producers_also_after_a_restart() {
    let bucket = Arc::new(MemoryBucket::new());
    let client = Client::open_on(bucket.clone(), memory_wal()).await;
    let id = client.create(TOPIC, 1, &[]).await;
    client.produce(TOPIC, 0, stamped(5, 0, 0, 3)).await;
    for (version, count) in [(0, 2), (1, 3), (2, 5), (3, 6)] {
        assert_eq!(code(&client, version, &grow(TOPIC, count)).await, 0);
        assert_eq!(client.id(TOPIC), id);
        let last = count - 1;
        assert_eq!(client.produce(TOPIC, last, batch(2)).await, (0, 0));
        assert_eq!(client.produce(TOPIC, count, batch(2)).await, (3, -1));
        assert_eq!(
            client.produce(TOPIC, 0, stamped(5, 0, 0, 3)).await,
            (0, 0),
            "duplicate"
        );
        assert_eq!(base_offsets(&client.fetch(TOPIC, 0, 0).await), [0]);
    }
    client.broker.store.flush().await.unwrap();
    client.broker.store.close().await.unwrap();
    let client = Client::open_on(bucket, memory_wal()).await;
    assert_eq!(
        client
            .broker
            .topics
            .by_name(TOPIC)
            .unwrap()
            .num_partitions(),
        6
    );
    assert_eq!(base_offsets(&client.fetch(TOPIC, 0, 0).await), [0]);
    assert_eq!(base_offsets(&client.fetch(TOPIC, 5, 0).await), [0]);
    assert_eq!(
        base_offsets(&client.fetch(TOPIC, 3, 0).await),
        Vec::<i64>::new()
    );
}

#[tokio::test]
async fn validate_only_adds_nothing() {
    let client = Client::with_topic(1).await;
    let mut request = grow(TOPIC, 2);
    request.validate_only = true;
    assert_eq!(code(&client, 2, &request).await, 0);
    assert_eq!(client.produce(TOPIC, 1, batch(1)).await, (3, -1));
}

#[tokio::test]
async fn an_assignment_names_this_node_once_a_new_partition() {
    let client = Client::with_topic(1).await;
    let assigned = |ids: &[&[i32]]| {
        let mut request = grow(TOPIC, 3);
        let all = ids.iter().map(|ids| CreatePartitionsAssignment {
            broker_ids: ids.to_vec(),
        });
        request.topics[0].assignments = Some(all.collect());
        request
    };
    for wrong in [
        &[&[NODE][..]][..],
        &[&[NODE], &[NODE + 1]],
        &[&[NODE], &[]],
        &[],
    ] {
        assert_eq!(code(&client, 1, &assigned(wrong)).await, 39, "{wrong:?}");
    }
    assert_eq!(code(&client, 1, &assigned(&[&[NODE], &[NODE]])).await, 0);
}

#[tokio::test]
async fn a_topic_that_stands_twice_is_refused_once() {
    let client = Client::with_topic(1).await;
    let mut request = grow(TOPIC, 2);
    request.topics.push(request.topics[0].clone());
    let answer = client.call(3, &request).await;
    let found: Vec<_> = answer.results.iter().map(|r| r.error_code).collect();
    assert_eq!(found, [42]);
}
