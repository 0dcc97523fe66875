//! A bucket with something of most kinds in it, and what a check finds there.
//!
//! *Owns*: the harness of the tests of fsck. *IO: driver*

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_bucket::Bucket;
use tidewater_stream_store::{
    DeviceWalConfig, DeviceWalOpener, Fsck, FsckReport, ObjectWalConfig, ObjectWalOpener,
    StateSnapshot, StateSource, StoreConfig, StreamStore, TierConfig, TokioEnv, WalOpener,
};
use tidewater_types::{Offset, StreamId};

use super::{Objects, append, bucket_of};

/// Small objects, a metadata snapshot every few entries.
pub(crate) fn config() -> StoreConfig {
    let mut tier = TierConfig {
        upload_age: Duration::from_secs(3600),
        stream_object_bytes: 1 << 10,
        block_bytes: 256,
        ..TierConfig::default()
    };
    tier.meta.snapshot_entries = 3;
    StoreConfig {
        tier,
        ..StoreConfig::default()
    }
}

struct Owner;

impl StateSource for Owner {
    fn snapshot_at(&self, offset: Offset) -> Option<StateSnapshot> {
        let bytes = Bytes::from(format!("what the owner knows at {offset}"));
        Some(StateSnapshot {
            as_of: offset,
            bytes,
        })
    }
}

pub(crate) async fn open(bucket: Arc<dyn Bucket>, device: Option<&Path>) -> StreamStore {
    let env = Arc::new(TokioEnv::current());
    let wal: Box<dyn WalOpener> = match device {
        None => Box::new(ObjectWalOpener {
            bucket: Arc::clone(&bucket),
            node: config().node,
            config: ObjectWalConfig::default(),
            env: env.clone(),
        }),
        Some(path) => Box::new(DeviceWalOpener {
            path: path.to_owned(),
            config: DeviceWalConfig::default(),
            env: env.clone(),
        }),
    };
    StreamStore::open(env, bucket, wal, config()).await.unwrap()
}

/// Two small streams, one large one, several uploads, and a tail in the WAL.
pub(crate) async fn fill(
    bucket: Arc<dyn Bucket>,
    device: Option<&Path>,
) -> (StreamStore, Vec<StreamId>) {
    let store = open(bucket, device).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let id = store.create().await.unwrap();
        let stream = store.open_stream(id).await.unwrap();
        stream.set_state_source(Arc::new(Owner));
        streams.push(stream);
    }
    for round in 0..3 {
        for (at, stream) in streams.iter().enumerate() {
            let text = ["abcdefgh", "ijklmnop", &"z".repeat(400)][at].to_owned();
            for _ in 0..5 {
                append(stream, &text, round).await;
            }
        }
        store.flush().await.unwrap();
    }
    for stream in &streams {
        for _ in 0..3 {
            append(stream, "tail", 9).await;
        }
    }
    let ids = streams.iter().map(|stream| stream.id()).collect();
    (store, ids)
}

pub(crate) async fn check(objects: &Objects) -> FsckReport {
    let env = Arc::new(TokioEnv::current());
    let fsck = Fsck::new(env, bucket_of(objects).await).with_checksums(true);
    fsck.run().await.unwrap()
}

pub(crate) fn severity(report: &FsckReport) -> &'static str {
    report.severity().map_or("clean", |worst| worst.name())
}

/// The findings that name the object.
pub(crate) fn naming<'a>(report: &'a FsckReport, key: &str) -> Vec<&'a str> {
    let findings = report.findings.iter();
    findings
        .filter(|finding| finding.object.as_deref() == Some(key))
        .map(|finding| finding.what.name())
        .collect()
}
