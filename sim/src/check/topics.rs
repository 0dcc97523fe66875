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

    /// The broker in charge says that there is no such topic; `may_be_gone` if an earlier request may
    /// have deleted it.
    ///
    /// # Errors
    /// It was created, and nobody can have deleted it.
    pub(crate) fn unknown(&self, name: &str, may_be_gone: bool) -> Result<(), Violation> {
        if may_be_gone {
            return Ok(());
        }
        self.listed(name, 0)
    }

    /// The broker in charge, asked for all topics, lists these, each with its number of partitions.
    ///
    /// # Errors
    /// One of which something is known is not as [`TopicModel::listed`] asks.
    pub(crate) fn all_listed(&self, found: &BTreeMap<String, usize>) -> Result<(), Violation> {
        let mut names = self.partitions.keys();
        names.try_for_each(|name| self.listed(name, found.get(name).copied().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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

    fn all(found: &[(&str, usize)]) -> Result<(), String> {
        let found: BTreeMap<String, usize> = found
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        model()
            .all_listed(&found)
            .map_err(|violation| violation.detail)
    }

    #[test]
    fn a_list_of_all_topics_holds_what_was_created_and_nothing_that_was_deleted() {
        all(&[("a", 1), ("b", 3), ("never heard of", 4)]).unwrap();
        let lost = all(&[("b", 3)]).unwrap_err();
        assert!(lost.contains("topic a has 0 partitions"), "{lost}");
        let shrunk = all(&[("a", 1), ("b", 1)]).unwrap_err();
        assert!(shrunk.contains("topic b has 1"), "{shrunk}");
        let came_back = all(&[("a", 1), ("b", 3), ("c", 1)]).unwrap_err();
        assert!(came_back.contains("topic c has 1"), "{came_back}");
    }

    #[test]
    fn a_topic_that_nobody_deleted_may_not_be_unknown() {
        model().unknown("a", true).unwrap();
        model().unknown("c", false).unwrap();
        assert!(model().unknown("a", false).is_err());
    }
}
