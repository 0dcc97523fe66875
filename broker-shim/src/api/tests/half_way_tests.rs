//! Requests that ended half-way, topics that go away under their users, waits that cannot help.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewater_protocol::ErrorCode;
use tidewater_stream_store::bucket::MemoryBucket;
use tidewater_stream_store::{MetaOp, StoreConfig};
use tidewater_types::NodeId;

use super::client::{Client, TOPIC, memory_wal};
use super::offset_tests::{commit, commit_request, fetch};
use super::samples::{base_offsets, batch};
use crate::broker::NewTopic;
use crate::topics::names::CONSUMER_OFFSETS;
use crate::topics::record;

#[tokio::test]
async fn a_fetch_that_its_limits_keep_small_does_not_wait_for_more() {
    let client = Client::with_topic(2).await;
    for index in [0, 0, 1] {
        client.produce(TOPIC, index, batch(50)).await;
    }
    let mut request = client.fetch_request(12, TOPIC, &[(0, 0), (1, 0)]);
    (request.min_bytes, request.max_wait_ms) = (1 << 20, 60_000);
    request.topics[0].partitions[0].partition_max_bytes = 1;
    request.topics[0].partitions[1].partition_max_bytes = 1;
    let began = Instant::now();
    let answer = client.call(12, &request).await;
    assert!(began.elapsed() < Duration::from_secs(20));
    let records = answer.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(base_offsets(&records.into_bytes()), [0]);
}

#[tokio::test]
async fn a_fetch_under_way_is_answered_when_the_store_closes() {
    let client = Client::with_topic(1).await;
    client.produce(TOPIC, 0, batch(1)).await;
    let mut request = client.fetch_request(12, TOPIC, &[(0, 0)]);
    (request.min_bytes, request.max_wait_ms) = (1 << 20, 60_000);
    let began = Instant::now();
    let closes = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.broker.store.close().await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.call(12, &request), closes);
    assert!(began.elapsed() < Duration::from_secs(20));
    let records = answer.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(base_offsets(&records.into_bytes()), [0]);
}

async fn commit_at(client: &Client, offset: i64) -> Vec<i16> {
    let request = commit_request(client, 8, &[(TOPIC, 0, offset)]);
    commit(client, 8, &request).await
}

#[tokio::test]
async fn groups_go_on_in_an_offsets_topic_that_takes_the_place_of_a_deleted_one() {
    let client = Client::with_topic(1).await;
    assert_eq!(commit_at(&client, 7).await, [0]);
    client.broker.delete_topic(CONSUMER_OFFSETS).await.unwrap();
    assert_eq!(fetch(&client, 8, TOPIC, &[0]).await[0].1, -1);
    assert_eq!(commit_at(&client, 9).await, [0]);
    assert_eq!(fetch(&client, 8, TOPIC, &[0]).await[0].1, 9);
}

#[tokio::test]
async fn the_offsets_topic_does_not_grow() {
    let client = Client::with_topic(1).await;
    assert_eq!(commit_at(&client, 7).await, [0]);
    let refused = client
        .broker
        .add_partitions(CONSUMER_OFFSETS, 60, false)
        .await;
    assert_eq!(
        refused.unwrap_err().code,
        ErrorCode::INVALID_TOPIC_EXCEPTION
    );
}

#[tokio::test]
async fn a_topic_that_was_created_half_way_is_served_at_the_next_try() {
    let client = Client::with_topic(1).await;
    client.produce(TOPIC, 0, batch(2)).await;
    client.broker.topics.remove(TOPIC);
    let again = client.broker.auto_create(TOPIC).await;
    assert!(again.is_ok());
    assert_eq!(client.produce(TOPIC, 0, batch(1)).await, (0, 2));
}

#[tokio::test]
async fn a_topic_that_was_deleted_half_way_can_be_deleted() {
    let client = Client::with_topic(1).await;
    let stream = client.partition(TOPIC, 0).stream.id();
    let txn = vec![
        MetaOp::DeleteKey {
            key: record::key(TOPIC),
            expected_version: None,
        },
        MetaOp::DeleteStream { stream },
    ];
    client.broker.store.metadata().propose(txn).await.unwrap();
    client.broker.delete_topic(TOPIC).await.unwrap();
    assert!(client.broker.topics.by_name(TOPIC).is_none());
    client.create(TOPIC, 1, &[]).await;
    assert_eq!(client.produce(TOPIC, 0, batch(1)).await, (0, 0));
}

#[tokio::test]
async fn a_broker_that_was_replaced_administers_nothing() {
    let bucket = Arc::new(MemoryBucket::new());
    let old = Client::open_on(bucket.clone(), memory_wal()).await;
    old.create(TOPIC, 1, &[]).await;
    let new = Client::open_on(bucket, memory_wal()).await;
    let deleted = old.broker.delete_topic(TOPIC).await;
    assert_eq!(deleted.unwrap_err().code, ErrorCode::NOT_CONTROLLER);
    let grown = old.broker.add_partitions(TOPIC, 2, false).await;
    assert_eq!(grown.unwrap_err().code, ErrorCode::NOT_CONTROLLER);
    let topic = NewTopic {
        name: "late".to_owned(),
        num_partitions: 1,
        replication: 1,
        configs: BTreeMap::new(),
    };
    let created = old.broker.create_topic(topic, false).await;
    assert_eq!(created.unwrap_err().code, ErrorCode::NOT_CONTROLLER);
    let metadata = old.broker.store.metadata();
    let id = old.broker.producer_ids.next(metadata).await;
    assert_eq!(id.unwrap_err().code, ErrorCode::NOT_CONTROLLER);
    assert_eq!(new.produce(TOPIC, 0, batch(1)).await, (0, 0));
}

/// Its node was not registered anew, so nothing but the owner of the streams tells.
#[tokio::test]
async fn a_broker_whose_topics_another_node_has_changes_none_of_them() {
    let bucket = Arc::new(MemoryBucket::new());
    let old = Client::open_on(bucket.clone(), memory_wal()).await;
    old.create(TOPIC, 1, &[]).await;
    let other = StoreConfig {
        node: NodeId(2),
        accept_data_loss: true,
        ..StoreConfig::default()
    };
    let new = Client::open_as(other, bucket, memory_wal()).await;
    let grown = old.broker.add_partitions(TOPIC, 2, false).await;
    assert_eq!(grown.unwrap_err().code, ErrorCode::NOT_CONTROLLER);
    let deleted = old.broker.delete_topic(TOPIC).await;
    assert_eq!(deleted.unwrap_err().code, ErrorCode::NOT_CONTROLLER);
    let metadata = new.broker.store.metadata();
    metadata.refresh().await.unwrap();
    let (streams, stored) = metadata.read(|state| {
        let key = state.key(&record::key(TOPIC));
        (state.streams().count(), key.is_some())
    });
    assert_eq!((streams, stored), (1, true), "nothing was committed");
    assert_eq!(new.produce(TOPIC, 0, batch(1)).await, (0, 0));
}
