//! fsck from outside: each kind of damage to each kind of object is found and named.
//!
//! *Owns*: the damage matrix; logs and running stores are in `fsck_wals.rs`. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::checked::{check, fill, naming, severity};
use common::{Objects, bucket_of, life, objects_of};
use tidewater_bucket::MemoryBucket;
use tidewater_stream_store::{Fsck, TokioEnv};

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
