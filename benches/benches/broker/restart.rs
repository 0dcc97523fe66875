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

use crate::batch::batch;
use crate::client::{Client, until_good};
use crate::launch::Product;
use crate::start::ACK_WAIT;
use crate::{Bench, Failure};

const TOPIC: &str = "load";
const PARTITIONS: i32 = 3;
const BATCH_RECORDS: usize = 64;
const RECORD_BYTES: usize = 1024;
/// What waits in the log when the broker is killed.
const FILL_MIB: u64 = 512;
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
    load.wait_for(FILL_MIB << 20)?;
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
    for (index, end) in (0..PARTITIONS).zip(acknowledged) {
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

/// Producers, one a partition and one request at a time each, until the broker goes away.
pub(crate) struct Load {
    acknowledged_bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    producers: Vec<JoinHandle<i64>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr) -> Self {
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

    fn wait_for(&self, num_bytes: u64) -> Result<(), Failure> {
        let begun = Instant::now();
        while self.acknowledged_bytes.load(Ordering::Relaxed) < num_bytes {
            if begun.elapsed() > FILL_WAIT || self.producers.iter().all(JoinHandle::is_finished) {
                return Err("the load came to an end before the log was filled".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Ends the load; the offset behind the last acknowledged record of each partition.
    fn end(self) -> Result<Vec<i64>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.producers.into_iter().map(JoinHandle::join);
        ended
            .map(|end| end.map_err(|_| "a producer panicked".into()))
            .collect()
    }
}

/// The offset behind the last acknowledged record, once a request fails or `stop` is set.
fn produce(address: SocketAddr, index: i32, sum: &AtomicU64, stop: &AtomicBool) -> i64 {
    let records = batch(BATCH_RECORDS, RECORD_BYTES);
    let mut end = 0;
    let Ok(mut client) = Client::connect(address) else {
        return end;
    };
    while !stop.load(Ordering::Relaxed) {
        let Ok(base) = client.produce(TOPIC, index, records.clone()) else {
            break;
        };
        end = base + BATCH_RECORDS as i64;
        sum.fetch_add((BATCH_RECORDS * RECORD_BYTES) as u64, Ordering::Relaxed);
    }
    end
}
