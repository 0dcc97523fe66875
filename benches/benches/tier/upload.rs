//! `tier/upload`: how fast appended entries become committed objects, and how many bytes a second of
//! one core moves, beside raw creates of the same objects.
//!
//! *Owns*: the cells, one a bucket; the limit: creates of the sizes that the uploader sent, as many
//! at a time as it had under way.
//! *Does not own*: the tail; making the entries is not measured.
//!
//! Invariants
//! 1. What counts is committed: a flush waits for it.
//! 2. In each round the raw creates run right behind the upload, each once. Where the uploader sent
//!    a part, an object of that size is created.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tidewater_benches::{Cpu, Creates, Rounds, Row, SlowBucket, noise};
use tidewater_bucket::{Bucket, Purpose};
use tidewater_types::Env;

use crate::fill::{ENTRY_BYTES, Filling};
use crate::part::{Failure, Kind, Part, Rig, Ways};

const BENCH: &str = "tier/upload";
const KINDS: [Kind; 3] = [Kind::Memory, Kind::Local, Kind::Slow { ms: 20 }];

/// As much as fills several objects.
const UPLOAD_BYTES: u64 = 256 << 20;

pub(crate) struct Upload;

impl Part for Upload {
    fn ids(&self) -> Vec<String> {
        KINDS.map(id).to_vec()
    }

    fn run(&self, wanted: &str, rig: &mut Rig) -> Result<Vec<Row>, Failure> {
        let kind = KINDS.into_iter().find(|kind| id(*kind) == wanted);
        let kind = kind.ok_or("no such cell")?;
        let (env, plan) = (rig.env.clone(), rig.plan);
        let (mut all, mut per_core) = (Both::default(), Both::default());
        // The first round finds no memory that was used before, and does not count.
        for number in 0..=plan.rounds {
            // Each round in a bucket of its own, or a local one would fill the disk.
            let ways = rig.bucket(kind)?;
            let runtime = &rig.runtime;
            let round = rig
                .quiet
                .measure(|| runtime.block_on(round(kind, &ways, env.clone(), UPLOAD_BYTES)))?;
            if number == 0 {
                continue;
            }
            all.add(round.uploaded.rate(), round.raw.rate());
            per_core.add(round.uploaded.rate_per_core(), round.raw.rate_per_core());
        }
        let params = json!({ "bucket": kind.name(), "mib": UPLOAD_BYTES >> 20 });
        let what = "raw creates of the same sizes, as many at a time".to_owned();
        let row = |metric, both: Both| {
            Row::new(BENCH, params.clone(), metric, "MB/s", both.values)
                .with_limit(what.clone(), &both.limits)
        };
        Ok(vec![
            row("throughput", all),
            row("throughput_per_core", per_core),
        ])
    }
}

fn id(kind: Kind) -> String {
    format!("upload/{}", kind.name())
}

#[derive(Default)]
struct Both {
    values: Rounds,
    limits: Rounds,
}

impl Both {
    fn add(&mut self, value: f64, limit: f64) {
        self.values.push(value);
        self.limits.push(limit);
    }
}

struct Moved {
    num_bytes: u64,
    elapsed: Duration,
    cpu: Duration,
}

impl Moved {
    /// Megabytes a second.
    fn rate(&self) -> f64 {
        self.num_bytes as f64 / self.elapsed.as_secs_f64() / 1e6
    }

    /// Megabytes a second of processor time.
    fn rate_per_core(&self) -> f64 {
        self.num_bytes as f64 / self.cpu.as_secs_f64() / 1e6
    }
}

struct Round {
    uploaded: Moved,
    raw: Moved,
}

async fn round(
    kind: Kind,
    ways: &Ways,
    env: Arc<dyn Env>,
    num_bytes: u64,
) -> Result<Round, Failure> {
    let delay = match kind {
        Kind::Slow { ms } => Duration::from_millis(ms),
        Kind::Memory | Kind::Local | Kind::Store => Duration::ZERO,
    };
    let watched = Arc::new(SlowBucket::new(ways.near.clone(), env.clone(), delay));
    let filling = Filling::begin(watched.clone(), env).await?;
    let num_entries = num_bytes / ENTRY_BYTES as u64;
    let entries = filling.entries(0..num_entries);
    let _before = watched.take_creates();
    let (begun, cpu) = (Instant::now(), Cpu::now());
    filling.upload(entries).await?;
    let (elapsed, cpu) = (begun.elapsed(), cpu.spent());
    let uploaded = Moved {
        num_bytes: num_entries * ENTRY_BYTES as u64,
        elapsed,
        cpu,
    };
    let creates = watched.take_creates();
    filling.end().await;
    let raw = raw(watched, creates).await?;
    Ok(Round { uploaded, raw })
}

/// Creates what was sent, without anything else.
async fn raw(bucket: Arc<dyn Bucket>, creates: Creates) -> Result<Moved, Failure> {
    let num_workers = creates.depth();
    let largest = creates.sizes.iter().copied().max().unwrap_or(0);
    let (body, sizes) = (noise(largest.max(1)), Arc::new(creates.sizes));
    let next = Arc::new(AtomicUsize::new(0));
    let (begun, cpu) = (Instant::now(), Cpu::now());
    let workers = (0..num_workers).map(|_| {
        let (bucket, body) = (bucket.clone(), body.clone());
        let (sizes, next) = (sizes.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(size) = sizes.get(number) else {
                    return Ok::<_, Failure>(());
                };
                // In two pieces, so that a bucket in memory has to put them together as well.
                let body = vec![body.slice(..size / 2), body.slice(size / 2..*size)];
                let key = format!("raw/{number}");
                bucket.create(Purpose::Upload, &key, body).await?;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    Ok(Moved {
        num_bytes: sizes.iter().map(|size| *size as u64).sum(),
        elapsed: begun.elapsed(),
        cpu: cpu.spent(),
    })
}
