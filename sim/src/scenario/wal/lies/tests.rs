//! What is taken for proven, on the image of a log that the code under test wrote.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_types::{Env, Lsn, WalId};
use tidewater_wal::{DeviceWal, DeviceWalConfig, Frame, OpenMode, Wal};

use super::super::noticed::{GROUP_MAGIC, RING};
use super::super::world::identity;
use super::{STEP, proven};
use crate::check::payload;
use crate::disk::image::Image;
use crate::disk::{Device, DiskFaults, DiskShape};
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};
use crate::scenario::common::LIMITS;

const SEED: u64 = 7;

/// A log of five frames that went idle: its image, its id, and up to where it was durable.
fn written() -> (Image, WalId, Lsn) {
    let shape = DiskShape {
        block_bytes: 512,
        sector_bytes: 512,
        write_ns: 1000,
        flush_ns: 1000,
        is_file: false,
    };
    let executor = Executor::new(SEED);
    let handle = executor.handle();
    let device = Device::new(handle.clone(), SEED, shape, DiskFaults::default());
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(handle.clone(), SEED, Tag(1), 0));
    let ended = executor.run(LIMITS, async move {
        let disk = Box::new(device.open().expect("it is free"));
        let config = DeviceWalConfig {
            capacity_bytes: 16 * 64 * 1024,
            ..DeviceWalConfig::tiny()
        };
        let (who, mode) = (identity(SEED), OpenMode::Create);
        let opened = DeviceWal::open_on(disk, env, config, who, mode, Box::new(|_, _| {})).await;
        let (wal, _) = opened.expect("a blank device");
        for value in 1..=5 {
            let permit = wal.reserve(100).await.expect("room");
            let frame = Frame::new(&[], Bytes::from(payload(value, 100)));
            wal.append(permit, frame)
                .expect("open")
                .await
                .expect("durable");
        }
        // Longer than the WAL waits before it marks its end.
        handle.sleep(Duration::from_millis(10)).await;
        (device.image(), wal.wal_id(), wal.watermarks().durable)
    });
    ended.expect("it ends")
}

/// Where groups begin.
fn groups(image: &Image) -> Vec<u64> {
    let starts = (RING..image.num_bytes()).step_by(usize::try_from(STEP).unwrap());
    starts
        .filter(|at| image.bytes(*at, 4) == GROUP_MAGIC)
        .collect()
}

fn flip(image: &mut Image, at: u64) {
    let byte = image.bytes(at, 1)[0];
    image.write(at, &[byte ^ 1]);
}

#[test]
fn the_mark_of_a_log_that_went_idle_proves_all_of_it() {
    let (image, wal, durable) = written();
    assert!(durable > Lsn(500));
    assert_eq!(proven(&image, Some(wal)), durable);
    assert_eq!(proven(&image, None), durable);
}

#[test]
fn a_torn_group_proves_nothing_and_those_before_it_less() {
    let (whole, wal, durable) = written();
    let groups = groups(&whole);
    assert!(groups.len() >= 6, "five frames and a mark: {groups:?}");
    // In the magic, the checksum, the numbers, the log's id.
    for byte in [0, 9, 50, 70] {
        let mut image = whole.clone();
        let mut last = durable;
        for at in groups.iter().rev() {
            flip(&mut image, at + byte);
            let now = proven(&image, Some(wal));
            assert!(now <= last, "byte {byte} of the group at {at}");
            last = now;
        }
        assert_eq!(last, Lsn(0), "byte {byte} of every group");
    }
}

#[test]
fn groups_of_another_log_prove_nothing() {
    let (image, _, _) = written();
    assert_eq!(proven(&image, Some(WalId([9; 16]))), Lsn(0));
}

#[test]
fn a_group_that_lies_where_it_does_not_belong_proves_nothing() {
    let (mut image, wal, durable) = written();
    let mark = *groups(&image).last().unwrap();
    let bytes = image.bytes(mark, 512);
    image.write(mark, &[0; 512]);
    let before = proven(&image, Some(wal));
    assert!(before < durable);
    image.write(mark + 8 * STEP, &bytes);
    assert_eq!(proven(&image, Some(wal)), before);
    image.write(mark, &bytes);
    assert_eq!(proven(&image, Some(wal)), durable);
}
