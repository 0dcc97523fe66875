//! `tier/tail_with_cold_readers`: from an append to the consumer at the tail that has it, alone and
//! beside four readers of old data at 40 MB/s each.
//!
//! *Owns*: the store, its writer, its consumer, the readers and their pace.
//! *Does not own*: what makes an append durable (`wal/append` measures that).
//!
//! Invariants
//! 1. A round is `TURNS` turns on one store, half of them with readers, by turns; what comes first
//!    changes from round to round. So whatever else goes on, in this machine or on its disk, meets
//!    both sides. The percentile of a round is that of all of its turns of one side.
//! 2. What the tail itself uploads goes between the turns: on one disk an upload holds up the log's
//!    syncs, and it would fall on one side by chance.
//! 3. What the readers had together is in the row (`read_mb_per_s`, of the slowest round). If they never
//!    asked the bucket that is an error: then the tail had no company.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tidewater_benches::{Latencies, Rounds, Row, noise};
use tidewater_stream_store::{
    AppendRequest, DeviceWalConfig, DeviceWalOpener, StoreConfig, Stream, StreamStore,
};
use tidewater_types::Offset;
use tokio::task::JoinHandle;

use crate::part::{Failure, Kind, Part, Rig};

const BENCH: &str = "tier/tail_with_cold_readers";
const KINDS: [Kind; 2] = [Kind::Local, Kind::Slow { ms: 20 }];
const READERS: u64 = 4;
const READER_BYTES_PER_S: u64 = 40_000_000;
/// The old data of each reader; all of them are twice the memory for blocks.
const OLD_BYTES: u64 = 64 << 20;
const OLD_ENTRY_BYTES: usize = 64 << 10;
const FETCH_BYTES: usize = 1 << 20;
/// The tail: a batch every 2 ms.
const TAIL_PAUSE: Duration = Duration::from_millis(2);
const TAIL_ENTRY_BYTES: usize = 4 << 10;
/// Even, so that both sides have as many; each side has the slice of the plan.
const TURNS: u32 = 12;

pub(crate) struct TailWithColdReaders;

impl Part for TailWithColdReaders {
    fn ids(&self) -> Vec<String> {
        KINDS.map(id).to_vec()
    }

    fn run(&self, wanted: &str, rig: &mut Rig) -> Result<Vec<Row>, Failure> {
        let kind = KINDS.into_iter().find(|kind| id(*kind) == wanted);
        let kind = kind.ok_or("no such cell")?;
        let (env, plan) = (rig.env.clone(), rig.plan);
        let bucket = rig.bucket(kind)?.far;
        let wal = DeviceWalOpener {
            path: rig.scratch.path().join(format!("wal-{}", kind.name())),
            config: DeviceWalConfig {
                // Its trial writes would meet one side or the other.
                calibrate_after_ms: 0,
                ..DeviceWalConfig::default()
            },
            env: env.clone(),
        };
        let runtime = &rig.runtime;
        let store = runtime.block_on(async {
            let mut config = StoreConfig::default();
            // It would work on what was just uploaded in the first rounds, and not in the last.
            config.tier.compact.background = false;
            StreamStore::open(env.clone(), bucket, Box::new(wal), config).await
        })?;
        let (tail, mut old) = runtime.block_on(streams(&store))?;
        let (mut with, mut alone, mut all) =
            (Rounds::default(), Rounds::default(), Latencies::default());
        let mut slowest = f64::MAX;
        for number in 0..plan.rounds {
            let round = Round {
                readers_first: number % 2 == 1,
                turn: plan.slice * 2 / TURNS,
            };
            let sides =
                (rig.quiet).measure(|| runtime.block_on(round.run(&store, &tail, &mut old)))?;
            let p99 = |side: &Side| side.times.percentiles_us().map_or(0.0, |all| all[1]);
            alone.push(p99(&sides.alone));
            with.push(p99(&sides.beside));
            all.merge(sides.beside.times);
            let rate = sides.beside.num_bytes as f64 / plan.slice.as_secs_f64() / 1e6;
            slowest = slowest.min(rate);
        }
        runtime.block_on(store.close())?;
        let params = json!({
            "bucket": kind.name(), "readers": READERS, "size": TAIL_ENTRY_BYTES,
            "read_mb_per_s": slowest.round(),
        });
        let row = Row::new(BENCH, params, "p99", "us", with)
            .with_limit("the same without the readers".to_owned(), &alone)
            .with_latencies(&all);
        Ok(vec![row])
    }
}

fn id(kind: Kind) -> String {
    format!("tail_with_cold_readers/{}", kind.name())
}

/// Old data, and where its reader is.
#[derive(Clone)]
struct Old {
    stream: Stream,
    next: Offset,
}

/// The stream with the tail, and the streams with old data, which is uploaded.
async fn streams(store: &StreamStore) -> Result<(Stream, Vec<Old>), Failure> {
    let body = noise(OLD_ENTRY_BYTES);
    let mut old = Vec::new();
    for _ in 0..READERS {
        let stream = store.open_stream(store.create().await?).await?;
        for _ in 0..OLD_BYTES / OLD_ENTRY_BYTES as u64 {
            append(&stream, &body).await?;
        }
        store.flush().await?;
        let next = Offset(0);
        old.push(Old { stream, next });
    }
    let tail = store.open_stream(store.create().await?).await?;
    // What the tail cache keeps of old data is not read from objects: it is pushed out.
    let config = StoreConfig::default();
    for _ in 0..2 * config.tail_cache_bytes_max / OLD_ENTRY_BYTES as u64 {
        append(&tail, &body).await?;
    }
    store.flush().await?;
    Ok((tail, old))
}

async fn append(stream: &Stream, body: &Bytes) -> Result<Offset, Failure> {
    let request = AppendRequest {
        record_count: 1,
        timestamp_ms_max: 1,
        num_bytes: body.len(),
    };
    let body = body.clone();
    let appended = stream.append(request, |_| body).await?;
    Ok(appended.base_offset)
}

/// What one side of a round gave.
#[derive(Default)]
struct Side {
    times: Latencies,
    num_bytes: u64,
}

#[derive(Default)]
struct Sides {
    alone: Side,
    beside: Side,
}

struct Round {
    readers_first: bool,
    turn: Duration,
}

impl Round {
    async fn run(
        &self,
        store: &StreamStore,
        tail: &Stream,
        old: &mut [Old],
    ) -> Result<Sides, Failure> {
        let mut sides = Sides::default();
        let before = store.counters().reads_from_bucket;
        for turn in 0..TURNS {
            if (turn % 2 == 0) == self.readers_first {
                self.turn(tail, old, &mut sides.beside).await?;
            } else {
                self.turn(tail, &mut [], &mut sides.alone).await?;
            }
            store.flush().await?;
        }
        if store.counters().reads_from_bucket == before {
            return Err("the readers read nothing from the bucket".into());
        }
        Ok(sides)
    }

    /// The times at the tail, with a reader on each stream of `old`; and what these had.
    async fn turn(&self, tail: &Stream, old: &mut [Old], side: &mut Side) -> Result<(), Failure> {
        let end = Instant::now() + self.turn;
        let readers: Vec<_> = (old.iter())
            .map(|old| tokio::spawn(read(old.clone(), end)))
            .collect();
        side.times.merge(at_the_tail(tail.clone(), end).await?);
        for (old, reader) in old.iter_mut().zip(readers) {
            let (next, num_bytes) = reader.await??;
            old.next = next;
            side.num_bytes += num_bytes;
        }
        Ok(())
    }
}

/// Goes on round and round through a stream at its pace; where it came and how many bytes it read.
async fn read(Old { stream, mut next }: Old, end: Instant) -> Result<(Offset, u64), Failure> {
    let (begun, mut num_bytes) = (Instant::now(), 0u64);
    loop {
        let due = num_bytes as f64 / READER_BYTES_PER_S as f64;
        let due = begun + Duration::from_secs_f64(due);
        if due >= end {
            return Ok((next, num_bytes));
        }
        tokio::time::sleep_until(due.into()).await;
        let fetched = stream.fetch(next, FETCH_BYTES).await?;
        let sizes = fetched.entries.iter().map(|entry| entry.payload.len());
        num_bytes += sizes.sum::<usize>() as u64;
        next = match fetched.entries.last() {
            Some(last) if last.end_offset() < stream.end() => last.end_offset(),
            _ => Offset(0),
        };
    }
}

/// One writer and one consumer; from each append to the moment the consumer had it.
async fn at_the_tail(stream: Stream, end: Instant) -> Result<Latencies, Failure> {
    let (sender, mut appended) = tokio::sync::mpsc::unbounded_channel();
    let (writing, body) = (stream.clone(), noise(TAIL_ENTRY_BYTES));
    let writer: JoinHandle<Result<(), Failure>> = tokio::spawn(async move {
        let mut due = Instant::now();
        while due < end {
            tokio::time::sleep_until(due.into()).await;
            let begun = Instant::now();
            let offset = append(&writing, &body).await?;
            if sender.send((begun, offset)).is_err() {
                break;
            }
            due += TAIL_PAUSE;
        }
        Ok(())
    });
    let mut times = Latencies::default();
    while let Some((begun, offset)) = appended.recv().await {
        stream.wait_readable(offset).await;
        let fetched = stream.fetch(offset, 1).await?;
        if fetched.entries.first().map(|entry| entry.base_offset) != Some(offset) {
            return Err(format!("{offset} was not read at the tail").into());
        }
        times.push(begun.elapsed());
    }
    writer.await??;
    Ok(times)
}
