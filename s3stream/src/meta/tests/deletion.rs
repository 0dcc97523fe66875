//! Deletion of log entries: what is kept, what a process that slept may believe.
//!
//! *IO: none*

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, ListPage, Purpose};
use tidewater_types::{BoxFuture, ErrorKind};
use tokio::sync::Notify;

use crate::testing::{Fault, FaultyBucket, Op, TestEnv};
use crate::{MetaConfig, MetaError, MetaOp, Metadata};

use super::super::load::{log_key, snapshot_key};
use super::{put, version};

const DELAY: Duration = Duration::from_secs(100);

fn config() -> MetaConfig {
    MetaConfig {
        snapshot_entries: 10,
        delete_delay: DELAY,
        ..MetaConfig::default()
    }
}

async fn open(bucket: Arc<dyn Bucket>, seed: u64) -> Metadata {
    Metadata::open(bucket, TestEnv::shared(seed << 32), config())
        .await
        .unwrap()
}

/// Commits so many entries, a moment apart, so that snapshots keep up.
async fn write(metadata: &Metadata, key: &str, count: usize) {
    for _ in 0..count {
        metadata.propose(vec![put(key, "value")]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_deletion_delay_is_refused_and_the_same_costs_nothing() {
    let bucket = FaultyBucket::new();
    let metadata = open(bucket.clone(), 1).await;
    assert_eq!(metadata.read(|state| state.delete_delay()), Some(DELAY));
    let created = bucket.count(Op::Create, "");
    let mut other = config();
    other.delete_delay = DELAY * 2;
    let refused = Metadata::open(bucket.clone(), TestEnv::shared(2 << 32), other.clone());
    assert_eq!(
        refused.await.err(),
        Some(MetaError::OtherDeleteDelay {
            own: DELAY * 2,
            cluster: DELAY
        })
    );
    open(bucket.clone(), 3).await;
    assert_eq!(bucket.count(Op::Create, ""), created);
    // A check reads by the cluster's delay, and from a snapshot, too.
    metadata.write_snapshot().await.unwrap();
    let (store, env) = (bucket.clone() as Arc<dyn Bucket>, TestEnv::shared(4 << 32));
    let state = Metadata::peek(&store, &env).await.unwrap().unwrap();
    assert_eq!(state.delete_delay(), Some(DELAY));
    assert!(Metadata::open(bucket, env, other).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_newest_snapshot_stops_no_further_ones() {
    let bucket = FaultyBucket::new();
    let (first, second) = (open(bucket.clone(), 1).await, open(bucket.clone(), 2).await);
    write(&first, "a", 12).await;
    let newest = |keys: Vec<String>| keys.last().cloned().unwrap();
    let before = newest(bucket.keys("meta/snap/").await);
    // The second process does not know of that snapshot, and its head is damaged.
    bucket.flip(&before, 50).await;
    write(&second, "b", 12).await;
    assert!(newest(bucket.keys("meta/snap/").await) > before);
}

/// A process that can be held up: its requests of one kind wait.
struct Held {
    bucket: Arc<FaultyBucket>,
    op: Op,
    holds: AtomicBool,
    release: Notify,
}

impl Held {
    fn new(bucket: &Arc<FaultyBucket>, op: Op) -> Arc<Self> {
        let (bucket, holds) = (Arc::clone(bucket), AtomicBool::new(false));
        Arc::new(Self {
            bucket,
            op,
            holds,
            release: Notify::new(),
        })
    }

    fn hold(&self) {
        self.holds.store(true, Ordering::Relaxed);
    }

    fn release(&self) {
        self.holds.store(false, Ordering::Relaxed);
        self.release.notify_waiters();
    }

    async fn pass(&self, op: Op, key: &str) {
        if op == self.op && key.starts_with("meta/log/") && self.holds.load(Ordering::Relaxed) {
            self.release.notified().await;
        }
    }
}

impl Bucket for Held {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            self.pass(Op::Create, key).await;
            self.bucket.create(purpose, key, body).await
        })
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(async move {
            self.pass(Op::Get, key).await;
            self.bucket.get(purpose, key, range).await
        })
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        self.bucket.size(purpose, key)
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.bucket.delete(purpose, key)
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        self.bucket.list(purpose, prefix, after)
    }
}

#[tokio::test(start_paused = true)]
async fn two_snapshots_are_kept_and_the_log_behind_the_older() {
    let bucket = FaultyBucket::new();
    let metadata = open(bucket.clone(), 1).await;
    write(&metadata, "key", 24).await;
    // Announced, not yet deleted.
    let boundary = ["meta/gc/00000000000000000010"];
    assert_eq!(bucket.keys("meta/gc/").await, boundary);
    assert_eq!(bucket.keys("meta/log/").await.len(), 25);
    tokio::time::sleep(DELAY).await;
    assert_eq!(bucket.keys("meta/gc/").await, boundary);
    assert_eq!(
        bucket.keys("meta/log/").await,
        (11..=25).map(log_key).collect::<Vec<_>>()
    );
    assert_eq!(
        bucket.keys("meta/snap/").await,
        [snapshot_key(10), snapshot_key(20)]
    );
    let requests = bucket.requests();
    let first = |op, prefix: &str| {
        let is = |(done, key): &(Op, String)| *done == op && key.starts_with(prefix);
        requests.iter().position(is).unwrap()
    };
    assert!(first(Op::Create, "meta/gc/") < first(Op::Delete, "meta/"));
    write(&metadata, "key", 30).await;
    tokio::time::sleep(DELAY * 3).await;
    assert_eq!(
        bucket.keys("meta/gc/").await,
        ["meta/gc/00000000000000000040"]
    );
    assert_eq!(
        bucket.keys("meta/snap/").await,
        [snapshot_key(40), snapshot_key(50)]
    );
    let again = open(bucket.clone(), 2).await;
    assert_eq!(again.read(Clone::clone), metadata.read(Clone::clone));
}

#[tokio::test(start_paused = true)]
async fn without_a_durable_boundary_nothing_is_deleted() {
    let bucket = FaultyBucket::new();
    let metadata = open(bucket.clone(), 1).await;
    bucket.script(Op::Create, "meta/gc/", &[Fault::Refuse; 100]);
    write(&metadata, "key", 35).await;
    tokio::time::sleep(DELAY * 2).await;
    assert_eq!(bucket.count(Op::Delete, "meta/"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_is_not_relied_on() {
    let bucket = FaultyBucket::new();
    let metadata = open(bucket.clone(), 1).await;
    write(&metadata, "key", 12).await;
    bucket.flip(&snapshot_key(10), 50).await;
    write(&metadata, "key", 12).await;
    tokio::time::sleep(DELAY * 2).await;
    assert_eq!(bucket.keys("meta/gc/").await, [""; 0]);
    assert_eq!(bucket.count(Op::Delete, "meta/"), 0);
}

/// Somebody whose create of entry `seq` lands after that number was used and deleted.
async fn overtaken(bucket: &Arc<FaultyBucket>) -> (Metadata, Metadata) {
    let held = Held::new(bucket, Op::Create);
    let (left, right) = (open(held.clone(), 1).await, open(bucket.clone(), 2).await);
    held.hold();
    let pending = left.clone();
    let pending = tokio::spawn(async move { pending.propose(vec![put("lost", "1")]).await });
    write(&right, "key", 25).await;
    tokio::time::sleep(DELAY).await;
    assert_eq!(bucket.keys("meta/log/").await[0], log_key(11));
    held.release();
    let err = pending.await.unwrap().unwrap_err();
    let (seq, boundary) = (2, 10);
    assert_eq!(err, MetaError::Outpaced { seq, boundary });
    assert_eq!(bucket.keys("meta/log/").await[0], log_key(2));
    (left, right)
}

#[tokio::test(start_paused = true)]
async fn a_create_below_the_boundary_is_no_commit() {
    let bucket = FaultyBucket::new();
    let (left, right) = overtaken(&bucket).await;
    let err = left.propose(vec![put("key", "1")]).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Closed);
    assert!(left.refresh().await.is_err());
    let third = open(bucket.clone(), 3).await;
    assert_eq!((version(&third, "lost"), version(&right, "lost")), (0, 0));
    assert_eq!(third.read(Clone::clone), right.read(Clone::clone));
    // What it left goes with the next deletion.
    write(&right, "key", 10).await;
    tokio::time::sleep(DELAY * 2).await;
    assert_eq!(bucket.keys("meta/log/").await[0], log_key(21));
}

#[tokio::test(start_paused = true)]
async fn another_sleeper_does_not_take_what_is_there_for_the_log() {
    let bucket = FaultyBucket::new();
    let sleeper = open(bucket.clone(), 7).await;
    let (_, right) = overtaken(&bucket).await;
    // It finds number 2 taken, by an entry that fits its own state perfectly.
    sleeper.propose(vec![put("sleeper", "1")]).await.unwrap();
    right.refresh().await.unwrap();
    assert_eq!(version(&sleeper, "lost"), 0);
    assert_eq!(sleeper.read(Clone::clone), right.read(Clone::clone));
}

#[tokio::test(start_paused = true)]
async fn a_reader_overtaken_by_deletion_starts_again() {
    let bucket = FaultyBucket::new();
    let metadata = open(bucket.clone(), 1).await;
    write(&metadata, "key", 12).await;
    let held = Held::new(&bucket, Op::Get);
    held.hold();
    let opening = tokio::spawn(open(held.clone(), 2));
    write(&metadata, "key", 25).await;
    tokio::time::sleep(DELAY * 2).await;
    write(&metadata, "key", 15).await;
    tokio::time::sleep(DELAY * 2).await;
    held.release();
    let opened = opening.await.unwrap();
    assert!(opened.open_report().snapshot_seq >= 30);
    assert_eq!(opened.read(Clone::clone), metadata.read(Clone::clone));
}

#[tokio::test(start_paused = true)]
async fn a_commit_costs_one_request_and_after_a_long_pause_two() {
    let bucket = FaultyBucket::new();
    let metadata = open(bucket.clone(), 1).await;
    let costs = async |pause: Duration| {
        tokio::time::sleep(pause).await;
        let before = bucket.requests().len();
        metadata.propose(vec![put("key", "1")]).await.unwrap();
        bucket.requests().len() - before
    };
    for _ in 0..3 {
        assert_eq!(costs(DELAY / 2 - Duration::from_secs(1)).await, 1);
    }
    assert_eq!(costs(DELAY / 2).await, 2);
    assert_eq!(costs(Duration::ZERO).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_boundary_that_cannot_be_read_keeps_the_outcome_open_until_it_can() {
    let bucket = FaultyBucket::new();
    let held = Held::new(&bucket, Op::Create);
    let metadata = open(held.clone(), 1).await;
    held.hold();
    let pending = metadata.clone();
    let pending = tokio::spawn(async move { pending.propose(vec![put("key", "1")]).await });
    tokio::time::sleep(DELAY).await;
    bucket.script(Op::List, "meta/gc/", &[Fault::Vanish; 30]);
    held.release();
    pending.await.unwrap().unwrap();
    assert_eq!(version(&open(bucket.clone(), 2).await, "key"), 1);
}

/// A bucket whose creates panic: a bug somewhere below the committer.
struct Panics(Arc<FaultyBucket>, AtomicBool);

impl Bucket for Panics {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        assert!(!self.1.load(Ordering::Relaxed), "a planned panic");
        self.0.create(purpose, key, body)
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        self.0.get(purpose, key, range)
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        self.0.size(purpose, key)
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.0.delete(purpose, key)
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        self.0.list(purpose, prefix, after)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_committer_is_told_to_everybody_who_waits() {
    let bucket = Arc::new(Panics(FaultyBucket::new(), AtomicBool::new(false)));
    let metadata = open(bucket.clone(), 1).await;
    bucket.1.store(true, Ordering::Relaxed);
    let value = Bytes::from(vec![0; 600_000]);
    let large = |key: &str| {
        let (key, value) = (key.to_owned(), value.clone());
        let expected_version = None;
        vec![MetaOp::PutKey {
            key,
            value,
            expected_version,
        }]
    };
    // The second does not fit the entry of the first, so it waits in the queue.
    let (first, second) = tokio::join!(metadata.propose(large("a")), metadata.propose(large("b")));
    assert_eq!(
        (first, second),
        (Err(MetaError::Closed), Err(MetaError::Closed))
    );
    let later = metadata.propose(large("c")).await;
    assert_eq!(later, Err(MetaError::Closed));
    assert_eq!(metadata.refresh().await, Err(MetaError::Closed));
}

#[tokio::test(start_paused = true)]
async fn proposals_wait_for_room_in_their_order() {
    let bucket = FaultyBucket::new();
    let config = MetaConfig {
        entry_bytes_max: 4 << 10,
        queue_bytes_max: 4 << 10,
        ..config()
    };
    let metadata = Metadata::open(bucket.clone(), TestEnv::shared(1 << 32), config)
        .await
        .unwrap();
    bucket.script(Op::Create, "meta/log/", &[Fault::Throttle; 20]);
    let value = Bytes::from(vec![1; 2_500]);
    let propose = |key: &str| {
        let (key, value) = (key.to_owned(), value.clone());
        let expected_version = None;
        let op = MetaOp::PutKey {
            key,
            value,
            expected_version,
        };
        metadata.propose(vec![op])
    };
    let mut first = std::pin::pin!(propose("first"));
    let mut second = std::pin::pin!(propose("second"));
    let small = vec![put("small", "1")];
    let mut third = std::pin::pin!(metadata.propose(small));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    assert!(futures_util::poll!(&mut third).is_pending());
    let (first, second, third) = tokio::join!(first, second, third);
    first.and(second).and(third).unwrap();
    let versions = ["first", "second", "small"].map(|key| version(&metadata, key));
    assert_eq!(versions, [1, 2, 3]);
}
