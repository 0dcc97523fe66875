//! The broker's counters as JSON, behind the private statistics request.
//!
//! *Owns*: the names and shape of the counters (docs/operations.md).
//! *Does not own*: the counting; the crates below do it.
//!
//! *IO: none*

use serde_json::{Value, json};

use crate::broker::Broker;

/// One JSON object of all counters.
pub(crate) fn json(broker: &Broker) -> String {
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
