//! Idempotent producers: duplicates, gaps, epochs and ids.
//!
//! *IO: none*

use std::collections::BTreeSet;

use tidewater_protocol::messages::InitProducerIdRequest;

use super::client::{Client, TOPIC};
use super::samples::{base_offsets, record_offsets, stamped};

#[tokio::test]
async fn a_duplicate_of_the_last_five_batches_gets_its_first_offset() {
    let client = Client::with_topic(1).await;
    let id = client.producer_id().await;
    let batches: Vec<_> = (0..6).map(|n| stamped(id, 0, n * 2, 2)).collect();
    for (batch, base) in batches.iter().zip([0, 2, 4, 6, 8, 10]) {
        assert_eq!(client.produce(TOPIC, 0, batch.clone()).await, (0, base));
    }
    for (batch, base) in batches.iter().zip([0, 2, 4, 6, 8, 10]).skip(1) {
        assert_eq!(client.produce(TOPIC, 0, batch.clone()).await, (0, base));
    }
    // The first is out of the window: not known to be a duplicate any more.
    assert_eq!(client.produce(TOPIC, 0, batches[0].clone()).await, (45, -1));
    let stored = client.fetch(TOPIC, 0, 0).await;
    assert_eq!(base_offsets(&stored), [0, 2, 4, 6, 8, 10]);
}

#[tokio::test]
async fn sequences_are_kept_by_partition() {
    let client = Client::with_topic(2).await;
    let id = client.producer_id().await;
    assert_eq!(client.produce(TOPIC, 0, stamped(id, 0, 0, 3)).await, (0, 0));
    assert_eq!(client.produce(TOPIC, 1, stamped(id, 0, 0, 3)).await, (0, 0));
    assert_eq!(client.produce(TOPIC, 0, stamped(id, 0, 3, 1)).await, (0, 3));
    assert_eq!(
        client.produce(TOPIC, 1, stamped(id, 0, 4, 1)).await,
        (45, -1)
    );
}

#[tokio::test]
async fn a_gap_is_out_of_order_and_appends_nothing() {
    let client = Client::with_topic(1).await;
    let id = client.producer_id().await;
    assert_eq!(client.produce(TOPIC, 0, stamped(id, 0, 0, 2)).await, (0, 0));
    assert_eq!(
        client.produce(TOPIC, 0, stamped(id, 0, 3, 2)).await,
        (45, -1)
    );
    // A part of a batch that is there is no duplicate of it.
    assert_eq!(
        client.produce(TOPIC, 0, stamped(id, 0, 1, 1)).await,
        (45, -1)
    );
    assert_eq!(client.produce(TOPIC, 0, stamped(id, 0, 2, 2)).await, (0, 2));
}

#[tokio::test]
async fn an_epoch_starts_at_0_and_ends_the_older_ones() {
    let client = Client::with_topic(1).await;
    let id = client.producer_id().await;
    assert_eq!(client.produce(TOPIC, 0, stamped(id, 0, 0, 2)).await, (0, 0));
    assert_eq!(
        client.produce(TOPIC, 0, stamped(id, 1, 2, 1)).await,
        (45, -1)
    );
    assert_eq!(client.produce(TOPIC, 0, stamped(id, 1, 0, 1)).await, (0, 2));
    assert_eq!(
        client.produce(TOPIC, 0, stamped(id, 0, 2, 1)).await,
        (47, -1)
    );
    assert_eq!(
        client.produce(TOPIC, 0, stamped(id, 0, 0, 2)).await,
        (47, -1)
    );
}

#[tokio::test]
async fn sequences_wrap_to_0_after_the_last_i32() {
    let client = Client::with_topic(1).await;
    // A producer nobody knows may begin anywhere.
    let wrapping = stamped(77, 0, i32::MAX - 1, 4);
    assert_eq!(client.produce(TOPIC, 0, wrapping.clone()).await, (0, 0));
    assert_eq!(
        client.produce(TOPIC, 0, wrapping).await,
        (0, 0),
        "duplicate"
    );
    assert_eq!(
        client.produce(TOPIC, 0, stamped(77, 0, 3, 1)).await,
        (45, -1)
    );
    assert_eq!(client.produce(TOPIC, 0, stamped(77, 0, 2, 1)).await, (0, 4));
}

#[tokio::test]
async fn a_producer_id_needs_a_sequence() {
    let client = Client::with_topic(1).await;
    assert_eq!(
        client.produce(TOPIC, 0, stamped(77, 0, -1, 1)).await,
        (87, -1)
    );
}

#[tokio::test]
async fn batches_in_flight_are_duplicates_too() {
    let client = Client::with_topic(1).await;
    let id = client.producer_id().await;
    let request = client.produce_request(9, TOPIC, vec![(0, stamped(id, 0, 0, 2))]);
    let first = client.stage(9, &request).await.rest;
    let again = client.stage(9, &request).await.rest;
    let (_, _) = tokio::join!(first, again);
    let stored = client.fetch(TOPIC, 0, 0).await;
    assert_eq!(record_offsets(&stored), [0, 1]);
}

#[tokio::test]
async fn ids_are_distinct_beyond_one_block() {
    let client = Client::open().await;
    let mut seen = BTreeSet::new();
    for _ in 0..1001 {
        let id = client.producer_id().await;
        assert!(id >= 0 && seen.insert(id), "{id} twice");
    }
}

#[tokio::test]
async fn a_producer_that_asks_again_gets_another_id() {
    let client = Client::open().await;
    let first = client.producer_id().await;
    let again = InitProducerIdRequest {
        transactional_id: None,
        producer_id: first,
        producer_epoch: 0,
        ..Default::default()
    };
    let answer = client.call(4, &again).await;
    assert_eq!(answer.error_code, 0);
    assert_ne!((answer.producer_id, answer.producer_epoch), (first, 0));
}

#[tokio::test]
async fn transactional_ids_are_refused_in_every_version() {
    let client = Client::open().await;
    for version in client.versions::<InitProducerIdRequest>() {
        for id in ["", "t"] {
            let request = InitProducerIdRequest {
                transactional_id: Some(id.to_owned()),
                transaction_timeout_ms: 60_000,
                ..Default::default()
            };
            let answer = client.call(version, &request).await;
            let found = (answer.error_code, answer.producer_id, answer.producer_epoch);
            assert_eq!(found, (42, -1, -1), "v{version} {id:?}");
        }
    }
}
