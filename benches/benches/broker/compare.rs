//! `compare/produce`, `compare/consume`: Kafka's own performance tools against each broker in turns.
//!
//! *Owns*: the order of the rounds, the topics, adding the tools' numbers up.
//! *Does not own*: the tools.
//!
//! Invariants
//! 1. All brokers run all the time, and one of them is used at a time; each warms up first, and the
//!    first one changes from round to round.
//!
//! *IO: driver*

use serde_json::{Value, json};
use tidewater_benches::{Rounds, Row};

use crate::launch::Product;
use crate::process::Running;
use crate::start::ACK_WAIT;
use crate::tools::RECORD_BYTES;
use crate::{Bench, Failure};
use tidewater_benches::{Client, until_good};

const PARTITIONS: i32 = 3;
const RECORDS: usize = 500_000;
const WARM_UP_RECORDS: usize = 200_000;

/// One broker and what it did in each round.
struct Entry {
    product: Product,
    running: Running,
    produce: Rounds,
    produce_cpu_ns: Rounds,
    percentiles_us: [Rounds; 3],
    consume: Rounds,
    consume_cpu_ns: Rounds,
    rebalance_ms: Rounds,
}

pub(crate) fn run(bench: &mut Bench) -> Result<Vec<Row>, Failure> {
    let num_records = records()?;
    let mut entries = Vec::new();
    for product in bench.brokers.products.clone() {
        let folder = bench.fresh(product.name())?;
        let running = bench.brokers.plan(product, &folder, &[])?.start()?;
        entries.push(Entry {
            product,
            running,
            produce: Rounds::default(),
            produce_cpu_ns: Rounds::default(),
            percentiles_us: Default::default(),
            consume: Rounds::default(),
            consume_cpu_ns: Rounds::default(),
            rebalance_ms: Rounds::default(),
        });
    }
    for entry in &entries {
        let topic = topic(entry, "warm-up")?;
        let (tools, address) = (&bench.brokers.tools, entry.running.address);
        tools.produce(address, &topic, WARM_UP_RECORDS)?;
        tools.consume(address, &topic, WARM_UP_RECORDS)?;
    }
    let count = entries.len();
    for round in 0..bench.rounds {
        for turn in 0..count {
            one_round(
                bench,
                &mut entries[(round + turn) % count],
                round,
                num_records,
            )?;
        }
    }
    let mut rows = Vec::new();
    for entry in entries {
        rows.extend(report(entry, num_records)?);
    }
    Ok(rows)
}

/// `TIDEWATER_BENCH_RECORDS`, or the default.
fn records() -> Result<usize, Failure> {
    match std::env::var("TIDEWATER_BENCH_RECORDS") {
        Err(_) => Ok(RECORDS),
        Ok(text) => match text.parse() {
            Ok(records @ 1000..=1_000_000_000) => Ok(records),
            _ => Err(format!("TIDEWATER_BENCH_RECORDS = {text}: expected 1000 or more").into()),
        },
    }
}

fn topic(entry: &Entry, name: &str) -> Result<String, Failure> {
    let create = |client: &mut Client| client.create_topic(name, PARTITIONS);
    until_good(entry.running.address, ACK_WAIT, create)?;
    Ok(name.to_owned())
}

fn one_round(
    bench: &mut Bench,
    entry: &mut Entry,
    round: usize,
    num_records: usize,
) -> Result<(), Failure> {
    let topic = topic(entry, &format!("round-{round}"))?;
    let (tools, address) = (&bench.brokers.tools, entry.running.address);
    let per_record = |nanos: u128| nanos as f64 / num_records as f64;
    bench.quiet.wait();
    let cpu = entry.running.cpu()?;
    let produced = tools.produce(address, &topic, num_records)?;
    let spent = entry.running.cpu()?.saturating_sub(cpu);
    entry.produce_cpu_ns.push(per_record(spent.as_nanos()));
    entry
        .produce
        .push(produced.records_per_s * RECORD_BYTES as f64 / 1e6);
    for (rounds, value) in entry.percentiles_us.iter_mut().zip(produced.percentiles_us) {
        rounds.push(value);
    }
    bench.quiet.wait();
    let cpu = entry.running.cpu()?;
    let consumed = tools.consume(address, &topic, num_records)?;
    let spent = entry.running.cpu()?.saturating_sub(cpu);
    entry.consume_cpu_ns.push(per_record(spent.as_nanos()));
    entry.consume.push(consumed.mb_per_s);
    entry.rebalance_ms.push(consumed.rebalance_ms);
    Ok(())
}

fn report(entry: Entry, num_records: usize) -> Result<Vec<Row>, Failure> {
    let params = || -> Value { json!({"broker": entry.product.name(), "records": num_records}) };
    let mut peak = Rounds::default();
    peak.push(entry.running.resident_mb()?[1]);
    entry.running.stop()?;
    let percentiles = entry.percentiles_us.map(|rounds| rounds.median());
    let row = |bench, metric, unit, rounds| Row::new(bench, params(), metric, unit, rounds);
    Ok(vec![
        row("compare/produce", "throughput", "MB/s", entry.produce)
            .with_percentiles_us(percentiles)
            .with_cpu(&entry.produce_cpu_ns),
        row("compare/consume", "throughput", "MB/s", entry.consume).with_cpu(&entry.consume_cpu_ns),
        row(
            "compare/consume",
            "first_assignment",
            "ms",
            entry.rebalance_ms,
        ),
        row("compare/produce", "resident_peak", "MB", peak),
    ])
}
