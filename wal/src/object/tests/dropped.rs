//! An engine whose task is dropped: nobody waits for it.
//!
//! *IO: driver (a runtime)*
#![allow(clippy::disallowed_methods, reason = "tests")]

use futures_util::FutureExt;
use tidewater_bucket::MemoryBucket;

use super::fickle::Fate;
use super::*;
use crate::testing::driver;

fn ended<T>(world: &World, waiting: impl Future<Output = T>) -> T {
    let ended = world.env.run_for(waiting, 10_000);
    ended.expect("nobody waits for ever")
}

#[test]
fn an_engine_that_is_dropped_fails_everybody_who_waits_or_comes_later() {
    let world = World::default();
    let (wal, lsns) = world.filled(1);
    world.bucket.plan(&[Fate::Silent; 8]);
    let append = begin(&wal, 2);
    let (read, later) = (wal.read(lsns[0]), wal.read(append.lsn()));
    let permits: Vec<_> = std::iter::from_fn(|| wal.try_reserve(1000).ok()).collect();
    assert!(!permits.is_empty());
    let mut room = wal.reserve(1000);
    assert!((&mut room).now_or_never().is_none());
    world.env.kill();
    assert!(matches!(ended(&world, append), Err(WalError::Closed)));
    assert!(matches!(ended(&world, room), Err(WalError::Closed)));
    assert!(matches!(ended(&world, read), Err(WalError::Closed)));
    assert!(matches!(ended(&world, later), Err(WalError::Closed)));
    let read = wal.read(lsns[0]);
    assert!(matches!(ended(&world, read), Err(WalError::Closed)));
    assert!(matches!(wal.try_reserve(1), Err(WalError::Closed)));
    assert!(matches!(ended(&world, wal.close()), Err(WalError::Closed)));
}

#[test]
fn a_runtime_that_is_shut_down_leaves_nobody_waiting() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (wal, append) = runtime.block_on(async {
        let (bucket, config) = (Arc::new(MemoryBucket::new()), ObjectWalConfig::tiny());
        let opening = open_with(bucket, driver::env(), config, OpenMode::Create);
        let (wal, _, _) = opening.await.unwrap();
        let append = begin(&wal, 1);
        (wal, append)
    });
    let waiter = std::thread::spawn(move || append.wait());
    drop(runtime);
    assert!(matches!(waiter.join().unwrap(), Err(WalError::Closed)));
    assert!(matches!(wal.try_reserve(1), Err(WalError::Closed)));
}
