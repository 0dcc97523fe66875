//! A topic is there once it was created, as large as it was made, and gone once it was deleted.
//!
//! *Owns*: what must be listed of each topic that one client administers.
//! *Does not own*: who else may administer it.
//!
//! Invariants
//! 1. Of a topic whose creation may still be under way nothing is expected once it was deleted.
//!
//! *IO: none*

use std::collections::BTreeMap;

use super::Violation;

/// Number of partitions of each topic, 0 if it must be gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicModel {
    partitions: BTreeMap<String, usize>,
}

impl TopicModel {
    /// The topic was created, or grown, and has so many partitions.
    pub(crate) fn has(&mut self, name: &str, num_partitions: usize) {
        self.partitions.insert(name.to_owned(), num_partitions);
    }

    /// The topic was deleted; `may_come_late` if a request to create it may be under way.
    pub(crate) fn deleted(&mut self, name: &str, may_come_late: bool) {
        if may_come_late {
            self.partitions.remove(name);
        } else {
            self.has(name, 0);
        }
    }

    /// Whether it is known what must be listed of the topic.
    pub(crate) fn is_known(&self, name: &str) -> bool {
        self.partitions.contains_key(name)
    }

    /// The broker in charge lists the topic with so many partitions, 0 if there is none.
    ///
    /// # Errors
    /// That is not what was answered before.
    pub(crate) fn listed(&self, name: &str, found: usize) -> Result<(), Violation> {
        match self.partitions.get(name) {
            Some(wanted) if *wanted != found => {
                let detail = format!("topic {name} has {found} partitions, expected {wanted}");
                Err(Violation::new("topics", detail))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TopicModel;

    /// `a` was created, `b` created and grown, `c` created and deleted.
    fn model() -> TopicModel {
        let mut model = TopicModel::default();
        model.has("a", 1);
        model.has("b", 1);
        model.has("b", 3);
        model.has("c", 1);
        model.deleted("c", false);
        model
    }

    fn complaint(name: &str, found: usize) -> String {
        let violation = model().listed(name, found).unwrap_err();
        assert_eq!(violation.checker, "topics");
        violation.detail
    }

    #[test]
    fn topics_as_they_were_made_pass() {
        for (name, found) in [("a", 1), ("b", 3), ("c", 0), ("never heard of", 4)] {
            model().listed(name, found).unwrap();
        }
    }

    #[test]
    fn a_topic_that_was_created_and_is_not_there_is_seen() {
        assert!(complaint("a", 0).contains("has 0 partitions, expected 1"));
    }

    #[test]
    fn a_topic_that_did_not_grow_or_grew_by_itself_is_seen() {
        assert!(complaint("b", 1).contains("expected 3"));
        assert!(complaint("a", 2).contains("expected 1"));
    }

    #[test]
    fn a_topic_that_was_deleted_and_is_there_is_seen() {
        assert!(complaint("c", 1).contains("expected 0"));
    }

    #[test]
    fn of_a_topic_whose_creation_may_come_late_nothing_is_expected() {
        let mut model = model();
        model.deleted("a", true);
        assert!(!model.is_known("a") && model.is_known("c"));
        model.listed("a", 1).unwrap();
        model.listed("a", 0).unwrap();
    }
}
