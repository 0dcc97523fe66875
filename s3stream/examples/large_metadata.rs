//! How large metadata behaves: memory, time to open, and how long commits wait for a snapshot.
//!
//! `large_metadata build FOLDER [OBJECTS] [STREAMS]` makes the metadata of so many objects (a
//! million, unless said otherwise) of so many streams (100,000) in a local directory; nothing but
//! metadata. `large_metadata open FOLDER` opens it in a process of its own and measures.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures the real world"
)]

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewater_bucket::LocalBucket;
use tidewater_s3stream::{MetaConfig, MetaOp, Metadata, NewObject, NewRange, ObjectId, ObjectKind};
use tidewater_types::{BoxFuture, Env, Epoch, NodeId, Offset, StreamId};

const NODE: NodeId = NodeId(1);
const EPOCH: Epoch = Epoch(1);
/// Objects of one commit: it fits a log entry.
const COMMIT: u64 = 8_000;

struct TokioEnv(Instant);

impl Env for TokioEnv {
    fn now(&self) -> tidewater_types::Instant {
        tidewater_types::Instant::default().after(self.0.elapsed())
    }

    fn wall_ms(&self) -> i64 {
        0
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn(&self, _label: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn random(&self, label: &'static str) -> u64 {
        RandomState::new().hash_one(label)
    }
}

async fn opened(folder: &Path) -> Result<Metadata, Box<dyn Error>> {
    let bucket = Arc::new(LocalBucket::open(folder)?);
    let env = Arc::new(TokioEnv(Instant::now()));
    Ok(Metadata::open(bucket, env, MetaConfig::default()).await?)
}

/// Resident memory in MiB: now, and at its highest.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.unwrap_or(0u64) / 1_024
    };
    (kib("VmRSS:"), kib("VmHWM:"))
}

async fn build(folder: &Path, objects: u64, streams: u64) -> Result<(), Box<dyn Error>> {
    let metadata = opened(folder).await?;
    let register = MetaOp::RegisterNode {
        node: NODE,
        epoch: EPOCH,
    };
    metadata.propose(vec![register]).await?;
    let ids: Vec<u64> = (1..=streams).collect();
    for part in ids.chunks(5_000) {
        let create = part.iter().flat_map(|id| {
            let stream = StreamId(*id);
            let open = MetaOp::OpenStream {
                stream,
                node: NODE,
                node_epoch: EPOCH,
                epoch: EPOCH,
            };
            [MetaOp::CreateStream { stream }, open]
        });
        metadata.propose(create.collect()).await?;
    }
    let begun = Instant::now();
    let mut counter = 0;
    while counter < objects {
        let count = COMMIT.min(objects - counter);
        metadata
            .propose(vec![commit(counter, count, streams)])
            .await?;
        counter += count;
    }
    println!("{objects} objects committed in {:.1?}", begun.elapsed());
    let begun = Instant::now();
    metadata.write_snapshot().await?;
    println!("snapshot written in {:.2?}", begun.elapsed());
    Ok(())
}

/// The next objects, one range each, the streams in turn.
fn commit(from: u64, count: u64, streams: u64) -> MetaOp {
    let objects = (from..from + count).map(|counter| NewObject {
        id: ObjectId {
            node: NODE,
            epoch: EPOCH,
            counter: counter + 1,
            nonce: counter.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        },
        kind: ObjectKind::Stream,
        size: 1 << 30,
        index_position: (1 << 30) - 4_096,
        footer_crc: 1,
    });
    let ranges = (0u32..)
        .zip(from..from + count)
        .map(|(object, counter)| NewRange {
            stream: StreamId(counter % streams + 1),
            epoch: EPOCH,
            start: Offset(counter / streams * 1_000),
            end: Offset((counter / streams + 1) * 1_000),
            timestamp_ms_max: 1_700_000_000_000,
            object,
        });
    MetaOp::CommitUpload {
        node: NODE,
        node_epoch: EPOCH,
        objects: objects.collect(),
        ranges: ranges.collect(),
        snapshots: Vec::new(),
    }
}

async fn measure(folder: &Path) -> Result<(), Box<dyn Error>> {
    let (before, _) = resident();
    let begun = Instant::now();
    let metadata = opened(folder).await?;
    let elapsed = begun.elapsed();
    let (after, most) = resident();
    let (objects, streams) =
        metadata.read(|state| (state.objects().count(), state.streams().count()));
    println!("{objects} objects and {streams} streams opened in {elapsed:.2?}");
    println!(
        "memory {} MiB more, {} MiB at its highest: {} B an object",
        after - before,
        most,
        ((after - before) << 20) / (objects.max(1) as u64)
    );
    let begun = Instant::now();
    let clone = metadata.read(Clone::clone);
    println!(
        "the lock is held for {:.2?} to clone the state",
        begun.elapsed()
    );
    drop(clone);
    println!("commits while idle: {}", commits(&metadata, 200).await?);
    let writer = metadata.clone();
    let snapshot = tokio::spawn(async move {
        let begun = Instant::now();
        writer.write_snapshot().await.map(|()| begun.elapsed())
    });
    println!(
        "commits beside a snapshot: {}",
        commits(&metadata, 200).await?
    );
    println!("snapshot written in {:.2?}", snapshot.await??);
    let (_, most) = resident();
    println!("{most} MiB at the highest");
    Ok(())
}

/// Commits small transactions one after the other; median and longest time of one.
async fn commits(metadata: &Metadata, count: usize) -> Result<String, Box<dyn Error>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let put = MetaOp::PutKey {
            key: "key".to_owned(),
            value: Bytes::from_static(b"value"),
            expected_version: None,
        };
        let begun = Instant::now();
        metadata.propose(vec![put]).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let (median, longest) = (times[count / 2], times[count - 1]);
    Ok(format!(
        "{median:.2?} median, {longest:.2?} longest of {count}"
    ))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| args.get(at).map_or(Ok(default), |arg| arg.parse());
    match args.first().map(String::as_str) {
        Some("build") if args.len() > 1 => {
            build(args[1].as_ref(), number(2, 1_000_000)?, number(3, 100_000)?).await
        }
        Some("open") if args.len() == 2 => measure(args[1].as_ref()).await,
        _ => Err("usage: large_metadata build FOLDER [OBJECTS] [STREAMS] | open FOLDER".into()),
    }
}
