//! Bad histories, each of which the model must name.
//!
//! *IO: none*

use std::collections::BTreeMap;

use super::RegisterModel;

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

#[test]
fn bad_histories_are_named() {
    assert_eq!(verdict(&[("a", &[1, 2, 1]), ("b", &[2])]), "twice");
    assert_eq!(verdict(&[("a", &[1]), ("b", &[2])]), "atomic");
    assert_eq!(verdict(&[("a", &[1, 2, 4]), ("b", &[2])]), "atomic");
    assert_eq!(verdict(&[("a", &[2]), ("b", &[2])]), "lost");
    assert_eq!(verdict(&[("a", &[1, 2, 3]), ("b", &[2])]), "refused");
    assert_eq!(verdict(&[("a", &[2, 1]), ("b", &[2])]), "order");
    assert_eq!(verdict(&[("a", &[1, 2, 9]), ("b", &[2])]), "register");
}

#[test]
fn a_list_never_loses_its_head_and_a_fresh_read_sees_what_was_told_before() {
    let mut model = model();
    let begun = model.now();
    model.read("a", &[1, 2], Some(begun)).unwrap();
    model.read("a", &[1], None).unwrap();
    assert_eq!(
        model.read("a", &[1], Some(begun)).unwrap_err().checker,
        "stale"
    );
    assert_eq!(
        model.read("a", &[1, 3], None).unwrap_err().checker,
        "diverged"
    );
    model.read("a", &[1, 2, 4], None).unwrap();
    assert_eq!(
        model.read("a", &[1, 2, 7], None).unwrap_err().checker,
        "diverged"
    );
}
