//! Chooses which sets are split into objects of their streams, and which wait for it.
//!
//! A byte that reaches the object of its stream straight from an upload is written again once; if its
//! set is joined with others before, twice. So sets wait while enough of their like make a split.
//!
//! *Owns*: the two choices. *Does not own*: which sets there are, and their order (`plan`).
//!
//! Invariants
//! 1. What waits fits one split: it is bounded in sets, bytes and bytes of indices, whatever comes of it.
//! 2. A set waits only if so many of its like as make a split fit one.
//!
//! *IO: none*

use std::ops::Range;

use rustc_hash::FxHashMap;
use tidewater_types::StreamId;

use crate::meta::state::StreamState;
use crate::object_id::ObjectId;

use super::weight::{Limits, SplitLimits, Weight};

/// What becomes of sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// These are split.
    Split(Range<usize>),
    /// None is, and these wait for more of their like.
    Wait(Vec<usize>),
}

impl Weight {
    /// Bytes that a stream has in the set, if all of them have as much: more is not known.
    fn stream_bytes(&self) -> u64 {
        self.size.saturating_sub(self.index) / self.num_references.max(1)
    }

    /// Whether so many of its like as make a split fit one.
    fn may_wait(&self, limits: &SplitLimits) -> bool {
        let Some(more) = limits.stream_bytes.checked_div(self.stream_bytes()) else {
            return false;
        };
        let count = (more + 1).max(2);
        count <= limits.sets_max as u64
            && self.size.saturating_mul(count) <= limits.window_bytes
            && self.index.saturating_mul(count) <= limits.index_bytes
    }
}

/// Chooses among neighbours; one without a weight parts those on its sides.
pub(super) fn choose(
    sets: &[Option<Weight>],
    limits: &SplitLimits,
    is_worth: impl Fn(Range<usize>) -> bool,
) -> Choice {
    let mut first = 0;
    while first < sets.len() && limits.window_bytes > 0 {
        let (count, is_open) = longest(&sets[first..], limits);
        let window = first..first + count;
        let known = sets[window.clone()].iter().flatten();
        // No stream can have more of them than one that is in each.
        let most: u64 = known.map(Weight::stream_bytes).sum();
        if count > 1 && most >= limits.stream_bytes && is_worth(window) {
            return Choice::Split(first..first + count);
        }
        if is_open {
            let may_wait = |place: &usize| sets[*place].is_some_and(|set| set.may_wait(limits));
            return Choice::Wait((first..sets.len()).filter(may_wait).collect());
        }
        // Not each start is tried: a look at the metadata should cost little.
        first += (count / 4).max(1);
    }
    Choice::Wait(Vec::new())
}

/// How many of the first may be split together, and whether one more would fit if it came.
fn longest(sets: &[Option<Weight>], limits: &SplitLimits) -> (usize, bool) {
    let (mut size, mut index) = (0u64, 0u64);
    for (count, set) in sets.iter().enumerate() {
        let Some(set) = set else {
            return (count, false);
        };
        size = size.saturating_add(set.size);
        index = index.saturating_add(set.index);
        let fits = size <= limits.window_bytes && index <= limits.index_bytes;
        if count >= limits.sets_max || !fits {
            return (count, false);
        }
    }
    (sets.len(), true)
}

/// Whether at least half of what the sets hold belongs to streams that have enough in them.
pub(super) fn is_worth<'a>(
    streams: impl Iterator<Item = (StreamId, &'a StreamState)>,
    ids: &[ObjectId],
    sets: &[Option<Weight>],
    limits: &Limits,
) -> bool {
    let bytes = sets.iter().flatten().map(Weight::stream_bytes);
    let bytes: FxHashMap<_, _> = ids.iter().zip(bytes).collect();
    let (mut all, mut large) = (0u64, 0u64);
    for (_, stream) in streams {
        let ranges = stream.ranges();
        let held = ranges.filter_map(|(_, range)| bytes.get(&range.object));
        let held: u64 = held.sum();
        all += held;
        if held >= limits.split.stream_bytes {
            large += held;
        }
    }
    all > 0 && large >= all - large
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SplitLimits = SplitLimits {
        window_bytes: 16 << 30,
        index_bytes: 16 << 20,
        sets_max: 256,
        set_bytes_max: u64::MAX,
        stream_bytes: 9 << 20,
    };

    /// A set of `mib` with a block of each of so many streams.
    fn set(mib: u64, num_streams: u64) -> Option<Weight> {
        let index = num_streams * 64;
        Some(Weight {
            size: (mib << 20) + index,
            index,
            num_references: num_streams,
        })
    }

    fn chosen(sets: &[Option<Weight>], limits: &SplitLimits) -> Choice {
        choose(sets, limits, |_| true)
    }

    #[test]
    fn sets_wait_until_their_streams_have_enough_and_are_split_together() {
        let sets = vec![set(64, 1_000); 140];
        assert_eq!(chosen(&sets, &LIMITS), Choice::Wait((0..140).collect()));
        let sets = vec![set(64, 1_000); 141];
        assert_eq!(chosen(&sets, &LIMITS), Choice::Split(0..141));
        let is_worth = |_: Range<usize>| false;
        let Choice::Wait(waits) = choose(&sets, &LIMITS, is_worth) else {
            panic!("streams that differ are not split");
        };
        assert_eq!(waits.len(), 141, "as long as more of them would fit");
    }

    #[test]
    fn nothing_waits_that_would_never_be_enough() {
        // More streams than bytes; more sets; more rows.
        let fewer = SplitLimits {
            sets_max: 48,
            ..LIMITS
        };
        for (set, limits) in [
            (set(64, 20_000), LIMITS),
            (set(15, 1_000), fewer),
            (set(2, 1_000), LIMITS),
        ] {
            assert_eq!(chosen(&[set; 40], &limits), Choice::Wait(Vec::new()));
        }
        let off = SplitLimits {
            window_bytes: 0,
            ..LIMITS
        };
        let sets = vec![set(64, 100); 100];
        assert_eq!(chosen(&sets, &off), Choice::Wait(Vec::new()));
    }

    #[test]
    fn joined_sets_wait_for_their_like_and_for_smaller_ones() {
        let fewer = SplitLimits {
            sets_max: 48,
            ..LIMITS
        };
        let mut sets = vec![set(369, 1_000); 24];
        sets.extend([set(15, 1_000); 5]);
        assert_eq!(chosen(&sets, &fewer), Choice::Wait((0..24).collect()));
        sets.insert(0, set(369, 1_000));
        assert_eq!(chosen(&sets, &fewer), Choice::Split(0..30));
    }

    #[test]
    fn the_wait_ends_where_the_limits_of_a_split_do() {
        let sets = vec![set(64, 1_000); 300];
        let choice = choose(&sets, &LIMITS, |window| {
            assert!(window.len() <= 256);
            window.start > 0
        });
        assert_eq!(choice, Choice::Split(63..300));
        let choice = choose(&sets, &LIMITS, |_| false);
        assert_eq!(choice, Choice::Wait((63..300).collect()));
    }

    #[test]
    fn one_that_is_left_alone_parts_the_others() {
        let mut sets = vec![set(64, 1_000); 200];
        sets[100] = None;
        assert_eq!(chosen(&sets, &LIMITS), Choice::Wait((101..200).collect()));
        sets[20] = None;
        sets[100] = sets[99];
        assert_eq!(chosen(&sets, &LIMITS), Choice::Split(21..200));
    }
}
