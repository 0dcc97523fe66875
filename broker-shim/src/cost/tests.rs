//! The model against what a store is really asked: within a fifth.
//!
//! *IO: driver*

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewater_stream_store::bucket::{MemoryBucket, Metered};
use tidewater_stream_store::{
    AppendRequest, MemoryWalOpener, StoreConfig, Stream, StreamStore, TierConfig, TokioEnv,
};

use super::model::{self, Workload};
use super::usage::Usage;
use super::*;

const BATCH: usize = 4 << 10;

struct Run {
    usage: Usage,
    produced: f64,
    seconds: f64,
}

/// Appends batches evenly to `partitions` streams, paced to `per_s` batches a second.
async fn run(tier: TierConfig, partitions: usize, batches: usize, per_s: f64) -> Run {
    let env = Arc::new(TokioEnv::current());
    let bucket = Arc::new(Metered::new(Arc::new(MemoryBucket::new())));
    let wal = Box::new(MemoryWalOpener {
        capacity_bytes: 1 << 30,
        reserve_ms_max: 5_000,
        env: env.clone(),
    });
    let config = StoreConfig {
        tier,
        ..StoreConfig::default()
    };
    let store = StreamStore::open(env, bucket.clone(), wal, config)
        .await
        .unwrap();
    let mut streams: Vec<Stream> = Vec::new();
    for _ in 0..partitions {
        let id = store.create().await.unwrap();
        streams.push(store.open_stream(id).await.unwrap());
    }
    let before = bucket.counters();
    let began = Instant::now();
    for n in 0..batches {
        let due = Duration::from_secs_f64(n as f64 / per_s);
        if let Some(early) = due.checked_sub(began.elapsed()) {
            tokio::time::sleep(early).await;
        }
        let payload = Bytes::from(vec![b'x'; BATCH]);
        let request = AppendRequest {
            record_count: 1,
            timestamp_ms_max: 0,
            num_bytes: BATCH,
        };
        let appended = streams[n % partitions]
            .append(request, |_| payload)
            .await
            .unwrap();
        streams[n % partitions]
            .wait_durable(appended.end_offset)
            .await
            .unwrap();
    }
    let seconds = began.elapsed().as_secs_f64();
    store.flush().await.unwrap();
    let mut usage = Usage::default();
    for (sign, counters) in [(1.0, bucket.counters()), (-1.0, before)] {
        for counter in counters {
            let [(_, first), (_, purpose)] = counter.labels;
            let value = sign * counter.value as f64;
            match counter.name {
                "bucket_requests" => usage.add_requests(first, purpose, value),
                _ => usage.add_bytes(first, purpose, value),
            }
        }
    }
    Run {
        usage,
        produced: (batches * BATCH) as f64,
        seconds,
    }
}

fn count(usage: &Usage, op: &str, purpose: &str) -> f64 {
    let of = usage
        .requests()
        .filter(|row| (row.0, row.1) == (op, purpose));
    of.map(|row| row.2).sum()
}

/// The counters of the run are what the model says, each within 20 %.
fn assert_near(run: &Run, tier: &TierConfig, partitions: usize) {
    let workload = Workload {
        bytes_in_per_s: run.produced / run.seconds,
        cold_bytes_per_s: 0.0,
        retention_s: 0.0,
        partitions: partitions as f64,
        batch_bytes: BATCH as f64,
        object_wal_put_ms: None,
    };
    let month = model::month(&workload, tier);
    let share = run.produced / month.produced_bytes;
    for purpose in ["upload", "meta"] {
        let found = count(&run.usage, "create", purpose);
        let said = count(&month, "create", purpose) * share;
        assert!(
            (0.8..1.25).contains(&(said / found)),
            "{purpose}: {said} for {found} PUTs"
        );
    }
    let out = |usage: &Usage| -> f64 {
        let upload = usage
            .bytes()
            .filter(|row| (row.0, row.1) == ("out", "upload"));
        upload.map(|row| row.2).sum()
    };
    let (found, said) = (out(&run.usage), out(&month) * share);
    assert!(
        (0.8..1.25).contains(&(said / found)),
        "{said} for {found} bytes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_by_size_are_what_the_model_says() {
    for (partitions, stream_object_bytes) in [(50, 8 << 20), (4, 64 << 10), (1, 64 << 10)] {
        let tier = TierConfig {
            upload_bytes: 512 << 10,
            upload_age: Duration::from_secs(3_600),
            block_bytes: 32 << 10,
            stream_object_bytes,
            ..TierConfig::default()
        };
        let run = run(tier.clone(), partitions, 4_000, 4_000.0).await;
        assert_near(&run, &tier, partitions);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_by_age_are_what_the_model_says() {
    let tier = TierConfig {
        upload_age: Duration::from_millis(200),
        ..TierConfig::default()
    };
    let run = run(tier.clone(), 20, 600, 150.0).await;
    assert_near(&run, &tier, 20);
}

fn described(json: bool, mib_in: f64) -> String {
    let workload = Workload {
        bytes_in_per_s: mib(mib_in),
        cold_bytes_per_s: mib(mib_in / 10.0),
        retention_s: 86_400.0,
        partitions: 100.0,
        batch_bytes: 16_384.0,
        object_wal_put_ms: Some(25.0),
    };
    let job = Job {
        numbers: Numbers::Described(workload, Box::default()),
        prices: Prices::built_in(),
        stored_gib: None,
        json,
    };
    run_job(&job)
}

fn run_job(job: &Job) -> String {
    super::run(job, &|_| Err("no file".to_owned())).unwrap()
}

#[test]
fn a_described_workload_is_priced_in_both_forms() {
    let value: Value = serde_json::from_str(&described(true, 10.0)).unwrap();
    let month = value["produced_gib_per_month"].as_f64().unwrap();
    assert!((month - 10.0 * 730.0 * 3_600.0 / 1_024.0).abs() < 1.0);
    assert!((value["stored_gib"].as_f64().unwrap() - 843.75).abs() < 0.1);
    let stores = value["stores"].as_array().unwrap();
    assert_eq!(stores.len(), 4);
    for store in stores {
        let sum = ["requests", "transfer", "storage"].map(|part| store[part].as_f64().unwrap());
        let total = store["per_month"].as_f64().unwrap();
        assert!(
            (sum.iter().sum::<f64>() - total).abs() < 1e-6 && total > 0.0,
            "{store}"
        );
    }
    let wal = value["requests"].as_array().unwrap().iter();
    let wal = wal.filter(|row| row["purpose"] == "wal" && row["op"] == "create");
    // One a PUT's time: 40 a second.
    let per_month: f64 = wal.map(|row| row["per_month"].as_f64().unwrap()).sum();
    assert!(
        (per_month / (40.0 * 730.0 * 3_600.0) - 1.0).abs() < 0.01,
        "{per_month}"
    );
    let text = described(false, 10.0);
    assert!(
        text.contains("Amazon S3 Standard") && text.contains("to be checked"),
        "{text}"
    );
}

#[test]
fn an_idle_cluster_asks_for_nothing_but_what_it_keeps() {
    let value: Value = serde_json::from_str(&described(true, 0.0)).unwrap();
    assert_eq!(value["requests"].as_array().unwrap().len(), 0);
    assert_eq!(value["stores"][0]["requests"], 0.0);
    assert!(described(false, 0.0).contains("produced   0.0 GiB"));
}
