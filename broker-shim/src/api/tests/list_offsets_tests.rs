//! ListOffsets: special timestamps by version, and look-up by time.
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_protocol::messages::ListOffsetsRequest;
use tidewater_protocol::messages::list_offsets_request::ListOffsetsPartition;
use tidewater_stream_store::bucket::MemoryBucket;

use super::client::{Client, TOPIC, memory_wal};
use super::samples::{T, batch, batch_at};
use crate::records::testdata;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING: i64 = -6;

#[tokio::test]
async fn each_special_timestamp_is_known_from_its_version_on() {
    let client = Client::with_topic(1).await;
    client.produce(TOPIC, 0, testdata::aiokafka("zstd")).await;
    client.produce(TOPIC, 0, batch_at(T - 5, 2)).await;
    let stream = client.partition(TOPIC, 0).stream.clone();
    stream.trim(tidewater_types::Offset(1)).await.unwrap();
    let start = i64::try_from(stream.start().0).unwrap();
    for version in client.versions::<ListOffsetsRequest>() {
        let cases = [
            (LATEST, 1, (5, -1)),
            (EARLIEST, 1, (start, -1)),
            (MAX_TIMESTAMP, 7, (1, T + 7)),
            (EARLIEST_LOCAL, 8, (start, -1)),
            (LATEST_TIERED, 9, (-1, -1)),
            (EARLIEST_PENDING, 11, (-1, -1)),
            (-7, i16::MAX, (-1, -1)),
        ];
        for (timestamp, since, expected) in cases {
            let found = client.list_offsets(version, TOPIC, timestamp).await;
            let (code, at) = if version < since {
                (35, (-1, -1))
            } else {
                (0, expected)
            };
            assert_eq!(found.error_code, code, "v{version} {timestamp}");
            assert_eq!(
                (found.offset, found.timestamp),
                at,
                "v{version} {timestamp}"
            );
        }
    }
}

#[tokio::test]
async fn a_time_is_found_inside_compressed_batches() {
    let client = Client::with_topic(1).await;
    for (index, codec) in testdata::CODEC_NAMES.into_iter().enumerate() {
        let topic = format!("topic-{codec}");
        client.create(&topic, 1, &[]).await;
        // An older batch in front, a younger one behind.
        client.produce(&topic, 0, batch_at(T - 1_000, 4)).await;
        client.produce(&topic, 0, testdata::aiokafka(codec)).await;
        client.produce(&topic, 0, batch_at(T + 1_000, 1)).await;
        let version = [1, 3, 4, 6, 11][index];
        let cases = [
            (0, (0, T - 1_000)),
            (T - 999, (1, T - 999)),
            (T - 10, (4, T)),
            (T, (4, T)),
            (T + 1, (5, T + 7)),
            (T + 7, (5, T + 7)),
            (T + 8, (7, T + 1_000)),
            (T + 1_000, (7, T + 1_000)),
            (T + 1_001, (-1, -1)),
            (i64::MAX, (-1, -1)),
        ];
        for (timestamp, expected) in cases {
            let found = client.list_offsets(version, &topic, timestamp).await;
            assert_eq!(found.error_code, 0, "{codec} {timestamp}");
            assert_eq!(
                (found.offset, found.timestamp),
                expected,
                "{codec} {timestamp}"
            );
        }
    }
}

#[tokio::test]
async fn an_empty_topic_has_no_times_but_a_begin_and_an_end() {
    let client = Client::with_topic(1).await;
    for (timestamp, offset) in [
        (0, -1),
        (T, -1),
        (MAX_TIMESTAMP, -1),
        (LATEST, 0),
        (EARLIEST, 0),
    ] {
        let found = client.list_offsets(7, TOPIC, timestamp).await;
        let expected = (0, offset, -1);
        assert_eq!(
            (found.error_code, found.offset, found.timestamp),
            expected,
            "{timestamp}"
        );
    }
}

#[tokio::test]
async fn the_epoch_is_the_records_and_not_todays() {
    let bucket = Arc::new(MemoryBucket::new());
    let before = Client::open_on(bucket.clone(), memory_wal()).await;
    before.create(TOPIC, 1, &[]).await;
    before.produce(TOPIC, 0, testdata::aiokafka("gzip")).await;
    let old = before.partition(TOPIC, 0).leader_epoch();
    before.broker.store.flush().await.unwrap();
    before.broker.store.close().await.unwrap();
    let client = Client::open_on(bucket, memory_wal()).await;
    let new = client.partition(TOPIC, 0).leader_epoch();
    assert!(new > old, "{new} {old}");
    client.produce(TOPIC, 0, batch_at(T + 100, 1)).await;
    let cases = [
        (T + 1, old),
        (EARLIEST, old),
        (T + 100, new),
        (MAX_TIMESTAMP, new),
        (LATEST, new),
    ];
    for (timestamp, epoch) in cases {
        let found = client.list_offsets(11, TOPIC, timestamp).await;
        assert_eq!(
            (found.error_code, found.leader_epoch),
            (0, epoch),
            "{timestamp}"
        );
        let found = client.list_offsets(3, TOPIC, timestamp.max(LATEST)).await;
        assert_eq!(
            (found.error_code, found.leader_epoch),
            (0, -1),
            "v3 has no epochs"
        );
    }
}

#[tokio::test]
async fn a_partition_that_stands_twice_is_refused_alone() {
    let client = Client::with_topic(2).await;
    client.produce(TOPIC, 1, batch(3)).await;
    let at = |partition_index| ListOffsetsPartition {
        partition_index,
        timestamp: LATEST,
        ..Default::default()
    };
    let mut request = ListOffsetsRequest::default();
    request.topics.resize_with(2, Default::default);
    for topic in &mut request.topics {
        topic.name = TOPIC.to_owned();
        topic.partitions = vec![at(0)];
    }
    request.topics[0].partitions.push(at(1));
    let answer = client.call(6, &request).await;
    let parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let found: Vec<_> = parts
        .map(|p| (p.partition_index, p.error_code, p.offset))
        .collect();
    assert_eq!(found, [(0, 42, -1), (1, 0, 3), (0, 42, -1)]);
}

#[tokio::test]
async fn unknown_partitions_and_wrong_epochs_are_refused() {
    let client = Client::with_topic(1).await;
    for version in client.versions::<ListOffsetsRequest>() {
        assert_eq!(
            client
                .list_offsets(version, "nowhere", LATEST)
                .await
                .error_code,
            3
        );
    }
    let epoch = client.partition(TOPIC, 0).leader_epoch();
    for (current_leader_epoch, code) in [(-1, 0), (epoch - 1, 74), (epoch, 0), (epoch + 1, 75)] {
        let mut request = ListOffsetsRequest::default();
        request.topics.resize_with(1, Default::default);
        request.topics[0].name = TOPIC.to_owned();
        request.topics[0].partitions = vec![ListOffsetsPartition {
            current_leader_epoch,
            timestamp: LATEST,
            ..Default::default()
        }];
        let answer = client.call(4, &request).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, code);
    }
}
