//! Appends where requests are limited.
//!
//! *IO: none*

use super::fickle::Fate;
use super::*;

#[test]
fn a_log_without_a_turn_sends_nothing_acknowledges_nothing_and_loses_no_patience() {
    let world = World::default();
    let wal = world.create();
    world.append(&wal, 1);
    // The one that the log has taken, and no more.
    world.bucket.limit_turns(Some(0));
    world.append(&wal, 2);
    world.bucket.take_creates();
    let waiting: Vec<_> = (3..=9).map(|number| begin(&wal, number)).collect();
    // Far longer than an attempt, or all of them together, may take.
    world.pass(60_000);
    assert_eq!(world.bucket.take_creates(), Vec::<String>::new());
    let marks = wal.watermarks();
    assert_eq!(marks.submitted, marks.durable);
    assert!(marks.durable < marks.accepted);
    world.bucket.limit_turns(Some(1));
    world.env.run(async {
        for append in waiting {
            append.await.unwrap();
        }
    });
    // What came meanwhile shares the object.
    assert_eq!(world.bucket.take_creates(), [key_of(1, 4)]);
}

#[test]
fn repeats_and_deletions_wait_for_no_turn() {
    let world = World::default();
    let wal = world.create();
    world.append(&wal, 1);
    world.append(&wal, 2);
    world.bucket.limit_turns(Some(0));
    world.bucket.plan(&[Fate::Throttled, Fate::Late]);
    world.append(&wal, 3);
    assert!(world.bucket.take_creates().len() >= 3, "it was repeated");
    world.bucket.limit_turns(Some(1));
    wal.trim(wal.watermarks().durable);
    world.append(&wal, 4);
    world.pass(1_000);
    assert_eq!(
        world.bucket.take_deletes(),
        [1, 2, 3, 4].map(|seq| key_of(1, seq))
    );
}

#[test]
fn a_close_waits_for_no_turn() {
    let world = World::default();
    let wal = world.create();
    world.bucket.limit_turns(Some(1));
    world.append(&wal, 1);
    let last = begin(&wal, 2);
    world.env.run(wal.close()).unwrap();
    world.env.run(last).unwrap();
    drop(wal);
    world.bucket.limit_turns(None);
    let (_wal, frames) = world.open();
    assert_eq!(frames.len(), 2);
}
