//! What counts of the objects in a bucket: what whoever takes over serves, and what metadata name.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_bucket::Bucket;
use tidewater_stream_store::{
    AppendRequest, ObjectWalConfig, ObjectWalOpener, StoreConfig, StreamStore,
};
use tidewater_types::{BoxFuture, ClusterId, Env, NodeId};
use tidewater_wal::{Append, Frame, Identity, ObjectWal, OpenMode, Wal};

use super::{is_in_data, is_in_log};
use crate::bucket::{BucketFaults, SimBucket};
use crate::check::{holds, payload};
use crate::env::SimEnv;
use crate::exec::{Executor, Handle, Tag};
use crate::plan::{Plan, Scenario};
use crate::scenario::common::LIMITS;
use crate::scenario::store::world::store_config;

const SEED: u64 = 7;
const NODE: NodeId = NodeId(1);

/// A frame of [`frame`] fills an object.
fn config() -> ObjectWalConfig {
    ObjectWalConfig {
        linger_ms_max: 0,
        object_bytes_max: 1 << 10,
        ..ObjectWalConfig::tiny()
    }
}

fn frame(value: u64) -> Vec<u8> {
    payload(value, 1_000)
}

fn env(handle: &Handle, life: u32) -> Arc<dyn Env> {
    Arc::new(SimEnv::new(handle.clone(), SEED, Tag(life), 0))
}

fn run(test: impl FnOnce(Handle, SimBucket) -> BoxFuture<'static, ()>) {
    let executor = Executor::new(SEED);
    let handle = executor.handle();
    let bucket = SimBucket::new(handle.clone(), SEED, BucketFaults::default());
    let outcome = executor.run(LIMITS, test(handle, bucket));
    assert_eq!(outcome, Ok(()));
}

async fn open(handle: &Handle, bucket: &SimBucket, life: u32, mode: OpenMode) -> ObjectWal {
    let identity = Identity {
        cluster: ClusterId([7; 16]),
        node: NODE,
        wal: None,
    };
    let (bucket, env) = (Arc::new(bucket.clone()), env(handle, life));
    let opened = ObjectWal::open(bucket, env, config(), identity, mode, |_, _| {});
    opened.await.expect("it opens").0
}

async fn append(wal: &ObjectWal, value: u64) -> Append {
    let frame = Bytes::from(frame(value));
    let permit = wal.reserve(frame.len()).await.expect("room");
    wal.append(permit, Frame::from(frame)).expect("it is taken")
}

fn is_served(bucket: &SimBucket, value: u64) -> bool {
    is_in_log(bucket, SEED, &config(), &frame(value)).expect("no takeover is refused")
}

fn is_in_bucket(bucket: &SimBucket, prefix: &str, value: u64) -> bool {
    let objects = bucket.below(prefix);
    objects.iter().any(|(_, it)| holds(it, &frame(value)))
}

#[test]
fn what_a_fenced_life_wrote_behind_the_fence_is_not_served() {
    run(|handle, bucket| {
        Box::pin(async move {
            let first = open(&handle, &bucket, 1, OpenMode::Create).await;
            append(&first, 1).await.await.expect("it is acknowledged");
            let second = open(&handle, &bucket, 2, OpenMode::Existing).await;
            append(&second, 2).await.await.expect("it is acknowledged");
            // Its requests go out side by side: the first one meets the fence, others land behind it.
            let mut late = Vec::new();
            for value in 3..6 {
                late.push(append(&first, value).await);
            }
            for ack in late {
                ack.await.expect_err("it is fenced");
            }
            handle.sleep(Duration::from_secs(1)).await;
            assert!(is_served(&bucket, 1), "taken over from the first life");
            assert!(is_served(&bucket, 2));
            let landed: Vec<u64> = (3..6)
                .filter(|value| is_in_bucket(&bucket, "wal/", *value))
                .collect();
            assert!(!landed.is_empty());
            assert!(landed.iter().all(|value| !is_served(&bucket, *value)));
            assert!(!is_served(&bucket, 9), "nobody wrote it");
        })
    });
}

#[test]
fn what_is_trimmed_is_not_served_though_it_is_still_there() {
    run(|handle, bucket| {
        Box::pin(async move {
            let wal = open(&handle, &bucket, 1, OpenMode::Create).await;
            let first = append(&wal, 1).await;
            first.await.expect("it is acknowledged");
            let before = bucket.below("wal/");
            let second = append(&wal, 2).await;
            let lsn = second.lsn();
            second.await.expect("it is acknowledged");
            assert!(is_served(&bucket, 1) && is_served(&bucket, 2));
            wal.trim(lsn);
            handle.sleep(Duration::from_secs(1)).await;
            // As if they had not been deleted yet.
            for (key, object) in before {
                bucket.put(&key, Some(object));
            }
            assert!(is_in_bucket(&bucket, "wal/", 1) && !is_served(&bucket, 1));
            assert!(is_served(&bucket, 2));
        })
    });
}

#[test]
fn a_data_object_counts_once_the_metadata_name_it() {
    run(|handle, bucket| {
        Box::pin(async move {
            let is_kept = |value| is_in_data(&bucket, SEED, &frame(value)).expect("metadata");
            let put = |value| {
                let key = format!("data/00/1-1-{value}-0000000000000007");
                bucket.put(&key, Some(Bytes::from(frame(value))));
            };
            put(1);
            assert!(!is_kept(1), "there are no metadata");
            let store = store(&handle, &bucket).await;
            let id = store.create().await.expect("a stream");
            let stream = store.open_stream(id).await.expect("it is ours");
            let request = AppendRequest {
                record_count: 1,
                timestamp_ms_max: 0,
                num_bytes: frame(2).len(),
            };
            let append = stream.append(request, |_| Bytes::from(frame(2)));
            append.await.expect("room");
            stream
                .wait_durable(stream.end())
                .await
                .expect("it is acknowledged");
            store.flush().await.expect("it is uploaded");
            put(3);
            assert!(is_kept(2));
            assert!(!is_kept(1) && !is_kept(3), "nobody names them");
            store.delete(id).await.expect("it was there");
            assert!(
                is_in_bucket(&bucket, "data/", 2) && !is_kept(2),
                "it is dead"
            );
        })
    });
}

async fn store(handle: &Handle, bucket: &SimBucket) -> StreamStore {
    let bucket: Arc<dyn Bucket> = Arc::new(bucket.clone());
    let wal = ObjectWalOpener {
        bucket: Arc::clone(&bucket),
        node: NODE,
        config: config(),
        env: env(handle, 1),
    };
    let config = StoreConfig {
        node: NODE,
        ..store_config(&Plan::new(SEED, Scenario::Store), false)
    };
    let opened = StreamStore::open(env(handle, 1), bucket, Box::new(wal), config);
    opened.await.expect("it opens")
}
