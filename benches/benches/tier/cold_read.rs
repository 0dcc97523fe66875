//! `tier/cold_read`: a reader goes through a stream that is in no cache, beside the same reads of
//! the bucket without a reader.
//!
//! *Owns*: the cells, one a bucket; the limit: the very ranges that the reader asked for, as many
//! at a time as it had under way.
//! *Does not own*: filling the stream.
//!
//! Invariants
//! 1. Every round opens the tier anew, so that its caches are empty, and reads every entry.
//! 2. In each round the raw reads run right behind the reader. Both find the operating system's
//!    caches as warm.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tidewater_benches::{Cpu, GetLog, Gets, Latencies, Rounds, Row, replay_gets};
use tidewater_bucket::Bucket;
use tidewater_s3stream::{Tier, TierConfig};
use tidewater_types::{Env, Offset, StreamId};

use crate::fill::{ENTRY_BYTES, fill};
use crate::part::{Failure, Kind, Part, Rig};

const BENCH: &str = "tier/cold_read";
const KINDS: [Kind; 4] = [
    Kind::Memory,
    Kind::Local,
    Kind::Slow { ms: 1 },
    Kind::Slow { ms: 20 },
];
/// What a consumer asks for at a time: `max.partition.fetch.bytes` of Kafka's clients.
const FETCH_BYTES: usize = 1 << 20;

pub(crate) struct ColdRead;

impl Part for ColdRead {
    fn ids(&self) -> Vec<String> {
        KINDS.map(id).to_vec()
    }

    fn run(&self, wanted: &str, rig: &mut Rig) -> Result<Vec<Row>, Failure> {
        let kind = KINDS.into_iter().find(|kind| id(*kind) == wanted);
        let kind = kind.ok_or("no such cell")?;
        let (env, plan) = (rig.env.clone(), rig.plan);
        let ways = rig.bucket(kind)?;
        let filling = fill(ways.near, env.clone(), plan.num_bytes);
        let stream = rig.runtime.block_on(filling)?;
        let mut all = All::default();
        for _ in 0..plan.rounds {
            let log = Arc::new(GetLog::new(ways.far.clone()));
            let runtime = &rig.runtime;
            let (read, gets, raw) = rig.quiet.measure(|| -> Result<_, Failure> {
                let read = runtime.block_on(read(log.clone(), env.clone(), stream))?;
                let gets = log.take();
                let is_memory = kind != Kind::Local;
                let kept_bytes = usize::try_from(TierConfig::default().block_cache_bytes)?;
                let raw = replay_gets(ways.far.clone(), &gets, is_memory, kept_bytes);
                let raw = runtime.block_on(raw)?;
                Ok((read, gets, raw))
            })?;
            if read.num_bytes != plan.num_bytes {
                return Err(format!("{} of {} bytes read", read.num_bytes, plan.num_bytes).into());
            }
            all.add(read, &gets, raw);
        }
        Ok(vec![all.row(kind, plan.num_bytes)])
    }
}

fn id(kind: Kind) -> String {
    format!("cold_read/{}", kind.name())
}

/// What one reader did.
struct Read {
    num_bytes: u64,
    elapsed: Duration,
    cpu: Duration,
    fetches: Latencies,
}

async fn read(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    stream: StreamId,
) -> Result<Read, Failure> {
    let tier = Tier::open(bucket, env, TierConfig::default()).await?;
    let (begun, cpu) = (Instant::now(), Cpu::now());
    let (mut next, mut num_bytes, mut fetches) = (Offset(0), 0, Latencies::default());
    loop {
        let asked = Instant::now();
        let fetched = tier.fetch(stream, next, FETCH_BYTES).await?;
        fetches.push(asked.elapsed());
        let Some(last) = fetched.entries.last() else {
            break;
        };
        next = last.end_offset();
        num_bytes += (fetched.entries.len() * ENTRY_BYTES) as u64;
    }
    Ok(Read {
        num_bytes,
        elapsed: begun.elapsed(),
        cpu: cpu.spent(),
        fetches,
    })
}

#[derive(Default)]
struct All {
    values: Rounds,
    limits: Rounds,
    cpu_ns: Rounds,
    fetches: Latencies,
    depth: usize,
    num_gets: usize,
}

impl All {
    fn add(&mut self, read: Read, gets: &Gets, (raw, raw_bytes): (Duration, u64)) {
        let rate = |num_bytes: u64, time: Duration| num_bytes as f64 / time.as_secs_f64() / 1e6;
        self.values.push(rate(read.num_bytes, read.elapsed));
        self.limits.push(rate(raw_bytes, raw));
        let num_fetches = read.fetches.len() as f64;
        self.cpu_ns.push(read.cpu.as_nanos() as f64 / num_fetches);
        self.fetches.merge(read.fetches);
        (self.depth, self.num_gets) = (gets.depth(), gets.ranges.len());
    }

    fn row(self, kind: Kind, num_bytes: u64) -> Row {
        let params = json!({
            "bucket": kind.name(), "mib": num_bytes >> 20, "fetch": FETCH_BYTES,
            "gets": self.num_gets, "depth": self.depth,
        });
        let what = format!(
            "the same reads of the bucket alone: {} at a time, the last 64 MiB of answers kept",
            self.depth
        );
        Row::new(BENCH, params, "throughput", "MB/s", self.values)
            .with_limit(what, &self.limits)
            .with_latencies(&self.fetches)
            .with_cpu(&self.cpu_ns)
    }
}
