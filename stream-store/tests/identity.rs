//! A WAL that is found where the metadata name none.
//!
//! *Owns*: what is refused and what is taken. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::{Gate, append, life, open_with, placed, quiet, read_all};
use tidewater_bucket::Bucket;
use tidewater_stream_store::{
    DeviceWalConfig, MemoryWalOpener, StoreConfig, StoreError, StreamStore, TokioEnv, WalError,
};
use tidewater_types::ClusterId;
use tidewater_wal::{DeviceWal, Frame, Identity, OpenMode, RecoveryReport, Wal};

/// A cluster in `gate` whose node has no WAL of its own.
fn cluster_without_a_wal(gate: &Gate) -> ClusterId {
    life(async || {
        let env = Arc::new(TokioEnv::current());
        let memory = MemoryWalOpener {
            capacity_bytes: 1 << 20,
            reserve_ms_max: 10,
            env: env.clone(),
        };
        let bucket: Arc<dyn Bucket> = Arc::new(gate.clone());
        let store = StreamStore::open(env, bucket, Box::new(memory), quiet())
            .await
            .unwrap();
        let cluster = store.cluster_id();
        store.close().await.unwrap();
        cluster
    })
}

fn open_wal(
    folder: &Path,
    cluster: ClusterId,
    mode: OpenMode,
) -> Result<(DeviceWal, RecoveryReport), WalError> {
    let identity = Identity {
        cluster,
        node: quiet().node,
        wal: None,
    };
    let (env, config) = (Arc::new(TokioEnv::current()), DeviceWalConfig::default());
    let path = folder.join("wal");
    DeviceWal::open(&path, env, config, identity, mode, |_, _| {})
}

/// A WAL of that cluster's node, with so many frames.
fn wal_with_frames(folder: &Path, cluster: ClusterId, num_frames: usize) {
    life(async || {
        let (wal, _) = open_wal(folder, cluster, OpenMode::Create).unwrap();
        for _ in 0..num_frames {
            let permit = wal.reserve(100).await.unwrap();
            let frame = Frame::from(Bytes::from(vec![7; 100]));
            wal.append(permit, frame).unwrap().await.unwrap();
        }
        wal.close().await.unwrap();
    });
}

#[test]
fn a_wal_with_frames_that_the_metadata_do_not_name_is_refused_and_left_alone() {
    for num_frames in [1, 5] {
        let folder = tempfile::tempdir().unwrap();
        let gate = Gate::default();
        let cluster = cluster_without_a_wal(&gate);
        wal_with_frames(folder.path(), cluster, num_frames);
        life(async || {
            let refused = open_with(folder.path(), &gate, quiet()).await.unwrap_err();
            assert!(
                matches!(refused, StoreError::Wal(WalError::Exists { .. })),
                "{refused}"
            );
        });
        let num_recovered = life(async || {
            let opened = open_wal(folder.path(), cluster, OpenMode::Existing);
            opened.unwrap().1.num_frames
        });
        assert_eq!(num_recovered, num_frames as u64);
        // Whoever accepts the loss gets an empty one, and what is there is kept aside.
        life(async || {
            let accepting = StoreConfig {
                accept_data_loss: true,
                ..quiet()
            };
            let store = open_with(folder.path(), &gate, accepting).await.unwrap();
            assert_eq!(store.counters().watermarks.accepted.0, 0);
        });
        assert!(folder.path().join("wal.set-aside-1").exists());
    }
}

#[test]
fn an_empty_wal_that_the_metadata_do_not_name_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let cluster = cluster_without_a_wal(&gate);
    wal_with_frames(folder.path(), cluster, 0);
    let id = life(async || {
        let store = open_with(folder.path(), &gate, quiet()).await.unwrap();
        assert_eq!(store.cluster_id(), cluster);
        let id = store.create().await.unwrap();
        append(&store.open_stream(id).await.unwrap(), "abc", 0).await;
        id
    });
    life(async || {
        let store = open_with(folder.path(), &gate, quiet()).await.unwrap();
        let stream = store.open_stream(id).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["abc"]));
    });
}
