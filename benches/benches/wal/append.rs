//! `wal/append`: durable appends by 1, 8 and 64 appenders, against raw writes.
//!
//! *Owns*: the cells, the order of the rounds, the shape of the raw batches.
//! *Does not own*: raw writing.
//!
//! Invariants
//! 1. In each round every WAL runs once, its raw limit right behind it, and the first one changes
//!    from round to round.
//! 2. The limit makes the same payload durable with the same number of writes and syncs: what the
//!    WAL adds (headers, padding, checksums, copies, threads, wake-ups) is what the ratio shows.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tidewater_benches::{Batch, BenchEnv, Cpu, Latencies, Quiet, RawFile, RawRun, Rounds, Row};
use tidewater_types::Env;
use tidewater_wal::{DeviceWal, Frame, Wal, WalError, WalMode};

use crate::subject::Subject;

const BENCH: &str = "wal/append";
const SIZES: [usize; 4] = [128, 1024, 4096, 65536];
const APPENDERS: [usize; 3] = [1, 8, 64];
/// How long each WAL, and each limit, runs in a round.
const SLICE: Duration = Duration::from_millis(400);
/// Before that: growing the ring, and watching the shape of its groups.
const WARM_UP: Duration = Duration::from_millis(120);
/// The WAL is trimmed whenever this much was appended, as after an upload.
const TRIM_BYTES: u64 = 8 << 20;
const RAW_BYTES: usize = 128 << 20;
const BLOCK_BYTES: usize = 4096;

#[derive(Clone, Copy)]
struct Cell {
    size: usize,
    appenders: usize,
}

/// What one WAL did in one cell, over all rounds.
#[derive(Default)]
struct Tally {
    ops: Rounds,
    cpu_ns: Rounds,
    latencies: Latencies,
    limit: Rounds,
    limit_cpu_ns: Rounds,
    limit_latencies: Latencies,
    shape: Option<(Batch, f64)>,
}

pub(crate) fn run(
    folder: &Path,
    rounds: usize,
    quiet: &mut Quiet,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let env: Arc<dyn Env> = Arc::new(BenchEnv::new(runtime.handle()));
    let device = |name, mode| Subject::device(name, &folder.join(name), env.clone(), mode);
    let subjects = [
        device("device", WalMode::Auto)?,
        device("device-portable", WalMode::Portable)?,
        Subject::memory(env.clone()),
    ];
    subjects
        .iter()
        .for_each(|it| println!("{}: {}", it.name, it.wal.describe()));
    let mut raw = RawFile::create(&folder.join("raw"), RAW_BYTES)?;
    let mut rows = Vec::new();
    for size in SIZES {
        for appenders in APPENDERS {
            let cell = Cell { size, appenders };
            let mut tallies = [(); 3].map(|()| Tally::default());
            for round in 0..rounds {
                for turn in 0..subjects.len() {
                    let place = (round + turn) % subjects.len();
                    let (subject, tally) = (&subjects[place], &mut tallies[place]);
                    let once = || one_round(&runtime, subject, cell, &mut raw);
                    tally.add(quiet.measure(once)?);
                }
            }
            for (subject, tally) in subjects.iter().zip(tallies) {
                rows.extend(report(subject, cell, tally));
            }
        }
    }
    for subject in &subjects {
        runtime.block_on(subject.wal.close())?;
    }
    Ok(rows)
}

/// One slice of a WAL and of its limit.
struct Round {
    run: Slice,
    limit: Option<(RawRun, Batch, f64)>,
}

impl Tally {
    fn add(&mut self, round: Round) {
        let run = round.run;
        let num_ops = run.latencies.len() as f64;
        self.ops.push(num_ops / run.elapsed.as_secs_f64());
        self.cpu_ns.push(run.cpu.as_nanos() as f64 / num_ops);
        self.latencies.merge(run.latencies);
        let Some((limit, batch, ops)) = round.limit else {
            return;
        };
        let num_raw = limit.num_batches as f64 * ops;
        self.limit.push(num_raw / limit.elapsed.as_secs_f64());
        self.limit_cpu_ns
            .push(limit.cpu.as_nanos() as f64 / num_raw);
        self.limit_latencies.merge(limit.latencies);
        self.shape = Some((batch, ops));
    }
}

fn one_round(
    runtime: &tokio::runtime::Runtime,
    subject: &Subject,
    cell: Cell,
    raw: &mut RawFile,
) -> Result<Round, Box<dyn Error>> {
    let warm = runtime.block_on(slice(subject, cell, WARM_UP, subject.device.clone()))?;
    let run = runtime.block_on(slice(subject, cell, SLICE, None))?;
    if subject.device.is_none() {
        return Ok(Round { run, limit: None });
    }
    let groups_per_sync = warm.num_groups as f64 / warm.num_syncs.max(1) as f64;
    let ops_per_sync = run.latencies.len() as f64 / run.num_syncs.max(1) as f64;
    let (batch, ops) = shape(cell, groups_per_sync, ops_per_sync);
    let limit = Some((raw.run(batch, SLICE)?, batch, ops));
    Ok(Round { run, limit })
}

/// The raw batch that carries the payload of the appends a sync made durable, and their number.
fn shape(cell: Cell, groups_per_sync: f64, ops_per_sync: f64) -> (Batch, f64) {
    if cell.appenders == 1 {
        let write_bytes = cell.size.next_multiple_of(BLOCK_BYTES);
        return (
            Batch {
                num_writes: 1,
                write_bytes,
            },
            1.0,
        );
    }
    let num_writes = (groups_per_sync.round() as usize).clamp(1, 64);
    let bytes = (ops_per_sync * cell.size as f64 / num_writes as f64).ceil() as usize;
    let write_bytes = bytes.next_multiple_of(BLOCK_BYTES);
    (
        Batch {
            num_writes,
            write_bytes,
        },
        ops_per_sync,
    )
}

fn report(subject: &Subject, cell: Cell, tally: Tally) -> Vec<Row> {
    let params = |name: &str| json!({"wal": name, "size": cell.size, "appenders": cell.appenders});
    let row = Row::new(
        BENCH,
        params(subject.name),
        "throughput",
        "ops/s",
        tally.ops,
    )
    .with_latencies(&tally.latencies)
    .with_cpu(&tally.cpu_ns);
    let Some((
        Batch {
            num_writes,
            write_bytes,
        },
        ops,
    )) = tally.shape
    else {
        return vec![row];
    };
    let what = if cell.appenders == 1 {
        format!("raw O_DIRECT write + fdatasync, one at a time: {write_bytes} bytes")
    } else {
        format!(
            "raw aligned batches, same size and depth: {num_writes} × {write_bytes} bytes and one \
             fdatasync for {ops:.1} appends"
        )
    };
    let mut rows = vec![row.with_limit(what, &tally.limit)];
    if subject.name == "device" {
        let raw = Row::new(BENCH, params("raw"), "throughput", "ops/s", tally.limit)
            .with_latencies(&tally.limit_latencies)
            .with_cpu(&tally.limit_cpu_ns);
        rows.push(raw);
    }
    rows
}

/// What a stretch of appending came to.
struct Slice {
    elapsed: Duration,
    cpu: Duration,
    latencies: Latencies,
    num_syncs: u64,
    num_groups: usize,
}

/// The appenders of a slice and what they share.
struct Crowd {
    wal: Arc<dyn Wal>,
    stop: AtomicBool,
    num_bytes: AtomicU64,
    /// Where to look the groups of frames up, if their number is wanted.
    device: Option<Arc<DeviceWal>>,
    groups: Mutex<BTreeSet<(u64, u64)>>,
}

async fn slice(
    subject: &Subject,
    cell: Cell,
    wait: Duration,
    device: Option<Arc<DeviceWal>>,
) -> Result<Slice, WalError> {
    let crowd = Arc::new(Crowd {
        wal: subject.wal.clone(),
        stop: AtomicBool::new(false),
        num_bytes: AtomicU64::new(0),
        device,
        groups: Mutex::default(),
    });
    let (begun, cpu) = (Instant::now(), Cpu::now());
    let syncs = crowd.wal.counters().syncs;
    let appenders: Vec<_> = (0..cell.appenders)
        .map(|_| tokio::spawn(appender(crowd.clone(), cell.size)))
        .collect();
    tokio::time::sleep(wait).await;
    crowd.stop.store(true, Ordering::Relaxed);
    let mut latencies = Latencies::default();
    for appender in appenders {
        latencies.merge(appender.await.expect("an appender never panics")?);
    }
    let num_groups = crowd.groups.lock().expect("no appender panicked").len();
    Ok(Slice {
        elapsed: begun.elapsed(),
        cpu: cpu.spent(),
        latencies,
        num_syncs: crowd.wal.counters().syncs - syncs,
        num_groups,
    })
}

/// Appends one frame after the other, each after the last one is durable.
async fn appender(crowd: Arc<Crowd>, size: usize) -> Result<Latencies, WalError> {
    let body = Bytes::from(vec![0xa5; size]);
    let mut latencies = Latencies::default();
    while !crowd.stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let permit = crowd.wal.reserve(size).await?;
        let lsn = crowd.wal.append(permit, Frame::from(body.clone()))?.await?;
        latencies.push(started.elapsed());
        // The memory WAL is always ready: without this, nobody else on the thread would ever run.
        tokio::task::consume_budget().await;
        if let Some(group) = crowd.device.as_ref().and_then(|device| device.locate(lsn)) {
            // A place in the ring comes round again, but not within 16 MiB of log.
            let key = (lsn.0 >> 24, group.start);
            crowd
                .groups
                .lock()
                .expect("no appender panicked")
                .insert(key);
        }
        let bytes = size as u64;
        let before = crowd.num_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / TRIM_BYTES != (before + bytes) / TRIM_BYTES {
            crowd.wal.trim(lsn);
        }
    }
    Ok(latencies)
}
