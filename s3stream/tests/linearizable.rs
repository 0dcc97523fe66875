//! Eight processes race on one metadata log: each transaction takes effect once, at one moment.
//!
//! Runs in memory, in a local directory, and (ignored, `cargo xtask test` runs it) on the S3 store
//! that `TIDEWATER_TEST_S3_ENDPOINT`, `…_BUCKET`, `…_ACCESS_KEY_ID` and `…_SECRET_ACCESS_KEY` name.
//! The simulator does the same with faults (scenario `metadata`).
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketOptions, LocalBucket, MemoryBucket, S3Bucket};
use tidewater_s3stream::{MetaConfig, MetaError, MetaOp, Metadata, Rejection};
use tidewater_types::{BoxFuture, Env, Instant};

const WRITERS: u64 = 8;

struct TokioEnv(tokio::time::Instant);

impl Env for TokioEnv {
    fn now(&self) -> Instant {
        Instant::default().after(self.0.elapsed())
    }

    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.unwrap().as_millis().try_into().unwrap()
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn(&self, _label: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn random(&self, label: &'static str) -> u64 {
        RandomState::new().hash_one(label)
    }
}

async fn open(bucket: Arc<dyn Bucket>, config: &MetaConfig) -> Metadata {
    let env = Arc::new(TokioEnv(tokio::time::Instant::now()));
    Metadata::open(bucket, env, config.clone()).await.unwrap()
}

/// When a transaction was handed in and answered, in an order all writers share.
type Calls = BTreeMap<u64, (u64, u64)>;

/// One writer: appends `rounds` ids to one list by compare-and-set.
async fn write(metadata: Metadata, writer: u64, rounds: u64, clock: Arc<AtomicU64>) -> Calls {
    let mut calls = Calls::new();
    for round in 0..rounds {
        let id = writer * 1_000 + round;
        loop {
            let (mut list, version) = list(&metadata);
            assert!(
                !list.contains(&id),
                "{id} took effect although it was refused"
            );
            list.push(id);
            let value: Vec<u8> = list.into_iter().flat_map(u64::to_le_bytes).collect();
            let append = MetaOp::PutKey {
                key: "list".to_owned(),
                value: Bytes::from(value),
                expected_version: Some(version),
            };
            let begun = clock.fetch_add(1, Ordering::SeqCst);
            match metadata.propose(vec![append]).await {
                Ok(()) => {
                    calls.insert(id, (begun, clock.fetch_add(1, Ordering::SeqCst)));
                    break;
                }
                Err(MetaError::Rejected {
                    reason: Rejection::KeyVersion { .. },
                    ..
                }) => {}
                Err(err) => panic!("{err}"),
            }
        }
    }
    calls
}

fn list(metadata: &Metadata) -> (Vec<u64>, u64) {
    metadata.read(|state| {
        let (value, version) = state.key("list").map_or((&[][..], 0), |(v, n)| (&v[..], n));
        let (words, _) = value.as_chunks::<8>();
        let ids = words.iter().map(|word| u64::from_le_bytes(*word));
        (ids.collect(), version)
    })
}

async fn race(buckets: Vec<Arc<dyn Bucket>>, rounds: u64, config: MetaConfig) {
    let clock = Arc::new(AtomicU64::new(0));
    let (mut all, mut writers) = (Vec::new(), Vec::new());
    for (writer, bucket) in (0..).zip(&buckets) {
        let metadata = open(Arc::clone(bucket), &config).await;
        all.push(metadata.clone());
        writers.push(tokio::spawn(write(
            metadata,
            writer,
            rounds,
            Arc::clone(&clock),
        )));
    }
    let mut calls = Calls::new();
    for writer in writers {
        calls.extend(writer.await.unwrap());
    }
    let opened = open(Arc::clone(&buckets[0]), &config).await;
    let (ids, version) = list(&opened);
    assert_eq!(version, WRITERS * rounds, "each took effect once");
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, calls.keys().copied().collect::<Vec<_>>());
    let mut begun_last = 0;
    for id in ids {
        let (begun, answered) = calls[&id];
        assert!(
            answered > begun_last,
            "{id} was answered before one in front of it began"
        );
        begun_last = begun_last.max(begun);
    }
    let state = opened.read(Clone::clone);
    for metadata in all {
        metadata.refresh().await.unwrap();
        assert!(
            metadata.read(|other| *other == state),
            "two processes differ"
        );
    }
}

/// Snapshots and deletion join in.
fn eager() -> MetaConfig {
    MetaConfig {
        snapshot_entries: 10,
        delete_delay: Duration::from_millis(100),
        backoff_min: Duration::from_millis(1),
        ..MetaConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_writers_in_memory() {
    let bucket = MemoryBucket::new();
    let buckets = (0..WRITERS).map(|_| Arc::new(bucket.clone()) as Arc<dyn Bucket>);
    race(buckets.collect(), 50, eager()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_writers_in_a_local_directory() {
    let folder = tempfile::tempdir().unwrap();
    let bucket: Arc<dyn Bucket> = Arc::new(LocalBucket::open(folder.path()).unwrap());
    race(vec![bucket; 8], 10, eager()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs an S3 server; cargo xtask test runs it"]
async fn eight_writers_on_a_real_store() {
    let var = |name: &str| std::env::var(format!("TIDEWATER_TEST_S3_{name}")).unwrap();
    let mut options = BucketOptions::default();
    options.endpoint = Some(var("ENDPOINT"));
    options.access_key_id = Some(var("ACCESS_KEY_ID"));
    options.secret_access_key = Some(var("SECRET_ACCESS_KEY"));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let prefix = format!("metadata-tests/race-{}", since.as_nanos());
    // Clients that share nothing, as those of several nodes.
    let buckets = (0..WRITERS).map(|_| {
        let bucket = S3Bucket::open(&var("BUCKET"), &prefix, &options).unwrap();
        Arc::new(bucket) as Arc<dyn Bucket>
    });
    // A contended create takes this store more than a second: few entries.
    race(buckets.collect(), 2, MetaConfig::default()).await;
}
