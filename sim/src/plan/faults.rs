//! The names of the faults: what a campaign counts, also when it never struck.
//!
//! *Owns*: which faults there are. *Does not own*: how often each may strike (the plan).
//!
//! Each probability of the plan is counted under its part and its field: `disk_faults.enospc` is
//! `disk_enospc`. A part that is added to the plan gets a line here, or a fault that follows from
//! something other than a probability.
//!
//! Invariants
//! 1. Nothing is counted under a name that is not listed.
//!
//! *IO: none*

use serde::Serialize;

use crate::bucket::BucketFaults;
use crate::cache_disk::CacheFaults;
use crate::disk::DiskFaults;
use crate::env::ClockFaults;
use crate::net::NetFaults;

/// Fields beside the probabilities, and what no plan draws: the log counts on a lock that is free
/// only when the last write is over (docs/simulation.md).
const NO_FAULTS: &[&str] = &[
    "way_ns",
    "timeout_ns",
    "page_keys",
    "window_bytes",
    "late_landing",
];

/// What strikes without a probability of its own: ends of lives, damage, consequences.
const OTHERS: &[&str] = &[
    "bucket_parts_unequal",
    "bucket_short_page",
    "clock_shift",
    "clock_stopped",
    "crash_in_recovery",
    "cut_answers",
    "cut_both",
    "cut_requests",
    "damage_bit_rot",
    "damage_foreign",
    "damage_lost",
    "damage_lying_flush",
    "damage_misdirected",
    "damage_slot_rot",
    "damage_snapshot_rot",
    "damage_stale_read",
    "damage_swapped",
    "damage_truncated",
    "damage_unreadable",
    "disk_bad_sector",
    "disk_bit_rot",
    "disk_detached",
    "disk_lost_name",
    "kill",
    "nap",
    "net_client_vanished",
    "net_half_open",
    "net_partition",
    "net_partition_one_way",
    "net_refused",
    "pause",
    "power_loss",
    "slow_node",
    "theft",
    "wal_wiped",
    "zombie",
];

/// All faults, by name.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = OTHERS.iter().map(ToString::to_string).collect();
    names.extend(probabilities("disk", &DiskFaults::default()));
    names.extend(probabilities("bucket", &BucketFaults::default()));
    names.extend(probabilities("clock", &ClockFaults::default()));
    names.extend(probabilities("net", &NetFaults::default()));
    names.extend(probabilities("cache", &CacheFaults::default()));
    names.sort_unstable();
    names
}

fn probabilities(part: &str, faults: &impl Serialize) -> Vec<String> {
    let value = serde_json::to_value(faults).expect("faults are plain data");
    let fields = value.as_object().expect("faults have fields");
    fields
        .iter()
        .filter(|(name, value)| value.is_number() && !NO_FAULTS.contains(&name.as_str()))
        .map(|(name, _)| format!("{part}_{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{names, probabilities};
    use crate::bucket::BucketFaults;
    use crate::cache_disk::CacheFaults;
    use crate::disk::DiskFaults;
    use crate::env::ClockFaults;
    use crate::net::NetFaults;
    use crate::plan::{Plan, Scenario};
    use crate::scenario::run_plan;

    /// Done to the disk as damage, once, and not drawn for each of its operations.
    const DONE: [&str; 3] = [
        "disk_lying_flush",
        "disk_misdirected_write",
        "disk_stale_read",
    ];

    #[test]
    fn every_probability_of_the_plan_is_off_in_some_seeds_and_on_in_others() {
        let plans: Vec<serde_json::Value> = (0..300)
            .flat_map(|seed| Scenario::ALL.iter().map(move |all| Plan::new(seed, *all)))
            .map(|plan| serde_json::to_value(plan).expect("plain data"))
            .collect();
        let parts = [
            (
                "/disk_faults",
                probabilities("disk", &DiskFaults::default()),
            ),
            ("/bucket", probabilities("bucket", &BucketFaults::default())),
            ("/clock", probabilities("clock", &ClockFaults::default())),
            ("/broker/net", probabilities("net", &NetFaults::default())),
            ("/cache", probabilities("cache", &CacheFaults::default())),
        ];
        for (part, names) in parts {
            for name in names {
                let never = DONE.contains(&&*name);
                let (_, field) = name.split_once('_').expect("part and field");
                let path = format!("{part}/{field}");
                let rate = |plan: &serde_json::Value| plan.pointer(&path)?.as_u64();
                let is_on = |plan: &&serde_json::Value| rate(plan).is_some_and(|rate| rate > 0);
                let on = plans.iter().filter(is_on).count();
                let is_swarm = on > 0 && on < plans.len();
                assert_eq!(is_swarm, !never, "{name}: on in {on} of {}", plans.len());
            }
        }
    }

    #[test]
    fn what_is_done_is_a_fault_of_the_disk() {
        let known = names();
        let is_known = |name: &&str| known.iter().any(|known| known == *name);
        assert!(DONE.iter().all(is_known));
    }

    #[test]
    fn what_strikes_is_listed_and_names_are_unique() {
        let known = names();
        let unique: BTreeSet<&str> = known.iter().map(String::as_str).collect();
        assert_eq!(unique.len(), known.len());
        let mut struck = BTreeSet::new();
        for scenario in Scenario::ALL {
            for seed in 1..=40 {
                struck.extend(run_plan(&Plan::new(seed, *scenario), 0, false).faults);
            }
        }
        let struck: BTreeSet<&str> = struck.into_iter().map(|(name, _)| name).collect();
        let unlisted: Vec<_> = struck.difference(&unique).collect();
        assert!(unlisted.is_empty(), "{unlisted:?}");
        assert!(struck.len() > 15, "{struck:?}");
    }
}
