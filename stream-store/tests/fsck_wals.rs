//! fsck from outside: write-ahead logs beside their bucket, stores that run, what may be repaired.
//!
//! *Owns*: behaviour a caller relies on; damage to objects is in `fsck.rs`. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::checked::{fill, naming, open, severity};
use common::{Gate, append, life, objects_of};
use tidewater_bucket::{Bucket, MemoryBucket, Purpose};
use tidewater_stream_store::{Fsck, StoreError, StreamStore, TokioEnv, WalError};
use tidewater_types::{NodeId, StreamId};

/// The device WAL of a store that was closed with frames in it, and the bucket beside it.
fn on_a_device(folder: &Path) -> (Gate, Vec<StreamId>) {
    let gate = Gate::default();
    let wal = folder.join("wal");
    let streams = life(async || {
        let (store, streams) = fill(Arc::new(gate.clone()), Some(&wal)).await;
        store.close().await.unwrap();
        streams
    });
    (gate, streams)
}

fn on_device(gate: &Gate, folder: &Path) -> Fsck {
    let env = Arc::new(TokioEnv::current());
    let path = folder.join("wal");
    Fsck::new(env, Arc::new(gate.clone())).with_device_wal(NodeId(1), path, false)
}

#[test]
fn a_device_wal_and_its_bucket_are_proven_together() {
    let folder = tempfile::tempdir().unwrap();
    let (gate, streams) = on_a_device(folder.path());
    life(async || {
        let report = on_device(&gate, folder.path()).run().await.unwrap();
        assert_eq!(report.findings, []);
        // The metadata forget the last upload. Either the device holds it still, and opening would
        // upload it anew, or the log was trimmed behind it and it is gone. If a snapshot fell just on it,
        // nothing is forgotten.
        let last = last_key(&gate, "meta/log/").await;
        gate.delete(Purpose::Fsck, &last).await.unwrap();
        let number = |key: &str| key.rsplit('/').next().map(str::to_owned);
        let is_covered = number(&last_key(&gate, "meta/snap/").await) == number(&last);
        let report = on_device(&gate, folder.path()).run().await.unwrap();
        let holes = report.findings.iter().filter(|it| it.what.name() == "hole");
        let of: Vec<_> = holes.filter_map(|finding| finding.stream).collect();
        let lost = streams.iter().all(|stream| of.contains(stream));
        assert!(
            (severity(&report), lost) == ("error", true)
                || (severity(&report), of.len()) == ("info", 0)
                || (is_covered && report.findings.is_empty()),
            "{:?}",
            report.findings
        );
        assert!(!report.orphans.is_empty());
        // Without the device nobody can tell.
        let env = Arc::new(TokioEnv::current());
        let fsck = Fsck::new(env, Arc::new(gate.clone()));
        assert_eq!(severity(&fsck.run().await.unwrap()), "warning");
    });
}

#[test]
fn a_wal_that_is_not_looked_at_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let (gate, _) = on_a_device(folder.path());
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    life(async || {
        let env = Arc::new(TokioEnv::current());
        let fsck = Fsck::new(env.clone(), Arc::new(gate.clone()));
        let report = fsck.run().await.unwrap();
        assert_eq!((severity(&report), report.findings.len()), ("warning", 1));
        assert!(report.findings[0].detail.contains("was not looked at"));
        let fsck = Fsck::new(env.clone(), Arc::new(gate.clone())).without_wals();
        assert_eq!(severity(&fsck.run().await.unwrap()), "info");
        // Where it should be there is none, or another one.
        let report = on_device(&gate, &elsewhere).run().await.unwrap();
        assert_eq!(
            (severity(&report), report.findings[0].what.name()),
            ("error", "missing")
        );
    });
    let (_other, _) = on_a_device(&elsewhere);
    life(async || {
        let refused = on_device(&gate, &elsewhere).run().await.unwrap_err();
        assert!(
            matches!(refused, StoreError::ForeignWal { .. }),
            "{refused}"
        );
    });
}

#[test]
fn a_damaged_device_wal_is_found_and_one_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (gate, _) = on_a_device(folder.path());
    let wal = folder.path().join("wal");
    life(async || {
        let _running = open(Arc::new(gate.clone()), Some(&wal)).await;
        let refused = on_device(&gate, folder.path()).run().await.unwrap_err();
        let busy = matches!(refused, StoreError::Wal(WalError::Busy { .. }));
        assert!(busy, "{refused}");
    });
    let mut bytes = std::fs::read(&wal).unwrap();
    for slot in [0, 32_768] {
        bytes[slot + 40] ^= 1;
    }
    std::fs::write(&wal, bytes).unwrap();
    life(async || {
        let report = on_device(&gate, folder.path()).run().await.unwrap();
        let name = wal.display().to_string();
        assert_eq!(
            naming(&report, &name),
            ["checksum"],
            "{:?}",
            report.findings
        );
        assert_eq!(severity(&report), "error");
    });
}

/// Objects whose names no log can have written lie behind those of the last node, pages of them.
#[test]
fn a_check_ends_whatever_lies_where_write_ahead_logs_do() {
    let gate = Gate::default();
    life(async || drop(fill(Arc::new(gate.clone()), None).await));
    life(async || {
        let few = MemoryBucket::with_list_page(2);
        for (key, body) in objects_of(&gate).await {
            few.create(Purpose::Fsck, &key, vec![body]).await.unwrap();
        }
        for n in 0..5 {
            let key = format!("wal/of-somebody-else/{n}");
            few.create(Purpose::Fsck, &key, vec![Bytes::from_static(b"x")])
                .await
                .unwrap();
        }
        let env = Arc::new(TokioEnv::current());
        let fsck = Fsck::new(env, Arc::new(few));
        let checked = tokio::time::timeout(Duration::from_secs(60), fsck.run());
        let report = checked.await.expect("it ends").unwrap();
        assert_eq!(severity(&report), "clean", "{:?}", report.findings);
    });
}

#[test]
fn a_running_store_is_checked_while_it_works() {
    let gate = Gate::default();
    life(async || {
        let bucket: Arc<dyn Bucket> = Arc::new(gate.clone());
        let store = open(Arc::clone(&bucket), None).await;
        let stream = store
            .open_stream(store.create().await.unwrap())
            .await
            .unwrap();
        let is_enough = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let (store, is_enough) = (store.clone(), Arc::clone(&is_enough));
            async move {
                let mut n = 0;
                while n < 400 || !is_enough.load(Ordering::Relaxed) {
                    append(&stream, "a record or two", n).await;
                    if n % 5 == 0 {
                        store.flush().await.unwrap();
                    }
                    n += 1;
                }
            }
        });
        let env = Arc::new(TokioEnv::current());
        let mut checks = 0;
        while !writer.is_finished() {
            let durable = store.counters().watermarks.durable;
            let fsck = Fsck::new(env.clone(), Arc::clone(&bucket)).with_checksums(true);
            match fsck.with_durable(store.node(), durable).run().await {
                Ok(report) => assert!(severity(&report) != "error", "{:?}", report.findings),
                // It changes faster than it can be looked at.
                Err(StoreError::Wal(WalError::Busy { .. })) => {}
                Err(error) => panic!("{error}"),
            }
            checks += 1;
            is_enough.store(checks > 3, Ordering::Relaxed);
        }
        writer.await.unwrap();
        assert!(checks > 3, "{checks}");
        // The log of a running owner that lost its last entry: only the owner knows.
        append_and_lose(&gate, &store).await;
        let durable = store.counters().watermarks.durable;
        let fsck = Fsck::new(env, bucket).with_durable(store.node(), durable);
        let report = fsck.run().await.unwrap();
        assert!(
            report
                .findings
                .iter()
                .any(|it| it.detail.contains("has acknowledged up to")),
            "{:?}",
            report.findings
        );
    });
}

async fn append_and_lose(gate: &Gate, store: &StreamStore) {
    let stream = store
        .open_stream(store.create().await.unwrap())
        .await
        .unwrap();
    // The next entry says what the log may forget, so that none comes by itself and is the last one.
    store.flush().await.unwrap();
    append(&stream, "kept", 0).await;
    append(&stream, "lost", 0).await;
    let last = last_key(gate, "wal/").await;
    gate.delete(Purpose::Fsck, &last).await.unwrap();
}

/// However many there are: a page has 1,000 at most.
async fn last_key(gate: &Gate, prefix: &str) -> String {
    let mut last = None::<String>;
    loop {
        let listed = gate.list(Purpose::Fsck, prefix, last.as_deref()).await;
        let page = listed.unwrap();
        last = page.entries.last().map(|entry| entry.key.clone()).or(last);
        if !page.more {
            return last.expect("an object");
        }
    }
}

#[test]
fn only_orphans_of_a_fenced_life_are_deleted() {
    let gate = Gate::default();
    life(async || drop(fill(Arc::new(gate.clone()), None).await));
    life(async || {
        // A second life: the first one's uploads can never be committed any more.
        let store = open(Arc::new(gate.clone()), None).await;
        assert_eq!(store.node_epoch().0, 2);
        store.close().await.unwrap();
        let orphan = |epoch| tidewater_s3stream::ObjectId {
            node: NodeId(1),
            epoch: tidewater_types::Epoch(epoch),
            counter: 999,
            nonce: 5,
        };
        let keys = [orphan(1).key(), orphan(2).key(), "data/foreign".to_owned()];
        for key in &keys {
            let body = vec![Bytes::from_static(b"cut short")];
            gate.create(Purpose::Upload, key, body).await.unwrap();
        }
        let env = Arc::new(TokioEnv::current());
        let fsck = Fsck::new(env, Arc::new(gate.clone())).with_checksums(true);
        let report = fsck.run().await.unwrap();
        assert_eq!((severity(&report), report.orphans.len()), ("info", 3));
        assert_eq!(fsck.repair(&report).await.unwrap(), keys[..1]);
        let report = fsck.run().await.unwrap();
        assert_eq!(report.orphans.len(), 2);
        // With anything wrong nothing is deleted, fenced or not.
        let first = gate.list(Purpose::Fsck, "meta/snap/", None).await.unwrap();
        let snapshot = first.entries.last().unwrap().key.clone();
        gate.delete(Purpose::Fsck, &snapshot).await.unwrap();
        let body = vec![Bytes::from_static(b"damaged")];
        gate.create(Purpose::Meta, &snapshot, body).await.unwrap();
        let body = vec![Bytes::from_static(b"cut short")];
        gate.create(Purpose::Upload, &keys[0], body).await.unwrap();
        let report = fsck.run().await.unwrap();
        assert_eq!((severity(&report), report.orphans.len()), ("warning", 3));
        assert!(fsck.repair(&report).await.unwrap().is_empty());
    });
}
