//! `tier/metadata_commit`: transactions a second on buckets 1, 20 and 100 ms away.
//!
//! *Owns*: the cells: one writer, eight writers of one process, eight processes; the limit: raw
//! creates of the same size, one after the other, on the same bucket.
//! *Does not own*: the log.
//!
//! Invariants
//! 1. A writer waits for each answer before it hands the next transaction in.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tidewater_benches::{Latencies, Rounds, Row};
use tidewater_bucket::{Bucket, Purpose};
use tidewater_s3stream::{MetaConfig, MetaOp, Metadata};
use tidewater_types::{Env, Epoch, NodeId};

use crate::part::{Failure, Kind, Part, Rig};

const BENCH: &str = "tier/metadata_commit";
const LATENCIES_MS: [u64; 3] = [1, 20, 100];
/// Writers, and processes they are spread over.
const SHAPES: [(usize, usize); 3] = [(1, 1), (8, 1), (8, 8)];
/// Size of a log entry with one of these transactions, about.
const ENTRY_BYTES: usize = 160;

pub(crate) struct MetadataCommit;

impl Part for MetadataCommit {
    fn ids(&self) -> Vec<String> {
        cells().map(id).collect()
    }

    fn run(&self, wanted: &str, rig: &mut Rig) -> Result<Vec<Row>, Failure> {
        let cell = cells().find(|cell| id(*cell) == wanted);
        let (ms, (writers, processes)) = cell.ok_or("no such cell")?;
        let (kind, env, plan) = (Kind::Slow { ms }, rig.env.clone(), rig.plan);
        let (mut values, mut limits) = (Rounds::default(), Rounds::default());
        let mut latencies = Latencies::default();
        for _ in 0..plan.rounds {
            let far = rig.bucket(kind)?.far;
            let runtime = &rig.runtime;
            let (rate, times, limit) = rig.quiet.measure(|| -> Result<_, Failure> {
                let race = race(far.clone(), env.clone(), (writers, processes), plan.slice);
                let (rate, times) = runtime.block_on(race)?;
                Ok((rate, times, runtime.block_on(raw(far.clone(), plan.slice))?))
            })?;
            values.push(rate);
            limits.push(limit);
            latencies.merge(times);
        }
        let params = json!({ "bucket": kind.name(), "writers": writers, "processes": processes });
        let row = Row::new(BENCH, params, "throughput", "ops/s", values)
            .with_limit("raw creates, one at a time".to_owned(), &limits)
            .with_latencies(&latencies);
        Ok(vec![row])
    }
}

type Cell = (u64, (usize, usize));

fn cells() -> impl Iterator<Item = Cell> {
    let of = |ms: u64| SHAPES.into_iter().map(move |shape| (ms, shape));
    LATENCIES_MS.into_iter().flat_map(of)
}

fn id((ms, (writers, processes)): Cell) -> String {
    let kind = Kind::Slow { ms };
    format!("metadata_commit/{}/{writers}x{processes}", kind.name())
}

/// Commits a second, and the time of each.
async fn race(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    (writers, processes): (usize, usize),
    slice: Duration,
) -> Result<(f64, Latencies), Failure> {
    let mut all = Vec::with_capacity(processes);
    for _ in 0..processes {
        let config = MetaConfig::default();
        let metadata = Metadata::open(bucket.clone(), env.clone(), config).await?;
        // As a broker does; so each knows whether there are others.
        let node = NodeId(u32::try_from(all.len())? + 1);
        let state = metadata.read(|state| state.node(node).map(|node| node.epoch));
        let epoch = Epoch(state.map_or(1, |epoch| epoch.0 + 1));
        let register = MetaOp::RegisterNode { node, epoch };
        metadata.propose(vec![register]).await?;
        all.push(metadata);
    }
    let begun = Instant::now();
    let tasks = (0..writers).map(|writer| {
        let metadata = all[writer % processes].clone();
        tokio::spawn(async move {
            let mut times = Latencies::default();
            while begun.elapsed() < slice {
                let put = MetaOp::PutKey {
                    key: format!("key/{writer}"),
                    value: Bytes::from_static(&[7; 40]),
                    expected_version: None,
                };
                let asked = Instant::now();
                metadata.propose(vec![put]).await?;
                times.push(asked.elapsed());
            }
            Ok::<_, Failure>(times)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut times = Latencies::default();
    for task in tasks {
        times.merge(task.await??);
    }
    let elapsed = begun.elapsed().as_secs_f64();
    Ok((times.len() as f64 / elapsed, times))
}

/// Creates a second.
async fn raw(bucket: Arc<dyn Bucket>, slice: Duration) -> Result<f64, Failure> {
    let (begun, mut count) = (Instant::now(), 0u32);
    while begun.elapsed() < slice {
        let body = vec![Bytes::from_static(&[7; ENTRY_BYTES])];
        let key = format!("raw/{count:020}");
        bucket.create(Purpose::Meta, &key, body).await?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}
