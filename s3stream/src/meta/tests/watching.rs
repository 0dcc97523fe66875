//! Watching the metadata: what is told, in which order, and what it costs.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use tidewater_bucket::{Bucket, Purpose};
use tidewater_types::{Epoch, NodeId, StreamId};

use crate::testing::{Fault, FaultyBucket, NODE, Op, open_new_stream, register};
use crate::{MetaOp, Metadata, Watch, Watched};

use super::{open, put};

fn key(name: &str) -> Watched {
    Watched::Key(name.to_owned())
}

async fn told(watch: &mut Watch) -> Vec<Watched> {
    let next = tokio::time::timeout(Duration::from_secs(60), watch.next());
    let changes = next.await.expect("a change is told").unwrap();
    assert!(changes.is_sorted_by_key(|(seq, _)| *seq));
    changes.into_iter().map(|(_, what)| what).collect()
}

async fn register_other(metadata: &Metadata) {
    let node = MetaOp::RegisterNode {
        node: NodeId(2),
        epoch: Epoch(1),
    };
    metadata.propose(vec![node]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_watcher_learns_of_what_it_asked_for_in_order() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    let mut keys = metadata.watch(vec![Watched::Keys("a/".to_owned()), key("b")]);
    let mut streams = metadata.watch(vec![Watched::Streams, Watched::Node(NODE)]);
    let mut one = metadata.watch(vec![Watched::Stream(StreamId(2))]);
    let node_epoch = register(&metadata).await;
    let first = open_new_stream(&metadata, node_epoch).await;
    for name in ["a/2", "c", "b", "a/1"] {
        metadata.propose(vec![put(name, "v")]).await.unwrap();
    }
    // What is rejected changes nothing.
    let refused = MetaOp::DeleteStream {
        stream: StreamId(77),
    };
    assert!(
        metadata
            .propose(vec![put("a/3", "v"), refused])
            .await
            .is_err()
    );
    let second = open_new_stream(&metadata, node_epoch).await;
    assert_eq!(told(&mut keys).await, [key("a/2"), key("b"), key("a/1")]);
    let stream = Watched::Stream;
    assert_eq!(
        told(&mut streams).await,
        [Watched::Node(NODE), stream(first), stream(second)]
    );
    assert_eq!(told(&mut one).await, [stream(second)]);
    let delete = MetaOp::DeleteStream { stream: second };
    metadata.propose(vec![delete]).await.unwrap();
    assert_eq!(told(&mut one).await, [stream(second)]);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_falls_behind_is_told_to_read_again() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    let mut watch = metadata.watch(vec![Watched::Keys(String::new())]);
    for round in 0..50 {
        let ops = (0..100).map(|index| put(&format!("{round}/{index}"), "v"));
        metadata.propose(ops.collect()).await.unwrap();
    }
    let changes = told(&mut watch).await;
    assert_eq!(changes[0], Watched::All);
    assert!(changes.len() < 4_096);
}

#[tokio::test(start_paused = true)]
async fn a_single_node_that_watches_makes_no_request_when_idle() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    register(&metadata).await;
    let _watch = metadata.watch(vec![Watched::All]);
    let before = bucket.requests().len();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(bucket.requests().len(), before);
}

#[tokio::test(start_paused = true)]
async fn changes_of_other_nodes_arrive_and_an_idle_cluster_asks_seldom() {
    let bucket = FaultyBucket::new();
    let (left, right) = (open(&bucket, 1).await, open(&bucket, 2).await);
    register(&left).await;
    let mut watch = left.watch(vec![Watched::Keys(String::new())]);
    register_other(&right).await;
    // Nobody told the left node of the right one yet: it asks nothing.
    let before = bucket.requests().len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bucket.requests().len(), before);
    left.refresh().await.unwrap();
    right.propose(vec![put("key", "v")]).await.unwrap();
    assert_eq!(told(&mut watch).await, [key("key")]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = bucket.requests().len();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let asked = bucket.requests().len() - before;
    assert!((300..=740).contains(&asked), "{asked} requests an hour");
    drop(watch);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = bucket.requests().len();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(bucket.requests().len(), before, "nobody watches any more");
}

#[tokio::test(start_paused = true)]
async fn a_watcher_hears_that_the_log_failed() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    let mut watch = metadata.watch(vec![Watched::All]);
    let waiting = tokio::spawn(async move { watch.next().await });
    tokio::task::yield_now().await;
    let bytes = bytes::Bytes::from_static(b"no entry at all");
    let key = super::log_key(2);
    let create = bucket.create(Purpose::Meta, &key, vec![bytes]);
    create.await.unwrap();
    assert!(metadata.propose(vec![put("key", "1")]).await.is_err());
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn polls_outlast_a_bucket_that_fails_for_a_while() {
    let bucket: Arc<FaultyBucket> = FaultyBucket::new();
    let (left, right) = (open(&bucket, 1).await, open(&bucket, 2).await);
    register_other(&right).await;
    left.refresh().await.unwrap();
    let mut watch = left.watch(vec![key("key")]);
    bucket.script(Op::Get, "meta/log/", &[Fault::Refuse; 10]);
    right.propose(vec![put("key", "v")]).await.unwrap();
    assert_eq!(told(&mut watch).await, [key("key")]);
}
