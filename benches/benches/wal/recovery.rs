//! `wal/recovery`: opening a WAL that was not trimmed, against a raw sequential read.
//!
//! *Owns*: filling the WAL, abandoning it as a crash would, opening it again and again.
//!
//! Invariants
//! 1. Every round finds every frame, or the bench fails.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tidewater_benches::{Cpu, Options, Quiet, Rounds, Row, noise, read_sequentially};
use tidewater_types::Env;
use tidewater_wal::{DeviceWal, DeviceWalConfig, Frame, OpenMode, Wal};

use crate::Failure;
use crate::subject::{WalPlace, identity};

const BENCH: &str = "wal/recovery";
const MIB: usize = 256;
const FRAME_SIZES: [usize; 2] = [1024, 65536];
/// Raw reads under way: more than that gained little.
const RAW_DEPTH: usize = 4;
/// Appends under way while the WAL is filled.
const WINDOW: usize = 64;
/// Filling, and one round.
const FILL: Duration = Duration::from_secs(5);
const ROUND: Duration = Duration::from_millis(500);

/// Which sizes are measured.
pub(crate) struct Plan {
    rounds: usize,
    frame_sizes: Vec<usize>,
}

impl Plan {
    pub(crate) fn new(plan: crate::plan::Plan, options: &Options) -> Self {
        let frame_sizes = FRAME_SIZES.into_iter();
        Self {
            rounds: plan.rounds,
            frame_sizes: frame_sizes
                .filter(|size| options.wants(&id(size)))
                .collect(),
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = String> {
        self.frame_sizes.iter().map(id)
    }

    pub(crate) fn estimate(&self) -> Duration {
        let rounds = u32::try_from(self.rounds).unwrap_or(u32::MAX);
        let of_size = |_| FILL + ROUND * rounds;
        self.frame_sizes.iter().map(of_size).sum()
    }

    pub(crate) fn run(
        &self,
        wals: &WalPlace,
        (runtime, env): (&tokio::runtime::Runtime, &Arc<dyn Env>),
        quiet: &mut Quiet,
    ) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        for frame_bytes in &self.frame_sizes {
            let config = DeviceWalConfig::default();
            let num_frames = (MIB << 20) / frame_bytes;
            let name = format!("recovery-{frame_bytes}");
            let (wal, path) = wals.create(&name, env, config.clone())?;
            runtime.block_on(fill(&wal, *frame_bytes, num_frames))?;
            // As a crash would: nothing is closed.
            drop(wal);
            let opening = Opening {
                path: &path,
                env,
                config,
            };
            rows.push(self.one_size(&opening, *frame_bytes, num_frames, quiet)?);
        }
        Ok(rows)
    }

    fn one_size(
        &self,
        opening: &Opening<'_>,
        frame_bytes: usize,
        num_frames: usize,
        quiet: &mut Quiet,
    ) -> Result<Row, Failure> {
        let read_bytes = usize::try_from(opening.config.recovery_read_bytes)?;
        let (mut values, mut limits, mut cpu_ns) =
            (Rounds::default(), Rounds::default(), Rounds::default());
        for _ in 0..self.rounds {
            quiet.wait();
            let (begun, cpu) = (Instant::now(), Cpu::now());
            let num_bytes = opening.once(num_frames)?;
            let (elapsed, cpu) = (begun.elapsed(), cpu.spent());
            values.push(num_bytes as f64 / elapsed.as_secs_f64() / 1e6);
            cpu_ns.push(cpu.as_nanos() as f64 / num_frames as f64);
            let raw = read_sequentially(opening.path, num_bytes, read_bytes, RAW_DEPTH)?;
            limits.push(num_bytes as f64 / raw.as_secs_f64() / 1e6);
        }
        let params = json!({"wal": "device", "mib": MIB, "size": frame_bytes});
        let what =
            format!("raw sequential O_DIRECT read, {RAW_DEPTH} at a time: {read_bytes} bytes");
        Ok(Row::new(BENCH, params, "throughput", "MB/s", values)
            .with_limit(what, &limits)
            .with_cpu(&cpu_ns))
    }
}

fn id(frame_bytes: &usize) -> String {
    format!("recovery/device/{frame_bytes}")
}

struct Opening<'a> {
    path: &'a Path,
    env: &'a Arc<dyn Env>,
    config: DeviceWalConfig,
}

impl Opening<'_> {
    /// Opens the WAL, looks whether all frames came back, and answers how many bytes were scanned.
    fn once(&self, num_frames: usize) -> Result<u64, Failure> {
        let seen = Arc::new(AtomicU64::new(0));
        let of_wal = seen.clone();
        let count = move |_, _: Bytes| {
            of_wal.fetch_add(1, Ordering::Relaxed);
        };
        let (config, env) = (self.config.clone(), self.env.clone());
        let existing = OpenMode::Existing;
        let (wal, report) = DeviceWal::open(self.path, env, config, identity(), existing, count)?;
        drop(wal);
        let found = seen.load(Ordering::Relaxed);
        if found != num_frames as u64 {
            return Err(format!("{num_frames} frames were durable, {found} came back").into());
        }
        Ok(report.num_bytes)
    }
}

async fn fill(wal: &DeviceWal, size: usize, num_frames: usize) -> Result<(), Failure> {
    let body = noise(size);
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
