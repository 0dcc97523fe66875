//! Whether a record can be followed: in every scenario in which records live, some go the whole way.
//!
//! *Owns*: which stages a scenario has. *Does not own*: what tells them (scenario), how they are
//! read (story.rs).
//!
//! *IO: none*

use std::collections::BTreeMap;

use super::{Watch, run_watched};
use crate::plan::{Plan, Scenario};
use crate::trace::Keep;
use crate::trace::story::{self, Stage, Story};

/// Seeds of a scenario that are looked at.
const SEEDS: u64 = 8;

/// The stages that a record of the scenario can reach, in the order of its way.
fn stages_of(scenario: Scenario) -> Vec<Stage> {
    use Stage::{Acked, Committed, Produced, Read, Trimmed, Uploaded, Wal};
    match scenario {
        // What is read there is what a recovery serves.
        Scenario::Wal | Scenario::ObjectWal => vec![Produced, Wal, Acked, Trimmed, Read],
        // Durable tails take the place of a WAL.
        Scenario::Tier => vec![Produced, Acked, Uploaded, Committed, Trimmed, Read],
        // No records live there.
        Scenario::Metadata => Vec::new(),
        _ => vec![Produced, Wal, Acked, Uploaded, Committed, Trimmed, Read],
    }
}

fn story_of(seed: u64, scenario: Scenario) -> Story {
    let watch = Watch {
        keep: Keep::Lines,
        impure_after_ns: None,
    };
    let report = run_watched(&Plan::new(seed, scenario), 0, watch);
    story::read(&report.lines)
}

/// The stages that each record reaches, with the first place that tells.
fn reached(story: &Story) -> BTreeMap<u64, BTreeMap<Stage, usize>> {
    let mut reached: BTreeMap<u64, BTreeMap<Stage, usize>> = BTreeMap::new();
    for (place, row) in story.rows.iter().enumerate() {
        for (value, stage) in row.values.iter().zip(std::iter::repeat(row.stage)) {
            let stages = reached.entry(*value).or_default();
            if let Some(stage) = stage {
                stages.entry(stage).or_insert(place);
            }
        }
    }
    reached
}

/// Whether the stages come in an order that can be: what is written was produced before, and so on.
fn is_in_order(reached: &BTreeMap<Stage, usize>) -> bool {
    let pairs = [
        (Stage::Produced, Stage::Wal),
        (Stage::Produced, Stage::Acked),
        (Stage::Produced, Stage::Uploaded),
        (Stage::Uploaded, Stage::Committed),
        (Stage::Produced, Stage::Read),
    ];
    let place = |stage: &Stage| reached.get(stage);
    pairs.iter().all(|(before, after)| {
        let both = place(before).zip(place(after));
        both.is_none_or(|(before, after)| before < after)
    })
}

#[test]
fn in_every_scenario_records_go_the_whole_way() {
    for scenario in Scenario::ALL {
        let stages = stages_of(*scenario);
        if stages.is_empty() {
            continue;
        }
        let name = scenario.name();
        let mut seeds = 0;
        for seed in 1..=SEEDS {
            let reached = reached(&story_of(seed, *scenario));
            let whole = |of: &&BTreeMap<Stage, usize>| stages.iter().all(|s| of.contains_key(s));
            let num_whole = reached.values().filter(whole).count();
            seeds += u64::from(num_whole > 0);
            for (value, of) in &reached {
                assert!(is_in_order(of), "{name} {seed}: record {value}: {of:?}");
                let strange = of.keys().find(|stage| !stages.contains(stage));
                assert_eq!(strange, None, "{name} {seed}: record {value}");
            }
        }
        // Some plans trim nothing, or upload nothing before they end.
        assert!(seeds >= 2, "{name}: in {seeds} of {SEEDS} seeds only");
    }
}
