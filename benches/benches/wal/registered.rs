//! `wal/registered`: what telling the kernel of file and memory beforehand would gain.
//!
//! *Owns*: the sizes, the turns.
//! *Does not own*: the writes.
//!
//! *IO: none*

use std::time::Duration;

use serde_json::json;
use tidewater_benches::{Latencies, Options, Quiet, RawFile, RawRun, Rounds, Row};

use crate::Failure;

const BENCH: &str = "wal/registered";
/// A lone frame, a group of 64, the largest group.
const SIZES: [usize; 3] = [4 << 10, 68 << 10, 1 << 20];

pub(crate) struct Plan {
    plan: crate::plan::Plan,
    sizes: Vec<usize>,
}

impl Plan {
    pub(crate) fn new(plan: crate::plan::Plan, options: &Options) -> Self {
        let sizes = SIZES.into_iter().filter(|size| options.wants(&id(size)));
        Self {
            plan,
            sizes: sizes.collect(),
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = String> {
        self.sizes.iter().map(id)
    }

    pub(crate) fn estimate(&self) -> Duration {
        self.plan.estimate(2 * self.sizes.len(), 0)
    }

    pub(crate) fn run(&self, raw: &mut RawFile, quiet: &mut Quiet) -> Result<Vec<Row>, Failure> {
        self.sizes
            .iter()
            .map(|size| self.one_size(raw, *size, quiet))
            .collect()
    }

    fn one_size(&self, raw: &mut RawFile, size: usize, quiet: &mut Quiet) -> Result<Row, Failure> {
        let (mut with, mut without, mut cpu_ns) =
            (Rounds::default(), Rounds::default(), Rounds::default());
        let mut latencies = Latencies::default();
        let rate = |run: &RawRun| run.num_ops as f64 / run.elapsed.as_secs_f64();
        for round in 0..self.plan.rounds {
            quiet.wait();
            // Whoever goes first is another one each time.
            for registered in [round % 2 == 0, round % 2 != 0] {
                let run = raw.through_ring(size, registered, self.plan.slice)?;
                if registered {
                    with.push(rate(&run));
                    cpu_ns.push(run.cpu.as_nanos() as f64 / run.num_ops as f64);
                    latencies.merge(run.latencies);
                } else {
                    without.push(rate(&run));
                }
            }
        }
        let params = json!({"wal": "raw", "size": size});
        let what = "the same writes without registration".to_owned();
        Ok(Row::new(BENCH, params, "throughput", "ops/s", with)
            .with_limit(what, &without)
            .with_latencies(&latencies)
            .with_cpu(&cpu_ns))
    }
}

fn id(size: &usize) -> String {
    format!("registered/{size}")
}
