//! Sectors that cannot be read: in front of the end, at it, and behind it.
//!
//! *IO: none*

use tidewater_types::{Epoch, ErrorKind, Lsn, WalId};

use super::{World, encoded};
use crate::format::group::{GroupHeader, GroupKind};
use crate::port::Wal;
use crate::{OpenMode, WalError};

const BLOCK: u64 = 4096;

#[test]
fn an_unreadable_sector_behind_the_end_hides_nothing_in_front_of_it() {
    for blocks_behind in 1..12 {
        let world = World::new();
        let (frames, places) = world.filled();
        world.model.spoil(places[9].end + blocks_behind * BLOCK);
        let (wal, found, report) = world.open(OpenMode::Existing).unwrap();
        assert_eq!(found, frames, "{blocks_behind} blocks behind the end");
        assert_eq!(report.stop_position, places[9].end);
        // A life that leaves nothing begins one window behind the last one.
        world.kill(wal);
        let (wal, found, _) = world.open(OpenMode::Existing).unwrap();
        assert_eq!(found, frames, "{blocks_behind} blocks behind the end");
        // The new life comes by there, and writes what could not be read.
        for n in 0..60 {
            world.append(&wal, 100 + n, 3000);
        }
        world.kill(wal);
        assert_eq!(world.open(OpenMode::Existing).unwrap().1.len(), 70);
    }
}

#[test]
fn nothing_is_read_behind_a_clean_end() {
    let world = World::new();
    let (wal, _, _) = world.open(OpenMode::Create).unwrap();
    let frame = world.append(&wal, 1, 100);
    let place = wal.locate(frame.0).unwrap();
    world.env.run(wal.close()).unwrap();
    world.kill(wal);
    // What closes it idle may be a mark.
    (0..8).for_each(|blocks| world.model.spoil(place.end + blocks * BLOCK));
    let (_, found, report) = world.open(OpenMode::Existing).unwrap();
    assert_eq!((found, report.sealed), (vec![frame], true));
}

#[test]
fn an_unreadable_sector_in_front_of_the_end_is_refused_by_its_place_and_nothing_is_changed() {
    for place in 0..10 {
        let world = World::new();
        let (_, places) = world.filled();
        world.model.spoil(places[place].start + 1000);
        let before = world.model.image();
        let error = world.open(OpenMode::Existing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        match error {
            WalError::Io { position, .. } => assert_eq!(position, places[place].start),
            other => panic!("frame {place}: {other}"),
        }
        assert!(world.model.image() == before, "nothing is changed");
    }
}

/// Nobody knows whether what cannot be read was promised.
#[test]
fn an_unreadable_sector_right_at_the_end_is_refused() {
    let world = World::new();
    let (_, places) = world.filled();
    world.model.spoil(places[9].end);
    let error = world.open(OpenMode::Existing).unwrap_err();
    assert!(matches!(error, WalError::Io { position, .. } if position == places[9].end));
}

/// The head of a group of an older lap is enough to know that the log ends there.
#[test]
fn an_unreadable_sector_in_a_group_that_does_not_belong_there_ends_nothing() {
    let world = World::new();
    let (frames, places) = world.filled();
    let end = places[9].end;
    let header = |world: &World, lsn| GroupHeader {
        kind: GroupKind::Data,
        payload_bytes: 9000,
        num_frames: 1,
        position: end,
        lsn,
        epoch: Epoch(1),
        durable: Lsn(0),
        next: 0,
        wal: wal_id(world),
    };
    world
        .model
        .overwrite(end, &encoded(&header(&world, Lsn(1))));
    world.model.spoil(end + 2 * BLOCK);
    let (wal, found, report) = world.open(OpenMode::Existing).unwrap();
    assert_eq!((found, report.stop_position), (frames, end));
    world.kill(wal);
    // The one that would follow may have been promised.
    let world = World::new();
    let (frames, places) = world.filled();
    let lsn = Lsn(frames[9].0.0 + 4 + 3000);
    assert_eq!(places[9].end, end);
    world.model.overwrite(end, &encoded(&header(&world, lsn)));
    world.model.spoil(end + 2 * BLOCK);
    let error = world.open(OpenMode::Existing).unwrap_err();
    assert!(matches!(error, WalError::Io { .. }), "{error}");
}

/// Whose first slot it is.
fn wal_id(world: &World) -> WalId {
    WalId(world.model.image()[48..64].try_into().unwrap())
}

#[test]
fn an_unreadable_slot_is_as_good_as_a_damaged_one() {
    for slot in crate::format::superblock::SLOT_POSITIONS {
        let world = World::new();
        let (frames, _) = world.filled();
        world.model.spoil(slot + 600);
        let (wal, found, report) = world.open(OpenMode::Existing).unwrap();
        assert_eq!(found, frames);
        assert!(report.damaged_slot.is_some());
        world.kill(wal);
        assert_eq!(world.open(OpenMode::Existing).unwrap().2.damaged_slot, None);
    }
}
