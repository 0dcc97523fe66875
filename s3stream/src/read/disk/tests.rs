//! Tests of the disk cache: what is kept, what survives a restart, what damage does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Offset, StreamId};

use super::port::CacheDisk;
use crate::testing::{Op, Rig, entries, small_config};
use crate::{Entry, Tier, TierConfig};

/// A disk in memory that can be damaged.
struct MemoryDisk {
    bytes: Mutex<Vec<u8>>,
    fails: AtomicBool,
    hangs: AtomicBool,
}

impl MemoryDisk {
    fn new(num_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::new(vec![0; num_bytes]),
            fails: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
        })
    }

    async fn gate(&self) -> io::Result<()> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("scripted"));
        }
        Ok(())
    }
}

impl CacheDisk for MemoryDisk {
    fn num_bytes(&self) -> u64 {
        self.bytes.lock().len() as u64
    }

    fn read(&self, position: u64, num_bytes: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
            self.gate().await?;
            let at = usize::try_from(position).unwrap();
            Ok(Bytes::copy_from_slice(
                &self.bytes.lock()[at..at + num_bytes],
            ))
        })
    }

    fn write(&self, position: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.gate().await?;
            let (mut at, mut bytes) = (usize::try_from(position).unwrap(), self.bytes.lock());
            for part in parts {
                bytes[at..at + part.len()].copy_from_slice(&part);
                at += part.len();
            }
            Ok(())
        })
    }
}

fn config() -> TierConfig {
    let mut config = small_config();
    config.read.disk_segment_bytes = 32 << 10;
    config.read.ahead_bytes_max = 0;
    config
}

/// A stream of some forty blocks, and a reader's tier on it with `disk`.
async fn filled() -> (Rig, StreamId, Vec<Entry>) {
    let rig = Rig::new(config()).await;
    let stream = rig.stream().await;
    let all = entries(0, 160, 1, 100);
    rig.upload(stream, all.clone()).await;
    (rig, stream, all)
}

/// A new life: memory is empty, the disk is as it was left.
async fn reader(rig: &Rig, disk: Arc<dyn CacheDisk>) -> Tier {
    let tier = Tier::open(rig.bucket.clone(), rig.env.clone(), config())
        .await
        .unwrap();
    tier.attach_cache(disk);
    tokio::time::sleep(Duration::from_millis(10)).await;
    tier
}

/// Reads everything; how many blocks came from the disk and from the bucket.
async fn read_all(tier: &Tier, stream: StreamId, all: &[Entry]) -> (u32, u32) {
    let fetched = tier.fetch(stream, Offset(0), usize::MAX).await.unwrap();
    assert_eq!(fetched.entries, all);
    tokio::time::sleep(Duration::from_millis(10)).await;
    (fetched.from_disk, fetched.from_bucket)
}

/// Every block was asked for twice, in lives of their own.
async fn kept(rig: &Rig, stream: StreamId, all: &[Entry], disk: &Arc<MemoryDisk>) -> u32 {
    // The memory of what was asked for once lives as long as the tier: two readers of one life.
    let mut config = config();
    config.block_cache_bytes = 64 << 10;
    config.block_bytes = 512;
    let tier = Tier::open(rig.bucket.clone(), rig.env.clone(), config)
        .await
        .unwrap();
    tier.attach_cache(disk.clone());
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut from_bucket = 0;
    for _ in 0..2 {
        tier.forget_blocks();
        from_bucket = read_all(&tier, stream, all).await.1;
    }
    assert_eq!(tier.counters().disk_blocks_written, u64::from(from_bucket));
    from_bucket
}

#[tokio::test(start_paused = true)]
async fn what_is_read_twice_survives_a_restart() {
    let (rig, stream, all) = filled().await;
    let disk = MemoryDisk::new(1 << 20);
    let tier = reader(&rig, disk.clone()).await;
    let (_, num_blocks) = read_all(&tier, stream, &all).await;
    assert_eq!(tier.counters().disk_blocks_written, 0, "one scan");
    assert_eq!(kept(&rig, stream, &all, &disk).await, num_blocks);
    let gets = rig.bucket.count(Op::Get, "data/");
    let tier = reader(&rig, disk).await;
    assert_eq!(read_all(&tier, stream, &all).await, (num_blocks, 0));
    let index = 1;
    assert_eq!(rig.bucket.count(Op::Get, "data/"), gets + index);
    assert_eq!(tier.counters().blocks_from_disk, u64::from(num_blocks));
}

#[tokio::test(start_paused = true)]
async fn damage_anywhere_is_a_miss() {
    let (rig, stream, all) = filled().await;
    let disk = MemoryDisk::new(256 << 10);
    let num_blocks = kept(&rig, stream, &all, &disk).await;
    let sound = disk.bytes.lock().clone();
    // Headers, payloads, the room between slots.
    for at in (0..sound.len()).step_by(997) {
        *disk.bytes.lock() = sound.clone();
        disk.bytes.lock()[at] ^= 0x10;
        let tier = reader(&rig, disk.clone()).await;
        let (from_disk, from_bucket) = read_all(&tier, stream, &all).await;
        assert_eq!(from_disk + from_bucket, num_blocks, "at {at}");
    }
    // Slots that landed elsewhere, an older image below newer headers, noise.
    let mut shifted = sound.clone();
    shifted.rotate_right(4096);
    let noise = (0..sound.len()).map(|at| (at * 31 % 251) as u8).collect();
    for image in [shifted, noise] {
        *disk.bytes.lock() = image;
        let tier = reader(&rig, disk.clone()).await;
        assert_eq!(read_all(&tier, stream, &all).await, (0, num_blocks));
    }
}

#[tokio::test(start_paused = true)]
async fn damage_under_a_running_tier_is_found_at_the_read_and_written_anew() {
    let (rig, stream, all) = filled().await;
    let disk = MemoryDisk::new(1 << 20);
    let num_blocks = kept(&rig, stream, &all, &disk).await;
    let tier = reader(&rig, disk.clone()).await;
    disk.bytes.lock().fill(0xff);
    assert_eq!(read_all(&tier, stream, &all).await, (0, num_blocks));
    let counters = tier.counters();
    assert_eq!(counters.disk_blocks_damaged, u64::from(num_blocks));
    for _ in 0..2 {
        tier.forget_blocks();
        read_all(&tier, stream, &all).await;
    }
    assert_eq!(
        read_all(&reader(&rig, disk).await, stream, &all).await,
        (num_blocks, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_or_hangs_is_passed_over_and_then_left_alone() {
    let (rig, stream, all) = filled().await;
    let disk = MemoryDisk::new(1 << 20);
    let num_blocks = kept(&rig, stream, &all, &disk).await;
    let tier = reader(&rig, disk.clone()).await;
    disk.fails.store(true, Ordering::Relaxed);
    assert_eq!(read_all(&tier, stream, &all).await, (0, num_blocks));
    assert!(tier.counters().disk_errors >= 16);
    let errors = tier.counters().disk_errors;
    tier.forget_blocks();
    read_all(&tier, stream, &all).await;
    assert_eq!(tier.counters().disk_errors, errors, "it is left alone");
    disk.fails.store(false, Ordering::Relaxed);
    let tier = reader(&rig, disk.clone()).await;
    disk.hangs.store(true, Ordering::Relaxed);
    let begun = tokio::time::Instant::now();
    assert_eq!(read_all(&tier, stream, &all).await, (0, num_blocks));
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
}
