//! fsck from outside: objects that only compaction, large metadata and takeovers make.
//!
//! *Owns*: the damage matrix of those kinds; the commoner ones are in `fsck.rs`. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::checked::{check, severity};
use common::{Objects, append, life, objects_of};
use tidewater_bucket::MemoryBucket;
use tidewater_stream_store::{
    FsckReport, ObjectWalConfig, ObjectWalOpener, StoreConfig, StreamStore, TierConfig, TokioEnv,
};
use tidewater_types::StreamId;

/// Objects of one stream are joined by twos, by copies; metadata snapshots have parts.
fn config() -> StoreConfig {
    let mut tier = TierConfig {
        upload_age: Duration::from_secs(3600),
        stream_object_bytes: 1 << 10,
        block_bytes: 512,
        delete_delay: Duration::ZERO,
        ..TierConfig::default()
    };
    tier.meta.snapshot_entries = 3;
    tier.meta.snapshot_part_bytes = 256;
    tier.compact.objects_min = 2;
    tier.compact.growth_min = 2;
    tier.compact.object_bytes = 32 << 10;
    tier.compact.step_bytes = 2 << 10;
    tier.compact.pause = Duration::from_millis(1);
    StoreConfig {
        tier,
        ..StoreConfig::default()
    }
}

async fn open(bucket: Arc<MemoryBucket>) -> StreamStore {
    let env = Arc::new(TokioEnv::current());
    let wal = ObjectWalOpener {
        bucket: bucket.clone(),
        node: config().node,
        config: ObjectWalConfig::default(),
        env: env.clone(),
    };
    StreamStore::open(env, bucket, Box::new(wal), config())
        .await
        .unwrap()
}

/// Two lives with a log that reaches over both; what the second one left.
fn filled() -> Objects {
    let bucket = Arc::new(MemoryBucket::new());
    let streams: Vec<StreamId> = life(async || {
        let store = open(bucket.clone()).await;
        let mut streams = Vec::new();
        for _ in 0..8 {
            let stream = store.create().await.unwrap();
            streams.push(store.open_stream(stream).await.unwrap());
        }
        for round in 0..6 {
            for stream in &streams {
                for _ in 0..5 {
                    append(stream, &"z".repeat(400), round).await;
                }
            }
            store.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        for stream in &streams {
            append(stream, "the first life's", 9).await;
        }
        streams.iter().map(|stream| stream.id()).collect()
    });
    life(async || {
        let store = open(bucket.clone()).await;
        for id in streams {
            append(&store.open_stream(id).await.unwrap(), "the second's", 9).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        objects_of(&*bucket).await
    })
}

/// The worst that is said; and whether any of it names the object.
fn said(report: &FsckReport, key: &str) -> (&'static str, bool) {
    let mut findings = report.findings.iter();
    let named = findings.any(|finding| finding.object.as_deref() == Some(key));
    (severity(report), named)
}

/// A kind: what tells its objects, and how bad any damage to one is.
struct Kind {
    name: &'static str,
    is: fn(&str, &[u8]) -> bool,
    worst: &'static str,
}

const FIRST_EPOCH: &str = "wal/0000000001/00000000000000000001/";
const SECOND_EPOCH: &str = "wal/0000000001/00000000000000000002/";

/// The log reaches over both epochs: the fence of the first life is read, its start and its barrier
/// are not.
const KINDS: [Kind; 7] = [
    Kind {
        name: "copied stream object",
        // The version in the footer.
        is: |key, body| key.starts_with("data/") && body[body.len() - 76] == 2,
        worst: "error",
    },
    Kind {
        name: "part of a metadata snapshot",
        is: |key, _| key.starts_with("meta/part/"),
        worst: "warning",
    },
    Kind {
        name: "start of the epoch that is read",
        is: |key, body| key.starts_with(SECOND_EPOCH) && body[16] == 1,
        worst: "error",
    },
    Kind {
        name: "start of an earlier epoch",
        is: |key, body| key.starts_with(FIRST_EPOCH) && body[16] == 1,
        worst: "warning",
    },
    Kind {
        name: "state",
        is: |key, body| key.starts_with(SECOND_EPOCH) && body[16] == 2,
        worst: "error",
    },
    Kind {
        name: "fence",
        is: |key, body| key.starts_with(FIRST_EPOCH) && body[16] == 4,
        worst: "error",
    },
    Kind {
        name: "barrier",
        is: |key, body| key.starts_with(FIRST_EPOCH) && body[16] == 5,
        worst: "warning",
    },
];

/// What a life left unfinished is an orphan, and no damage.
fn assert_sound(report: &FsckReport) {
    let findings = &report.findings;
    assert!(
        findings.iter().all(|it| it.what.name() == "orphan"),
        "{findings:?}"
    );
}

/// Another object of the bucket to change places with: of the same kind if there is one.
fn other<'a>(objects: &'a Objects, kind: &Kind, key: &str) -> &'a str {
    let near = &key[..key.find('/').unwrap()];
    let alike = |of: &&String| (kind.is)(of, &objects[*of]) && *of != key;
    let neighbour = |of: &&String| of.starts_with(near) && *of != key;
    let mut keys = objects.keys();
    let found = keys.clone().find(alike).or_else(|| keys.rfind(neighbour));
    found.expect("it is not alone")
}

#[test]
fn any_damage_to_what_compaction_large_metadata_and_takeovers_make_is_found_and_named() {
    let objects = filled();
    life(async || {
        assert_sound(&check(&objects).await);
        for kind in &KINDS {
            let of: Vec<_> = objects
                .keys()
                .filter(|key| (kind.is)(key, &objects[*key]))
                .collect();
            assert!(!of.is_empty(), "no {}", kind.name);
            // Of the snapshots only the newest are looked for in each way: all are alike.
            for key in of.into_iter().rev().take(8) {
                damaged_in_every_way(&objects, kind, key).await;
            }
        }
    });
}

async fn damaged_in_every_way(objects: &Objects, kind: &Kind, key: &String) {
    let body = &objects[key];
    let mut ways: Vec<(String, Objects)> = Vec::new();
    let mut with = |how: String, bytes: Option<Bytes>| {
        let mut damaged = objects.clone();
        match bytes {
            None => damaged.remove(key),
            Some(bytes) => damaged.insert(key.clone(), bytes),
        };
        ways.push((how, damaged));
    };
    with("missing".to_owned(), None);
    for cut in [0, 1, body.len() / 2, body.len() - 1] {
        with(format!("cut at {cut}"), Some(body.slice(..cut)));
    }
    for at in (0..body.len()).step_by(body.len().div_ceil(25)) {
        let mut flipped = body.to_vec();
        flipped[at] ^= 0x10;
        with(format!("flipped at {at}"), Some(flipped.into()));
    }
    let other = other(objects, kind, key);
    let mut swapped = objects.clone();
    swapped.insert(key.clone(), objects[other].clone());
    swapped.insert(other.to_owned(), body.clone());
    ways.push((format!("swapped with {other}"), swapped));
    for (how, damaged) in ways {
        let report = check(&damaged).await;
        // Of a barrier that is gone nobody knows the number.
        let of_epoch = kind.name == "barrier" && how == "missing";
        let (worst, named) = said(&report, if of_epoch { FIRST_EPOCH } else { key });
        // A log is followed up to the first entry that is wrong.
        let named = named || how.starts_with("swapped") && said(&report, other).1;
        let findings = &report.findings;
        assert!(named, "{} {key} {how}: {findings:?}", kind.name);
        let as_bad = worst == kind.worst || how.starts_with("swapped") && worst == "error";
        assert!(as_bad, "{} {key} {how}: {findings:?}", kind.name);
    }
}

/// While nothing was deleted nothing hangs on it; damage to its bytes is in `fsck.rs`.
#[test]
fn a_deletion_boundary_that_is_gone_is_missed_once_something_was_deleted() {
    let mut objects = filled();
    let number = |key: &str| key.rsplit('/').next().unwrap().parse::<u64>().unwrap();
    let key = objects.keys().rfind(|key| key.starts_with("meta/gc/"));
    let key = key.expect("a boundary was drawn").clone();
    let boundary = number(&key);
    life(async || {
        if objects.contains_key("meta/log/00000000000000000001") {
            let mut damaged = objects.clone();
            damaged.retain(|key, _| !key.starts_with("meta/gc/"));
            assert_sound(&check(&damaged).await);
        }
        objects.retain(|key, _| match key.split('/').nth(1) {
            Some("log") => number(key) > boundary,
            Some("snap") => number(key) >= boundary,
            Some("gc") => number(key) == boundary,
            _ => true,
        });
        assert_sound(&check(&objects).await);
        let mut damaged = objects.clone();
        let body = damaged.remove(&key).unwrap();
        let report = check(&damaged).await;
        let findings = &report.findings;
        assert_eq!(said(&report, &key), ("warning", true), "{findings:?}");
        // In its place the oldest entry there is, and the other way around.
        let entry = objects.keys().find(|key| key.starts_with("meta/log/"));
        let entry = entry.expect("a log").clone();
        damaged.insert(key.clone(), objects[&entry].clone());
        damaged.insert(entry.clone(), body);
        let report = check(&damaged).await;
        let findings = &report.findings;
        assert!(
            said(&report, &key).1 || said(&report, &entry).1,
            "{findings:?}"
        );
        assert_eq!(said(&report, &key).0, "error", "{findings:?}");
    });
}
