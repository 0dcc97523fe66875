//! Recovery on the model disk: each fault by itself.
//!
//! *IO: none*

use std::time::Duration;

use bytes::Bytes;
use tidewater_types::{Epoch, ErrorKind, Lsn, set_mutant};

use crate::format::group::{GroupHeader, GroupKind, HEADER_BYTES};
use crate::format::superblock::SLOT_POSITIONS;
use crate::port::{Frame, Wal};
use crate::testing::env::TestEnv;
use crate::testing::frame_bytes;
use crate::testing::lives::open;
use crate::testing::model::Model;
use crate::{DeviceWal, DeviceWalConfig, OpenMode, WalError};

mod crafted;
mod unreadable;

struct World {
    env: TestEnv,
    model: Model,
    config: DeviceWalConfig,
}

type Recovered = Result<(DeviceWal, Vec<(Lsn, Bytes)>, crate::RecoveryReport), WalError>;

impl World {
    fn new() -> Self {
        let config = DeviceWalConfig {
            mark_idle_ms: 1,
            ..DeviceWalConfig::tiny()
        };
        Self {
            env: TestEnv::default(),
            model: Model::new(1),
            config,
        }
    }

    fn open(&self, mode: OpenMode) -> Recovered {
        self.env
            .run(open(&self.model, &self.env, self.config.clone(), mode))
    }

    fn append(&self, wal: &DeviceWal, number: u64, num_bytes: usize) -> (Lsn, Bytes) {
        let bytes = frame_bytes(number, num_bytes);
        let append = self.env.run(async {
            let permit = wal.reserve(num_bytes).await.unwrap();
            wal.append(permit, Frame::from(bytes.clone()))
                .unwrap()
                .await
        });
        (append.unwrap(), bytes)
    }

    /// A WAL of ten frames whose process was killed.
    fn filled(&self) -> (Vec<(Lsn, Bytes)>, Vec<std::ops::Range<u64>>) {
        let (wal, _, _) = self.open(OpenMode::Create).unwrap();
        let frames: Vec<_> = (0..10).map(|n| self.append(&wal, n, 3000)).collect();
        let places = frames
            .iter()
            .map(|(lsn, _)| wal.locate(*lsn).unwrap())
            .collect();
        self.kill(wal);
        (frames, places)
    }

    fn kill(&self, wal: DeviceWal) {
        self.env.kill();
        self.model.kill();
        drop(wal);
    }
}

/// The group of `header`; data is one frame.
fn encoded(header: &GroupHeader) -> Vec<u8> {
    let mut group = vec![b'x'; header.num_bytes()];
    if let Some(frame_bytes) = header.payload_bytes.checked_sub(4) {
        group[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&frame_bytes.to_le_bytes());
    }
    header.encode_into(&mut group);
    group
}

#[test]
fn a_torn_tail_is_cut_off_and_its_lsn_used_again() {
    let world = World::new();
    let (mut frames, places) = world.filled();
    world.model.flip(places[9].start + 1000);
    let (wal, found, report) = world.open(OpenMode::Existing).unwrap();
    let (torn, _) = frames.pop().unwrap();
    assert_eq!(found, frames);
    assert_eq!(report.stop_position, places[9].start);
    assert_eq!(report.stop_reason, "checksum mismatch");
    assert_eq!(world.append(&wal, 11, 10).0, torn);
}

#[test]
fn damage_in_front_of_a_durable_point_is_refused_and_nothing_is_changed() {
    for place in 0..9 {
        let world = World::new();
        let (frames, places) = world.filled();
        world.model.flip(places[place].start + 1000);
        let before = world.model.image();
        match world.open(OpenMode::Existing) {
            Err(error @ WalError::Corrupt { .. }) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                let WalError::Corrupt { position, lsn, .. } = error else {
                    unreachable!()
                };
                assert_eq!((position, lsn), (places[place].start, frames[place].0));
            }
            other => panic!("frame {place}: {other:?}"),
        }
        assert!(world.model.image() == before, "nothing is changed");
    }
}

#[test]
fn an_idle_mark_covers_the_last_group_too() {
    let world = World::new();
    let (wal, _, _) = world.open(OpenMode::Create).unwrap();
    let (lsn, _) = world.append(&wal, 1, 100);
    let place = wal.locate(lsn).unwrap();
    world.env.pass(Duration::from_millis(10));
    world.kill(wal);
    world.model.flip(place.start + 90);
    assert!(matches!(
        world.open(OpenMode::Existing),
        Err(WalError::Corrupt { .. })
    ));
}

#[test]
fn a_mark_covers_the_last_group_of_a_full_ring_too() {
    let mut world = World::new();
    world.config.capacity_bytes = 2 * world.config.segment_bytes;
    let (wal, _, _) = world.open(OpenMode::Create).unwrap();
    // Nothing is trimmed, so the ring fills up and the last frames wait for room.
    let appends: Vec<_> = (0..)
        .map_while(|n| {
            world.env.pass(Duration::from_millis(2));
            let permit = wal.try_reserve(3000).ok()?;
            Some(wal.append(permit, frame_bytes(n, 3000).into()).unwrap())
        })
        .collect();
    world.env.pass(Duration::from_millis(10));
    let durable = wal.watermarks().durable;
    assert!(durable < wal.watermarks().accepted, "some frames wait");
    let last = appends.iter().rfind(|append| append.end() <= durable);
    let place = wal.locate(last.unwrap().lsn()).unwrap();
    world.kill(wal);
    world.model.flip(place.start + 90);
    let error = world.open(OpenMode::Existing).unwrap_err();
    assert!(matches!(error, WalError::Corrupt { position, .. } if position == place.start));
}

#[test]
fn damage_is_proved_though_the_first_group_that_knew_of_it_is_gone_too() {
    let world = World::new();
    let (wal, _, _) = world.open(OpenMode::Create).unwrap();
    // Two groups of more than half a window each: the second one is the first that knows.
    let places: Vec<_> = [20_000, 20_000, 20_000]
        .iter()
        .zip(1..)
        .map(|(num_bytes, n)| wal.locate(world.append(&wal, n, *num_bytes).0).unwrap())
        .collect();
    assert!(places[2].start > places[0].start + world.config.window_bytes);
    world.kill(wal);
    world.model.flip(places[0].start + 1000);
    world.model.flip(places[1].start + 1000);
    let error = world.open(OpenMode::Existing).unwrap_err();
    assert!(matches!(error, WalError::Corrupt { position, .. } if position == places[0].start));
}

/// What names a segment and its head go at a time: one write of zeros that went astray.
#[test]
fn damage_is_proved_though_all_that_named_the_next_segment_is_gone_with_its_first_groups() {
    const BLOCK: u64 = 4096;
    let segment = DeviceWalConfig::tiny().segment_bytes;
    let window = DeviceWalConfig::tiny().window_bytes;
    for (blocks_left, blocks_lost) in (1..=6).flat_map(|left| (1..=8).map(move |lost| (left, lost)))
    {
        let world = World::new();
        let (wal, ..) = world.open(OpenMode::Create).unwrap();
        // The next life begins so many blocks in front of the end of its segment.
        let wanted = segment - window - blocks_left * BLOCK;
        let stop = (0..).find_map(|n| {
            let (lsn, _) = world.append(&wal, n, 100);
            let end = wal.locate(lsn).unwrap().end.next_multiple_of(BLOCK);
            (end % segment == wanted).then_some(end)
        });
        world.kill(wal);
        let (wal, ..) = world.open(OpenMode::Existing).unwrap();
        let first = stop.unwrap() + window;
        // Not as many that they reach a third segment.
        for n in 0..14 {
            world.append(&wal, 1_000 + n, 100);
        }
        world.kill(wal);
        let lost = usize::try_from(blocks_lost * BLOCK).unwrap();
        world.model.overwrite(first, &vec![0; lost]);
        let error = world.open(OpenMode::Existing).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Corrupt,
            "{blocks_left} {blocks_lost}: {error}"
        );
    }
}

/// The group that leads on from the trim point holds no frame, and its flush failed: it is written
/// again all the same, or the frames behind it are out of reach after the next power failure.
#[test]
fn a_skip_at_the_trim_point_is_made_durable_too() {
    let world = World::new();
    let (wal, _, _) = world.open(OpenMode::Create).unwrap();
    // Two segments full, so that the trim frees one and is recorded.
    for n in 0..2 * (world.config.segment_bytes / 4096 - 2) {
        world.append(&wal, n, 3000);
    }
    wal.trim(wal.watermarks().durable);
    world.env.pass(Duration::from_micros(500));
    world.model.0.lock().failing_flushes = 1;
    let permit = wal.try_reserve(3000).unwrap();
    let append = wal.append(permit, frame_bytes(99, 3000).into()).unwrap();
    let lsn = append.lsn();
    assert!(world.env.run(append).is_err());
    world.kill(wal);
    let (_wal, found, report) = world.open(OpenMode::Existing).unwrap();
    assert_eq!((report.trimmed, found.len()), (lsn, 1));
    let world = World {
        model: world.model.power_failure(),
        ..world
    };
    let (_, found, _) = world.open(OpenMode::Existing).unwrap();
    assert_eq!(found, vec![(lsn, frame_bytes(99, 3000))]);
}

#[test]
fn one_damaged_slot_is_reported_and_repaired() {
    for slot in [0, 1] {
        let world = World::new();
        let (frames, _) = world.filled();
        world.model.flip(SLOT_POSITIONS[slot] + 40);
        let (wal, found, report) = world.open(OpenMode::Existing).unwrap();
        assert_eq!(found, frames);
        assert_eq!(report.damaged_slot, Some(slot));
        world.kill(wal);
        let (_, found, report) = world.open(OpenMode::Existing).unwrap();
        assert_eq!(found, frames);
        assert_eq!(report.damaged_slot, None);
    }
}

#[test]
fn two_damaged_slots_are_refused_and_nothing_is_changed() {
    let world = World::new();
    world.filled();
    SLOT_POSITIONS
        .iter()
        .for_each(|position| world.model.flip(position + 40));
    let before = world.model.image();
    let error = world.open(OpenMode::Existing).unwrap_err();
    assert!(
        matches!(error, WalError::SuperblocksDamaged { .. }),
        "{error}"
    );
    assert!(matches!(
        world.open(OpenMode::Create),
        Err(WalError::Exists { .. })
    ));
    assert!(world.model.image() == before);
}

#[test]
fn late_writes_of_an_earlier_life_never_come_back() {
    let world = World::new();
    let (wal, _, _) = world.open(OpenMode::Create).unwrap();
    let (first, bytes) = world.append(&wal, 1, 100);
    world.kill(wal);
    let (wal, _, report) = world.open(OpenMode::Existing).unwrap();
    // A group of the first epoch with the right LSN, just where the first life stopped.
    let image = world.model.image();
    let stop = usize::try_from(report.stop_position).unwrap();
    let late = encoded(&GroupHeader {
        kind: GroupKind::Data,
        payload_bytes: 5,
        num_frames: 1,
        position: report.stop_position,
        lsn: report.end,
        epoch: Epoch(1),
        durable: report.end,
        next: 0,
        wal: wal.wal_id(),
    });
    assert_eq!(
        image[stop..stop + 80],
        [0; 80],
        "the new life left the place alone"
    );
    world.model.overwrite(report.stop_position, &late);
    let (second, more) = world.append(&wal, 2, 100);
    assert_eq!(second, report.end);
    world.kill(wal);
    let (_, found, _) = world.open(OpenMode::Existing).unwrap();
    assert_eq!(found, vec![(first, bytes), (second, more)]);
}

#[test]
fn a_failed_flush_in_recovery_writes_the_tail_again() {
    let world = World::new();
    let (frames, _) = world.filled();
    world.model.0.lock().failing_flushes = 1;
    let (wal, found, report) = world.open(OpenMode::Existing).unwrap();
    assert_eq!(found, frames);
    assert!(report.num_bytes_rewritten > 0);
    world.kill(wal);
    let world = World {
        model: world.model.power_failure(),
        ..world
    };
    assert_eq!(world.open(OpenMode::Existing).unwrap().1, frames);
}

#[test]
fn two_failed_flushes_in_recovery_refuse() {
    let world = World::new();
    world.filled();
    world.model.0.lock().failing_flushes = 2;
    assert!(matches!(
        world.open(OpenMode::Existing),
        Err(WalError::Io {
            operation: "flush",
            ..
        })
    ));
}

#[test]
fn a_missing_wal_is_refused_and_an_existing_one_is_not_made_again() {
    let world = World::new();
    assert!(matches!(
        world.open(OpenMode::Existing),
        Err(WalError::Missing { .. })
    ));
    world.filled();
    assert!(matches!(
        world.open(OpenMode::Create),
        Err(WalError::Exists { .. })
    ));
}

#[test]
fn a_half_made_wal_is_made_again() {
    for rounds in 0..40 {
        let world = World::new();
        let opening = open(
            &world.model,
            &world.env,
            world.config.clone(),
            OpenMode::Create,
        );
        drop(world.env.run_for(opening, rounds));
        world.env.kill();
        let world = World {
            model: world.model.power_failure(),
            ..world
        };
        let opened = match world.open(OpenMode::Create) {
            Err(WalError::Exists { .. }) => world.open(OpenMode::Existing),
            other => other,
        };
        let (_, found, _) = opened.unwrap_or_else(|error| panic!("after {rounds} rounds: {error}"));
        assert_eq!(found, vec![]);
    }
}

#[test]
fn epochs_do_not_pile_up_when_frames_are_trimmed() {
    let world = World::new();
    drop(world.open(OpenMode::Create).unwrap());
    world.env.kill();
    for n in 0..100 {
        let (wal, _, report) = world.open(OpenMode::Existing).unwrap();
        assert!(report.num_epochs <= 2, "{} epochs", report.num_epochs);
        world.append(&wal, n, 100);
        wal.trim(Lsn(u64::MAX));
        world.env.run(wal.close()).unwrap();
    }
}

/// A group in the place of another: a misdirected write.
#[cfg(feature = "mutants")]
fn misdirected() -> Result<bool, WalError> {
    let world = World::new();
    let (frames, places) = world.filled();
    let image = world.model.image();
    let [from, to] = [8, 9].map(|n: usize| usize::try_from(places[n].start).unwrap());
    world.model.overwrite(to as u64, &image[from..from + 4096]);
    world
        .open(OpenMode::Existing)
        .map(|(_, found, _)| found[..9] == frames[..9] && found.len() == 9)
}

#[cfg(feature = "mutants")]
#[test]
fn the_seeded_bugs_that_need_a_fault_beyond_crashes_are_noticed() {
    assert!(misdirected().unwrap());
    set_mutant(9);
    assert!(!misdirected().unwrap(), "mutant 9");
    set_mutant(10);
    let world = World::new();
    let (_, places) = world.filled();
    world.model.flip(places[4].start + 100);
    assert_eq!(
        world.open(OpenMode::Existing).unwrap().1.len(),
        4,
        "mutant 10 truncates in silence"
    );
    set_mutant(53);
    assert!(
        World::new().open(OpenMode::Existing).is_ok(),
        "mutant 53 starts empty"
    );
    set_mutant(0);
}

#[test]
fn without_the_feature_no_seeded_bug_runs() {
    set_mutant(10);
    let expected = cfg!(feature = "mutants");
    assert_eq!(tidewater_types::mutant_active(10), expected);
    set_mutant(0);
}
