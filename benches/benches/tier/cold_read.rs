//! `tier/cold_read`: a reader goes through a stream that is in no cache, beside the same reads of
//! the bucket without a reader.
//!
//! *Owns*: the cells, one a bucket; the limit: the very ranges that the reader asked for, as many
//! bytes at a time as it had under way at most, each answer received whole and dropped.
//! *Does not own*: filling the stream.
//!
//! Invariants
//! 1. Every round opens the tier anew, so that its caches are empty, and reads every entry. Opening
//!    counts on neither side.
//! 2. Reader and raw reads take turns, and which of them comes first changes from round to round.
//!    Both find the operating system's caches as warm.
//! 3. On both sides answers are in memory of their own.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tidewater_benches::{Cpu, GetLog, Gets, Latencies, Rounds, Row, forget_pages, replay_gets};
use tidewater_s3stream::{Tier, TierConfig};
use tidewater_types::{Env, Offset, StreamId};

use crate::fill::{ENTRY_BYTES, fill};
use crate::part::{Failure, Kind, Part, Rig, store_url};

const BENCH: &str = "tier/cold_read";
const CELLS: [Cell; 6] = [
    (Kind::Memory, PageCache::Kept),
    (Kind::Local, PageCache::Kept),
    (Kind::Local, PageCache::Emptied),
    (Kind::Slow { ms: 1 }, PageCache::Kept),
    (Kind::Slow { ms: 20 }, PageCache::Kept),
    (Kind::Store, PageCache::Kept),
];
/// What a consumer asks for at a time: `max.partition.fetch.bytes` of Kafka's clients.
const FETCH_BYTES: usize = 1 << 20;

type Cell = (Kind, PageCache);

/// What the operating system has in memory of the objects of a local directory: all of them, or, in
/// front of each measurement, nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageCache {
    Kept,
    Emptied,
}

pub(crate) struct ColdRead;

impl Part for ColdRead {
    fn ids(&self) -> Vec<String> {
        let there = |cell: &Cell| cell.0 != Kind::Store || store_url().is_some();
        let cells = CELLS.into_iter().filter(there);
        cells.map(name).map(id).collect()
    }

    fn run(&self, wanted: &str, rig: &mut Rig) -> Result<Vec<Row>, Failure> {
        let cell = CELLS.into_iter().find(|cell| id(name(*cell)) == wanted);
        let (kind, page_cache) = cell.ok_or("no such cell")?;
        let (env, plan) = (rig.env.clone(), rig.plan);
        let ways = rig.bucket(kind)?;
        // Long beside the memory for blocks, so that most of it is read with that memory full.
        let num_bytes = 4 * plan.num_bytes;
        let filling = fill(ways.near.clone(), env.clone(), num_bytes);
        let stream = rig.runtime.block_on(filling)?;
        let bucket = ways.received(kind);
        let log = Arc::new(GetLog::new(bucket.clone()));
        let runtime = &rig.runtime;
        let empty = || match &ways.folder {
            Some(folder) if page_cache == PageCache::Emptied => forget_pages(folder),
            _ => Ok(()),
        };
        let read = || {
            empty()?;
            runtime.block_on(read(log.clone(), env.clone(), stream))
        };
        // The first one finds memory that was not used before, and tells which requests there are.
        let mut gets = read()?.gets;
        let mut all = All::default();
        for round in 0..plan.rounds {
            let (read, raw) = rig.quiet.measure(|| -> Result<_, Failure> {
                let raw = || -> Result<_, Failure> {
                    empty()?;
                    Ok(runtime.block_on(replay_gets(bucket.clone(), &gets))?)
                };
                if round % 2 == 0 {
                    let raw = raw()?;
                    Ok((read()?, raw))
                } else {
                    Ok((read()?, raw()?))
                }
            })?;
            if read.num_bytes != num_bytes {
                return Err(format!("{} of {num_bytes} bytes read", read.num_bytes).into());
            }
            all.add(&read, raw, &gets);
            gets = read.gets;
        }
        Ok(vec![all.row(name((kind, page_cache)), num_bytes)])
    }
}

fn name((kind, page_cache): Cell) -> String {
    match page_cache {
        PageCache::Kept => kind.name(),
        PageCache::Emptied => format!("{}-disk", kind.name()),
    }
}

fn id(name: String) -> String {
    format!("cold_read/{name}")
}

/// What one reader did.
struct Read {
    num_bytes: u64,
    elapsed: Duration,
    cpu: Duration,
    fetches: Latencies,
    gets: Gets,
}

async fn read(bucket: Arc<GetLog>, env: Arc<dyn Env>, stream: StreamId) -> Result<Read, Failure> {
    let tier = Tier::open(bucket.clone(), env, TierConfig::default()).await?;
    let _of_opening = bucket.take();
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
        gets: bucket.take(),
    })
}

#[derive(Default)]
struct All {
    values: Rounds,
    limits: Rounds,
    cpu_ns: Rounds,
    fetches: Latencies,
    under_way_bytes: u64,
    num_gets: usize,
}

impl All {
    fn add(&mut self, read: &Read, (raw, raw_bytes): (Duration, u64), gets: &Gets) {
        let rate = |num_bytes: u64, time: Duration| num_bytes as f64 / time.as_secs_f64() / 1e6;
        self.values.push(rate(read.num_bytes, read.elapsed));
        self.limits.push(rate(raw_bytes, raw));
        let num_fetches = read.fetches.len() as f64;
        self.cpu_ns.push(read.cpu.as_nanos() as f64 / num_fetches);
        self.fetches.merge(read.fetches.clone());
        (self.under_way_bytes, self.num_gets) = (gets.under_way_bytes, gets.ranges.len());
    }

    fn row(self, bucket: String, num_bytes: u64) -> Row {
        let params = json!({
            "bucket": bucket, "mib": num_bytes >> 20, "fetch": FETCH_BYTES,
            "gets": self.num_gets,
        });
        let what = format!(
            "the same reads of the bucket alone, {} MB at a time",
            self.under_way_bytes / 1_000_000
        );
        Row::new(BENCH, params, "throughput", "MB/s", self.values)
            .with_limit(what, &self.limits)
            .with_latencies(&self.fetches)
            .with_cpu(&self.cpu_ns)
    }
}
