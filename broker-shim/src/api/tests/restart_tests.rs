//! What outlives a broker that stops without a word.
//!
//! *IO: driver* (a folder with a bucket and a device WAL, a runtime for each life)

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewater_stream_store::bucket::LocalBucket;
use tidewater_stream_store::{DeviceWalConfig, DeviceWalOpener, TokioEnv};
use tidewater_types::Offset;

use super::client::{Client, TOPIC};
use super::offset_tests::{commit, commit_request, fetch};
use super::samples::{batch, headers, record_offsets, stamped};

/// One life of a broker on `folder`. It ends as by a kill: its tasks are dropped where they stand.
fn life<R>(folder: &Path, run: impl AsyncFnOnce(&Client) -> R) -> R {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(async {
        let client = open(folder).await;
        run(&client).await
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
    answer
}

async fn open(folder: &Path) -> Client {
    let bucket = LocalBucket::open(&folder.join("bucket")).unwrap();
    let config = DeviceWalConfig {
        capacity_bytes: 16 << 20,
        segment_bytes: 1 << 20,
        pool_bytes: 4 << 20,
        group_bytes_max: 256 << 10,
        window_bytes: 512 << 10,
        ..DeviceWalConfig::default()
    };
    let wal = DeviceWalOpener {
        path: folder.join("device.wal"),
        config,
        env: Arc::new(TokioEnv::current()),
    };
    Client::open_on(Arc::new(bucket), Box::new(wal)).await
}

/// Four batches of an idempotent producer, of 2 records each, and a plain one behind them.
async fn fill(client: &Client) -> i64 {
    client.create(TOPIC, 2, &[("retention.ms", "-1")]).await;
    let id = client.producer_id().await;
    for n in 0..4 {
        let batch = stamped(id, 0, n * 2, 2);
        assert_eq!(client.produce(TOPIC, 0, batch).await, (0, i64::from(n) * 2));
    }
    assert_eq!(client.produce(TOPIC, 0, batch(3)).await, (0, 8));
    let request = commit_request(client, 8, &[(TOPIC, 0, 6), (TOPIC, 1, 0)]);
    assert_eq!(commit(client, 8, &request).await, [0, 0]);
    id
}

/// Everything `fill` left is there, and its producer is still known.
async fn check_filled(client: &Client, id: i64) {
    let topic = client.broker.topics.by_name(TOPIC).unwrap();
    assert_eq!(topic.num_partitions(), 2);
    assert_eq!(topic.record.configs["retention.ms"], "-1");
    let stored = client.fetch(TOPIC, 0, 0).await;
    assert_eq!(record_offsets(&stored), (0..11).collect::<Vec<_>>());
    let sequences: Vec<_> = headers(&stored).iter().map(|h| h.base_sequence).collect();
    assert_eq!(sequences, [0, 2, 4, 6, -1]);
    let retry = |n: i32| stamped(id, 0, n, 2);
    assert_eq!(
        client.produce(TOPIC, 0, retry(6)).await,
        (0, 6),
        "the last batch again"
    );
    assert_eq!(
        client.produce(TOPIC, 0, retry(0)).await,
        (0, 0),
        "the first batch again"
    );
    assert_eq!(client.produce(TOPIC, 0, retry(10)).await, (45, -1), "a gap");
    assert_eq!(
        client.list_offsets(7, TOPIC, -1).await.offset,
        11,
        "nothing was appended"
    );
    let found = fetch(client, 8, TOPIC, &[0, 1]).await;
    let expected = [(0, 6, "at 6".to_owned(), 0), (1, 0, "at 0".to_owned(), 0)];
    assert_eq!(found, expected);
}

#[test]
fn acknowledged_records_producers_and_offsets_outlive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let id = life(folder.path(), async |client| fill(client).await);
    for _ in 0..2 {
        life(folder.path(), async |client| check_filled(client, id).await);
    }
    life(folder.path(), async |client| {
        assert_eq!(
            client.produce(TOPIC, 0, stamped(id, 0, 8, 1)).await,
            (0, 11)
        );
        assert_eq!(client.produce(TOPIC, 1, batch(1)).await, (0, 0));
    });
}

#[test]
fn the_same_once_all_was_uploaded_and_the_wal_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let id = life(folder.path(), async |client| {
        let id = fill(client).await;
        client.broker.store.flush().await.unwrap();
        let snapshot = client.partition(TOPIC, 0).stream.snapshot().await.unwrap();
        assert_eq!(
            snapshot.expect("uploaded with the records").as_of,
            Offset(11)
        );
        trimmed(client).await;
        id
    });
    for _ in 0..2 {
        life(folder.path(), async |client| check_filled(client, id).await);
    }
}

#[test]
fn the_same_with_a_part_uploaded_and_a_part_in_the_wal() {
    let folder = tempfile::tempdir().unwrap();
    let id = life(folder.path(), async |client| {
        let id = fill(client).await;
        client.broker.store.flush().await.unwrap();
        trimmed(client).await;
        assert_eq!(
            client.produce(TOPIC, 0, stamped(id, 0, 8, 3)).await,
            (0, 11)
        );
        let request = commit_request(client, 8, &[(TOPIC, 0, 14)]);
        assert_eq!(commit(client, 8, &request).await, [0]);
        id
    });
    life(folder.path(), async |client| {
        assert_eq!(
            client.produce(TOPIC, 0, stamped(id, 0, 8, 3)).await,
            (0, 11)
        );
        assert_eq!(client.produce(TOPIC, 0, stamped(id, 0, 6, 2)).await, (0, 6));
        assert_eq!(
            client.produce(TOPIC, 0, stamped(id, 0, 11, 1)).await,
            (0, 14)
        );
        assert_eq!(fetch(client, 8, TOPIC, &[0, 1]).await[0].1, 14);
        assert_eq!(fetch(client, 8, TOPIC, &[0, 1]).await[1].1, 0);
    });
}

/// Waits until the WAL holds nothing that is not in the bucket too.
async fn trimmed(client: &Client) {
    let began = Instant::now();
    loop {
        let marks = client.broker.store.counters().watermarks;
        if marks.trimmed == marks.accepted {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{marks:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn producer_ids_are_never_given_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let ids = life(folder.path(), async |client| {
            [client.producer_id().await, client.producer_id().await]
        });
        for id in ids {
            assert!(seen.insert(id), "{id} twice");
        }
    }
}

#[test]
fn leader_epochs_rise_with_every_life() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = 0;
    for n in 0..3 {
        let epoch = life(folder.path(), async |client| {
            if n == 0 {
                client.create(TOPIC, 1, &[]).await;
            }
            client.partition(TOPIC, 0).leader_epoch()
        });
        assert!(epoch > last, "{epoch} after {last}");
        last = epoch;
    }
}

#[test]
fn a_deleted_topic_stays_deleted_and_its_name_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    life(folder.path(), async |client| {
        fill(client).await;
        client.broker.delete_topic(TOPIC).await.unwrap();
    });
    life(folder.path(), async |client| {
        assert_eq!(client.produce(TOPIC, 0, batch(1)).await, (3, -1));
        client.create(TOPIC, 1, &[]).await;
        assert_eq!(client.produce(TOPIC, 0, batch(2)).await, (0, 0));
    });
    life(folder.path(), async |client| {
        assert_eq!(record_offsets(&client.fetch(TOPIC, 0, 0).await), [0, 1]);
    });
}
