//! The appenders: many, each waiting for its own append before the next.
//!
//! *Owns*: tasks and threads that append; warming up, measuring and stopping; trimming behind them.
//! *Does not own*: what they append to.
//!
//! Invariants
//! 1. The same appenders warm up and are measured: an append counts if it ends within the slice,
//!    and neither the start of the crowd nor its end is in the figures.
//! 2. A log is trimmed up to where it stood a window earlier, and no more once the slice is over, so
//!    that its last groups can still be located.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewater_benches::{Cpu, Latencies, block_on, noise};
use tidewater_types::Lsn;
use tidewater_wal::{Frame, Wal};

use crate::Failure;
use crate::subject::Log;

/// The log is trimmed whenever about this much of it was written, as after an upload.
const TRIM_BYTES: u64 = 64 << 20;
/// What an append takes on a device at least, if it comes alone.
const BLOCK_BYTES: u64 = 4096;

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const STOPPED: u8 = 2;

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Tasks,
    Threads,
}

/// What a slice came to.
pub(crate) struct Slice {
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
    pub(crate) latencies: Latencies,
    /// Where the appends of the slice went, ascending; empty for a log without LSNs.
    pub(crate) lsns: Vec<Lsn>,
    /// Appends and syncs that the log itself counted meanwhile.
    pub(crate) num_appends: u64,
    pub(crate) num_syncs: u64,
}

/// What one appender saw.
#[derive(Default)]
struct Seen {
    latencies: Latencies,
    lsns: Vec<Lsn>,
}

struct Crowd {
    log: Log,
    phase: AtomicU8,
    body: Bytes,
    num_bytes: AtomicU64,
    /// Where the log stood when a window began.
    trim_next: Mutex<Lsn>,
}

/// Appends `size` bytes at a time with `appenders` at once: `warm_up`, then the slice.
pub(crate) fn slice(
    runtime: &tokio::runtime::Runtime,
    log: &Log,
    (size, appenders, by): (usize, usize, By),
    (warm_up, wait): (Duration, Duration),
) -> Result<Slice, Failure> {
    let crowd = Arc::new(Crowd {
        log: log.clone(),
        phase: AtomicU8::new(WARMING),
        body: noise(size),
        num_bytes: AtomicU64::new(0),
        trim_next: Mutex::new(log.durable()),
    });
    let joined = match by {
        By::Tasks => Members::Tasks(
            (0..appenders)
                .map(|_| runtime.spawn(task(crowd.clone())))
                .collect(),
        ),
        By::Threads => Members::Threads(
            (0..appenders)
                .map(|number| {
                    let crowd = crowd.clone();
                    std::thread::Builder::new()
                        .name("appender".to_owned())
                        .spawn(move || thread(&crowd, number))
                })
                .collect::<Result<_, _>>()?,
        ),
    };
    std::thread::sleep(warm_up);
    let (begun, cpu, counters) = (Instant::now(), Cpu::now(), log.counters());
    crowd.phase.store(MEASURING, Ordering::Relaxed);
    std::thread::sleep(wait);
    crowd.phase.store(STOPPED, Ordering::Relaxed);
    let (elapsed, cpu, ended) = (begun.elapsed(), cpu.spent(), log.counters());
    let mut seen = Seen::default();
    for one in joined.join(runtime)? {
        seen.latencies.merge(one.latencies);
        seen.lsns.extend(one.lsns);
    }
    if seen.latencies.is_empty() {
        return Err(format!("no append of {size} bytes ended within {wait:?}").into());
    }
    seen.lsns.sort_unstable();
    Ok(Slice {
        elapsed,
        cpu,
        latencies: seen.latencies,
        lsns: seen.lsns,
        num_appends: ended.appends - counters.appends,
        num_syncs: ended.syncs - counters.syncs,
    })
}

enum Members {
    Tasks(Vec<tokio::task::JoinHandle<Result<Seen, Failure>>>),
    Threads(Vec<std::thread::JoinHandle<Result<Seen, Failure>>>),
}

impl Members {
    fn join(self, runtime: &tokio::runtime::Runtime) -> Result<Vec<Seen>, Failure> {
        match self {
            Self::Tasks(tasks) => tasks
                .into_iter()
                .map(|task| runtime.block_on(task)?)
                .collect(),
            Self::Threads(threads) => threads
                .into_iter()
                .map(|thread| thread.join().expect("an appender never panics"))
                .collect(),
        }
    }
}

async fn task(crowd: Arc<Crowd>) -> Result<Seen, Failure> {
    let Log::Wal(wal) = crowd.log.clone() else {
        return Err("tasks cannot wait for a log that blocks".into());
    };
    let mut seen = Seen::default();
    while crowd.goes_on() {
        let started = Instant::now();
        let lsn = append(&*wal, &crowd.body).await?;
        crowd.note(&mut seen, started, Some(lsn));
        // The memory WAL is always ready: without this, nobody else on the thread would ever run.
        tokio::task::consume_budget().await;
    }
    Ok(seen)
}

/// An appender on a thread of its own, without a runtime.
fn thread(crowd: &Crowd, number: usize) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    match &crowd.log {
        Log::Wal(wal) => {
            while crowd.goes_on() {
                let started = Instant::now();
                let permit = block_on(wal.reserve(crowd.body.len()))?;
                let append = wal.append(permit, Frame::from(crowd.body.clone()))?;
                crowd.note(&mut seen, started, Some(append.wait()?));
            }
        }
        Log::Blocking(log) => {
            let mut append = log.clone().appender(number, &crowd.body)?;
            while crowd.goes_on() {
                let started = Instant::now();
                append()?;
                crowd.note(&mut seen, started, None);
            }
        }
    }
    Ok(seen)
}

async fn append(wal: &dyn Wal, body: &Bytes) -> Result<Lsn, Failure> {
    let permit = wal.reserve(body.len()).await?;
    Ok(wal.append(permit, Frame::from(body.clone()))?.await?)
}

impl Crowd {
    fn goes_on(&self) -> bool {
        self.phase.load(Ordering::Relaxed) != STOPPED
    }

    fn note(&self, seen: &mut Seen, started: Instant, lsn: Option<Lsn>) {
        if self.phase.load(Ordering::Relaxed) == MEASURING {
            seen.latencies.push(started.elapsed());
            seen.lsns.extend(lsn);
        }
        let bytes = (self.body.len() as u64).max(BLOCK_BYTES);
        let before = self.num_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.goes_on() && before / TRIM_BYTES != (before + bytes) / TRIM_BYTES {
            let mut next = self.trim_next.lock().expect("no appender panics");
            let up_to = lsn.map_or(*next, |lsn| std::mem::replace(&mut *next, lsn));
            drop(next);
            self.log.trim(up_to);
        }
    }
}
