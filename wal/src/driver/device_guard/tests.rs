//! Files in the place of devices; real loop devices where the machine lets us make them.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::process::Command;

use super::system::mounted_at;
use super::*;
use crate::driver::tests::loop_device::Loop;
use crate::driver::tests::{create, directory};
use crate::{Wal, WalMode};

const DEVICE_BYTES: u64 = 8 << 20;

/// A file of zeros with `bytes` at `position`.
fn file_with(path: &Path, position: u64, bytes: &[u8]) -> File {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    file.set_len(DEVICE_BYTES).unwrap();
    file.write_all_at(bytes, position).unwrap();
    file
}

#[test]
fn what_others_leave_on_a_device_is_named() {
    let folder = directory();
    let path = folder.path().join("device");
    for &(what, at, magic) in SIGNATURES {
        let file = file_with(&path, at, magic);
        match check_empty(&file, "device") {
            Err(WalError::DeviceNotEmpty {
                found, position, ..
            }) => assert_eq!((found, position), (what, at)),
            other => panic!("{what}: {other:?}"),
        }
    }
    let backup = DEVICE_BYTES - 512;
    for (at, magic, what) in [
        (backup, &b"EFI PART"[..], "a GPT partition table"),
        (DEVICE_BYTES - 8192, &RAID, "a member of a RAID"),
        (700_000, b"x", "bytes of something unknown"),
        (DEVICE_BYTES - 1, b"x", "bytes of something unknown"),
    ] {
        let error = check_empty(&file_with(&path, at, magic), "device").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(what) && text.contains(&at.to_string()),
            "{text}"
        );
    }
}

#[test]
fn zeros_are_nothing_and_a_superblock_is_a_wal() {
    let folder = directory();
    let path = folder.path().join("device");
    check_empty(&file_with(&path, 3 << 20, b"in the middle"), "device").unwrap();
    let small = file_with(&path, 0, b"");
    small.set_len(1000).unwrap();
    check_empty(&small, "device").unwrap();
    for position in SLOT_POSITIONS {
        let error = check_empty(&file_with(&path, position, &MAGIC), "device");
        assert!(matches!(error, Err(WalError::Exists { .. })), "{error:?}");
    }
}

#[test]
fn mounts_are_found_by_the_numbers_of_the_device() {
    let mounts = "22 27 0:20 / /sys rw - sysfs sysfs rw\n\
                  36 35 98:10 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\n";
    assert_eq!(mounted_at(mounts, "98:10").as_deref(), Some("/mnt\\0402"));
    assert_eq!(mounted_at(mounts, "98:1"), None);
    assert_eq!(mounted_at("", "98:1"), None);
}

#[test]
fn what_is_no_device_is_refused() {
    let folder = directory();
    let path = folder.path().join("file");
    fs::write(&path, b"x").unwrap();
    for (path, what) in [
        (path.as_path(), "a file"),
        (folder.path(), "a directory"),
        (Path::new("/dev/null"), "a character device"),
    ] {
        match claim_device(path, true) {
            Err(WalError::WrongKind { found, .. }) => assert_eq!(found, what),
            other => panic!("{other:?}"),
        }
    }
    let absent = claim_device(&folder.path().join("absent"), false);
    assert!(matches!(absent, Err(WalError::Missing { .. })));
}

#[test]
fn an_empty_device_is_claimed_by_one_at_a_time() {
    let Some(device) = Loop::new(512) else { return };
    let claim = claim_device(&device.device, false).unwrap();
    let second = claim_device(&device.device, true);
    assert!(
        matches!(
            second,
            Err(WalError::DeviceInUse {
                what: "claimed",
                ..
            })
        ),
        "{second:?}"
    );
    drop(claim);
    claim_device(&device.device, false).unwrap();
}

#[test]
fn a_device_with_a_file_system_is_refused_and_a_mounted_one_always() {
    let Some(device) = Loop::new(512) else { return };
    device.run("mkfs.ext4", &["-q", "-F"]);
    let refused = claim_device(&device.device, false);
    assert!(
        matches!(
            refused,
            Err(WalError::DeviceNotEmpty {
                position: 0x438,
                ..
            })
        ),
        "{refused:?}"
    );
    drop(claim_device(&device.device, true).unwrap());
    let place = directory();
    let mounted = Command::new("mount")
        .arg(&device.device)
        .arg(place.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("mounting is not permitted here");
        return;
    }
    let refused = claim_device(&device.device, true);
    let unmounted = Command::new("umount").arg(place.path()).status();
    assert!(unmounted.unwrap().success());
    match refused {
        Err(WalError::DeviceInUse { what, by, .. }) => {
            assert_eq!(what, "mounted at");
            let folder = place.path().file_name().unwrap().to_str().unwrap();
            assert!(by.ends_with(folder), "{by}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_whose_lock_is_held_is_in_use_whatever_the_caller_says() {
    let Some(device) = Loop::new(512) else { return };
    let holder = File::open(&device.device).unwrap();
    holder.lock().unwrap();
    let refused = claim_device(&device.device, true);
    assert!(matches!(refused, Err(WalError::Busy { .. })), "{refused:?}");
}

#[test]
fn a_wal_on_a_device_is_inspected_and_not_claimed() {
    let Some(device) = Loop::new(512) else { return };
    let folder = directory();
    let path = folder.path().join("wal");
    drop(create(&path, WalMode::Portable).describe());
    let image = fs::read(&path).unwrap();
    let target = OpenOptions::new().write(true).open(&device.device).unwrap();
    target.write_all_at(&image, 0).unwrap();
    target.sync_all().unwrap();
    drop(target);
    let inspection =
        crate::inspect::inspect(&device.device, &mut |_| std::ops::ControlFlow::Continue(()));
    let inspection = inspection.unwrap();
    assert!(inspection.refusal().is_none(), "{inspection}");
    assert!(inspection.to_string().contains("block device"));
    let refused = claim_device(&device.device, false);
    assert!(
        matches!(refused, Err(WalError::Exists { .. })),
        "{refused:?}"
    );
}
