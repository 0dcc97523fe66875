//! Processes that write at the same time, all the time.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, ListPage, Purpose};
use tidewater_types::{BoxFuture, Epoch, NodeId};

use super::{open, put, version};
use crate::meta::load::log_key;
use crate::testing::{Fault, FaultyBucket, Op, TestEnv};
use crate::{MetaConfig, MetaOp, Metadata};

const WAY: Duration = Duration::from_millis(10);

/// A bucket to which and from which the way takes a while.
struct Far(Arc<FaultyBucket>);

impl Far {
    fn go<'a, T: Send + 'a>(
        &'a self,
        request: BoxFuture<'a, Result<T, BucketError>>,
    ) -> BoxFuture<'a, Result<T, BucketError>> {
        Box::pin(async move {
            tokio::time::sleep(WAY).await;
            let answer = request.await;
            tokio::time::sleep(WAY).await;
            answer
        })
    }
}

impl Bucket for Far {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.go(self.0.create(purpose, key, body))
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        self.go(self.0.get(purpose, key, range))
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        self.go(self.0.size(purpose, key))
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.go(self.0.delete(purpose, key))
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        self.go(self.0.list(purpose, prefix, after))
    }
}

/// The metadata as a node sees it that is registered.
async fn open_far(bucket: &Arc<FaultyBucket>, node: u32) -> Metadata {
    let far = Arc::new(Far(bucket.clone()));
    let env = TestEnv::shared(u64::from(node) << 32);
    let opened = Metadata::open(far, env, MetaConfig::default()).await;
    let (opened, node, epoch) = (opened.unwrap(), NodeId(node), Epoch(1));
    let register = MetaOp::RegisterNode { node, epoch };
    opened.propose(vec![register]).await.unwrap();
    opened
}

/// Writes one entry after the other for `time`; how many.
async fn write(metadata: Metadata, key: &'static str, time: Duration) -> u32 {
    let (begun, mut count) = (tokio::time::Instant::now(), 0);
    while begun.elapsed() < time {
        metadata.propose(vec![put(key, "value")]).await.unwrap();
        count += 1;
    }
    count
}

#[tokio::test(start_paused = true)]
async fn writers_without_a_pause_take_turns() {
    let (bucket, time) = (FaultyBucket::new(), Duration::from_secs(10));
    let mut writers = Vec::new();
    for (node, key) in (1..).zip(["a", "b", "c", "d"]) {
        let writer = write(open_far(&bucket, node).await, key, time);
        writers.push(tokio::spawn(writer));
    }
    let mut counts = Vec::new();
    for writer in writers {
        counts.push(writer.await.unwrap());
    }
    // A request takes 20 ms: at most 500 entries.
    let all: u32 = counts.iter().sum();
    assert!(all > 350, "{counts:?}");
    assert!(counts.iter().all(|count| *count > all / 8), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_far_behind_catches_up_with_a_writer_that_goes_on() {
    let bucket = FaultyBucket::new();
    let late = open_far(&bucket, 1).await;
    let busy = open_far(&bucket, 2).await;
    write(busy.clone(), "busy", Duration::from_secs(10)).await;
    let behind = bucket.keys("meta/log/").await.len();
    assert!(behind > 450, "{behind}");
    let goes_on = tokio::spawn(write(busy, "busy", Duration::from_secs(10)));
    let begun = tokio::time::Instant::now();
    late.propose(vec![put("late", "value")]).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{begun:?}");
    goes_on.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_its_own_that_was_read_beside_counts_once() {
    let bucket = FaultyBucket::new();
    let (metadata, other) = (open(&bucket, 1).await, open(&bucket, 2).await);
    other.propose(vec![put("other", "1")]).await.unwrap();
    // From here on it has a rival, and reads beside.
    metadata.propose(vec![put("key", "1")]).await.unwrap();
    bucket.script(Op::Create, "meta/log/", &[Fault::LoseAnswer]);
    let change = MetaOp::PutKey {
        key: "key".to_owned(),
        value: Bytes::from_static(b"2"),
        expected_version: Some(version(&metadata, "key")),
    };
    metadata.propose(vec![change]).await.unwrap();
    assert_eq!(bucket.keys("meta/log/").await.last(), Some(&log_key(4)));
}
