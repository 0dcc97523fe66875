//! Devices and settings that do not go together, and groups that nobody wrote: an error, never a
//! panic.
//!
//! *IO: none*

use tidewater_types::{ErrorKind, Lsn};

use super::{World, encoded};
use crate::format::group::{GroupHeader, GroupKind};
use crate::testing::env::Rng;
use crate::testing::model::Model;
use crate::{DeviceWalConfig, OpenMode, RecoveryReport, WalError};

const KIB: u64 = 1024;

fn refused_field(error: &WalError) -> &'static str {
    assert_eq!(error.kind(), ErrorKind::Invalid);
    match error {
        WalError::Config { field, .. } => field,
        other => panic!("{other}"),
    }
}

#[test]
fn large_blocks_with_settings_too_small_for_them_are_refused_and_nothing_is_written() {
    let small_window = DeviceWalConfig::tiny();
    let mut small_pool = DeviceWalConfig {
        window_bytes: 64 * KIB,
        group_bytes_max: 4 * KIB,
        depth: 64,
        ..DeviceWalConfig::tiny()
    };
    small_pool.pool_bytes = 3 * small_pool.window_bytes + 66 * small_pool.group_bytes_max;
    for (config, field) in [(small_window, "window_bytes"), (small_pool, "pool_bytes")] {
        config.validate().unwrap();
        let world = World {
            model: Model::with_blocks(16384),
            config,
            ..World::new()
        };
        let error = world.open(OpenMode::Create).unwrap_err();
        assert_eq!(refused_field(&error), field, "{error}");
        assert!(world.model.image().is_empty(), "{field}");
    }
}

#[test]
fn a_pool_too_small_for_the_blocks_of_a_log_that_is_there_is_refused_and_nothing_is_changed() {
    let large = DeviceWalConfig {
        window_bytes: 64 * KIB,
        pool_bytes: 4096 * KIB,
        depth: 64,
        ..DeviceWalConfig::tiny()
    };
    let mut world = World {
        model: Model::with_blocks(16384),
        config: large,
        ..World::new()
    };
    let (frames, _) = world.filled();
    let before = world.model.image();
    world.config.pool_bytes = 3 * 64 * KIB + 66 * world.config.group_bytes_max;
    let error = world.open(OpenMode::Existing).unwrap_err();
    assert_eq!(refused_field(&error), "pool_bytes", "{error}");
    assert!(world.model.image() == before);
    world.config.pool_bytes = 4096 * KIB;
    assert_eq!(world.open(OpenMode::Existing).unwrap().1, frames);
}

#[test]
fn blocks_that_a_slot_has_no_place_for_are_refused() {
    for mode in [OpenMode::Create, OpenMode::Existing] {
        let world = World {
            model: Model::with_blocks(32 * 1024),
            ..World::new()
        };
        world.model.overwrite(0, &[0; 128 * 1024]);
        let error = world.open(mode).unwrap_err();
        assert_eq!(refused_field(&error), "device block size", "{error}");
    }
}

/// A log of a few frames, and the place where the next group of its last life would have gone.
fn killed() -> (World, RecoveryReport, u64) {
    let world = World::new();
    world.filled();
    let (wal, _, report) = world.open(OpenMode::Existing).unwrap();
    let (lsn, _) = world.append(&wal, 50, 10);
    let next = wal.locate(lsn).unwrap().end;
    world.kill(wal);
    (world, report, next)
}

/// A group that nobody wrote, right where the last life would have gone on.
fn next_group(report: &RecoveryReport, position: u64) -> GroupHeader {
    let lsn = Lsn(report.end.0 + 14);
    GroupHeader {
        kind: GroupKind::Data,
        payload_bytes: 100,
        num_frames: 1,
        position,
        lsn,
        epoch: report.epoch,
        durable: lsn,
        next: 0,
        wal: report.wal,
    }
}

/// Opens what was crafted, and if that goes well, works with it.
fn must_not_panic(world: &World) -> Option<RecoveryReport> {
    let (wal, _, report) = world.open(OpenMode::Existing).ok()?;
    for n in 0..40 {
        world.append(&wal, n, 3000);
        wal_trim(&wal);
    }
    world.kill(wal);
    world.open(OpenMode::Existing).unwrap();
    Some(report)
}

fn wal_trim(wal: &crate::DeviceWal) {
    use crate::port::Wal;
    wal.trim(wal.watermarks().durable);
}

#[test]
fn a_group_that_reaches_to_the_end_of_its_segment_or_beyond_it_ends_the_log() {
    let (_, _, position) = killed();
    let segment = 64 * KIB;
    let rest = segment - (position - 64 * KIB) % segment;
    let whole = u32::try_from(rest).unwrap() - 80;
    for payload_bytes in [
        whole,
        whole - 4000,
        whole + 1,
        whole + 70_000,
        u32::MAX - 80,
    ] {
        let (world, report, position) = killed();
        let header = GroupHeader {
            payload_bytes: payload_bytes.min(200_000),
            ..next_group(&report, position)
        };
        let mut group = encoded(&header);
        if payload_bytes > 200_000 {
            group[12..16].copy_from_slice(&payload_bytes.to_le_bytes());
        }
        group.truncate(usize::try_from(rest).unwrap());
        world.model.overwrite(position, &group);
        let report = must_not_panic(&world).expect("the log ends there");
        assert_eq!(report.stop_position, position, "{payload_bytes} bytes");
    }
}

#[test]
fn a_mark_that_takes_the_place_of_the_skip_ends_the_log() {
    let (world, report, position) = killed();
    let last = 192 * KIB - 4 * KIB;
    // Data up to the last block, then a mark in it.
    let payload_bytes = u32::try_from(last - position).unwrap() - 80;
    let data = GroupHeader {
        payload_bytes,
        ..next_group(&report, position)
    };
    world.model.overwrite(position, &encoded(&data));
    let mark = GroupHeader {
        kind: GroupKind::Mark,
        payload_bytes: 0,
        num_frames: 0,
        position: last,
        lsn: data.end(),
        durable: data.end(),
        ..data
    };
    world.model.overwrite(last, &encoded(&mark));
    let report = must_not_panic(&world).expect("the log ends there");
    assert_eq!(report.stop_position, last);
}

#[test]
fn no_group_under_a_right_checksum_makes_recovery_panic() {
    let mut rng = Rng(7);
    for _ in 0..400 {
        let (world, report, position) = killed();
        let right = next_group(&report, position);
        let mut pick = |right: u64| match rng.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => right.wrapping_add(4096),
            3 => rng.next(),
            4 => 64 * KIB * (1 + rng.below(12)),
            _ => right,
        };
        let (lsn, durable, next) = (pick(right.lsn.0), pick(right.lsn.0), pick(64 * KIB));
        let payload_bytes = u32::try_from(pick(100) % 66_000).unwrap();
        let kind = [GroupKind::Data, GroupKind::Mark, GroupKind::Skip]
            [usize::try_from(pick(0) % 3).unwrap()];
        let is_data = kind == GroupKind::Data;
        let header = GroupHeader {
            kind,
            payload_bytes: if is_data { payload_bytes } else { 0 },
            num_frames: u32::from(is_data),
            lsn: Lsn(lsn),
            durable: Lsn(durable),
            next,
            ..right
        };
        world.model.overwrite(position, &encoded(&header));
        must_not_panic(&world);
    }
}
