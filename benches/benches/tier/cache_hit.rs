//! `tier/cache_hit`: fetches that the caches answer, from memory and from a disk.
//!
//! *Owns*: the cells: where the blocks are, how many read at a time, whether the tier reads ahead, as
//! it does in a product: then each fetch also costs finding out that nothing is to be loaded.
//! *Does not own*: filling the stream.
//!
//! Invariants
//! 1. Every fetch of the slice needs one block, and the bucket is asked for none: a round in which it
//!    was is an error.
//! 2. A hit that counts was decoded: the entry is there.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tidewater_benches::{Cpu, Latencies, Rounds, Row};
use tidewater_bucket::Bucket;
use tidewater_s3stream::{CacheFile, Tier, TierConfig};
use tidewater_types::{Env, Offset, StreamId};

use crate::fill::{ENTRY_BYTES, fill};
use crate::part::{Failure, Kind, Part, Rig};

const BENCH: &str = "tier/cache_hit";
const READERS: [usize; 2] = [1, 8];
const STREAM_BYTES: u64 = 32 << 20;
const NUM_ENTRIES: u64 = STREAM_BYTES / ENTRY_BYTES as u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Memory,
    Disk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    Off,
    On,
}

const SOURCES: [Source; 2] = [Source::Memory, Source::Disk];

impl Source {
    /// As in `reads_from{source=…}`.
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "nvme",
        }
    }
}

pub(crate) struct CacheHit;

impl Part for CacheHit {
    fn ids(&self) -> Vec<String> {
        cells().map(id).collect()
    }

    fn run(&self, wanted: &str, rig: &mut Rig) -> Result<Vec<Row>, Failure> {
        let cell = cells().find(|cell| id(*cell) == wanted);
        let (source, readers, ahead) = cell.ok_or("no such cell")?;
        let (env, plan) = (rig.env.clone(), rig.plan);
        let bucket = rig.bucket(Kind::Memory)?.near;
        let runtime = &rig.runtime;
        let stream = runtime.block_on(fill(bucket.clone(), env.clone(), STREAM_BYTES))?;
        let path = rig.scratch.path().join("blocks.cache");
        let opened = open((source, ahead), bucket, env, stream, &path);
        let tier = runtime.block_on(opened)?;
        let (mut values, mut cpu_ns, mut latencies) =
            (Rounds::default(), Rounds::default(), Latencies::default());
        for _ in 0..plan.rounds {
            let (times, elapsed, cpu) = rig
                .quiet
                .measure(|| runtime.block_on(slice(&tier, source, stream, readers, plan.slice)))?;
            let num_hits = times.len() as f64;
            values.push(num_hits / elapsed.as_secs_f64());
            cpu_ns.push(cpu.as_nanos() as f64 / num_hits);
            latencies.merge(times);
        }
        let params = json!({
            "source": source.name(), "readers": readers, "ahead": ahead == Ahead::On,
        });
        let row = Row::new(BENCH, params, "throughput", "ops/s", values)
            .with_latencies(&latencies)
            .with_cpu(&cpu_ns);
        Ok(vec![row])
    }
}

type Cell = (Source, usize, Ahead);

fn cells() -> impl Iterator<Item = Cell> {
    let readers = |source| READERS.into_iter().map(move |readers| (source, readers));
    let sources = SOURCES.into_iter().flat_map(readers);
    sources.flat_map(|(source, readers)| [Ahead::Off, Ahead::On].map(|on| (source, readers, on)))
}

fn id((source, readers, ahead): Cell) -> String {
    let ahead = match ahead {
        Ahead::Off => "",
        Ahead::On => "/ahead",
    };
    format!("cache_hit/{}/{readers}{ahead}", source.name())
}

/// A tier whose cache holds the stream. With the disk as source memory is too small for it.
async fn open(
    (source, ahead): (Source, Ahead),
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    stream: StreamId,
    path: &std::path::Path,
) -> Result<Tier, Failure> {
    let mut config = TierConfig::default();
    if ahead == Ahead::Off {
        config.read.ahead_bytes_max = 0;
    }
    if source == Source::Disk {
        config.block_cache_bytes = 1 << 20;
        config.read.disk_keep_at = 1;
        config.read.disk_waiting_bytes_max = 2 * STREAM_BYTES;
    }
    let tier = Tier::open(bucket, env.clone(), config).await?;
    if source == Source::Disk {
        let file = CacheFile::open(path, 4 * STREAM_BYTES)?;
        tier.attach_cache(Arc::new(file));
        env.sleep(Duration::from_millis(200)).await;
    }
    // The second time blocks that came together get bytes of their own.
    for _ in 0..2 {
        for entry in 0..NUM_ENTRIES {
            tier.fetch(stream, Offset(entry), 1).await?;
        }
    }
    env.sleep(Duration::from_millis(200)).await;
    Ok(tier)
}

/// Reads entries all over the stream; the time of each, of all together, and of the processors.
async fn slice(
    tier: &Tier,
    source: Source,
    stream: StreamId,
    readers: usize,
    slice: Duration,
) -> Result<(Latencies, Duration, Duration), Failure> {
    let before = tier.counters();
    let next = Arc::new(AtomicU64::new(0));
    let (begun, cpu) = (Instant::now(), Cpu::now());
    let tasks = (0..readers).map(|_| {
        let (tier, next) = (tier.clone(), next.clone());
        tokio::spawn(async move {
            let mut times = Latencies::default();
            while begun.elapsed() < slice {
                // A stride that visits every entry, never two of one block in a row.
                let entry = next.fetch_add(1, Ordering::Relaxed) * 211 % NUM_ENTRIES;
                let asked = Instant::now();
                let fetched = tier.fetch(stream, Offset(entry), 1).await?;
                times.push(asked.elapsed());
                if fetched.entries.len() != 1 || fetched.entries[0].base_offset != Offset(entry) {
                    return Err(Failure::from(format!("entry {entry} was not read")));
                }
            }
            Ok(times)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut times = Latencies::default();
    for task in tasks {
        times.merge(task.await??);
    }
    let (elapsed, cpu) = (begun.elapsed(), cpu.spent());
    let after = tier.counters();
    let from_bucket = after.blocks_from_bucket - before.blocks_from_bucket;
    let from_disk = after.blocks_from_disk - before.blocks_from_disk;
    let is_from_there = match source {
        Source::Memory => from_disk == 0,
        // Some blocks are still in memory.
        Source::Disk => from_disk * 10 >= times.len() as u64 * 9,
    };
    if from_bucket > 0 || !is_from_there {
        let what = format!("{from_bucket} blocks from the bucket, {from_disk} from the disk");
        return Err(what.into());
    }
    Ok((times, elapsed, cpu))
}
