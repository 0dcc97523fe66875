//! No producer id is given twice: de-duplication would take one producer's batches for another's.
//!
//! *Owns*: the ids that were given. *Does not own*: what is produced with them.
//!
//! *IO: none*

use std::collections::BTreeSet;

use super::Violation;

/// The ids that producers were told.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProducerIds {
    given: BTreeSet<i64>,
}

impl ProducerIds {
    /// A producer was told its id.
    ///
    /// # Errors
    /// Another one was told it before.
    pub(crate) fn given(&mut self, id: i64) -> Result<(), Violation> {
        if self.given.insert(id) {
            return Ok(());
        }
        let detail = format!("producer id {id} was given twice");
        Err(Violation::new("producer", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::ProducerIds;

    /// The place of the first id that is complained of.
    fn seen(ids: &[i64]) -> Option<usize> {
        let mut model = ProducerIds::default();
        ids.iter().position(|id| {
            let given = model.given(*id);
            given.is_err_and(|violation| violation.checker == "producer")
        })
    }

    #[test]
    fn different_ids_in_any_order_pass() {
        assert_eq!(seen(&[]), None);
        assert_eq!(seen(&[0, 1, 1000, 7]), None);
    }

    #[test]
    fn an_id_that_two_producers_are_told_at_once_is_seen() {
        assert_eq!(seen(&[4, 4]), Some(1));
    }

    #[test]
    fn a_block_of_ids_that_is_given_again_after_a_restart_is_seen() {
        assert_eq!(seen(&[0, 1, 2, 0, 1, 2]), Some(3));
    }

    #[test]
    fn a_last_id_that_was_not_durable_and_comes_again_is_seen() {
        assert_eq!(seen(&[0, 1, 1000, 1001, 1001, 1002]), Some(4));
    }
}
