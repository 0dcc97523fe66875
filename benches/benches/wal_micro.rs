//! What the code of the WAL costs when no device is behind it: criterion's loops.
//!
//! *Owns*: a disk that takes no time; the groups `memory`, `engine` and `crc32c`.
//! *Does not own*: anything that waits for a device: that is measured by the bench `wal`, in turns
//! with the device itself.
//!
//! *IO: none*
#![allow(
    clippy::disallowed_methods,
    missing_docs,
    reason = "measures the real world; criterion's macros document nothing"
)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidewater_benches::{BenchEnv, block_on, noise};
use tidewater_types::{ClusterId, Env, NodeId, crc32c};
use tidewater_wal::{
    Completion, DeviceWal, DeviceWalConfig, Disk, DiskOp, Frame, Identity, MemoryWal, OpenMode, Wal,
};

const SIZES: [usize; 5] = [128, 1024, 4096, 65536, 1 << 20];
const TRIM_BYTES: usize = 32 << 20;
/// Frames that wait for durability together.
const CROWD: usize = 64;
/// What a disk that takes no time remembers: the superblocks.
const KEPT_BYTES: usize = 64 << 10;

/// Completes every operation at once. Bytes beyond the superblocks are dropped, and read as zeros.
struct NoDevice {
    kept: Vec<u8>,
    num_bytes: u64,
    done: VecDeque<Completion>,
}

impl Disk for NoDevice {
    fn block_size(&self) -> usize {
        4096
    }

    fn num_bytes(&self) -> u64 {
        self.num_bytes
    }

    fn submit(&mut self, id: u64, op: DiskOp) {
        let (result, buf) = match op {
            DiskOp::Flush => (0, None),
            DiskOp::Write { position, buf, .. } => {
                let bytes = buf.as_slice();
                self.num_bytes = self.num_bytes.max(position + bytes.len() as u64);
                if let Some(place) = self.kept.get_mut(position as usize..)
                    && let Some(place) = place.get_mut(..bytes.len())
                {
                    place.copy_from_slice(bytes);
                }
                (bytes.len(), Some(buf))
            }
            DiskOp::Read { position, mut buf } => {
                let into = buf.as_mut_slice();
                into.fill(0);
                let there = self.kept.get(position as usize..).unwrap_or(&[]);
                let num_kept = there.len().min(into.len());
                into[..num_kept].copy_from_slice(&there[..num_kept]);
                let left = self.num_bytes.saturating_sub(position);
                (into.len().min(left as usize), Some(buf))
            }
        };
        self.done.push_back(Completion {
            id,
            result: Ok(result),
            buf,
        });
    }

    fn poll(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }

    fn set_waker(&mut self, _waker: &Waker) {}

    fn describe(&self) -> String {
        "no device".to_owned()
    }
}

/// Appends `count` frames, waits for all of them, and trims now and then.
fn append_all(wal: &dyn Wal, body: &Bytes, count: usize, since_trim: &mut usize) {
    let begin = |_| {
        let permit = block_on(wal.reserve(body.len())).expect("room");
        wal.append(permit, Frame::from(body.clone())).expect("open")
    };
    let waiting: Vec<_> = (0..count).map(begin).collect();
    for append in waiting {
        block_on(append).expect("durable");
    }
    *since_trim += body.len().max(4096) * count;
    if *since_trim > TRIM_BYTES {
        *since_trim = 0;
        wal.trim(wal.watermarks().durable);
    }
}

fn memory(criterion: &mut Criterion, env: &Arc<dyn Env>) {
    let mut group = criterion.benchmark_group("memory");
    for size in SIZES {
        let (wal, body) = (MemoryWal::new(env.clone(), 1 << 30, 5_000), noise(size));
        let mut since_trim = 0;
        // No byte is copied, so bytes a second would say nothing.
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("append", size), |bencher| {
            bencher.iter(|| append_all(&wal, &body, 1, &mut since_trim));
        });
    }
    group.finish();
}

/// Queues, groups, checksums and wake-ups of the device WAL.
fn engine(criterion: &mut Criterion, env: &Arc<dyn Env>) {
    let mut group = criterion.benchmark_group("engine");
    for size in SIZES {
        let identity = Identity {
            cluster: ClusterId([7; 16]),
            node: NodeId(1),
            wal: None,
        };
        let disk = Box::new(NoDevice {
            kept: vec![0; KEPT_BYTES],
            num_bytes: 0,
            done: VecDeque::new(),
        });
        let config = DeviceWalConfig::default();
        let create = OpenMode::Create;
        let opening = DeviceWal::open_on(disk, env.clone(), config, identity, create, |_, _| {});
        let (wal, _) = block_on(opening).expect("a new WAL on a disk that never fails");
        let body = noise(size);
        let mut since_trim = 0;
        for count in [1, CROWD] {
            if size * count > 16 << 20 {
                continue;
            }
            group.throughput(Throughput::Bytes((size * count) as u64));
            group.bench_function(
                BenchmarkId::new(format!("append-{count}"), size),
                |bencher| {
                    bencher.iter(|| append_all(&wal, &body, count, &mut since_trim));
                },
            );
        }
        block_on(wal.close()).expect("closed");
    }
    group.finish();
}

fn crc(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for size in SIZES {
        let body = noise(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| crc32c(&[black_box(&body)]));
        });
    }
    group.finish();
}

fn all(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let env: Arc<dyn Env> = Arc::new(BenchEnv::new(runtime.handle()));
    memory(criterion, &env);
    engine(criterion, &env);
    crc(criterion);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50);
    targets = all
}
criterion_main!(benches);
