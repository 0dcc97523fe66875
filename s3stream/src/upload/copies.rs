//! Whether the store is asked to copy within itself.
//!
//! *Owns*: what was learnt of that, for all objects of the tier until it is opened again.
//! *Does not own*: the copies.
//!
//! *IO: none*

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A store that says so often in a row that a source or an upload is gone says it of every copy.
const STRIKES_MAX: u32 = 8;

/// What copies of this store have come to.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    strikes: AtomicU32,
}

impl Copies {
    pub(crate) fn are_given_up(&self) -> bool {
        self.strikes.load(Relaxed) >= STRIKES_MAX
    }

    /// It refused one, made a wrong one, or lost an object with one. Whether that is news.
    pub(crate) fn give_up(&self) -> bool {
        self.strikes.swap(STRIKES_MAX, Relaxed) < STRIKES_MAX
    }

    /// A source or an upload went away under one. Whether that was once too often.
    pub(crate) fn went_away(&self) -> bool {
        self.strikes.fetch_add(1, Relaxed) == STRIKES_MAX - 1
    }

    /// An object with copied parts is there.
    pub(crate) fn work(&self) {
        let none = |strikes| (strikes < STRIKES_MAX).then_some(0);
        let _ = self.strikes.fetch_update(Relaxed, Relaxed, none);
    }
}

#[cfg(test)]
mod tests {
    use super::{Copies, STRIKES_MAX};

    #[test]
    fn what_goes_away_again_and_again_is_a_refusal() {
        let copies = Copies::default();
        for _ in 0..3 {
            assert!((1..STRIKES_MAX).all(|_| !copies.went_away()));
            assert!(!copies.are_given_up());
            copies.work();
        }
        assert!((1..STRIKES_MAX).all(|_| !copies.went_away()));
        assert!(copies.went_away() && copies.are_given_up());
        copies.work();
        assert!(copies.are_given_up() && !copies.give_up(), "for good");
    }
}
