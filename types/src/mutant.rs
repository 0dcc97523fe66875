//! Seeded bugs and reach counters, compiled in by the feature `mutants` alone.
//!
//! *Owns*: which mutant runs on this thread (`mutant!(ID)` asks), and how often
//! each rare path was reached (`sometimes!("name")` counts).
//! *Does not own*: the list of mutants; docs/simulation.md has it.
//!
//! Invariants
//! 1. Without the feature both macros cost nothing: the test is a constant `false`.
//! 2. The state is per thread: a campaign runs one seed a thread.
//!
//! *IO: none*

/// `true` if the seeded bug with this number is switched on for the running seed.
#[macro_export]
macro_rules! mutant {
    ($id:expr) => {
        $crate::mutant_active($id)
    };
}

/// Counts that a rare path was reached; a path no campaign ever reaches is untested.
#[macro_export]
macro_rules! sometimes {
    ($name:expr) => {
        $crate::sometimes_hit($name)
    };
}

#[cfg(feature = "mutants")]
mod state {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    thread_local! {
        static ACTIVE: Cell<u16> = const { Cell::new(0) };
        static HITS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Whether mutant `id` runs on this thread.
    #[must_use]
    pub fn mutant_active(id: u16) -> bool {
        ACTIVE.get() == id
    }

    /// Switches mutant `id` on for this thread; 0 switches all off.
    pub fn set_mutant(id: u16) {
        ACTIVE.set(id);
    }

    /// Counts one visit of the path `name`.
    pub fn sometimes_hit(name: &'static str) {
        HITS.with_borrow_mut(|hits| *hits.entry(name).or_default() += 1);
    }

    /// The visits counted on this thread since the last reset.
    #[must_use]
    pub fn sometimes_hits() -> Vec<(&'static str, u64)> {
        HITS.with_borrow(|hits| hits.iter().map(|(name, count)| (*name, *count)).collect())
    }

    /// Forgets this thread's visits.
    pub fn sometimes_reset() {
        HITS.with_borrow_mut(BTreeMap::clear);
    }
}

#[cfg(not(feature = "mutants"))]
mod state {
    /// Always `false`: mutants are not compiled in.
    #[inline(always)]
    #[must_use]
    pub fn mutant_active(_id: u16) -> bool {
        false
    }

    /// Does nothing: mutants are not compiled in.
    #[inline(always)]
    pub fn set_mutant(_id: u16) {}

    /// Does nothing: mutants are not compiled in.
    #[inline(always)]
    pub fn sometimes_hit(_name: &'static str) {}
}

pub use state::*;
