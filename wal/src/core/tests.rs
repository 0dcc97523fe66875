//! The engine under crashes and faults, on the model disk.
//!
//! *IO: none*

use crate::testing::lives::lives;

#[test]
fn nothing_acknowledged_is_lost_over_many_lives() {
    for seed in 0..300 {
        let outcome = std::panic::catch_unwind(|| lives(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn every_seeded_bug_that_a_crash_reveals_is_noticed() {
    use crate::testing::lives::seeds_to_kill;
    let mut survivors = Vec::new();
    // 12 (in place) takes some thousands: a torn slot while the other one is stale.
    for mutant in [1, 2, 3, 4, 6, 7, 8, 11, 14, 15, 52, 54, 55] {
        match seeds_to_kill(mutant, 1000) {
            Some(seeds) => println!("mutant {mutant}: {seeds} seeds"),
            None => survivors.push(mutant),
        }
    }
    assert_eq!(survivors, Vec::<u16>::new());
}
