//! `compare/start`: from nothing to the first acknowledged record, and at rest.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::time::Duration;

use serde_json::json;
use tidewater_benches::{Rounds, Row};

use crate::process::Running;
use crate::{Bench, Failure};
use tidewater_benches::batch;
use tidewater_benches::until_good;

/// How long a broker rests before its memory is looked at.
const REST: Duration = Duration::from_secs(2);
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(120);

pub(crate) fn run(bench: &mut Bench) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for product in bench.brokers.products.clone() {
        let (mut ready, mut acked, mut resident) =
            (Rounds::default(), Rounds::default(), Rounds::default());
        for _ in 0..bench.rounds {
            let folder = bench.fresh(product.name())?;
            let plan = bench.brokers.plan(product, &folder, &[])?;
            bench.quiet.wait();
            let running = plan.start()?;
            ready.push(running.ready.as_secs_f64() * 1000.0);
            acked.push(first_ack(&running)?.as_secs_f64() * 1000.0);
            std::thread::sleep(REST);
            resident.push(running.resident_mb()?[0]);
            running.stop()?;
        }
        let params = || json!({"broker": product.name()});
        rows.push(Row::new("compare/start", params(), "ready", "ms", ready));
        rows.push(Row::new(
            "compare/start",
            params(),
            "first_ack",
            "ms",
            acked,
        ));
        rows.push(Row::new(
            "compare/start",
            params(),
            "resident_idle",
            "MB",
            resident,
        ));
    }
    Ok(rows)
}

/// From the start of the process to the first record that is acknowledged, on a topic of its own.
fn first_ack(running: &Running) -> Result<Duration, Failure> {
    let record = batch(1, 1024);
    until_good(running.address, ACK_WAIT, |client| {
        client.create_topic("first", 1)?;
        client.produce("first", 0, record.clone())
    })?;
    Ok(running.begun.elapsed())
}
