//! `broker/produce`, `broker/fetch`: one client, one request at a time.
//!
//! *Owns*: the raw write beside it, which is the least that a durable acknowledgement takes.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::time::{Duration, Instant};

use serde_json::json;
use tidewater_benches::{Batch, Latencies, RawFile, Rounds, Row, Sync};

use crate::launch::Product;
use crate::process::Running;
use crate::start::ACK_WAIT;
use crate::{Bench, Failure};
use tidewater_benches::batch;
use tidewater_benches::{Client, until_good};

const SLICE: Duration = Duration::from_secs(1);
const RAW_BYTES: u64 = 64 << 20;
const BLOCK_BYTES: usize = 4096;
const RECORD_BYTES: usize = 1024;
/// What is fetched, in batches of 64 records: half of what the broker keeps in memory.
const FETCH_MIB: usize = 64;

pub(crate) fn run(bench: &mut Bench) -> Result<Vec<Row>, Failure> {
    let folder = bench.fresh("single")?;
    let running = bench
        .brokers
        .plan(Product::Tidewater, &folder, &[])?
        .start()?;
    let mut raw = RawFile::open(&folder.join("raw"), 0..RAW_BYTES)?;
    until_good(running.address, ACK_WAIT, |client| {
        client.create_topic("single", 1)
    })?;
    let mut rows = vec![produce(bench, &running, &mut raw)?];
    rows.push(fetch(bench, &running)?);
    running.stop()?;
    Ok(rows)
}

fn produce(bench: &mut Bench, running: &Running, raw: &mut RawFile) -> Result<Row, Failure> {
    let mut client = Client::connect(running.address)?;
    let record = batch(1, RECORD_BYTES);
    let (mut ops, mut cpu_ns, mut limits) =
        (Rounds::default(), Rounds::default(), Rounds::default());
    let mut latencies = Latencies::default();
    for _ in 0..bench.rounds {
        bench.quiet.wait();
        let (begun, cpu) = (Instant::now(), running.cpu()?);
        let mut num_ops = 0u32;
        while begun.elapsed() < SLICE {
            let started = Instant::now();
            client.produce("single", 0, record.clone())?;
            latencies.push(started.elapsed());
            num_ops += 1;
        }
        let elapsed = begun.elapsed();
        let spent = running.cpu()?.saturating_sub(cpu);
        ops.push(f64::from(num_ops) / elapsed.as_secs_f64());
        cpu_ns.push(spent.as_nanos() as f64 / f64::from(num_ops));
        let one = Batch {
            writes: vec![BLOCK_BYTES],
            num_ops: 1,
        };
        let limit = raw.replay(&[one], Sync::Batch, SLICE)?;
        limits.push(limit.num_ops as f64 / limit.elapsed.as_secs_f64());
    }
    let params = json!({"broker": "tidewater", "size": RECORD_BYTES, "in_flight": 1});
    let what = format!("raw O_DIRECT write + fdatasync, one at a time: {BLOCK_BYTES} bytes");
    let row = Row::new("broker/produce", params, "throughput", "ops/s", ops);
    Ok(row
        .with_limit(what, &limits)
        .with_latencies(&latencies)
        .with_cpu(&cpu_ns))
}

fn fetch(bench: &mut Bench, running: &Running) -> Result<Row, Failure> {
    const BATCH_RECORDS: usize = 64;
    let mut client = Client::connect(running.address)?;
    client.create_topic("fetch", 1)?;
    let records = batch(BATCH_RECORDS, RECORD_BYTES);
    let mut end = 0;
    for _ in 0..(FETCH_MIB << 20) / (BATCH_RECORDS * RECORD_BYTES) {
        end = client.produce("fetch", 0, records.clone())? + BATCH_RECORDS as i64;
    }
    let (mut values, mut latencies) = (Rounds::default(), Latencies::default());
    for _ in 0..bench.rounds {
        bench.quiet.wait();
        let begun = Instant::now();
        let (mut next, mut num_bytes) = (0, 0);
        while next < end {
            let started = Instant::now();
            let fetched = client.fetch("fetch", 0, next)?;
            latencies.push(started.elapsed());
            if fetched.next <= next {
                return Err(
                    format!("nothing at offset {next}, and {end} were acknowledged").into(),
                );
            }
            next = fetched.next;
            num_bytes += fetched.num_bytes;
        }
        values.push(num_bytes as f64 / begun.elapsed().as_secs_f64() / 1e6);
    }
    let params = json!({"broker": "tidewater", "mib": FETCH_MIB, "in_flight": 1});
    let row = Row::new("broker/fetch", params, "throughput", "MB/s", values);
    Ok(row.with_latencies(&latencies))
}
