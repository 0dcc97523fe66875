//! The rules of durability, one by one.
//!
//! *IO: none*

use super::{Layers, Name};
use crate::disk::faults::{CrashStyle, DiskShape};
use crate::rng::Rng;

fn layers() -> Layers {
    Layers::new(512)
}

fn durable(layers: &Layers, position: u64) -> u8 {
    layers
        .durable
        .bytes(position, 1)
        .first()
        .copied()
        .unwrap_or(0)
}

#[test]
fn a_flush_covers_only_what_completed_before_it_was_submitted() {
    let mut layers = layers();
    let first = layers.submit(0, &[1; 512]);
    layers.complete(first, 512);
    let second = layers.submit(512, &[2; 512]);
    let mark = layers.flush_mark();
    layers.complete(second, 512);
    layers.flush(mark);
    assert_eq!((durable(&layers, 0), durable(&layers, 512)), (1, 0));
    layers.crash(CrashStyle::None, &mut Rng::new(1, "crash"));
    assert_eq!(layers.cache.bytes(0, 600)[511], 1);
    assert_eq!(durable(&layers, 512), 0);
}

#[test]
fn a_failed_flush_marks_pages_clean_and_a_retry_lies() {
    let mut layers = layers();
    let write = layers.submit(0, &[1; 512]);
    layers.complete(write, 512);
    layers.flush_failed(layers.flush_mark());
    layers.flush(layers.flush_mark());
    assert_eq!(durable(&layers, 0), 0);
    assert_eq!(layers.cache.bytes(0, 1), vec![1]);
}

#[test]
fn an_older_write_never_takes_a_newer_durable_byte_back() {
    let mut layers = layers();
    let older = layers.submit(0, &[1; 1024]);
    layers.complete(older, 1024);
    let newer = layers.submit(512, &[2; 512]);
    layers.complete(newer, 512);
    layers.make_durable(newer);
    layers.crash(CrashStyle::All, &mut Rng::new(1, "crash"));
    assert_eq!((durable(&layers, 0), durable(&layers, 512)), (1, 2));
}

#[test]
fn a_crash_lands_any_subset_of_sectors_and_of_writes_under_way() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut layers = layers();
        let write = layers.submit(0, &[1; 1024]);
        layers.complete(write, 1024);
        layers.submit(1024, &[1; 512]);
        layers.crash(CrashStyle::Sectors, &mut Rng::new(seed, "crash"));
        seen.insert([0, 512, 1024].map(|at| durable(&layers, at)));
    }
    assert_eq!(seen.len(), 8);
}

#[test]
fn a_short_write_leaves_the_rest_unwritten() {
    let mut layers = layers();
    let write = layers.submit(0, &[1; 1024]);
    layers.complete(write, 512);
    layers.flush(layers.flush_mark());
    assert_eq!((durable(&layers, 0), durable(&layers, 512)), (1, 0));
}

#[test]
fn writing_over_an_acknowledged_block_is_noticed_unless_the_bytes_are_the_same() {
    let mut layers = layers();
    let write = layers.submit(0, &[1; 512]);
    layers.complete(write, 512);
    layers.flush(layers.flush_mark());
    layers.protect(10, 20, 512);
    layers.check_protected(0, &[1; 512]);
    layers.check_protected(512, &[9; 512]);
    assert_eq!(layers.violation, None);
    layers.check_protected(0, &[2; 512]);
    assert!(layers.violation.is_some());
}

/// A protected frame in the blocks 512..1536, and what is complained of when `data` is written.
fn over_a_frame(position: u64, data: &[u8]) -> Option<String> {
    let mut layers = layers();
    let write = layers.submit(512, &[1; 1024]);
    layers.complete(write, 1024);
    layers.flush(layers.flush_mark());
    layers.protect(600, 1100, 512);
    layers.check_protected(position, data);
    layers.violation
}

#[test]
fn other_bytes_in_any_block_of_an_acknowledged_frame_are_noticed() {
    assert_eq!(over_a_frame(512, &[1; 1024]), None);
    assert_eq!(over_a_frame(0, &[2; 512]), None);
    assert_eq!(over_a_frame(1536, &[2; 512]), None);
    // Its first block, its last one, one of a larger write, and the room behind it in its block.
    assert!(over_a_frame(512, &[2; 512]).is_some());
    assert!(over_a_frame(1024, &[2; 512]).is_some());
    assert!(over_a_frame(0, &[[0; 512], [1; 512], [0; 512], [0; 512]].concat()).is_some());
    let mut behind = [1; 512];
    behind[511] = 2;
    assert!(over_a_frame(1024, &behind).is_some());
}

#[test]
fn bytes_that_are_not_durable_yet_are_no_excuse_to_write_others() {
    let mut layers = layers();
    layers.protect(0, 512, 512);
    layers.check_protected(0, &[1; 512]);
    assert!(layers.violation.is_some());
    layers.violation = None;
    layers.unprotect_all();
    layers.check_protected(0, &[1; 512]);
    assert_eq!(layers.violation, None);
}

#[test]
fn a_write_is_what_its_memory_held_when_it_completed() {
    let mut layers = layers();
    let number = layers.submit(0, &[1; 512]);
    layers.transfer(number, &[2; 512], || true);
    layers.complete(number, 512);
    let mark = layers.flush_mark();
    layers.flush(mark);
    assert_eq!(durable(&layers, 0), 2);
}

#[test]
fn a_write_under_way_lands_as_its_memory_was_at_any_moment() {
    let mut layers = layers();
    let number = layers.submit(0, &[1; 1024]);
    let mut second = false;
    layers.transfer(number, &[2; 1024], || std::mem::replace(&mut second, true));
    layers.crash(CrashStyle::All, &mut Rng::new(1, "test"));
    assert_eq!((durable(&layers, 0), durable(&layers, 512)), (1, 2));
}

#[test]
fn a_name_that_is_not_durable_goes_with_a_crash_and_takes_the_file_along() {
    let shape = DiskShape {
        block_bytes: 512,
        sector_bytes: 512,
        write_ns: 1,
        flush_ns: 1,
        is_file: true,
    };
    for (name, there) in [
        (Name::Missing, false),
        (Name::Linked, false),
        (Name::Durable, true),
    ] {
        let mut layers = Layers::blank(&shape);
        let number = layers.submit(0, &[1; 512]);
        layers.complete(number, 512);
        layers.make_durable(number);
        layers.name = name;
        layers.crash(CrashStyle::None, &mut Rng::new(1, "test"));
        assert_eq!(layers.name == Name::Durable, there, "{name:?}");
        assert_eq!(durable(&layers, 0) == 1, there, "{name:?}");
    }
}
