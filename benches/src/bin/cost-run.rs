//! What a steady load asks of a bucket: requests for a MiB, bytes sent for a byte produced.
//!
//! *Owns*: the load, the wait until nothing more is sent, the verdict.
//! *Does not own*: the counting (the metered bucket), the engine.
//!
//! Invariants
//! 1. Work that goes on behind the load (uploads, compaction) is waited for and counted.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement of a real process"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tidewater_s3stream::ObjectKind;
use tidewater_stream_store::bucket::{self, BucketOptions, Metered};
use tidewater_stream_store::{
    AppendRequest, DeviceWalConfig, DeviceWalOpener, StoreConfig, Stream, StreamStore, TokioEnv,
};
use tidewater_types::ErrorKind;

const USAGE: &str = "\
usage: cost-run --dir DIR [--bucket URL] [--minutes N] [--mib-s N] [--streams N] [--batch-kib N]
                [--quiet-s N] [--upload-mib N] [--step-mib N] [--compacted-mib N] [--compaction-mib-s N]

  appends evenly to all streams, with the WAL in a file of DIR; then waits until the bucket has had
  no request for --quiet-s seconds, and prints one JSON object. Leaves with 1 above a target. Uploads
  (15.36) and what a step of compaction holds (11.7) are those of a broker with --memory 512MiB, the
  default; with 2GiB they are 61.44 and 62.9.
";

/// Requests that write, for a MiB produced; bytes sent for a byte produced.
const PUTS_PER_MIB_MAX: f64 = 0.5;
const BYTES_SENT_MAX: f64 = 2.5;
/// Longest wait for what goes on behind the load.
const SETTLE_MAX: Duration = Duration::from_secs(3_600);

struct Load {
    dir: PathBuf,
    bucket: String,
    seconds: f64,
    mib_per_s: f64,
    streams: usize,
    batch_bytes: usize,
    quiet: Duration,
    upload_bytes: u64,
    step_bytes: u64,
    compacted_bytes: u64,
    compaction_bytes_per_s: u64,
}

impl Load {
    fn parse(args: &[String]) -> Option<Self> {
        let value = |flag: &str| {
            let at = args.iter().position(|arg| arg == flag)?;
            args.get(at + 1).cloned()
        };
        let number = |flag: &str, default: f64| match value(flag) {
            None => Some(default),
            Some(text) => text.parse().ok().filter(|number: &f64| *number > 0.0),
        };
        let dir = PathBuf::from(value("--dir")?);
        Some(Self {
            bucket: value("--bucket")
                .unwrap_or_else(|| format!("file:{}", dir.join("bucket").display())),
            dir,
            seconds: number("--minutes", 5.0)? * 60.0,
            mib_per_s: number("--mib-s", 50.0)?,
            streams: number("--streams", 1_000.0)? as usize,
            batch_bytes: (number("--batch-kib", 16.0)? * 1_024.0) as usize,
            quiet: Duration::from_secs_f64(number("--quiet-s", 30.0)?),
            upload_bytes: mib(number("--upload-mib", 15.36)?),
            step_bytes: mib(number("--step-mib", 11.7)?),
            compacted_bytes: mib(number("--compacted-mib", 1_024.0)?),
            compaction_bytes_per_s: mib(number("--compaction-mib-s", 256.0)?),
        })
    }
}

fn mib(number: f64) -> u64 {
    (number * f64::from(1 << 20)) as u64
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(load) = Load::parse(&args) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (report, within) = runtime.block_on(run(&load));
    println!("{report}");
    ExitCode::from(u8::from(!within))
}

async fn run(load: &Load) -> (serde_json::Value, bool) {
    let bucket = {
        let url = load.bucket.parse().expect("a bucket URL");
        let options = BucketOptions::from_env(|name| std::env::var(name).ok());
        let opened = tokio::task::spawn_blocking(move || bucket::open(&url, &options));
        let opened = opened.await.expect("no panic").expect("the bucket opens");
        Arc::new(Metered::new(opened))
    };
    let env = Arc::new(TokioEnv::current());
    let wal = DeviceWalOpener {
        path: load.dir.join("wal"),
        config: DeviceWalConfig::default(),
        env: env.clone(),
    };
    let mut config = StoreConfig::default();
    config.tier.upload_bytes = load.upload_bytes;
    config.tier.compact.object_bytes = load.compacted_bytes;
    config.tier.compact.step_bytes = load.step_bytes;
    config.waiting_bytes_max = config.waiting_bytes_max.max(8 * load.upload_bytes);
    config.tier.compact.rate = load.compaction_bytes_per_s;
    let store = StreamStore::open(env, bucket.clone(), Box::new(wal), config).await;
    let store = store.expect("the store opens");
    let streams = streams(&store, load.streams).await;
    let before = Sums::of(&bucket);
    let began = Instant::now();
    let produced = append(load, &streams, began).await;
    let seconds = began.elapsed().as_secs_f64();
    let at_end = Sums::of(&bucket);
    store.flush().await.expect("uploads succeed");
    settle(load, &bucket).await;
    let after = Sums::of(&bucket);
    let mib = produced as f64 / f64::from(1 << 20);
    let puts_per_mib = (after.writes - before.writes) as f64 / mib;
    let bytes_sent = (after.bytes_out - before.bytes_out) as f64 / produced as f64;
    let gets_per_mib = (after.gets - before.gets) as f64 / mib;
    let objects = Objects::of(&store);
    let within = puts_per_mib <= PUTS_PER_MIB_MAX && bytes_sent <= BYTES_SENT_MAX;
    let by_purpose = |name: &str| {
        let counters = bucket.counters().into_iter().filter(|it| it.name == name);
        let row = |it: bucket::Counter| {
            (
                format!("{} {}", it.labels[0].1, it.labels[1].1),
                json!(it.value),
            )
        };
        serde_json::Value::Object(counters.map(row).collect())
    };
    let report = json!({
        "seconds": seconds, "settled_after_s": began.elapsed().as_secs_f64() - seconds,
        "streams": load.streams, "upload_bytes": load.upload_bytes, "step_bytes": load.step_bytes,
        "compacted_bytes_max": load.compacted_bytes, "produced_mib": mib,
        "mib_per_s": mib / seconds, "mib_per_s_asked": load.mib_per_s,
        "puts_per_mib": puts_per_mib, "puts_per_mib_max": PUTS_PER_MIB_MAX,
        "bytes_sent_per_byte": bytes_sent, "bytes_sent_per_byte_max": BYTES_SENT_MAX,
        "gets_per_mib": gets_per_mib,
        "stream_object_share": objects.share(), "stream_objects": objects.num_stream,
        "stream_set_objects": objects.num_sets,
        "puts_per_mib_before_settling": (at_end.writes - before.writes) as f64 / mib,
        "requests": by_purpose("bucket_requests"), "bytes": by_purpose("bucket_bytes"),
        "within": within,
    });
    store.close().await.expect("the store closes");
    (report, within)
}

async fn streams(store: &StreamStore, count: usize) -> Vec<Stream> {
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(store.create().await.expect("a stream"));
    }
    store.open_streams(&ids).await.expect("streams open")
}

/// Appends at the pace asked for, to each stream in turn; how many bytes.
async fn append(load: &Load, streams: &[Stream], began: Instant) -> u64 {
    let per_s = load.mib_per_s * f64::from(1 << 20) / load.batch_bytes as f64;
    let batches = (load.seconds * per_s) as u64;
    // What compression leaves: bytes that do not repeat.
    let payload: Bytes = (0..load.batch_bytes)
        .scan(88_172_645_463_325_252_u64, |state, _| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            Some(*state as u8)
        })
        .collect();
    let mut last = Vec::new();
    for n in 0..batches {
        let due = Duration::from_secs_f64(n as f64 / per_s);
        if let Some(early) = due
            .checked_sub(began.elapsed())
            .filter(|it| it.as_millis() > 1)
        {
            tokio::time::sleep(early).await;
        }
        let at = (n % streams.len() as u64) as usize;
        last.push((at, put(&streams[at], &payload).await));
        if last.len() >= 256 {
            durable(streams, &mut last).await;
        }
    }
    durable(streams, &mut last).await;
    batches * load.batch_bytes as u64
}

/// Appends one batch; where it ends. A store that is full slows its producers and loses nothing.
async fn put(stream: &Stream, payload: &Bytes) -> tidewater_types::Offset {
    loop {
        let request = AppendRequest {
            record_count: 1,
            timestamp_ms_max: 0,
            num_bytes: payload.len(),
        };
        match stream.append(request, |_| payload.clone()).await {
            Ok(appended) => return appended.end_offset,
            Err(error) if error.kind() == ErrorKind::Full => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn durable(streams: &[Stream], last: &mut Vec<(usize, tidewater_types::Offset)>) {
    for (at, end) in last.drain(..) {
        streams[at].wait_durable(end).await.expect("durable");
    }
}

/// Waits until nothing is asked of the bucket any more.
async fn settle(load: &Load, bucket: &Metered) {
    let began = Instant::now();
    let (mut known, mut since) = (Sums::of(bucket), Instant::now());
    while since.elapsed() < load.quiet && began.elapsed() < SETTLE_MAX {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = Sums::of(bucket);
        if now != known {
            (known, since) = (now, Instant::now());
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    /// Requests that stores charge as a PUT.
    writes: u64,
    requests: u64,
    gets: u64,
    bytes_out: u64,
}

impl Sums {
    fn of(bucket: &Metered) -> Self {
        let mut sums = Self::default();
        for counter in bucket.counters() {
            match (counter.name, counter.labels[0].1) {
                ("bucket_bytes", "out") => sums.bytes_out += counter.value,
                ("bucket_requests", op) => {
                    sums.requests += counter.value;
                    if op == "get" {
                        sums.gets += counter.value;
                    }
                    if !["get", "size", "delete", "abort", "list"].contains(&op) {
                        sums.writes += counter.value;
                    }
                }
                _ => {}
            }
        }
        sums
    }
}

/// What the metadata refers to.
#[derive(Clone, Copy, Debug, Default)]
struct Objects {
    num_stream: u64,
    num_sets: u64,
    stream_bytes: u64,
    set_bytes: u64,
}

impl Objects {
    fn of(store: &StreamStore) -> Self {
        store.metadata().read(|state| {
            let mut objects = Self::default();
            let live = state.objects().filter(|(_, it)| it.died_seq.is_none());
            for (_, object) in live {
                let (count, bytes) = match object.kind {
                    ObjectKind::Stream => (&mut objects.num_stream, &mut objects.stream_bytes),
                    ObjectKind::StreamSet => (&mut objects.num_sets, &mut objects.set_bytes),
                };
                *count += 1;
                *bytes += object.size;
            }
            objects
        })
    }

    /// Of all bytes, those in objects of one stream.
    fn share(&self) -> f64 {
        self.stream_bytes as f64 / (self.stream_bytes + self.set_bytes).max(1) as f64
    }
}
