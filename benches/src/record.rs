//! What a log wrote, as batches that can be written again without it.
//!
//! *Owns*: putting appends together to groups, and dealing groups out to syncs.
//! *Does not own*: finding out where an append went, and writing.
//!
//! Invariants
//! 1. Sizes of groups, their order and the appends in each are as written. How many groups one sync
//!    covered is a mean, because counters tell no more.
//!
//! *IO: none*

use std::ops::Range;

use crate::raw::{Batch, Sync};

const WRITES_MAX: f64 = 64.0;

/// What is known of a slice of appends.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// Appenders, each with one append under way.
    pub appenders: usize,
    /// Appends that one sync made durable, on average.
    pub appends_per_sync: f64,
    /// How the log makes its groups durable.
    pub sync: Sync,
}

/// The batches that hold appends which went to `places` (of their whole groups, in the order of the
/// log), and how to write them. `None` if there are no places.
#[must_use]
pub fn record(
    places: impl Iterator<Item = Range<u64>>,
    observed: Observed,
) -> Option<(Vec<Batch>, Sync)> {
    let groups = groups(places);
    if groups.is_empty() {
        return None;
    }
    let in_groups: u64 = groups.iter().map(|group| group.1).sum();
    let per_group = in_groups as f64 / groups.len() as f64;
    match observed.sync {
        Sync::Batch => {
            let depth = observed.appends_per_sync / per_group;
            Some((deal(&groups, depth), Sync::Batch))
        }
        Sync::Write { depth } => {
            // Appends under way are in groups under way, so more groups than this there never were.
            let most = (observed.appenders as f64 / per_group).round() as usize;
            let depth = depth.min(most.max(1));
            Some((deal(&groups, 1.0), Sync::Write { depth }))
        }
    }
}

/// Bytes of each group, and how many of the appends are in it.
fn groups(places: impl Iterator<Item = Range<u64>>) -> Vec<(usize, u64)> {
    let mut groups: Vec<(Range<u64>, u64)> = Vec::new();
    for place in places {
        match groups.last_mut() {
            Some((last, num_ops)) if *last == place => *num_ops += 1,
            _ => groups.push((place, 1)),
        }
    }
    // Of the first and the last some appends were trimmed, or not measured.
    if groups.len() > 2 {
        groups.remove(0);
        groups.pop();
    }
    let bytes = |place: Range<u64>| usize::try_from(place.end - place.start).unwrap_or(0);
    groups
        .into_iter()
        .map(|(place, num_ops)| (bytes(place), num_ops))
        .collect()
}

/// Deals the groups out, `depth` to a batch on average.
fn deal(groups: &[(usize, u64)], depth: f64) -> Vec<Batch> {
    let depth = depth.clamp(1.0, WRITES_MAX.min(groups.len() as f64));
    let end = |number: usize| (depth * number as f64).round() as usize;
    let mut batches = Vec::new();
    while end(batches.len() + 1) <= groups.len() {
        let part = &groups[end(batches.len())..end(batches.len() + 1)];
        batches.push(Batch {
            writes: part.iter().map(|group| group.0).collect(),
            num_ops: part.iter().map(|group| group.1).sum(),
        });
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::{Observed, record};
    use crate::raw::{Batch, Sync};

    /// Appends in groups of these sizes (in blocks), so many in each.
    fn places(groups: &[(u64, usize)]) -> impl Iterator<Item = std::ops::Range<u64>> + use<> {
        let mut position = 0;
        let mut places = Vec::new();
        for (blocks, num_ops) in groups {
            let end = position + blocks * 4096;
            places.extend(std::iter::repeat_n(position..end, *num_ops));
            position = end;
        }
        places.into_iter()
    }

    fn observed(appenders: usize, appends_per_sync: f64, sync: Sync) -> Observed {
        Observed {
            appenders,
            appends_per_sync,
            sync,
        }
    }

    #[test]
    fn groups_keep_size_order_and_appends_and_lose_the_ends() {
        let groups = [(1, 1), (2, 3), (5, 9), (3, 4), (1, 2)];
        let (batches, sync) = record(places(&groups), observed(9, 5.0, Sync::Batch)).unwrap();
        let batch = |blocks: usize, num_ops| Batch {
            writes: vec![blocks * 4096],
            num_ops,
        };
        assert_eq!(batches, [batch(2, 3), batch(5, 9), batch(3, 4)]);
        assert_eq!(sync, Sync::Batch);
    }

    #[test]
    fn groups_are_dealt_out_to_syncs_by_their_mean() {
        let groups = [(1, 2); 12];
        let (batches, _) = record(places(&groups), observed(9, 5.0, Sync::Batch)).unwrap();
        let num_writes: Vec<_> = batches.iter().map(|batch| batch.writes.len()).collect();
        assert_eq!(num_writes, [3, 2, 3, 2]);
        assert!(
            batches
                .iter()
                .all(|b| b.num_ops == 2 * b.writes.len() as u64)
        );
    }

    #[test]
    fn a_sync_that_covers_less_than_a_group_still_writes_one() {
        let (batches, _) = record(places(&[(1, 4)]), observed(4, 0.5, Sync::Batch)).unwrap();
        assert_eq!(batches.len(), 1);
        assert!(record(places(&[]), observed(4, 1.0, Sync::Batch)).is_none());
    }

    #[test]
    fn no_more_durable_writes_are_under_way_than_the_appenders_can_fill() {
        for (appenders, num_ops, depth) in [(1, 1, 1), (8, 8, 1), (64, 16, 4), (512, 10, 8)] {
            let sync = Sync::Write { depth: 8 };
            let places = places(&[(1, num_ops); 5]);
            let (batches, sync) = record(places, observed(appenders, 1.0, sync)).unwrap();
            assert_eq!(sync, Sync::Write { depth });
            assert_eq!(batches.len(), 3);
        }
    }
}
