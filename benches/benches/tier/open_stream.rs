//! `tier/open_stream`: opening the metadata and taking over a stream of 1, 1,000 and 100,000 objects.
//!
//! *Owns*: the cells; the limit: the requests of an opening, one after the other, without what is
//! done with their answers.
//! *Does not own*: the data: opening a stream reads none.
//!
//! Invariants
//! 1. The metadata was shut down well: its newest snapshot holds all but a few entries.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::json;
use tidewater_benches::{Latencies, Rounds, Row};
use tidewater_bucket::{Bucket, Purpose};
use tidewater_s3stream::{
    MetaConfig, MetaOp, Metadata, NewObject, NewRange, ObjectId, ObjectKind, Tier, TierConfig,
};
use tidewater_types::{Env, Epoch, NodeId, Offset, StreamId};

use crate::part::{Failure, Kind, Part, Rig};

const BENCH: &str = "tier/open_stream";
const OBJECTS: [u64; 3] = [1, 1_000, 100_000];
const KINDS: [Kind; 3] = [Kind::Memory, Kind::Local, Kind::Slow { ms: 20 }];
const NODE: NodeId = NodeId(1);
const STREAM: StreamId = StreamId(1);
/// Objects of one commit: it fits a log entry.
const COMMIT: u64 = 5_000;
/// Openings of a round.
const OPENINGS: usize = 5;

pub(crate) struct OpenStream;

impl Part for OpenStream {
    fn ids(&self) -> Vec<String> {
        cells().map(id).collect()
    }

    fn run(&self, wanted: &str, rig: &mut Rig) -> Result<Vec<Row>, Failure> {
        let cell = cells().find(|cell| id(*cell) == wanted);
        let (kind, objects) = cell.ok_or("no such cell")?;
        let (mut values, mut limits) = (Rounds::default(), Rounds::default());
        let mut latencies = Latencies::default();
        for _ in 0..rig.plan.rounds {
            let (ways, env) = (rig.bucket(kind)?, rig.env.clone());
            let runtime = &rig.runtime;
            runtime.block_on(build(ways.near, env.clone(), objects))?;
            let (times, raw) = rig.quiet.measure(|| -> Result<_, Failure> {
                let times = runtime.block_on(openings(ways.far.clone(), env.clone()))?;
                Ok((times, runtime.block_on(raw(ways.far.clone()))?))
            })?;
            values.push(times.iter().sum::<f64>() / times.len() as f64);
            limits.push(raw);
            times
                .iter()
                .for_each(|ms| latencies.push(std::time::Duration::from_secs_f64(ms / 1e3)));
        }
        let params = json!({ "bucket": kind.name(), "objects": objects });
        let what = "three listings, the snapshot and a create, one at a time".to_owned();
        let row = Row::new(BENCH, params, "latency", "ms", values)
            .with_limit(what, &limits)
            .with_latencies(&latencies);
        Ok(vec![row])
    }
}

fn cells() -> impl Iterator<Item = (Kind, u64)> {
    let of = |kind| OBJECTS.into_iter().map(move |objects| (kind, objects));
    KINDS.into_iter().flat_map(of)
}

fn id((kind, objects): (Kind, u64)) -> String {
    format!("open_stream/{}/{objects}", kind.name())
}

/// Milliseconds of each opening: metadata, registration and takeover of the stream.
async fn openings(bucket: Arc<dyn Bucket>, env: Arc<dyn Env>) -> Result<Vec<f64>, Failure> {
    let mut times = Vec::with_capacity(OPENINGS);
    for _ in 0..OPENINGS {
        let begun = Instant::now();
        let tier = Tier::open(bucket.clone(), env.clone(), TierConfig::default()).await?;
        take_over(tier.metadata()).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

async fn take_over(metadata: &Metadata) -> Result<Epoch, Failure> {
    let next = |epoch: Epoch| epoch.next().expect("few lives");
    let (node_epoch, stream) = metadata.read(|state| {
        let node = state.node(NODE).map_or(Epoch(0), |node| node.epoch);
        (next(node), state.stream(STREAM).map(|stream| stream.epoch))
    });
    let mut txn = vec![MetaOp::RegisterNode {
        node: NODE,
        epoch: node_epoch,
    }];
    if stream.is_none() {
        txn.push(MetaOp::CreateStream { stream: STREAM });
    }
    txn.push(MetaOp::OpenStream {
        stream: STREAM,
        node: NODE,
        node_epoch,
        epoch: next(stream.unwrap_or(Epoch(0))),
    });
    metadata.propose(txn).await?;
    Ok(node_epoch)
}

/// The metadata of a stream with so many objects, and its snapshot.
async fn build(bucket: Arc<dyn Bucket>, env: Arc<dyn Env>, objects: u64) -> Result<(), Failure> {
    let metadata = Metadata::open(bucket, env, MetaConfig::default()).await?;
    let node_epoch = take_over(&metadata).await?;
    let mut from = 0;
    while from < objects {
        let count = COMMIT.min(objects - from);
        metadata
            .propose(vec![commit(node_epoch, from, count)])
            .await?;
        from += count;
    }
    metadata.write_snapshot().await?;
    Ok(())
}

fn commit(node_epoch: Epoch, from: u64, count: u64) -> MetaOp {
    let objects = (from..from + count).map(|counter| NewObject {
        id: ObjectId {
            node: NODE,
            epoch: node_epoch,
            counter: counter + 1,
            nonce: counter.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        },
        kind: ObjectKind::Stream,
        size: 64 << 20,
        index_position: (64 << 20) - 4_096,
        footer_crc: 1,
    });
    let ranges = (0u32..)
        .zip(from..from + count)
        .map(|(object, counter)| NewRange {
            stream: STREAM,
            epoch: Epoch(1),
            start: Offset(counter * 1_000),
            end: Offset(counter * 1_000 + 1_000),
            timestamp_ms_max: 1_700_000_000_000,
            object,
        });
    MetaOp::CommitUpload {
        node: NODE,
        node_epoch,
        objects: objects.collect(),
        ranges: ranges.collect(),
        snapshots: Vec::new(),
    }
}

/// Milliseconds of the requests that an opening makes: boundary, snapshots and log are listed, the
/// snapshot is read, the takeover created.
async fn raw(bucket: Arc<dyn Bucket>) -> Result<f64, Failure> {
    let all = bucket.list(Purpose::Meta, "meta/", None).await?.entries;
    let largest = all.into_iter().max_by_key(|entry| entry.size);
    let snapshot = largest.ok_or("no metadata")?.key;
    let begun = Instant::now();
    for prefix in ["meta/gc/", "meta/snap/", "meta/log/"] {
        bucket.list(Purpose::Meta, prefix, None).await?;
    }
    bucket.get(Purpose::Meta, &snapshot, None).await?;
    let body = vec![Bytes::from_static(&[7; 160])];
    bucket.create(Purpose::Meta, "raw/takeover", body).await?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
