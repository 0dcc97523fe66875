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

use super::compaction::{self, Objects, Rules};
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
    quiet(&bucket).await;
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

/// Waits until compaction has nothing left to do: until nothing is asked of the bucket any more.
async fn quiet(bucket: &Metered) {
    let (mut known, mut since) = (bucket.counters(), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = bucket.counters();
        if now != known {
            (known, since) = (now, Instant::now());
        }
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
        seconds: run.seconds,
        bytes_in_per_s: run.produced / run.seconds,
        cold_bytes_per_s: 0.0,
        retention_s: 0.0,
        partitions: partitions as f64,
        batch_bytes: BATCH as f64,
        object_wal_put_ms: None,
    };
    let said = model::usage(&workload, tier);
    for purpose in ["upload", "meta"] {
        let found = count(&run.usage, "create", purpose);
        let said = count(&said, "create", purpose);
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
    let (found, said) = (out(&run.usage), out(&said));
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

/// What compaction asked for, from the uploads that there were: bytes within a quarter, and requests within
/// a half, as a step may find more than it waited for.
fn assert_compaction_near(run: &Run, tier: &TierConfig, partitions: usize) {
    let uploads = count(&run.usage, "create", "upload");
    let stream_bytes = run.produced / uploads / partitions as f64;
    let uploaded = Objects {
        is_set: true,
        is_joined: false,
        lanes: 1.0,
        per_lane: uploads,
        streams: partitions as f64,
        stream_bytes,
    };
    let mut said = Usage::default();
    compaction::add(uploaded, &Rules::of(tier), &mut said);
    let writes = |usage: &Usage| -> f64 {
        let ops = ["create", "start", "part", "complete"];
        ops.map(|op| count(usage, op, "compaction")).iter().sum()
    };
    let bytes = |usage: &Usage, direction: &str| -> f64 {
        let of = usage
            .bytes()
            .filter(|row| (row.0, row.1) == (direction, "compaction"));
        of.map(|row| row.2).sum()
    };
    let gets = |usage: &Usage| count(usage, "get", "compaction");
    let of = &run.usage;
    for (what, off, found, said) in [
        ("writes", 0.5, writes(of), writes(&said)),
        ("reads", 0.5, gets(of), gets(&said)),
        ("bytes out", 0.25, bytes(of, "out"), bytes(&said, "out")),
        ("bytes in", 0.25, bytes(of, "in"), bytes(&said, "in")),
    ] {
        assert!(found > 0.0, "{what}");
        let near = 1.0 - off..=1.0 / (1.0 - off);
        assert!(
            near.contains(&(said / found)),
            "{what}: {said} for {found} of {uploads} uploads"
        );
    }
}

fn compacting(stream_object_bytes: u64, object_bytes: u64, split_window_bytes: u64) -> TierConfig {
    let mut tier = TierConfig {
        upload_bytes: 512 << 10,
        upload_age: Duration::from_secs(3_600),
        block_bytes: 32 << 10,
        stream_object_bytes,
        ..TierConfig::default()
    };
    tier.compact.step_bytes = 4 << 20;
    tier.compact.object_bytes = object_bytes;
    tier.compact.copy_bytes = 0;
    tier.upload.part_bytes = 3 << 20;
    tier.compact.pause = Duration::from_millis(10);
    tier.compact.split_window_bytes = split_window_bytes;
    tier.compact.split_read_bytes_min = 64 << 10;
    tier
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_that_splits_is_what_the_model_says() {
    // 16 KiB of a stream in a set; five make 72 KiB and more.
    let tier = compacting(64 << 10, 256 << 10, 1 << 30);
    let run = run(tier.clone(), 32, 4_000, 2_000.0).await;
    assert_compaction_near(&run, &tier, 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_that_joins_is_what_the_model_says() {
    // Sixteen sets of 16 KiB of a stream each become one set, and the streams in it are too small.
    let tier = compacting(1 << 20, 64 << 20, 0);
    let run = run(tier.clone(), 32, 4_500, 2_000.0).await;
    assert_compaction_near(&run, &tier, 32);
}

fn described(json: bool, mib_in: f64) -> String {
    let workload = Workload {
        seconds: MONTH_S,
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
    assert!(text.contains("of it compaction"), "{text}");
    let compaction = &value["compaction"];
    assert!(
        compaction["requests_per_gib"].as_f64().unwrap() > 0.0,
        "{compaction}"
    );
    assert!(
        (0.9..1.5).contains(&compaction["bytes_out_per_byte"].as_f64().unwrap()),
        "{compaction}"
    );
    for store in stores {
        let part = store["compaction"].as_f64().unwrap();
        assert!(
            (0.0..store["per_month"].as_f64().unwrap()).contains(&part),
            "{store}"
        );
    }
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
