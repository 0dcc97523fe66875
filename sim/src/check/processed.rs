//! What a group has processed of a partition has no hole.
//!
//! *Owns*: how far each partition is processed. *Does not own*: who processes it (`group`).
//!
//! Invariants
//! 1. Each member goes on from the committed offset or from where it stands: a record may be processed
//!    twice, and none is passed over.
//!
//! *IO: none*

use std::collections::BTreeMap;

use super::Violation;

/// The ends of what is processed.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessedModel {
    ends: BTreeMap<i32, i64>,
}

impl ProcessedModel {
    /// A member has processed `from..to` of a partition.
    ///
    /// # Errors
    /// What lies in front of it was not.
    pub(crate) fn processed(
        &mut self,
        partition: i32,
        from: i64,
        to: i64,
    ) -> Result<(), Violation> {
        let end = self.ends.entry(partition).or_default();
        if from > *end {
            let detail =
                format!("partition {partition} is processed up to {end}, and now from {from} on");
            return Err(Violation::new("group", detail));
        }
        *end = (*end).max(to);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ProcessedModel;
    use crate::check::anomaly::anomaly;

    /// Partition 0 is processed up to 7, partition 1 up to 2.
    fn model() -> ProcessedModel {
        let mut model = ProcessedModel::default();
        for (partition, from, to) in [(0, 0, 5), (1, 0, 2), (0, 3, 7)] {
            model.processed(partition, from, to).unwrap();
        }
        model
    }

    fn is_seen(mut model: ProcessedModel, partition: i32, from: i64, to: i64) {
        let violation = model.processed(partition, from, to).unwrap_err();
        assert_eq!(violation.checker, "group");
        assert_eq!(anomaly(&violation), Some("poll-skip"));
    }

    #[test]
    fn what_follows_or_is_processed_again_passes() {
        let mut model = model();
        model.processed(0, 7, 9).unwrap();
        model.processed(0, 0, 1).unwrap();
        model.processed(0, 9, 9).unwrap();
        model.processed(2, 0, 0).unwrap();
    }

    #[test]
    fn a_record_that_is_passed_over_is_seen() {
        is_seen(model(), 0, 8, 9);
        is_seen(model(), 0, 100, 100);
    }

    #[test]
    fn a_partition_that_is_not_begun_at_its_start_is_seen() {
        is_seen(model(), 2, 1, 3);
    }

    #[test]
    fn the_end_of_another_partition_does_not_count() {
        is_seen(model(), 1, 7, 8);
    }

    #[test]
    fn an_end_that_was_processed_again_from_the_start_stays_where_it_was() {
        let mut model = model();
        model.processed(0, 0, 1).unwrap();
        model.processed(0, 7, 8).unwrap();
        is_seen(model, 0, 9, 10);
    }
}
