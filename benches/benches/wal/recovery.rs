//! `wal/recovery`: opening a WAL that was not trimmed, against a raw sequential read.
//!
//! *Owns*: filling the WAL, abandoning it as a crash would, opening it again and again.
//!
//! Invariants
//! 1. Every round finds every frame, or the bench fails.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use serde_json::json;
use tidewater_benches::{BenchEnv, Cpu, Quiet, Rounds, Row, read_sequentially};
use tidewater_types::Env;
use tidewater_wal::{DeviceWal, DeviceWalConfig, Frame, OpenMode, Wal};

use crate::subject::identity;

const BENCH: &str = "wal/recovery";
const MIB: usize = 256;
const FRAME_SIZES: [usize; 2] = [1024, 65536];
/// Raw reads under way: more than that gained little.
const RAW_DEPTH: usize = 4;
/// Appends under way while the WAL is filled.
const WINDOW: usize = 64;

pub(crate) fn run(
    folder: &Path,
    rounds: usize,
    quiet: &mut Quiet,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let env: Arc<dyn Env> = Arc::new(BenchEnv::new(runtime.handle()));
    let mut rows = Vec::new();
    for frame_bytes in FRAME_SIZES {
        rows.extend(one_size(
            &runtime,
            &env,
            folder,
            frame_bytes,
            rounds,
            quiet,
        )?);
    }
    Ok(rows)
}

fn one_size(
    runtime: &tokio::runtime::Runtime,
    env: &Arc<dyn Env>,
    folder: &Path,
    frame_bytes: usize,
    rounds: usize,
    quiet: &mut Quiet,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let path = folder.join(format!("recovery-{frame_bytes}"));
    let config = DeviceWalConfig::default();
    let read_bytes = usize::try_from(config.recovery_read_bytes)?;
    let open = |mode, seen: &Arc<AtomicU64>| {
        let seen = seen.clone();
        let count = move |_, _: Bytes| {
            seen.fetch_add(1, Ordering::Relaxed);
        };
        DeviceWal::open(&path, env.clone(), config.clone(), identity(), mode, count)
    };
    let num_frames = (MIB << 20) / frame_bytes;
    let (wal, _) = open(OpenMode::Create, &Arc::default())?;
    runtime.block_on(fill(&wal, frame_bytes, num_frames))?;
    drop(wal);
    let (mut values, mut limits, mut cpu_ns) =
        (Rounds::default(), Rounds::default(), Rounds::default());
    for _ in 0..rounds {
        quiet.wait();
        let seen = Arc::default();
        let (begun, cpu) = (Instant::now(), Cpu::now());
        let (wal, report) = open(OpenMode::Existing, &seen)?;
        let (elapsed, cpu) = (begun.elapsed(), cpu.spent());
        drop(wal);
        let found = seen.load(Ordering::Relaxed);
        if found != num_frames as u64 {
            return Err(format!("{num_frames} frames were durable, {found} came back").into());
        }
        values.push(report.num_bytes as f64 / elapsed.as_secs_f64() / 1e6);
        cpu_ns.push(cpu.as_nanos() as f64 / num_frames as f64);
        let raw = read_sequentially(&path, report.num_bytes, read_bytes, RAW_DEPTH)?;
        limits.push(report.num_bytes as f64 / raw.as_secs_f64() / 1e6);
    }
    let params = json!({"wal": "device", "mib": MIB, "size": frame_bytes});
    let what = format!("raw sequential O_DIRECT read, {RAW_DEPTH} at a time: {read_bytes} bytes");
    let row = Row::new(BENCH, params, "throughput", "MB/s", values)
        .with_limit(what, &limits)
        .with_cpu(&cpu_ns);
    Ok(vec![row])
}

async fn fill(wal: &DeviceWal, size: usize, num_frames: usize) -> Result<(), Box<dyn Error>> {
    let body = Bytes::from(vec![0xa5; size]);
    let mut waiting = std::collections::VecDeque::new();
    for _ in 0..num_frames {
        let permit = wal.reserve(size).await?;
        waiting.push_back(wal.append(permit, Frame::from(body.clone()))?);
        if waiting.len() == WINDOW {
            waiting.pop_front().expect("not empty").await?;
        }
    }
    for append in waiting {
        append.await?;
    }
    Ok(())
}
