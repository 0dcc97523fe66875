//! Creates on a bucket that is 1, 20 or 100 ms away: the limit of a WAL made of objects.
//!
//! *Owns*: the buckets and their latencies, the shapes of the creates.
//! *Does not own*: the latency itself, and creating.
//!
//! *IO: driver*

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidewater_benches::{
    Creates, Latencies, Options, Precise, Quiet, Rounds, Row, SlowBucket, replay_creates,
};
use tidewater_bucket::{Bucket, MemoryBucket};
use tidewater_types::Env;

use crate::Failure;
use crate::append::BENCH;

const LATENCIES_MS: [u64; 3] = [1, 20, 100];
/// Bytes of each create, and creates under way: a lone small append, and several full batches.
const SHAPES: [(usize, u64); 2] = [(4096, 1), (1 << 20, 4)];
/// Times the latency that a slice lasts at least.
const CREATES_MIN: u32 = 10;

/// Which buckets are measured.
pub(crate) struct Plan {
    plan: crate::plan::Plan,
    cells: Vec<(u64, usize, u64)>,
}

impl Plan {
    pub(crate) fn new(plan: crate::plan::Plan, options: &Options) -> Self {
        let cells = LATENCIES_MS
            .into_iter()
            .flat_map(|ms| SHAPES.map(|(size, depth)| (ms, size, depth)));
        Self {
            plan,
            cells: cells.filter(|cell| options.wants(&id(cell))).collect(),
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = String> {
        self.cells.iter().map(id)
    }

    pub(crate) fn estimate(&self) -> Duration {
        let of_cell = |(ms, ..): &(u64, usize, u64)| stretched(self.plan, *ms).estimate(1, 0);
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
        for (ms, size, depth) in &self.cells {
            let (mut ops, mut cpu_ns) = (Rounds::default(), Rounds::default());
            let mut latencies = Latencies::default();
            let creates = Creates {
                sizes: vec![*size],
                sum_under_way: *depth,
            };
            for _ in 0..self.plan.rounds {
                let near: Arc<dyn Bucket> = Arc::new(MemoryBucket::new());
                let latency = Duration::from_millis(*ms);
                let far = Arc::new(SlowBucket::new(near.clone(), env.clone(), latency));
                let wait = stretched(self.plan, *ms).slice;
                let both = || (far.clone() as _, near.clone());
                let once = || runtime.block_on(replay_creates(both(), "raw", &creates, wait));
                let run = quiet.measure(once)?;
                let num_ops = run.num_ops as f64;
                ops.push(num_ops / run.elapsed.as_secs_f64());
                cpu_ns.push(run.cpu.as_nanos() as f64 / num_ops);
                latencies.merge(run.latencies);
            }
            let params =
                json!({"wal": "object-raw", "latency_ms": ms, "size": size, "appenders": depth});
            let row = Row::new(BENCH, params, "throughput", "ops/s", ops);
            rows.push(row.with_latencies(&latencies).with_cpu(&cpu_ns));
        }
        Ok(rows)
    }
}

fn id((ms, size, depth): &(u64, usize, u64)) -> String {
    format!("append/object-raw-{ms}ms/{size}/{depth}")
}

fn stretched(plan: crate::plan::Plan, ms: u64) -> crate::plan::Plan {
    plan.stretched(Duration::from_millis(ms), CREATES_MIN)
}
