//! `compare/restart`: killed under load with much to recover, started again.
//!
//! *Owns*: the load, and counting what was acknowledged.
//!
//! Invariants
//! 1. What was acknowledged before the kill is there afterwards, or the bench fails.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use tidewater_benches::{Rounds, Row};

use crate::launch::Product;
use crate::start::ACK_WAIT;
use crate::{Bench, Failure};
use tidewater_benches::batch;
use tidewater_benches::{Client, until_good};

const TOPIC: &str = "load";
const PARTITIONS: i32 = 3;
const BATCH_RECORDS: usize = 64;
const RECORD_BYTES: usize = 1024;
/// What waits in the log when the broker is killed: less than the 256 MiB that the store lets wait.
const FILL_MIB: u64 = 192;
const FILL_WAIT: Duration = Duration::from_secs(300);
/// Uploads wait for more than that, so the whole of it is in the WAL.
const PAUSED: [&str; 6] = [
    "--upload-interval-ms",
    "86400000",
    "--upload-bytes",
    "1GiB",
    "--wal-bytes",
    "2GiB",
];

pub(crate) fn run(bench: &mut Bench) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for product in bench.brokers.products.clone() {
        let (mut ready, mut acked, mut filling) =
            (Rounds::default(), Rounds::default(), Rounds::default());
        for _ in 0..bench.rounds {
            let round = one_round(bench, product)?;
            filling.push(round.fill_mb_per_s);
            ready.push(round.ready.as_secs_f64() * 1000.0);
            acked.push(round.acked.as_secs_f64() * 1000.0);
        }
        let params = || json!({"broker": product.name(), "mib": FILL_MIB});
        rows.push(Row::new("compare/restart", params(), "ready", "ms", ready));
        rows.push(Row::new(
            "compare/restart",
            params(),
            "first_ack",
            "ms",
            acked,
        ));
        rows.push(Row::new(
            "compare/restart",
            params(),
            "fill",
            "MB/s",
            filling,
        ));
    }
    Ok(rows)
}

/// Times from the kill on.
struct Round {
    fill_mb_per_s: f64,
    ready: Duration,
    acked: Duration,
}

fn one_round(bench: &mut Bench, product: Product) -> Result<Round, Failure> {
    let folder = bench.fresh(product.name())?;
    let plan = bench.brokers.plan(product, &folder, &PAUSED)?;
    let running = plan.start()?;
    until_good(running.address, ACK_WAIT, |client| {
        client.create_topic(TOPIC, PARTITIONS)?;
        (0..PARTITIONS).try_for_each(|index| client.produce(TOPIC, index, batch(1, 1)).map(drop))
    })?;
    bench.quiet.wait();
    let begun = Instant::now();
    let load = Load::start(running.address);
    let load = load.filled(FILL_MIB << 20)?;
    let fill_mb_per_s = (FILL_MIB << 20) as f64 / begun.elapsed().as_secs_f64() / 1e6;
    let killed = running.kill()?;
    let acknowledged = load.end()?;
    let running = plan.start()?;
    let ready = running.begun.duration_since(killed) + running.ready;
    until_good(running.address, ACK_WAIT, |client| {
        client.produce(TOPIC, 0, batch(1, RECORD_BYTES))
    })?;
    let acked = killed.elapsed();
    let mut client = Client::connect(running.address)?;
    for (index, (end, _)) in (0..PARTITIONS).zip(acknowledged) {
        let found = client.latest_offset(TOPIC, index)?;
        if found < end {
            let name = product.name();
            let what = format!("{name}: {end} acknowledged in partition {index}, {found} there");
            return Err(what.into());
        }
    }
    drop(client);
    running.kill()?;
    Ok(Round {
        fill_mb_per_s,
        ready,
        acked,
    })
}

/// The offset behind the last acknowledged record, and why there are no more.
type Outcome = (i64, Option<Failure>);

/// Producers, one a partition and one request at a time each, until the broker goes away.
struct Load {
    acknowledged_bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    producers: Vec<JoinHandle<Outcome>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let acknowledged_bytes = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let producers = (0..PARTITIONS)
            .map(|index| {
                let (sum, stop) = (acknowledged_bytes.clone(), stop.clone());
                std::thread::spawn(move || produce(address, index, &sum, &stop))
            })
            .collect();
        Self {
            acknowledged_bytes,
            stop,
            producers,
        }
    }

    /// Waits until so much is acknowledged.
    fn filled(self, num_bytes: u64) -> Result<Self, Failure> {
        let begun = Instant::now();
        while self.acknowledged_bytes.load(Ordering::Relaxed) < num_bytes {
            if self.producers.iter().any(JoinHandle::is_finished) {
                let failures = self.end()?.into_iter().filter_map(|(_, failure)| failure);
                let all: Vec<_> = failures.map(|failure| failure.to_string()).collect();
                return Err(format!("the load failed: {}", all.join("; ")).into());
            }
            if begun.elapsed() > FILL_WAIT {
                return Err("the log was not filled in time".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self)
    }

    /// Ends the load; what came of each partition.
    fn end(self) -> Result<Vec<Outcome>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.producers.into_iter().map(JoinHandle::join);
        ended
            .map(|end| end.map_err(|_| "a producer panicked".into()))
            .collect()
    }
}

/// Produces until a request fails or `stop` is set.
fn produce(address: SocketAddr, index: i32, sum: &AtomicU64, stop: &AtomicBool) -> Outcome {
    let records = batch(BATCH_RECORDS, RECORD_BYTES);
    let mut end = 0;
    let mut client = match Client::connect(address) {
        Ok(client) => client,
        Err(error) => return (end, Some(error)),
    };
    while !stop.load(Ordering::Relaxed) {
        match client.produce(TOPIC, index, records.clone()) {
            Ok(base) => end = base + BATCH_RECORDS as i64,
            Err(error) => return (end, Some(error)),
        }
        sum.fetch_add((BATCH_RECORDS * RECORD_BYTES) as u64, Ordering::Relaxed);
    }
    (end, None)
}
