//! `tier/cache_disk`: the file of the disk cache, read by blocking threads and through io_uring.
//!
//! *Owns*: the cells: how many bytes, how many readers, whether the file is in the page cache.
//! *Does not own*: what the tier makes of the bytes (`cache_hit`).
//!
//! Invariants
//! 1. Both sides read the same file in the same round, in turns about who is first.
//! 2. A read that counts has the block that was asked for.
//! 3. With the page cache emptied a slice reads no block twice.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tidewater_benches::{Cpu, Latencies, Rounds, Row, forget_pages};
use tidewater_s3stream::{CacheDisk, CacheFile, UringCacheFile};

use crate::part::{Failure, Part, Rig};

const BENCH: &str = "tier/cache_disk";
const FILE_BYTES: u64 = 512 << 20;
/// What a block is named by; every size that is read is a multiple of it.
const MARK_BYTES: u64 = 64 << 10;
/// In blocks: neither neighbours nor ever the same one before all were read.
const STRIDE: u64 = 211;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    num_bytes: u64,
    readers: u64,
    is_emptied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Threads,
    Ring,
}

pub(crate) struct CacheDiskReads;

impl Part for CacheDiskReads {
    fn ids(&self) -> Vec<String> {
        cells().map(id).collect()
    }

    fn run(&self, wanted: &str, rig: &mut Rig) -> Result<Vec<Row>, Failure> {
        let cell = cells().find(|cell| id(*cell) == wanted);
        let cell = cell.ok_or("no such cell")?;
        let folder = rig.scratch.path().join("cache-disk");
        let path = folder.join("blocks.cache");
        if !path.exists() {
            std::fs::create_dir_all(&folder)?;
            fill(&path)?;
        }
        let (runtime, slice) = (&rig.runtime, rig.plan.slice);
        let measure = |side| -> Result<Measured, Failure> {
            let disk = open(side, &path)?;
            if cell.is_emptied {
                forget_pages(&folder)?;
            }
            runtime.block_on(read_all(disk, cell, slice))
        };
        // The first one finds threads and memory that were not used before.
        measure(Side::Threads)?;
        measure(Side::Ring)?;
        let (mut threads, mut ring) = (All::default(), All::default());
        for round in 0..rig.plan.rounds {
            let (by_threads, by_ring) = rig.quiet.measure(|| -> Result<_, Failure> {
                if round % 2 == 0 {
                    let by_threads = measure(Side::Threads)?;
                    Ok((by_threads, measure(Side::Ring)?))
                } else {
                    let by_ring = measure(Side::Ring)?;
                    Ok((measure(Side::Threads)?, by_ring))
                }
            })?;
            threads.add(by_threads);
            ring.add(by_ring);
        }
        let limit = threads.values.clone();
        let ring = ring.row(cell, Side::Ring);
        Ok(vec![
            threads.row(cell, Side::Threads),
            ring.with_limit("the same reads on blocking threads".to_owned(), &limit),
        ])
    }
}

fn cells() -> impl Iterator<Item = Cell> {
    [false, true].into_iter().flat_map(|is_emptied| {
        [64 << 10, 512 << 10]
            .into_iter()
            .flat_map(move |num_bytes| {
                [1, 8].map(|readers| Cell {
                    num_bytes,
                    readers,
                    is_emptied,
                })
            })
    })
}

fn id(cell: Cell) -> String {
    let from = if cell.is_emptied { "/disk" } else { "" };
    format!(
        "cache_disk/{}KiB/{}{from}",
        cell.num_bytes >> 10,
        cell.readers
    )
}

/// A file in which every block of [`MARK_BYTES`] begins with its own number.
fn fill(path: &Path) -> Result<(), Failure> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut block = vec![0x5a; MARK_BYTES as usize];
    for number in 0..FILE_BYTES / MARK_BYTES {
        block[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&block)?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

fn open(side: Side, path: &Path) -> Result<Arc<dyn CacheDisk>, Failure> {
    if side == Side::Threads {
        return Ok(Arc::new(CacheFile::open(path, FILE_BYTES)?));
    }
    let disk = UringCacheFile::open(path, FILE_BYTES)?;
    if !disk.has_ring() {
        return Err("io_uring is not to be had here".into());
    }
    Ok(Arc::new(disk))
}

/// What one side did in a slice.
struct Measured {
    times: Latencies,
    elapsed: Duration,
    cpu: Duration,
}

async fn read_all(
    disk: Arc<dyn CacheDisk>,
    cell: Cell,
    slice: Duration,
) -> Result<Measured, Failure> {
    let num_blocks = FILE_BYTES / cell.num_bytes;
    let next = Arc::new(AtomicU64::new(0));
    let (begun, cpu) = (Instant::now(), Cpu::now());
    let tasks = (0..cell.readers).map(|_| {
        let (disk, next) = (disk.clone(), next.clone());
        tokio::spawn(async move {
            let mut times = Latencies::default();
            while begun.elapsed() < slice {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if cell.is_emptied && turn >= num_blocks {
                    break;
                }
                let position = turn * STRIDE % num_blocks * cell.num_bytes;
                let asked = Instant::now();
                let read = disk.read(position, cell.num_bytes as usize).await?;
                times.push(asked.elapsed());
                let mark = (position / MARK_BYTES).to_le_bytes();
                if read.len() as u64 != cell.num_bytes || read[..8] != mark {
                    return Err(Failure::from(format!("another block than at {position}")));
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
    Ok(Measured {
        times,
        elapsed: begun.elapsed(),
        cpu: cpu.spent(),
    })
}

#[derive(Default)]
struct All {
    values: Rounds,
    cpu_ns: Rounds,
    latencies: Latencies,
}

impl All {
    fn add(&mut self, measured: Measured) {
        let num_reads = measured.times.len() as f64;
        self.values.push(num_reads / measured.elapsed.as_secs_f64());
        self.cpu_ns.push(measured.cpu.as_nanos() as f64 / num_reads);
        self.latencies.merge(measured.times);
    }

    fn row(self, cell: Cell, side: Side) -> Row {
        let reader = match side {
            Side::Threads => "threads",
            Side::Ring => "uring",
        };
        let from = if cell.is_emptied {
            "disk"
        } else {
            "page-cache"
        };
        let params = json!({
            "reader": reader, "from": from, "bytes": cell.num_bytes, "readers": cell.readers,
        });
        Row::new(BENCH, params, "throughput", "reads/s", self.values)
            .with_latencies(&self.latencies)
            .with_cpu(&self.cpu_ns)
    }
}
