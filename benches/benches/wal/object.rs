//! `wal/append` for the object WAL, on a bucket that is 1, 20 or 100 ms away.
//!
//! *Owns*: the buckets and their latencies, the cells, the limit: the creates of the slice again,
//! without a WAL.
//! *Does not own*: the latency itself, appending (`crowd.rs`), creating.
//!
//! Invariants
//! 1. In each round the raw creates run right behind the WAL, of the sizes and at the depth it had.
//!
//! *IO: driver*

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidewater_benches::{
    Creates, Latencies, Options, Precise, Quiet, RawRun, Rounds, Row, SlowBucket, replay_creates,
};
use tidewater_bucket::{Bucket, MemoryBucket};
use tidewater_types::Env;
use tidewater_wal::{ObjectWal, ObjectWalConfig, OpenMode, Wal};

use crate::Failure;
use crate::append::BENCH;
use crate::crowd::{self, By, Slice};
use crate::subject::{Log, identity};

const LATENCIES_MS: [u64; 3] = [1, 20, 100];
const APPENDERS: [usize; 3] = [1, 64, 512];
const SIZE: usize = 1024;
/// Times the latency that a slice lasts at least.
const CREATES_MIN: u32 = 10;

/// A latency and a number of appenders.
type Cell = (u64, usize);

/// Which buckets are measured.
pub(crate) struct Plan {
    plan: crate::plan::Plan,
    cells: Vec<Cell>,
}

/// What the WAL did in one cell, over all rounds, and the creates without it.
#[derive(Default)]
struct Tally {
    ops: Rounds,
    cpu_ns: Rounds,
    latencies: Latencies,
    limit: Rounds,
    limit_latencies: Latencies,
    depth: usize,
}

impl Plan {
    pub(crate) fn new(plan: crate::plan::Plan, options: &Options) -> Self {
        let cells = LATENCIES_MS
            .into_iter()
            .flat_map(|ms| APPENDERS.map(|appenders| (ms, appenders)));
        Self {
            plan,
            cells: cells.filter(|cell| options.wants(&id(cell))).collect(),
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = String> {
        self.cells.iter().map(id)
    }

    pub(crate) fn estimate(&self) -> Duration {
        let of_cell = |(ms, _): &Cell| stretched(self.plan, *ms).estimate(1, 1);
        self.cells.iter().map(of_cell).sum()
    }

    pub(crate) fn run(
        &self,
        runtime: &tokio::runtime::Runtime,
        env: &Arc<dyn Env>,
        quiet: &mut Quiet,
    ) -> Result<Vec<Row>, Failure> {
        if self.cells.is_empty() {
            return Ok(Vec::new());
        }
        let env: Arc<dyn Env> = Arc::new(Precise::new(env.clone())?);
        let mut rows = Vec::new();
        for cell in &self.cells {
            let mut tally = Tally::default();
            for _ in 0..self.plan.rounds {
                let plan = stretched(self.plan, cell.0);
                let (slice, creates, raw) =
                    quiet.measure(|| one_turn(runtime, &env, plan, *cell))?;
                tally.add(slice, &creates, raw);
            }
            rows.extend(tally.rows(*cell));
        }
        Ok(rows)
    }
}

/// A new WAL in a new bucket, and the creates of its slice again.
fn one_turn(
    runtime: &tokio::runtime::Runtime,
    env: &Arc<dyn Env>,
    plan: crate::plan::Plan,
    (ms, appenders): Cell,
) -> Result<(Slice, Creates, RawRun), Failure> {
    let near: Arc<dyn Bucket> = Arc::new(MemoryBucket::new());
    let latency = Duration::from_millis(ms);
    let far = Arc::new(SlowBucket::new(near.clone(), env.clone(), latency));
    let config = ObjectWalConfig::default();
    let (bucket, create) = (far.clone() as Arc<dyn Bucket>, OpenMode::Create);
    let opening = ObjectWal::open(bucket, env.clone(), config, identity(), create, |_, _| {});
    let (wal, _) = runtime.block_on(opening)?;
    let wal: Arc<dyn Wal> = Arc::new(wal);
    let _opening_is_not_counted = far.take_creates();
    let log = Log::Wal(wal.clone());
    let crowd = (SIZE, appenders, By::Tasks);
    let slice = crowd::slice(runtime, &log, crowd, (plan.warm_up, plan.slice))?;
    let creates = far.take_creates();
    runtime.block_on(wal.close())?;
    let raw = replay_creates((far, near), "raw", &creates, plan.limit);
    let raw = runtime.block_on(raw)?;
    Ok((slice, creates, raw))
}

impl Tally {
    fn add(&mut self, slice: Slice, creates: &Creates, raw: RawRun) {
        let num_ops = slice.latencies.len() as f64;
        let seconds = slice.elapsed.as_secs_f64();
        self.ops.push(num_ops / seconds);
        self.cpu_ns.push(slice.cpu.as_nanos() as f64 / num_ops);
        self.latencies.merge(slice.latencies);
        let num_bytes: usize = creates.sizes.iter().sum();
        // An append takes its bytes and a prefix; heads and marks are the price of the WAL.
        let ops_per_create = num_bytes as f64 / creates.sizes.len() as f64 / (SIZE + 4) as f64;
        let creates_per_s = raw.num_ops as f64 / raw.elapsed.as_secs_f64();
        self.limit.push(creates_per_s * ops_per_create);
        self.limit_latencies.merge(raw.latencies);
        self.depth = creates.depth();
    }

    fn rows(self, (ms, appenders): Cell) -> [Row; 2] {
        let params =
            |wal| json!({"wal": wal, "latency_ms": ms, "size": SIZE, "appenders": appenders});
        let what = format!("raw creates of the same sizes, {} at a time", self.depth);
        let limit = self.limit.clone();
        let row = Row::new(BENCH, params("object"), "throughput", "ops/s", self.ops);
        let row = row.with_latencies(&self.latencies).with_cpu(&self.cpu_ns);
        let raw = Row::new(
            BENCH,
            params("object-raw"),
            "throughput",
            "ops/s",
            self.limit,
        );
        [
            row.with_limit(what, &limit),
            raw.with_latencies(&self.limit_latencies),
        ]
    }
}

fn id((ms, appenders): &Cell) -> String {
    format!("append/object-{ms}ms/{SIZE}/{appenders}")
}

fn stretched(plan: crate::plan::Plan, ms: u64) -> crate::plan::Plan {
    plan.stretched(Duration::from_millis(ms), CREATES_MIN)
}
