//! One log, one state: whoever knows the same entries shows the same.
//!
//! *Owns*: the state that was shown first after each entry.
//! *Does not own*: the lists in it (`registers`).
//!
//! *IO: none*

use std::collections::BTreeMap;

use tidewater_types::Epoch;

use super::Violation;

const CHECKER: &str = "state";

/// The state after each entry, as the first process showed it.
#[derive(Clone, Debug)]
pub(crate) struct StateModel<S> {
    states: BTreeMap<u64, S>,
}

impl<S> Default for StateModel<S> {
    fn default() -> Self {
        let states = BTreeMap::new();
        Self { states }
    }
}

impl<S: Clone + PartialEq> StateModel<S> {
    /// A process shows `state` after entry `seq`.
    ///
    /// # Errors
    /// Another one, or the same one earlier, showed something else.
    pub(crate) fn shown(&mut self, seq: u64, state: &S) -> Result<(), Violation> {
        let known = self.states.entry(seq).or_insert_with(|| state.clone());
        if known == state {
            return Ok(());
        }
        let detail = format!("two processes differ after entry {seq}");
        Err(Violation::new(CHECKER, detail))
    }
}

/// Who was told that `id` is granted finds it in its own state at once.
///
/// # Errors
/// It does not.
pub(crate) fn holds_own(id: u64, is_there: bool) -> Result<(), Violation> {
    if is_there {
        return Ok(());
    }
    let detail = format!("{id} is acknowledged and not in the state");
    Err(Violation::new(CHECKER, detail))
}

/// The range `id` was granted to an owner of epoch `own` and is not in its state, in which the stream
/// has epoch `current`: it is dropped if somebody took the stream over.
///
/// # Errors
/// Nobody did.
pub(crate) fn dropped(id: u64, own: Epoch, current: Option<Epoch>) -> Result<(), Violation> {
    if current.is_some_and(|current| current > own) {
        return Ok(());
    }
    let detail =
        format!("{id} is acknowledged and dropped, its stream has epoch {current:?} still");
    Err(Violation::new(CHECKER, detail))
}

#[cfg(test)]
mod tests {
    use tidewater_types::Epoch;

    use super::{StateModel, dropped, holds_own};
    use crate::check::anomaly::anomaly;

    type State = Vec<(&'static str, u64)>;

    /// Two processes after entry 1, one after entry 3.
    fn model() -> StateModel<State> {
        let mut model = StateModel::default();
        model.shown(1, &vec![("a", 1)]).unwrap();
        model.shown(1, &vec![("a", 1)]).unwrap();
        model.shown(3, &vec![("a", 1), ("b", 2)]).unwrap();
        model
    }

    fn is_seen(seq: u64, state: State) {
        let violation = model().shown(seq, &state).unwrap_err();
        assert_eq!(violation.checker, "state");
        assert_eq!(anomaly(&violation), Some("inconsistent-offsets"));
    }

    #[test]
    fn equal_states_and_states_of_entries_that_nobody_showed_pass() {
        let mut model = model();
        model.shown(2, &vec![("x", 9)]).unwrap();
        model.shown(3, &vec![("a", 1), ("b", 2)]).unwrap();
        holds_own(4, true).unwrap();
    }

    #[test]
    fn another_value_is_seen() {
        is_seen(1, vec![("a", 2)]);
    }

    #[test]
    fn an_entry_that_was_not_applied_is_seen() {
        is_seen(3, vec![("a", 1)]);
    }

    #[test]
    fn an_entry_that_was_applied_twice_is_seen() {
        is_seen(3, vec![("a", 1), ("b", 2), ("b", 2)]);
    }

    #[test]
    fn the_first_state_stays_the_measure() {
        let mut model = model();
        model.shown(3, &vec![]).unwrap_err();
        model.shown(3, &vec![]).unwrap_err();
        model.shown(3, &vec![("a", 1), ("b", 2)]).unwrap();
    }

    #[test]
    fn a_range_of_an_owner_that_nobody_replaced_is_not_dropped() {
        dropped(4, Epoch(2), Some(Epoch(3))).unwrap();
        for current in [Some(Epoch(2)), Some(Epoch(1)), None] {
            let violation = dropped(4, Epoch(2), current).unwrap_err();
            assert_eq!(anomaly(&violation), Some("lost-write"));
        }
    }

    #[test]
    fn a_grant_that_its_proposer_does_not_see_is_seen() {
        let violation = holds_own(4, false).unwrap_err();
        assert_eq!(anomaly(&violation), Some("lost-write"));
    }
}
