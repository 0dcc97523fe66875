//! Produce: what is taken, what is refused and how.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_protocol::messages::{FindCoordinatorRequest, ProduceRequest};

use super::client::{Client, TOPIC};
use super::samples::{
    T, base_offsets, batch, batch_at, damaged, headers, joined, stamped, transactional,
    with_attributes, with_base_offset, with_magic,
};
use crate::net::Reply;
use crate::records::{TimestampType, testdata};

const LOG_APPEND_TIME: u8 = 1 << 3;
const CONTROL: u8 = 1 << 5;

#[tokio::test]
async fn batches_get_the_next_offsets_in_every_version() {
    let client = Client::with_topic(1).await;
    let mut next = 0;
    for version in client.versions::<ProduceRequest>() {
        let answer = client.produce_as(version, TOPIC, 0, batch(3)).await;
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, next),
            "v{version}"
        );
        assert_eq!(answer.log_append_time_ms, -1, "v{version}");
        assert_eq!(answer.log_start_offset, if version >= 5 { 0 } else { -1 });
        next += 3;
    }
    let stored = headers(&client.fetch(TOPIC, 0, 0).await);
    let epoch = client.partition(TOPIC, 0).leader_epoch();
    assert!(stored.iter().all(|h| h.partition_leader_epoch == epoch));
}

#[tokio::test]
async fn the_log_start_offset_is_answered() {
    let client = Client::with_topic(1).await;
    client.produce(TOPIC, 0, batch(5)).await;
    client.produce(TOPIC, 0, batch(5)).await;
    let stream = client.partition(TOPIC, 0).stream.clone();
    stream.trim(tidewater_types::Offset(5)).await.unwrap();
    let answer = client.produce_as(9, TOPIC, 0, batch(1)).await;
    assert_eq!((answer.base_offset, answer.log_start_offset), (10, 5));
}

#[tokio::test]
async fn acks_other_than_0_1_and_all_are_refused() {
    let client = Client::with_topic(1).await;
    for acks in [2, -2, i16::MAX] {
        let mut request = client.produce_request(9, TOPIC, vec![(0, batch(1))]);
        request.acks = acks;
        let answer = client.call(9, &request).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 21);
    }
    assert_eq!(client.list_offsets(1, TOPIC, -1).await.offset, 0);
}

#[tokio::test]
async fn acks_0_has_no_answer_and_an_error_closes() {
    let client = Client::with_topic(1).await;
    let mut request = client.produce_request(9, TOPIC, vec![(0, batch(2))]);
    request.acks = 0;
    assert!(matches!(client.outcome(9, &request).await, Reply::None));
    let mut request = client.produce_request(9, TOPIC, vec![(0, damaged(&batch(2)))]);
    request.acks = 0;
    assert!(matches!(client.outcome(9, &request).await, Reply::Close));
    assert_eq!(client.produce(TOPIC, 0, batch(1)).await, (0, 2));
}

#[tokio::test]
async fn partitions_hold_or_lack_exactly_one_batch_of_magic_2() {
    let client = Client::with_topic(1).await;
    let one = batch(2);
    let refused: [(&str, Bytes, i16); 9] = [
        ("nothing", Bytes::new(), 87),
        ("two batches", joined(&[one.clone(), one.clone()]), 87),
        ("half a batch", one.slice(..one.len() - 1), 87),
        ("magic 0", with_magic(&one, 0), 87),
        ("magic 1", with_magic(&one, 1), 87),
        ("magic 3", with_magic(&one, 3), 2),
        ("a base offset", with_base_offset(&one, 5), 87),
        ("a control batch", with_attributes(&one, CONTROL), 87),
        ("a wrong checksum", damaged(&one), 2),
    ];
    for (what, records, code) in refused {
        assert_eq!(
            client.produce(TOPIC, 0, records).await,
            (code, -1),
            "{what}"
        );
    }
    let mut request = client.produce_request(9, TOPIC, vec![(0, one.clone())]);
    request.topic_data[0].partition_data[0].records = None;
    let answer = client.call(9, &request).await;
    assert_eq!(
        answer.responses[0].partition_responses[0].error_code, 87,
        "null"
    );
    assert_eq!(
        client.produce(TOPIC, 0, one).await,
        (0, 0),
        "nothing was appended"
    );
}

#[tokio::test]
async fn one_bad_partition_does_not_refuse_the_others() {
    let client = Client::with_topic(3).await;
    let batches = vec![
        (2, batch(1)),
        (1, damaged(&batch(1))),
        (7, batch(1)),
        (0, batch(4)),
    ];
    let request = client.produce_request(13, TOPIC, batches);
    let answer = client.call(13, &request).await;
    let parts = &answer.responses[0].partition_responses;
    let found: Vec<_> = parts.iter().map(|p| (p.index, p.error_code)).collect();
    assert_eq!(found, [(2, 0), (1, 2), (7, 3), (0, 0)]);
}

#[tokio::test]
async fn a_batch_over_max_message_bytes_is_too_large() {
    let client = Client::open().await;
    let limit = batch(3).len();
    client
        .create(TOPIC, 1, &[("max.message.bytes", &limit.to_string())])
        .await;
    assert_eq!(client.produce(TOPIC, 0, batch(4)).await, (10, -1));
    assert_eq!(client.produce(TOPIC, 0, batch(3)).await, (0, 0));
}

#[tokio::test]
async fn zstd_needs_version_7() {
    let client = Client::with_topic(1).await;
    let batch = testdata::aiokafka("zstd");
    for version in 3..7 {
        let answer = client.produce_as(version, TOPIC, 0, batch.clone()).await;
        assert_eq!(answer.error_code, 76, "v{version}");
    }
    let answer = client.produce_as(7, TOPIC, 0, batch).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
}

#[tokio::test]
async fn compressed_batches_are_stored_as_they_came() {
    let client = Client::with_topic(1).await;
    for (index, codec) in testdata::CODEC_NAMES.into_iter().enumerate() {
        let sent = testdata::aiokafka(codec);
        let base = i64::try_from(index).unwrap() * 3;
        assert_eq!(
            client.produce(TOPIC, 0, sent.clone()).await,
            (0, base),
            "{codec}"
        );
        let stored = client.fetch(TOPIC, 0, base).await;
        assert_eq!(stored[16..], sent[16..], "{codec}");
    }
}

#[tokio::test]
async fn a_compacted_topic_wants_keys() {
    let client = Client::open().await;
    client
        .create(TOPIC, 1, &[("cleanup.policy", "compact")])
        .await;
    // The second of its records has no key.
    let sent = testdata::aiokafka("gzip");
    let answer = client.produce_as(8, TOPIC, 0, sent.clone()).await;
    assert_eq!(answer.error_code, 87);
    let named: Vec<_> = answer.record_errors.iter().map(|e| e.batch_index).collect();
    assert_eq!(named, [1]);
    assert!(answer.record_errors[0].batch_index_error_message.is_some());
    assert!(answer.error_message.is_some());
    let answer = client.produce_as(7, TOPIC, 0, sent).await;
    assert_eq!((answer.error_code, answer.record_errors.len()), (87, 0));
    assert_eq!(client.produce(TOPIC, 0, batch(1)).await, (0, 0));
}

#[tokio::test]
async fn timestamps_out_of_range_are_refused_by_record() {
    let client = Client::with_topic(1).await;
    let now = client.broker.env.wall_ms();
    // The hour ends between the two records.
    let late = batch_at(now + 3_600_000 + 60_000, 2);
    let answer = client.produce_as(8, TOPIC, 0, late).await;
    assert_eq!((answer.error_code, answer.record_errors.len()), (32, 2));
    let marked = with_attributes(&batch(1), LOG_APPEND_TIME);
    assert_eq!(client.produce(TOPIC, 0, marked).await, (32, -1));
    client
        .create("bounded", 1, &[("message.timestamp.before.max.ms", "1000")])
        .await;
    assert_eq!(
        client
            .produce("bounded", 0, batch_at(now - 60_000, 1))
            .await,
        (32, -1)
    );
    assert_eq!(client.produce("bounded", 0, batch_at(now, 1)).await, (0, 0));
}

#[tokio::test]
async fn log_append_time_replaces_the_time_and_the_checksum() {
    let client = Client::open().await;
    client
        .create(TOPIC, 1, &[("message.timestamp.type", "LogAppendTime")])
        .await;
    let before = client.broker.env.wall_ms();
    let answer = client
        .produce_as(9, TOPIC, 0, testdata::aiokafka("lz4"))
        .await;
    let after = client.broker.env.wall_ms();
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    let time = answer.log_append_time_ms;
    assert!((before..=after).contains(&time), "{before} {time} {after}");
    // `headers` checks the checksum.
    let stored = headers(&client.fetch(TOPIC, 0, 0).await);
    assert_eq!(stored[0].timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(stored[0].max_timestamp, time);
    let found = client.list_offsets(5, TOPIC, T + 1_000).await;
    assert_eq!((found.offset, found.timestamp), (0, time));
}

#[tokio::test]
async fn the_offsets_topic_is_written_by_its_coordinator_alone() {
    let client = Client::open().await;
    let request = FindCoordinatorRequest {
        key: "g".to_owned(),
        ..Default::default()
    };
    assert_eq!(client.call(0, &request).await.error_code, 0);
    let internal = "__consumer_offsets";
    assert_eq!(client.produce(internal, 3, batch(1)).await, (17, -1));
    let admin = client.named("__admin_client");
    assert_eq!(admin.produce(internal, 3, batch(1)).await, (17, -1));
}

#[tokio::test]
async fn unknown_topics_are_named_by_name_or_by_id() {
    let client = Client::with_topic(1).await;
    for version in client.versions::<ProduceRequest>() {
        let answer = client.produce_as(version, "nowhere", 0, batch(1)).await;
        let expected = if version >= 13 { 100 } else { 3 };
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (expected, -1),
            "v{version}"
        );
        let answer = client.produce_as(version, TOPIC, 1, batch(1)).await;
        assert_eq!(answer.error_code, 3, "v{version}, partition 1 of 1");
        let answer = client.produce_as(version, TOPIC, -1, batch(1)).await;
        assert_eq!(answer.error_code, 3, "v{version}, partition -1");
    }
}

#[tokio::test]
async fn transactions_are_refused() {
    let client = Client::with_topic(1).await;
    assert_eq!(client.produce(TOPIC, 0, transactional(5)).await, (48, -1));
    let mut request = client.produce_request(9, TOPIC, vec![(0, stamped(5, 0, 0, 1))]);
    request.transactional_id = Some("t".to_owned());
    let answer = client.call(9, &request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 48);
    assert_eq!(
        base_offsets(&client.fetch(TOPIC, 0, 0).await),
        Vec::<i64>::new()
    );
}

#[tokio::test]
async fn requests_of_one_connection_keep_their_order() {
    let client = Client::with_topic(1).await;
    let mut rests = Vec::new();
    for count in 1..=8 {
        let request = client.produce_request(9, TOPIC, vec![(0, batch(count))]);
        // Nothing was answered yet when the next one is looked at.
        rests.push(client.stage(9, &request).await.rest);
    }
    for rest in rests {
        assert!(matches!(rest.await, Reply::Segments(_)));
    }
    let stored = headers(&client.fetch(TOPIC, 0, 0).await);
    let counts: Vec<_> = stored.iter().map(|header| header.num_records).collect();
    assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8]);
}
