//! A WAL on a block device.
//!
//! *IO: driver*

use std::path::Path;
use std::time::Duration;

use super::loop_device::{LOOP_BYTES, Loop};
use super::patience::patiently;
use super::{append, config, env, identity, open};
use crate::testing::frame_bytes;
use crate::{
    DeviceWal, DeviceWalConfig, OpenMode, WalError, WalMode, calibrate_device, peek_identity,
    set_aside,
};

fn create(path: &Path, config: &DeviceWalConfig) -> Result<DeviceWal, WalError> {
    patiently(|| try_create(path, config))
}

fn try_create(path: &Path, config: &DeviceWalConfig) -> Result<DeviceWal, WalError> {
    let (config, create) = (config.clone(), OpenMode::Create);
    let opened = DeviceWal::open(path, env(), config, identity(), create, |_, _| {});
    opened.map(|(wal, _)| wal)
}

#[test]
fn a_wal_on_a_device_comes_back_and_takes_what_the_device_has() {
    let Some(device) = Loop::new(4096) else {
        return;
    };
    let large = DeviceWalConfig {
        capacity_bytes: 1 << 40,
        ..config(WalMode::Auto)
    };
    let missing = peek_identity(&device.device);
    assert!(
        matches!(missing, Err(WalError::Missing { .. })),
        "{missing:?}"
    );
    let wal = create(&device.device, &large).unwrap();
    assert_eq!(
        peek_identity(&device.device).unwrap().wal,
        Some(wal.wal_id())
    );
    let busy = try_create(&device.device, &large).unwrap_err();
    assert!(
        matches!(busy, WalError::Busy { .. } | WalError::DeviceInUse { .. }),
        "{busy}"
    );
    drop(wal);
    assert!(matches!(
        set_aside(&device.device),
        Err(WalError::WrongKind { .. })
    ));
    for frames in 0..3 {
        let opened = open(
            &device.device,
            large.clone(),
            identity(),
            OpenMode::Existing,
        )
        .unwrap();
        assert_eq!(opened.frames.len(), frames);
        let lsn = append(&opened.wal, frame_bytes(frames as u64, 1000));
        let end = opened.wal.locate(lsn).unwrap().end;
        assert!(end < LOOP_BYTES);
    }
}

#[test]
fn what_lies_on_a_device_is_not_lost_unless_that_is_said() {
    let Some(device) = Loop::new(512) else {
        return;
    };
    device.run("mkfs.ext4", &["-q"]);
    let refused = create(&device.device, &config(WalMode::Auto)).unwrap_err();
    assert!(
        matches!(refused, WalError::DeviceNotEmpty { .. }),
        "{refused}"
    );
    let destroying = DeviceWalConfig {
        destroy: true,
        ..config(WalMode::Auto)
    };
    drop(create(&device.device, &destroying).unwrap());
    let refused = create(&device.device, &config(WalMode::Auto)).unwrap_err();
    assert!(matches!(refused, WalError::Exists { .. }), "{refused}");
    drop(create(&device.device, &destroying).unwrap());
}

#[test]
fn a_device_that_nobody_uses_is_measured_and_one_in_use_is_not() {
    let Some(device) = Loop::new(4096) else {
        return;
    };
    let budget = Duration::from_millis(50);
    let wal = create(&device.device, &config(WalMode::Auto)).unwrap();
    let refused = calibrate_device(&device.device, budget).unwrap_err();
    assert!(
        matches!(
            refused,
            WalError::Busy { .. } | WalError::DeviceInUse { .. }
        ),
        "{refused}"
    );
    drop(wal);
    let found = (0..100)
        .find_map(|_| match calibrate_device(&device.device, budget) {
            Err(WalError::Busy { .. } | WalError::DeviceInUse { .. }) => {
                std::thread::sleep(Duration::from_millis(20));
                None
            }
            other => Some(other.unwrap()),
        })
        .expect("nobody holds it for long");
    assert!(found.volatile_cache.is_some(), "{found:?}");
    assert!(!found.samples.is_empty());
    // What was there is gone, and the device is free.
    drop(create(&device.device, &config(WalMode::Auto)).unwrap());
}
