//! Fetch: limits, offsets, waits, epochs.
//!
//! *IO: none*

use std::time::{Duration, Instant};

use tidewater_protocol::messages::FetchRequest;

use super::client::{Client, NODE, TOPIC};
use super::samples::{base_offsets, batch, record_offsets};

/// Far more than any answer takes, far less than the waits that must not happen.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_offset_inside_a_batch_gives_the_batch_whole() {
    let client = Client::with_topic(1).await;
    client.produce(TOPIC, 0, batch(3)).await;
    client.produce(TOPIC, 0, batch(2)).await;
    for version in client.versions::<FetchRequest>() {
        let data = client.fetch_as(version, TOPIC, 0, 1).await;
        let found = (
            data.error_code,
            data.high_watermark,
            data.last_stable_offset,
        );
        assert_eq!(found, (0, 5, 5), "v{version}");
        let records = data.records.unwrap().into_bytes();
        assert_eq!(record_offsets(&records), [0, 1, 2, 3, 4], "v{version}");
    }
    assert_eq!(base_offsets(&client.fetch(TOPIC, 0, 4).await), [3]);
}

#[tokio::test]
async fn the_first_batch_comes_whatever_the_limits_say() {
    let client = Client::with_topic(1).await;
    client.produce(TOPIC, 0, batch(50)).await;
    client.produce(TOPIC, 0, batch(50)).await;
    for (max_bytes, partition_max_bytes) in [(1, 1 << 20), (1 << 20, 1), (0, 0), (-1, -1)] {
        let mut request = client.fetch_request(12, TOPIC, &[(0, 0)]);
        request.max_bytes = max_bytes;
        request.topics[0].partitions[0].partition_max_bytes = partition_max_bytes;
        let answer = client.call(12, &request).await;
        let records = answer.responses[0].partitions[0].records.clone().unwrap();
        assert_eq!(base_offsets(&records.into_bytes()), [0]);
    }
}

#[tokio::test]
async fn every_further_partition_keeps_to_the_limits() {
    let client = Client::with_topic(3).await;
    for index in 1..3 {
        client.produce(TOPIC, index, batch(10)).await;
    }
    let size = i32::try_from(batch(10).len()).unwrap();
    // Partition 0 is empty, so 1 is the first with data.
    for (max_bytes, partition_max_bytes, second) in [
        (size, size, 0),
        (size * 2 - 1, size, 0),
        (size * 2, size, 1),
        (size * 9, 1, 0),
    ] {
        let mut request = client.fetch_request(12, TOPIC, &[(0, 0), (1, 0), (2, 0)]);
        request.max_bytes = max_bytes;
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = partition_max_bytes;
        }
        let answer = client.call(12, &request).await;
        let batches = answer.responses[0].partitions.iter().map(|data| {
            let records = data.records.clone().expect("never null");
            base_offsets(&records.into_bytes()).len()
        });
        let found: Vec<_> = batches.collect();
        assert_eq!(found, [0, 1, second], "{max_bytes} {partition_max_bytes}");
    }
}

#[tokio::test]
async fn offsets_outside_of_the_log_are_out_of_range() {
    let client = Client::with_topic(1).await;
    client.produce(TOPIC, 0, batch(4)).await;
    client.produce(TOPIC, 0, batch(4)).await;
    let stream = client.partition(TOPIC, 0).stream.clone();
    stream.trim(tidewater_types::Offset(4)).await.unwrap();
    for version in client.versions::<FetchRequest>() {
        for offset in [-1, 0, 3, 9, i64::MAX] {
            let data = client.fetch_as(version, TOPIC, 0, offset).await;
            assert_eq!(data.error_code, 1, "v{version} {offset}");
            assert!(data.records.is_some_and(|records| records.is_empty()));
        }
        let data = client.fetch_as(version, TOPIC, 0, 8).await;
        assert_eq!((data.error_code, data.high_watermark), (0, 8));
        assert!(data.records.is_some_and(|records| records.is_empty()));
        assert_eq!(data.log_start_offset, if version >= 5 { 4 } else { -1 });
    }
}

#[tokio::test]
async fn a_long_poll_ends_with_the_first_record() {
    let client = Client::with_topic(2).await;
    let mut request = client.fetch_request(12, TOPIC, &[(0, 0), (1, 0)]);
    request.max_wait_ms = 60_000;
    let began = Instant::now();
    let produce = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.produce(TOPIC, 1, batch(1)).await
    };
    let (answer, _) = tokio::join!(client.call(12, &request), produce);
    assert!(began.elapsed() >= Duration::from_millis(50) && began.elapsed() < SOON);
    let records = answer.responses[0].partitions[1].records.clone().unwrap();
    assert_eq!(record_offsets(&records.into_bytes()), [0]);
}

#[tokio::test]
async fn a_long_poll_waits_for_min_bytes() {
    let client = Client::with_topic(1).await;
    client.produce(TOPIC, 0, batch(1)).await;
    let mut request = client.fetch_request(12, TOPIC, &[(0, 0)]);
    request.max_wait_ms = 60_000;
    request.min_bytes = i32::try_from(batch(1).len() * 3).unwrap();
    let produce = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.produce(TOPIC, 0, batch(1)).await;
        }
    };
    let (answer, ()) = tokio::join!(client.call(12, &request), produce);
    let records = answer.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(record_offsets(&records.into_bytes()), [0, 1, 2]);
}

#[tokio::test]
async fn a_long_poll_ends_empty_when_its_time_is_over() {
    let client = Client::with_topic(1).await;
    let mut request = client.fetch_request(12, TOPIC, &[(0, 0)]);
    request.max_wait_ms = 60;
    let began = Instant::now();
    let answer = client.call(12, &request).await;
    assert!(began.elapsed() >= Duration::from_millis(60) && began.elapsed() < SOON);
    let data = &answer.responses[0].partitions[0];
    assert_eq!((data.error_code, data.high_watermark), (0, 0));
    assert!(
        data.records
            .as_ref()
            .is_some_and(|records| records.is_empty())
    );
}

#[tokio::test]
async fn min_bytes_out_of_reach_of_the_limits_still_ends() {
    let client = Client::with_topic(1).await;
    for _ in 0..4 {
        client.produce(TOPIC, 0, batch(1)).await;
    }
    let mut request = client.fetch_request(12, TOPIC, &[(0, 0)]);
    request.max_wait_ms = 100;
    request.min_bytes = 1 << 20;
    request.topics[0].partitions[0].partition_max_bytes = 10;
    // More is there at once, but not for this request: it must not look again and again.
    let fetched = tokio::time::timeout(SOON, client.call(12, &request)).await;
    let answer = fetched.expect("answered in time");
    let records = answer.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(record_offsets(&records.into_bytes()), [0]);
}

#[tokio::test]
async fn an_error_does_not_wait() {
    let client = Client::with_topic(1).await;
    let mut request = client.fetch_request(12, TOPIC, &[(0, 0), (5, 0)]);
    request.max_wait_ms = 60_000;
    let began = Instant::now();
    let answer = client.call(12, &request).await;
    assert!(began.elapsed() < SOON);
    let parts = &answer.responses[0].partitions;
    assert_eq!((parts[0].error_code, parts[1].error_code), (0, 3));
}

#[tokio::test]
async fn sessions_are_not_kept() {
    let client = Client::with_topic(1).await;
    for version in 7..=18 {
        let mut request = client.fetch_request(version, TOPIC, &[(0, 0)]);
        request.session_id = 5;
        request.session_epoch = 1;
        assert_eq!(client.call(version, &request).await.error_code, 70);
        request.session_id = 0;
        assert_eq!(client.call(version, &request).await.error_code, 71);
        for epoch in [-1, 0] {
            request.session_epoch = epoch;
            let answer = client.call(version, &request).await;
            assert_eq!((answer.error_code, answer.session_id), (0, 0));
        }
    }
}

#[tokio::test]
async fn a_wrong_leader_epoch_is_told_apart_from_a_future_one() {
    let client = Client::with_topic(1).await;
    let epoch = client.partition(TOPIC, 0).leader_epoch();
    assert!(epoch > 0);
    for version in 9..=18 {
        for (current, code) in [(-1, 0), (epoch, 0), (epoch - 1, 74), (epoch + 1, 75)] {
            let mut request = client.fetch_request(version, TOPIC, &[(0, 0)]);
            request.topics[0].partitions[0].current_leader_epoch = current;
            let answer = client.call(version, &request).await;
            let data = &answer.responses[0].partitions[0];
            assert_eq!(data.error_code, code, "v{version} {current}");
            let hinted = code == 74 && version >= 12;
            let leader = if hinted { (NODE, epoch) } else { (-1, -1) };
            let found = (
                data.current_leader.leader_id,
                data.current_leader.leader_epoch,
            );
            assert_eq!(found, leader, "v{version} {current}");
            let endpoints = usize::from(code == 74 && version >= 16);
            assert_eq!(answer.node_endpoints.len(), endpoints, "v{version}");
        }
    }
}

#[tokio::test]
async fn unknown_topics_are_named_by_name_or_by_id() {
    let client = Client::with_topic(1).await;
    for version in client.versions::<FetchRequest>() {
        let expected = if version >= 13 { 100 } else { 3 };
        let data = client.fetch_as(version, "nowhere", 0, 0).await;
        assert_eq!(
            (data.error_code, data.high_watermark),
            (expected, -1),
            "v{version}"
        );
        let data = client.fetch_as(version, TOPIC, 1, 0).await;
        assert_eq!(data.error_code, 3, "v{version}");
    }
}

#[tokio::test]
async fn topics_and_partitions_come_in_the_order_of_the_request() {
    let client = Client::with_topic(3).await;
    client.create("a", 1, &[]).await;
    for version in [4, 12, 13, 18] {
        let mut request = client.fetch_request(version, TOPIC, &[(2, 0), (0, 0), (9, 0), (1, 0)]);
        let other = client.fetch_request(version, "a", &[(0, 0)]).topics;
        request.topics.extend(other);
        let answer = client.call(version, &request).await;
        let asked = request.topics.iter().flat_map(|t| {
            let id = |p: i32| (t.topic.clone(), t.topic_id, p);
            t.partitions.iter().map(move |p| id(p.partition))
        });
        let found = answer.responses.iter().flat_map(|t| {
            let id = |p: i32| (t.topic.clone(), t.topic_id, p);
            t.partitions.iter().map(move |p| id(p.partition_index))
        });
        assert!(asked.eq(found), "v{version}");
    }
}

#[tokio::test]
async fn a_reader_of_committed_data_is_told_of_no_aborted_transactions() {
    let client = Client::with_topic(1).await;
    client.produce(TOPIC, 0, batch(1)).await;
    let mut request = client.fetch_request(12, TOPIC, &[(0, 0)]);
    request.isolation_level = 1;
    let answer = client.call(12, &request).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!(data.aborted_transactions, Some(Vec::new()));
    assert_eq!(data.last_stable_offset, 1);
}
