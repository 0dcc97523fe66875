//! An engine whose task is dropped: nobody waits for it.
//!
//! *IO: driver (a runtime)*
#![allow(clippy::disallowed_methods, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tidewater_types::Lsn;

use super::faults::{fresh, start};
use crate::port::Wal;
use crate::testing::driver;
use crate::testing::env::TestEnv;
use crate::testing::frame_bytes;
use crate::testing::lives::identity;
use crate::testing::model::Model;
use crate::{DeviceWal, DeviceWalConfig, OpenMode, WalError};

/// What `waiting` comes to, if it ends.
fn ended<T>(env: &TestEnv, waiting: impl Future<Output = T>) -> T {
    env.run_for(waiting, 10_000).expect("nobody waits for ever")
}

#[test]
fn an_engine_that_is_dropped_fails_everybody_who_waits_or_comes_later() {
    let (env, model, wal) = fresh();
    let lsn = env.run(start(&wal, frame_bytes(0, 10)).unwrap()).unwrap();
    env.pass(Duration::from_millis(5));
    model.0.lock().stalled = true;
    let append = start(&wal, frame_bytes(1, 100)).unwrap();
    let (read, later) = (wal.read(lsn), wal.read(append.lsn()));
    let permits: Vec<_> = std::iter::from_fn(|| wal.try_reserve(1000).ok()).collect();
    assert!(permits.len() > 3);
    let mut room = wal.reserve(1000);
    assert!((&mut room).now_or_never().is_none());
    env.pass(Duration::from_millis(5));
    env.kill();
    assert!(matches!(ended(&env, append), Err(WalError::Closed)));
    assert!(matches!(ended(&env, room), Err(WalError::Closed)));
    assert!(matches!(ended(&env, read), Err(WalError::Closed)));
    assert!(matches!(ended(&env, later), Err(WalError::Closed)));
    assert!(matches!(ended(&env, wal.read(lsn)), Err(WalError::Closed)));
    assert!(matches!(wal.try_reserve(1), Err(WalError::Closed)));
    for permit in permits {
        let refused = wal.append(permit, frame_bytes(2, 10).into());
        assert!(matches!(refused, Err(WalError::Closed)));
    }
    assert!(matches!(ended(&env, wal.close()), Err(WalError::Closed)));
}

#[test]
fn whoever_closes_an_engine_that_is_dropped_meanwhile_is_told() {
    let (env, model, wal) = fresh();
    env.pass(Duration::from_millis(5));
    model.0.lock().stalled = true;
    let append = start(&wal, frame_bytes(1, 100)).unwrap();
    let mut closing = wal.close();
    assert!((&mut closing).now_or_never().is_none());
    env.kill();
    assert!(matches!(ended(&env, closing), Err(WalError::Closed)));
    assert!(matches!(ended(&env, append), Err(WalError::Closed)));
}

#[test]
fn an_engine_that_failed_before_it_was_dropped_says_why() {
    let (env, model, wal) = fresh();
    env.pass(Duration::from_millis(5));
    model.0.lock().failing_writes = 1;
    let append = start(&wal, frame_bytes(1, 100)).unwrap();
    env.run(append).unwrap_err();
    env.kill();
    let refused = wal.try_reserve(1);
    assert!(matches!(refused, Err(WalError::Poisoned { .. })));
}

/// The engine may be dropped before it ran at all, and waiters may be threads.
#[test]
fn a_runtime_that_is_shut_down_leaves_nobody_waiting() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (wal, append) = runtime.block_on(async {
        let (model, env) = (Model::new(1), driver::env());
        let (config, create) = (DeviceWalConfig::tiny(), OpenMode::Create);
        let opening = DeviceWal::open_on(model.disk(), env, config, identity(), create, |_, _| {});
        let (wal, _) = opening.await.unwrap();
        let append = start(&wal, frame_bytes(1, 100)).unwrap();
        (Arc::new(wal), append)
    });
    let waiter = std::thread::spawn(move || append.wait());
    drop(runtime);
    assert!(matches!(waiter.join().unwrap(), Err(WalError::Closed)));
    assert!(matches!(wal.try_reserve(1), Err(WalError::Closed)));
    assert_eq!(wal.watermarks().durable, Lsn(0));
}
