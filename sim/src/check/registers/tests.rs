//! Bad histories, each of which the model must name.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};

use super::RegisterModel;
use crate::check::anomaly::anomaly;

fn lists(of: &[(&str, &[u64])]) -> BTreeMap<String, Vec<u64>> {
    let list = |(name, ids): &(&str, &[u64])| ((*name).to_owned(), ids.to_vec());
    of.iter().map(list).collect()
}

/// 1 and 2 acknowledged in turn, 3 refused, 4 unknown on two lists.
fn model() -> RegisterModel {
    let mut model = RegisterModel::default();
    model.begins(1, ["a".to_owned()]);
    model.acked(1);
    model.begins(2, ["a".to_owned(), "b".to_owned()]);
    model.acked(2);
    model.begins(3, ["a".to_owned()]);
    model.refused(3);
    model.begins(4, ["a".to_owned(), "b".to_owned()]);
    model
}

fn verdict(of: &[(&str, &[u64])]) -> &'static str {
    model()
        .check_final(&lists(of))
        .err()
        .map_or("", |violation| violation.checker)
}

#[test]
fn good_histories_pass() {
    assert_eq!(verdict(&[("a", &[1, 2]), ("b", &[2])]), "");
    assert_eq!(verdict(&[("a", &[1, 2, 4]), ("b", &[2, 4])]), "");
}

/// Checker and name elsewhere of each of these ends, which is the same for all.
fn named(ends: &[&[(&str, &[u64])]]) -> (&'static str, Option<&'static str>) {
    let name = |of: &&[(&str, &[u64])]| {
        let violation = model().check_final(&lists(of)).unwrap_err();
        (violation.checker, anomaly(&violation))
    };
    assert!(ends.len() >= 3);
    let names: BTreeSet<_> = ends.iter().map(name).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    names.into_iter().next().expect("one")
}

#[test]
fn a_transaction_that_took_effect_twice_is_named() {
    let ends = named(&[
        &[("a", &[1, 2, 1]), ("b", &[2])],
        &[("a", &[1, 1, 2]), ("b", &[2])],
        &[("a", &[1, 2]), ("b", &[2, 2])],
        &[("a", &[1, 2, 4, 4]), ("b", &[2, 4, 4])],
    ]);
    assert_eq!(ends, ("twice", Some("duplicate")));
}

#[test]
fn half_of_a_transaction_is_named() {
    let ends = named(&[
        &[("a", &[1]), ("b", &[2])],
        &[("a", &[1, 2, 4]), ("b", &[2])],
        &[("a", &[1, 2]), ("b", &[2, 4])],
        &[("a", &[1, 2])],
    ]);
    assert_eq!(ends, ("atomic", None));
}

#[test]
fn a_lost_transaction_is_named() {
    let ends = named(&[
        &[("a", &[2]), ("b", &[2])],
        &[("a", &[1]), ("b", &[])],
        &[("a", &[1, 4]), ("b", &[4])],
        &[],
    ]);
    assert_eq!(ends, ("lost", Some("lost-write")));
}

#[test]
fn a_refused_transaction_that_took_effect_is_named() {
    let ends = named(&[
        &[("a", &[1, 2, 3]), ("b", &[2])],
        &[("a", &[3, 1, 2]), ("b", &[2])],
        &[("a", &[1, 3, 2, 4]), ("b", &[2, 4])],
    ]);
    assert_eq!(ends, ("refused", Some("G1a")));
}

#[test]
fn an_order_against_real_time_is_named() {
    let ends = named(&[
        &[("a", &[2, 1]), ("b", &[2])],
        &[("a", &[1, 4, 2]), ("b", &[2, 4])],
        &[("a", &[1, 2, 4]), ("b", &[4, 2])],
    ]);
    assert_eq!(ends, ("order", Some("nonmonotonic-send")));
}

#[test]
fn ids_that_nobody_appended_are_named() {
    let ends = named(&[
        &[("a", &[1, 2, 9]), ("b", &[2])],
        &[("a", &[9, 1, 2]), ("b", &[2])],
        &[("a", &[1, 2]), ("b", &[2]), ("c", &[9])],
    ]);
    assert_eq!(ends, ("register", Some("G1a")));
}

/// What is wrong with a read of `a` after `before` was read there.
fn wrong_read(before: &[u64], ids: &[u64], is_fresh: bool) -> (&'static str, Option<&'static str>) {
    let mut model = model();
    let begun = model.now();
    model.read("a", before, None).unwrap();
    let violation = model.read("a", ids, is_fresh.then_some(begun)).unwrap_err();
    (violation.checker, anomaly(&violation))
}

#[test]
fn a_list_never_loses_its_head() {
    let diverged = ("diverged", Some("inconsistent-offsets"));
    assert_eq!(wrong_read(&[1, 2], &[1, 3], false), diverged);
    assert_eq!(wrong_read(&[1, 2], &[2], false), diverged);
    assert_eq!(wrong_read(&[1, 2, 4], &[1, 2, 7], false), diverged);
    assert_eq!(wrong_read(&[1, 2], &[3, 1, 2], false), diverged);
    let mut model = model();
    model.read("a", &[1, 2], None).unwrap();
    model.read("a", &[1], None).unwrap();
    model.read("a", &[1, 2, 4], None).unwrap();
    // A short look in between does not make it forget.
    assert_eq!(
        model.read("a", &[1, 4], None).unwrap_err().checker,
        "diverged"
    );
}

#[test]
fn a_fresh_read_sees_what_was_acknowledged_before() {
    let stale = ("stale", Some("nonmonotonic-poll"));
    assert_eq!(wrong_read(&[1, 2], &[1], true), stale);
    assert_eq!(wrong_read(&[], &[], true), stale);
    assert_eq!(wrong_read(&[], &[1], true), stale);
    let mut model = model();
    let begun = model.now();
    model.read("a", &[1, 2], Some(begun)).unwrap();
    model.read("b", &[2], Some(begun)).unwrap();
    assert_eq!(
        model.read("b", &[], Some(begun)).unwrap_err().checker,
        "stale"
    );
}

#[test]
fn a_list_that_is_gone_is_read_as_an_empty_one() {
    let mut fresh = RegisterModel::default();
    let begun = fresh.now();
    fresh.begins(1, ["a".to_owned()]);
    fresh.acked(1);
    // Nothing was acknowledged before; and whoever does not look may show what is old.
    fresh.read_all(&lists(&[]), Some(begun)).unwrap();
    fresh.read_all(&lists(&[]), None).unwrap();
    let mut model = model();
    let begun = model.now();
    model
        .read_all(&lists(&[("a", &[1, 2]), ("b", &[2])]), Some(begun))
        .unwrap();
    for blank in [lists(&[]), lists(&[("a", &[1, 2])]), lists(&[("b", &[2])])] {
        let violation = model.read_all(&blank, Some(begun)).unwrap_err();
        assert_eq!(violation.checker, "stale");
    }
}
