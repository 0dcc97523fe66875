//! Back-pressure and a device in trouble: the error callers get, and what is counted.
//!
//! *IO: none*

use std::time::Duration;

use futures_util::FutureExt;
use tidewater_types::{ErrorKind, Lsn};

use super::faults::{create, fresh, start};
use crate::error::Resource;
use crate::port::{Wal, WalCounters};
use crate::testing::env::TestEnv;
use crate::testing::frame_bytes;
use crate::testing::lives::open;
use crate::testing::model::Model;
use crate::{DeviceWal, DeviceWalConfig, OpenMode, WalError};

/// What was counted beside the ordinary.
fn troubles(wal: &DeviceWal) -> WalCounters {
    WalCounters {
        appends: 0,
        bytes: 0,
        syncs: 0,
        ..wal.counters()
    }
}

fn what_is_full(error: &WalError) -> Resource {
    assert_eq!(error.kind(), ErrorKind::Full);
    match error {
        WalError::Full { what } => *what,
        other => panic!("{other}"),
    }
}

#[test]
fn a_disk_without_space_says_full_and_goes_on_when_space_returns() {
    let (env, model) = (TestEnv::default(), Model::new(9));
    // The first segment is there; its zeros are a hole that the disk cannot fill.
    let wal = create(&env, &model, DeviceWalConfig::tiny());
    model.0.lock().refusing_writes = true;
    env.pass(Duration::from_millis(5));
    let append = start(&wal, frame_bytes(1, 100)).unwrap();
    env.pass(Duration::from_millis(20));
    assert_eq!(wal.watermarks().durable, Lsn(0));
    model.0.lock().refusing_writes = false;
    env.run(append).unwrap();
    // Now the segment is there and a group finds no space.
    model.0.lock().refusing_writes = true;
    let append = start(&wal, frame_bytes(2, 100)).unwrap();
    env.pass(Duration::from_millis(20));
    let refusals = [wal.try_reserve(1), env.run(wal.reserve(1))];
    for error in refusals.map(Result::unwrap_err) {
        assert_eq!(what_is_full(&error), Resource::Disk);
    }
    assert!(wal.counters().no_space > 0);
    model.0.lock().refusing_writes = false;
    let lsn = env.run(append).unwrap();
    assert_eq!(env.run(wal.read(lsn)).unwrap(), frame_bytes(2, 100));
    env.run(start(&wal, frame_bytes(3, 100)).unwrap()).unwrap();
}

#[test]
fn a_full_ring_says_full_and_recovers_after_a_trim() {
    let (env, _, wal) = fresh();
    let mut waiting = Vec::new();
    let full = loop {
        let body = frame_bytes(waiting.len() as u64, 3000);
        match env.run(wal.reserve(body.len())) {
            Ok(permit) => waiting.push(wal.append(permit, body.into()).unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!(what_is_full(&full), Resource::Ring);
    assert_eq!(wal.counters().full_ring, 1);
    let marks = wal.watermarks();
    assert!(marks.durable < marks.accepted, "some wait in the pool");
    wal.trim(marks.durable);
    let lsns: Vec<_> = waiting
        .into_iter()
        .map(|append| env.run(append).unwrap())
        .collect();
    assert!(lsns.is_sorted());
    assert!(env.run(wal.reserve(3000)).is_ok());
}

#[test]
fn closing_a_full_ring_ends_with_full() {
    let (env, _, wal) = fresh();
    while let Ok(permit) = env.run(wal.reserve(3000)) {
        drop(wal.append(permit, frame_bytes(1, 3000).into()).unwrap());
    }
    let error = env.run(wal.close()).unwrap_err();
    assert_eq!(what_is_full(&error), Resource::Ring);
}

#[test]
fn a_stalled_device_acknowledges_nothing_and_goes_on_when_it_is_over() {
    let (env, model, wal) = fresh();
    env.run(start(&wal, frame_bytes(0, 10)).unwrap()).unwrap();
    env.pass(Duration::from_millis(5));
    assert_eq!(troubles(&wal), WalCounters::default());
    model.0.lock().stalled = true;
    let mut waiting = Vec::new();
    let full = loop {
        let body = frame_bytes(waiting.len() as u64, 3000);
        match env.run(wal.reserve(body.len())) {
            Ok(permit) => waiting.push(wal.append(permit, body.into()).unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!(what_is_full(&full), Resource::Pool);
    env.pass(Duration::from_secs(3));
    assert!((&mut waiting[0]).now_or_never().is_none());
    model.resume();
    for append in waiting {
        env.run(append).unwrap();
    }
    env.run(start(&wal, frame_bytes(1, 10)).unwrap()).unwrap();
    let found = troubles(&wal);
    assert!(found.slow_ops > 0 && found.full_pool > 0, "{found:?}");
    let others = WalCounters {
        slow_ops: 0,
        full_pool: 0,
        ..found
    };
    assert_eq!(others, WalCounters::default());
}

#[test]
fn a_device_that_hangs_is_counted_as_slow_while_it_hangs_and_once() {
    let (env, model, wal) = fresh();
    env.run(start(&wal, frame_bytes(0, 10)).unwrap()).unwrap();
    env.pass(Duration::from_millis(5));
    model.0.lock().stalled = true;
    let append = start(&wal, frame_bytes(1, 10)).unwrap();
    // `tiny` calls an operation slow that takes 100 ms.
    env.pass(Duration::from_millis(90));
    assert_eq!(wal.counters().slow_ops, 0);
    for _ in 0..3 {
        env.pass(Duration::from_millis(90));
        assert_eq!(wal.counters().slow_ops, 1);
    }
    model.resume();
    env.run(append).unwrap();
    assert_eq!(wal.counters().slow_ops, 1);
    env.run(start(&wal, frame_bytes(2, 10)).unwrap()).unwrap();
    assert_eq!(wal.counters().slow_ops, 1);
}

#[test]
fn closing_waits_for_a_stalled_device_also_while_the_ring_grows() {
    let (env, model) = (TestEnv::default(), Model::new(5));
    let wal = create(&env, &model, DeviceWalConfig::tiny());
    // The first segment is still being zeroed.
    model.0.lock().stalled = true;
    let append = start(&wal, frame_bytes(1, 100)).unwrap();
    let mut closing = wal.close();
    env.pass(Duration::from_secs(2));
    assert!((&mut closing).now_or_never().is_none());
    model.resume();
    env.run(closing).unwrap();
    env.run(append).unwrap();
}

#[test]
fn a_removed_device_poisons_by_name_and_serves_what_was_acknowledged_when_it_is_back() {
    let (env, model, wal) = fresh();
    let lsn = env.run(start(&wal, frame_bytes(1, 100)).unwrap()).unwrap();
    env.pass(Duration::from_millis(5));
    model.0.lock().removed = true;
    let lost = start(&wal, frame_bytes(2, 100)).unwrap();
    let error = env.run(lost).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let text = error.to_string();
    assert!(text.contains("write of model at position"), "{text}");
    assert!(text.contains("os error 19"), "{text}");
    assert_eq!(env.run(wal.close()).unwrap_err().to_string(), text);
    assert!(wal.counters().write_errors > 0);
    drop(wal);
    env.pass(Duration::from_millis(5));
    env.kill();
    model.0.lock().removed = false;
    let config = DeviceWalConfig::tiny();
    let (_wal, found, _) = env
        .run(open(&model, &env, config, OpenMode::Existing))
        .unwrap();
    assert_eq!(found[0], (lsn, frame_bytes(1, 100)));
}

#[test]
fn failed_flushes_and_short_writes_are_counted() {
    let (env, model, wal) = fresh();
    env.pass(Duration::from_millis(5));
    model.0.lock().short_one_in = 2;
    for n in 0..20 {
        env.run(start(&wal, frame_bytes(n, 9000)).unwrap()).unwrap();
    }
    let found = troubles(&wal);
    assert!(found.short_writes > 0, "{found:?}");
    model.0.lock().failing_flushes = 1;
    env.run(start(&wal, frame_bytes(1, 1)).unwrap())
        .unwrap_err();
    assert_eq!(wal.counters().sync_errors, 1);
}
