//! Once all is swept the bucket holds the data objects that are alive, and no other.
//!
//! *Owns*: the comparison. *Does not own*: who lists, and who knows what is alive.
//!
//! *IO: none*

use std::collections::BTreeSet;

use super::Violation;

/// The bucket holds `found`, and the metadata names `alive`.
///
/// # Errors
/// They differ.
pub(crate) fn compare(found: &BTreeSet<String>, alive: &BTreeSet<String>) -> Result<(), Violation> {
    if found == alive {
        return Ok(());
    }
    let detail = format!(
        "not swept: {:?}; missing: {:?}",
        found.difference(alive).collect::<Vec<_>>(),
        alive.difference(found).collect::<Vec<_>>()
    );
    Err(Violation::new("swept", detail))
}

#[cfg(test)]
mod tests {
    use super::compare;
    use std::collections::BTreeSet;

    fn keys(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|key| (*key).to_owned()).collect()
    }

    fn complaint(found: &[&str], alive: &[&str]) -> String {
        let violation = compare(&keys(found), &keys(alive)).unwrap_err();
        assert_eq!(violation.checker, "swept");
        violation.detail
    }

    #[test]
    fn a_bucket_with_what_is_alive_passes() {
        compare(&keys(&["a", "b"]), &keys(&["b", "a"])).unwrap();
        compare(&keys(&[]), &keys(&[])).unwrap();
    }

    #[test]
    fn an_orphan_that_is_left_is_seen() {
        let told = complaint(&["a", "b", "x"], &["a", "b"]);
        assert!(told.contains("not swept: [\"x\"]; missing: []"), "{told}");
        assert!(complaint(&["x"], &[]).contains("not swept: [\"x\"]"));
    }

    #[test]
    fn an_object_that_was_swept_while_it_is_named_is_seen() {
        let told = complaint(&["a"], &["a", "b"]);
        assert!(told.contains("not swept: []; missing: [\"b\"]"), "{told}");
        assert!(complaint(&[], &["a"]).contains("missing: [\"a\"]"));
    }

    #[test]
    fn one_in_the_place_of_another_is_seen_as_both() {
        let told = complaint(&["a", "x"], &["a", "b"]);
        assert!(
            told.contains("not swept: [\"x\"]; missing: [\"b\"]"),
            "{told}"
        );
    }
}
