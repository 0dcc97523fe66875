//! What a hunt must have reached.
//!
//! *Owns*: how soon a seeded bug must be found, and what is told of a hunt that was too slow.
//! *Does not own*: the hunt (hunt.rs), the list of bugs (mutants.rs).
//!
//! Invariants
//! 1. The median counts if every bug of this program was hunted: some chosen ones have none that
//!    means anything.
//!
//! *IO: none*

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::mutants::MUTANTS;

/// What became of one mutant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MutantRow {
    pub(super) id: u16,
    pub(super) name: String,
    pub(super) group: String,
    pub(super) killed: bool,
    pub(super) seeds_to_kill: Option<u64>,
    pub(super) checker: Option<String>,
    pub(super) detail: Option<String>,
}

/// Seeds within which each bug must be found.
pub(super) const SEEDS_MAX: u64 = 10_000;
/// Seeds that the median must stay below.
const MEDIAN_BELOW: u64 = 200;

/// Seeds until found, of the bug in the middle; of two the slower one. Survivors are slower than all
/// others: none if the one in the middle survived.
fn median(rows: &[MutantRow]) -> Option<u64> {
    let mut kills: Vec<Option<u64>> = rows.iter().map(|row| row.seeds_to_kill).collect();
    kills.sort_unstable_by_key(|seeds| seeds.unwrap_or(u64::MAX));
    kills.get(kills.len() / 2).copied().flatten()
}

/// What a person is told of a hunt.
pub(super) fn verdict(rows: &[MutantRow]) -> String {
    let killed = rows.iter().filter(|row| row.killed).count();
    let median = median(rows).map_or("none".to_owned(), |seeds| format!("{seeds} seeds"));
    format!(
        "{killed} of {} seeded bugs found, median {median}",
        rows.len()
    )
}

/// Why the hunt is not good enough, if it is not.
pub(super) fn broken(rows: &[MutantRow]) -> Vec<String> {
    let mut broken: Vec<String> = rows.iter().filter_map(too_late).collect();
    let hunted: BTreeSet<u16> = rows.iter().map(|row| row.id).collect();
    let is_whole = MUTANTS.iter().all(|mutant| hunted.contains(&mutant.id));
    let median = median(rows).filter(|seeds| is_whole && *seeds >= MEDIAN_BELOW);
    broken
        .extend(median.map(|seeds| {
            format!("the median is {seeds} seeds; it has to be below {MEDIAN_BELOW}")
        }));
    broken
}

fn too_late(row: &MutantRow) -> Option<String> {
    let MutantRow { id, name, .. } = row;
    match row.seeds_to_kill {
        Some(seeds) if seeds <= SEEDS_MAX => None,
        Some(seeds) => Some(format!(
            "seeded bug {id} ({name}) is found after {seeds} seeds; at most {SEEDS_MAX} are allowed"
        )),
        None => Some(format!("seeded bug {id} ({name}) survived")),
    }
}

#[cfg(test)]
mod tests {
    use super::MutantRow;
    use super::{broken, median, verdict};
    use crate::driver::report::Sums;
    use crate::mutants::MUTANTS;

    fn rows(seeds: impl Fn(usize) -> Option<u64>) -> Vec<MutantRow> {
        let rows = MUTANTS.iter().enumerate();
        rows.map(|(number, mutant)| MutantRow {
            id: mutant.id,
            name: mutant.name.to_owned(),
            group: mutant.group.to_owned(),
            killed: seeds(number).is_some(),
            seeds_to_kill: seeds(number),
            checker: None,
            detail: None,
        })
        .collect()
    }

    fn is_good(rows: &[MutantRow]) -> bool {
        let sums = Sums {
            mutants: rows.to_vec(),
            ..Sums::default()
        };
        assert_eq!(sums.is_good(), broken(rows).is_empty());
        sums.is_good()
    }

    #[test]
    fn each_bug_is_found_in_time_or_the_gate_stays_shut() {
        assert!(is_good(&rows(|_| Some(1))));
        assert!(is_good(&rows(|number| Some(
            [1, 10_000][usize::from(number == 3)]
        ))));
        let late = rows(|number| Some([1, 10_001][usize::from(number == 3)]));
        assert!(!is_good(&late));
        assert!(broken(&late)[0].contains("after 10001 seeds"), "{late:?}");
        let alive = rows(|number| (number != 3).then_some(1));
        assert!(!is_good(&alive));
        assert!(broken(&alive)[0].ends_with("survived"));
    }

    #[test]
    fn the_median_is_that_of_the_bug_in_the_middle() {
        let of = |seeds: &[Option<u64>]| {
            let all = rows(|number| seeds.get(number).copied().flatten());
            median(&all[..seeds.len()])
        };
        assert_eq!(of(&[Some(9), Some(1), Some(3)]), Some(3));
        assert_eq!(of(&[Some(9), Some(1), Some(3), Some(4)]), Some(4));
        assert_eq!(of(&[None, Some(1), Some(5)]), Some(5), "a survivor counts");
        assert_eq!(of(&[None, Some(1), None]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn the_median_counts_if_all_were_hunted() {
        let slow = rows(|_| Some(200));
        assert!(!is_good(&slow) && is_good(&rows(|_| Some(199))));
        assert!(is_good(&slow[1..]), "some chosen ones have no median");
        let told = verdict(&slow[..1]);
        assert_eq!(told, "1 of 1 seeded bugs found, median 200 seeds");
        assert!(verdict(&[]).ends_with("median none"));
    }
}
