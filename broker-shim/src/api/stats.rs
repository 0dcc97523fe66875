//! The broker's counters as JSON, behind the private statistics request.
//!
//! *Owns*: the names and shape of the counters (docs/operations.md).
//! *Does not own*: the counting; the crates below do it.
//!
//! *IO: none*

use serde_json::{Value, json};

use tidewater_stream_store::StoreCounters;

use crate::broker::Broker;
use crate::net::Pool;

/// What each share of the budget of memory holds, in bytes, and how much it may.
fn memory(broker: &Broker, counters: &StoreCounters, pool: &Pool) -> Vec<Value> {
    let config = broker.store.config();
    let (network_max, network) = pool.usage();
    let share = |name: &str, num_bytes: u64, bytes_max: u64| json!({"share": name, "bytes": num_bytes, "bytes_max": bytes_max});
    let tier = &counters.tier;
    vec![
        share("waiting", counters.accepted_bytes, config.waiting_bytes_max),
        share(
            "tail",
            counters.tail_cache_bytes,
            config.tail_cache_bytes_max,
        ),
        share(
            "blocks",
            tier.block_cache_bytes,
            config.tier.block_cache_bytes,
        ),
        share(
            "indices",
            tier.index_cache_bytes,
            config.tier.index_cache_bytes,
        ),
        share("network", network as u64, network_max as u64),
    ]
}

/// One JSON object of all counters. `pool` is what the asking connection shares with all others.
pub(crate) fn json(broker: &Broker, pool: &Pool) -> String {
    let counters = broker.store.counters();
    let (wal, marks) = (counters.wal, counters.watermarks);
    let bucket = broker.bucket.counters();
    let labelled = |name: &str| -> Vec<Value> {
        let named = bucket.iter().filter(|counter| counter.name == name);
        named
            .map(|counter| {
                let [(first, first_value), (second, second_value)] = counter.labels;
                json!({first: first_value, second: second_value, "value": counter.value})
            })
            .collect()
    };
    let uptime = broker.env.now().since(broker.started);
    let uptime_ms = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
    let tier = counters.tier;
    let objects =
        |kind: &str, state: &str, value: u64| json!({"kind": kind, "state": state, "value": value});
    let reads = |source: &str, value: u64| json!({"source": source, "value": value});
    json!({
        "uptime_ms": uptime_ms,
        "wal": broker.store.describe_wal(),
        "wal_appends": wal.appends,
        "wal_bytes": wal.bytes,
        "wal_syncs": wal.syncs,
        "wal_full_pool": wal.full_pool,
        "wal_full_ring": wal.full_ring,
        "wal_no_space": wal.no_space,
        "wal_write_errors": wal.write_errors,
        "wal_sync_errors": wal.sync_errors,
        "wal_short_writes": wal.short_writes,
        "wal_slow_ops": wal.slow_ops,
        "wal_lsn_trimmed": marks.trimmed.0,
        "wal_lsn_uploaded": counters.lsn_uploaded,
        "wal_lsn_durable": marks.durable.0,
        "wal_lsn_submitted": marks.submitted.0,
        "wal_lsn_accepted": marks.accepted.0,
        "waiting_bytes": counters.waiting_bytes,
        "memory": memory(broker, &counters, pool),
        "bucket_requests": labelled("bucket_requests"),
        "bucket_bytes": labelled("bucket_bytes"),
        "reads_from": [
            reads("tail", counters.reads_from_tail),
            reads("memory", counters.reads_from_memory),
            reads("nvme", counters.reads_from_nvme),
            reads("bucket", counters.reads_from_bucket),
        ],
        "compaction_runs": tier.compaction_steps,
        "compaction_objects": tier.compaction_objects,
        "compaction_bytes": [
            json!({"direction": "in", "value": tier.compaction_bytes_read}),
            json!({"direction": "out", "value": tier.compaction_bytes_written}),
            json!({"direction": "copied", "value": tier.compaction_bytes_copied}),
        ],
        "key_compaction_runs": tier.key_passes,
        "key_compaction_records": [
            json!({"outcome": "kept", "value": tier.key_records_kept}),
            json!({"outcome": "dropped", "value": tier.key_records_dropped}),
        ],
        "objects": [
            objects("stream-set", "live", tier.stream_set_live),
            objects("stream-set", "dead", tier.stream_set_dead),
            objects("stream", "live", tier.stream_live),
            objects("stream", "dead", tier.stream_dead),
        ],
    })
    .to_string()
}
