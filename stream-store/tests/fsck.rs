//! fsck from outside: each kind of damage to each kind of object is found and named.
//!
//! *Owns*: the damage matrix. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{Gate, Objects, append, bucket_of, life, objects_of};
use tidewater_bucket::{Bucket, MemoryBucket, Purpose};
use tidewater_stream_store::{
    DeviceWalConfig, DeviceWalOpener, Fsck, FsckReport, ObjectWalConfig, ObjectWalOpener,
    StateSnapshot, StateSource, StoreConfig, StoreError, StreamStore, TierConfig, TokioEnv,
    WalError, WalOpener,
};
use tidewater_types::{NodeId, Offset, StreamId};

/// Small objects, a metadata snapshot every few entries.
fn config() -> StoreConfig {
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

async fn open(bucket: Arc<dyn Bucket>, device: Option<&Path>) -> StreamStore {
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
async fn fill(bucket: Arc<dyn Bucket>, device: Option<&Path>) -> (StreamStore, Vec<StreamId>) {
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

async fn check(objects: &Objects) -> FsckReport {
    let env = Arc::new(TokioEnv::current());
    let fsck = Fsck::new(env, bucket_of(objects).await).with_checksums(true);
    fsck.run().await.unwrap()
}

fn severity(report: &FsckReport) -> &'static str {
    report.severity().map_or("clean", |worst| worst.name())
}

/// The findings that name the object.
fn naming<'a>(report: &'a FsckReport, key: &str) -> Vec<&'a str> {
    let findings = report.findings.iter();
    findings
        .filter(|finding| finding.object.as_deref() == Some(key))
        .map(|finding| finding.what.name())
        .collect()
}

fn flipped(body: &Bytes, at: usize) -> Bytes {
    let mut bytes = body.to_vec();
    bytes[at] ^= 0x10;
    Bytes::from(bytes)
}

/// Everything that lies in the bucket after `fill`, without what a running store adds.
fn filled() -> Objects {
    life(async || {
        let bucket = Arc::new(MemoryBucket::new());
        let _store = fill(bucket.clone(), None).await;
        // Snapshots of the metadata are written behind the commit.
        tokio::time::sleep(Duration::from_millis(200)).await;
        objects_of(&*bucket).await
    })
}

/// The keys of one kind: what the byte at position 6 of a data object says, or a prefix.
fn keys(objects: &Objects, kind: &str) -> Vec<String> {
    let is = |(key, body): &(&String, &Bytes)| match kind {
        "stream-set object" => key.starts_with("data/") && body[6] == 1,
        "stream object" => key.starts_with("data/") && body[6] == 2,
        "metadata log entry" => key.starts_with("meta/log/"),
        "metadata snapshot" => key.starts_with("meta/snap/"),
        // Durable by what a later entry states; of the last one nobody was promised anything.
        _ => key.starts_with("wal/") && body[16] == 3,
    };
    let found: Vec<String> = objects
        .iter()
        .filter(is)
        .map(|(key, _)| key.clone())
        .collect();
    assert!(found.len() > 1, "{kind}: {found:?}");
    found
}

const KINDS: [&str; 5] = [
    "stream-set object",
    "stream object",
    "metadata log entry",
    "metadata snapshot",
    "object-WAL entry",
];

/// The number below which metadata are on their way out.
fn boundary(objects: &Objects) -> u64 {
    let last = objects.keys().rfind(|key| key.starts_with("meta/gc/"));
    last.map_or(0, |key| number(key))
}

fn number(key: &str) -> u64 {
    key.rsplit('/').next().unwrap().parse().unwrap()
}

/// The keys of the kind that a check must miss: of the WAL those behind the trim point only, of the
/// metadata those behind the deletion boundary.
fn wanted(objects: &Objects, kind: &str) -> Vec<String> {
    let mut all = keys(objects, kind);
    match kind {
        "metadata log entry" => all.retain(|key| number(key) > boundary(objects)),
        "metadata snapshot" => all.retain(|key| number(key) >= boundary(objects)),
        _ => {}
    }
    if kind == "object-WAL entry" {
        all = all.split_off(all.len() - 9);
    }
    all
}

#[test]
fn a_sound_cluster_is_clean_and_stays_as_it_was() {
    let objects = filled();
    life(async || {
        let bucket = bucket_of(&objects).await;
        let env = Arc::new(TokioEnv::current());
        let fsck = Fsck::new(env, Arc::clone(&bucket)).with_checksums(true);
        let progress = fsck.progress();
        let report = fsck.run().await.unwrap();
        assert_eq!(report.findings, []);
        assert_eq!(report.streams, 3);
        assert_eq!(progress(), (report.bytes_checked, report.bytes_checked));
        assert!(fsck.repair(&report).await.unwrap().is_empty());
        assert_eq!(objects_of(&*bucket).await, objects);
    });
}

#[test]
fn a_truncated_object_of_any_kind_is_found_and_named() {
    let objects = filled();
    life(async || {
        for kind in KINDS {
            for key in wanted(&objects, kind) {
                for cut in [0, 1, objects[&key].len() / 2, objects[&key].len() - 1] {
                    let mut damaged = objects.clone();
                    damaged.insert(key.clone(), objects[&key].slice(..cut));
                    judged(&damaged, kind, &key, &format!("cut at {cut}")).await;
                }
            }
        }
    });
}

#[test]
fn a_flipped_bit_in_any_kind_of_object_is_found_and_named() {
    let objects = filled();
    life(async || {
        for kind in KINDS {
            for key in wanted(&objects, kind) {
                let len = objects[&key].len();
                for at in (0..len).step_by(len.div_ceil(25)).chain([len - 1]) {
                    let mut damaged = objects.clone();
                    damaged.insert(key.clone(), flipped(&objects[&key], at));
                    judged(&damaged, kind, &key, &format!("flipped at {at}")).await;
                }
            }
        }
    });
}

#[test]
fn objects_of_any_kind_that_changed_places_are_found_and_named() {
    let objects = filled();
    life(async || {
        for kind in KINDS {
            let all = wanted(&objects, kind);
            for pair in all.windows(2) {
                let mut damaged = objects.clone();
                damaged.insert(pair[0].clone(), objects[&pair[1]].clone());
                damaged.insert(pair[1].clone(), objects[&pair[0]].clone());
                let named: Vec<_> = pair.iter().collect();
                let report = check(&damaged).await;
                let is_named = |key: &&&String| !naming(&report, key).is_empty();
                let num_named = named.iter().filter(is_named).count();
                // A log is followed up to the first entry that is wrong.
                let found = num_named == 2 || (num_named == 1 && !kind.contains("stream"));
                assert!(found, "{kind}: {pair:?}: {:?}", report.findings);
                assert_ne!(severity(&report), "info", "{kind}");
            }
        }
    });
}

#[test]
fn a_missing_object_of_any_kind_is_found_and_named() {
    let objects = filled();
    life(async || {
        for kind in KINDS {
            let all = wanted(&objects, kind);
            let last = all.last().cloned();
            for key in all {
                let mut damaged = objects.clone();
                damaged.remove(&key);
                match kind {
                    // Another one serves; only the one at the boundary must be there.
                    "metadata snapshot" if number(&key) == boundary(&objects) => {
                        let report = check(&damaged).await;
                        assert_eq!(naming(&report, &key), ["missing"], "{:?}", report.findings);
                        assert_eq!(severity(&report), "warning", "{key}");
                    }
                    "metadata snapshot" => {
                        assert_eq!(check(&damaged).await.findings, [], "{key}");
                    }
                    // Nothing tells it from one that was never written.
                    "object-WAL entry" if Some(&key) == last.as_ref() => {}
                    // What it committed is found in an orphan that the WAL has let go.
                    "metadata log entry" if Some(&key) == last.as_ref() => {
                        let report = check(&damaged).await;
                        assert_eq!(severity(&report), "error", "{key}: {:?}", report.findings);
                        let hole = report.findings.iter().any(|finding| {
                            finding.what.name() == "hole" && finding.stream.is_some()
                        });
                        assert!(hole, "{:?}", report.findings);
                    }
                    _ => {
                        let report = check(&damaged).await;
                        assert!(
                            naming(&report, &key).contains(&"missing"),
                            "{kind} {key}: {:?}",
                            report.findings
                        );
                        assert_eq!(severity(&report), "error", "{kind} {key}");
                    }
                }
            }
        }
    });
}

async fn judged(damaged: &Objects, kind: &str, key: &str, how: &str) {
    let report = check(damaged).await;
    let expected = if kind == "metadata snapshot" {
        "warning"
    } else {
        "error"
    };
    assert!(
        !naming(&report, key).is_empty(),
        "{kind} {key} {how}: {:?}",
        report.findings
    );
    assert_eq!(severity(&report), expected, "{kind} {key} {how}");
}

#[test]
fn damage_to_the_deletion_boundary_is_found_and_named() {
    let objects = filled();
    let key = objects.keys().rfind(|key| key.starts_with("meta/gc/"));
    let key = key.expect("a boundary was drawn").clone();
    let body = &objects[&key];
    life(async || {
        let cuts = (0..body.len()).map(|cut| body.slice(..cut));
        let flips = (0..body.len()).map(|at| flipped(body, at));
        for bytes in cuts.chain(flips) {
            let mut damaged = objects.clone();
            damaged.insert(key.clone(), bytes);
            let report = check(&damaged).await;
            // Opening goes by the key alone.
            assert_eq!(severity(&report), "warning", "{:?}", report.findings);
            assert_eq!(naming(&report, &key).len(), 1, "{:?}", report.findings);
        }
    });
}

/// Where the state snapshots of the object lie, by its own index.
fn snapshot_blocks(body: &Bytes) -> Vec<std::ops::Range<usize>> {
    const FOOTER: usize = 80;
    const ROW: usize = 64;
    let u64_at = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().unwrap()) as usize;
    let u32_at = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().unwrap()) as usize;
    let index = u64_at(body.len() - FOOTER + 40);
    let rows = (index..body.len() - FOOTER).step_by(ROW);
    rows.filter(|row| body[row + 60] == 2)
        .map(|row| u64_at(row + 40)..u64_at(row + 40) + u32_at(row + 48))
        .collect()
}

#[test]
fn damage_to_a_state_snapshot_is_found_and_named_with_its_stream() {
    let objects = filled();
    life(async || {
        let mut swapped = 0;
        for key in keys(&objects, "stream-set object") {
            let blocks = snapshot_blocks(&objects[&key]);
            assert_eq!(blocks.len(), 2, "a snapshot for each of the small streams");
            for block in &blocks {
                for at in block.clone() {
                    let mut damaged = objects.clone();
                    damaged.insert(key.clone(), flipped(&objects[&key], at));
                    let report = check(&damaged).await;
                    assert_eq!(naming(&report, &key), ["checksum"], "{key} at {at}");
                    assert!(report.findings[0].stream.is_some());
                }
            }
            if blocks[0].len() == blocks[1].len() {
                let mut bytes = objects[&key].to_vec();
                let (first, second) = (blocks[0].clone(), blocks[1].clone());
                let (one, other) = (
                    bytes[first.clone()].to_vec(),
                    bytes[second.clone()].to_vec(),
                );
                bytes[first].copy_from_slice(&other);
                bytes[second].copy_from_slice(&one);
                let mut damaged = objects.clone();
                damaged.insert(key.clone(), Bytes::from(bytes));
                assert_eq!(
                    naming(&check(&damaged).await, &key),
                    ["checksum", "checksum"]
                );
                swapped += 1;
            }
        }
        assert!(swapped > 0);
    });
}

#[test]
fn without_checksums_sizes_indices_and_the_tail_are_still_checked() {
    let objects = filled();
    life(async || {
        let env = Arc::new(TokioEnv::current());
        for kind in ["stream-set object", "stream object", "object-WAL entry"] {
            let key = wanted(&objects, kind).remove(0);
            let mut damaged = objects.clone();
            let body = damaged.remove(&key).unwrap();
            damaged.insert(key.clone(), body.slice(..body.len() - 1));
            let bucket = bucket_of(&damaged).await;
            let report = Fsck::new(env.clone(), bucket).run().await.unwrap();
            assert_eq!(severity(&report), "error", "{kind}");
            assert!(!naming(&report, &key).is_empty(), "{kind}");
        }
    });
}

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
