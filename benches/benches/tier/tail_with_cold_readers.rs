//! `tier/tail_with_cold_readers`: from an append to the consumer at the tail that has it, alone and
//! beside four readers of old data at 40 MB/s each.
//!
//! *Owns*: the store, its writer, its consumer, the readers and their pace.
//! *Does not own*: what makes an append durable (`wal/append` measures that).
//!
//! Invariants
//! 1. Both halves of a round run on one store, one right behind the other; which comes first changes
//!    from round to round.
//! 2. What the readers had together is in the row (`read_mb_per_s`, of the slowest round). If they never
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
            config: DeviceWalConfig::default(),
            env: env.clone(),
        };
        let runtime = &rig.runtime;
        let store = runtime.block_on(async {
            let mut config = StoreConfig::default();
            // It would work on what was just uploaded in the first rounds, and not in the last.
            config.tier.compact.background = false;
            StreamStore::open(env.clone(), bucket, Box::new(wal), config).await
        })?;
        let (tail, old) = runtime.block_on(streams(&store))?;
        let (mut with, mut alone, mut all) =
            (Rounds::default(), Rounds::default(), Latencies::default());
        let mut slowest = f64::MAX;
        for round in 0..plan.rounds {
            let mut halves = [false, true];
            halves.rotate_left(round % 2);
            let times = rig.quiet.measure(|| {
                let half = |has_readers: bool| {
                    let old: &[Stream] = if has_readers { &old } else { &[] };
                    runtime.block_on(half(&store, &tail, old, plan.slice))
                };
                let [first, second] = [half(halves[0])?, half(halves[1])?];
                Ok::<_, Failure>(if halves[0] {
                    [second, first]
                } else {
                    [first, second]
                })
            })?;
            let [(without, _), (beside, num_bytes)] = times;
            let p99 = |times: &Latencies| times.percentiles_us().map_or(0.0, |all| all[1]);
            alone.push(p99(&without));
            with.push(p99(&beside));
            all.merge(beside);
            slowest = slowest.min(num_bytes as f64 / plan.slice.as_secs_f64() / 1e6);
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

/// The stream with the tail, and the streams with old data, which is uploaded.
async fn streams(store: &StreamStore) -> Result<(Stream, Vec<Stream>), Failure> {
    let body = noise(OLD_ENTRY_BYTES);
    let mut old = Vec::new();
    for _ in 0..READERS {
        let stream = store.open_stream(store.create().await?).await?;
        for _ in 0..OLD_BYTES / OLD_ENTRY_BYTES as u64 {
            append(&stream, &body).await?;
        }
        store.flush().await?;
        old.push(stream);
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

/// The times at the tail for the length of a slice, with a reader on each stream of `old`; and what
/// the readers had.
async fn half(
    store: &StreamStore,
    tail: &Stream,
    old: &[Stream],
    slice: Duration,
) -> Result<(Latencies, u64), Failure> {
    let (before, begun) = (store.counters().reads_from_bucket, Instant::now());
    let readers: Vec<_> = (old.iter())
        .map(|stream| tokio::spawn(read(stream.clone(), begun + slice)))
        .collect();
    let times = at_the_tail(tail.clone(), begun + slice).await?;
    let mut num_bytes = 0;
    for reader in readers {
        num_bytes += reader.await??;
    }
    let from_bucket = store.counters().reads_from_bucket - before;
    if !old.is_empty() && from_bucket == 0 {
        return Err("the readers read nothing from the bucket".into());
    }
    Ok((times, num_bytes))
}

/// Goes round and round through a stream at its pace; how many bytes it read.
async fn read(stream: Stream, end: Instant) -> Result<u64, Failure> {
    let (begun, mut next, mut num_bytes) = (Instant::now(), Offset(0), 0u64);
    while Instant::now() < end {
        let due = num_bytes as f64 / READER_BYTES_PER_S as f64;
        let due = begun + Duration::from_secs_f64(due);
        tokio::time::sleep_until(due.into()).await;
        let fetched = stream.fetch(next, FETCH_BYTES).await?;
        let sizes = fetched.entries.iter().map(|entry| entry.payload.len());
        num_bytes += sizes.sum::<usize>() as u64;
        next = match fetched.entries.last() {
            Some(last) if last.end_offset() < stream.end() => last.end_offset(),
            _ => Offset(0),
        };
    }
    Ok(num_bytes)
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
