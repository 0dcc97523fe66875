//! Where threads sleep that wait for an append without an executor.
//!
//! *Owns*: sleeping until a range of appends was answered; waking all sleepers of it at once.
//! *Does not own*: whether an append was answered: whoever sleeps says how to see that.
//!
//! Invariants
//! 1. An answer is visible before the bell of its bed is rung, and a sleeper looks for it under
//!    the bed's lock before it lies down: no ring is missed.
//! 2. One ring costs one system call, however many sleep there: with one call each, waking a
//!    group of sixty takes the log's thread longer than the device takes for the next group.
//!
//! *IO: none*

use crate::sync::{Bell, BellMutex};

/// Neighbouring appends share a bed, as they are mostly answered together.
const APPENDS_A_BED: u64 = 64;
/// Far more appends than wait at a time fall on different beds.
const BEDS: usize = 16;

#[derive(Debug, Default)]
struct Bed {
    lock: BellMutex<()>,
    bell: Bell,
}

/// The sleeping threads of one log.
#[derive(Debug, Default)]
pub(super) struct Beds([Bed; BEDS]);

/// Beds whose bells are to be rung.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bells(u16);

impl Bells {
    /// All of them.
    pub(super) const ALL: Self = Self(u16::MAX);

    pub(super) fn insert(&mut self, number: u64) {
        self.0 |= 1 << bed(number);
    }
}

fn bed(number: u64) -> usize {
    usize::try_from(number / APPENDS_A_BED % BEDS as u64).expect("a small number")
}

impl Beds {
    /// Sleeps until `answered` says yes. Whoever answers append `number` must have been told.
    pub(super) fn sleep(&self, number: u64, mut answered: impl FnMut() -> bool) {
        let bed = &self.0[bed(number)];
        let mut guard = bed.lock.lock().expect("no sleeper panics");
        while !answered() {
            guard = bed.bell.wait(guard).expect("no sleeper panics");
        }
    }

    /// Wakes who sleeps for an append in `bells`.
    pub(super) fn ring(&self, bells: Bells) {
        for (index, bed) in self.0.iter().enumerate() {
            if bells.0 & 1 << index != 0 {
                drop(bed.lock.lock().expect("no sleeper panics"));
                bed.bell.notify_all();
            }
        }
    }
}
