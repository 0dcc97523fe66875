//! The state that an owner stores beside its stream comes back: the newest, as of its own offset.
//!
//! *Owns*: states that tell their offset, which of them must be there, and the verdict on what was
//! read.
//! *Does not own*: who stores them.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::Offset;

use super::Violation;

/// The owner's state as of an offset tells that offset; in no byte as a record's payload would.
pub(crate) fn state_of(offset: Offset) -> Bytes {
    let payload = super::payload(offset.0, 40);
    payload.into_iter().map(|byte| !byte).collect()
}

/// Whether an owner stores its state with what it uploads up to `end`: a state at every third offset,
/// so that some uploads have none and the one before has to last.
pub(crate) fn is_stored_at(end: Offset) -> bool {
    end.0.is_multiple_of(3)
}

/// The newest state of which an owner was told that it is committed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Newest(Option<Offset>);

impl Newest {
    /// An owner was told that its upload up to `end` is committed.
    pub(crate) fn committed(&mut self, end: Offset) {
        if is_stored_at(end) {
            self.0 = self.0.max(Some(end));
        }
    }

    /// A reader of a stream that is committed up to `end` was given `found`, a state and its offset.
    ///
    /// # Errors
    /// It is not that state; it is older than the newest one, or ahead of the stream; there is none,
    /// and one was committed.
    pub(crate) fn read(self, end: Offset, found: Option<(Offset, &[u8])>) -> Result<(), Violation> {
        let wrong = |detail: String| Err(Violation::new("snapshot", detail));
        let as_of = found.map(|(as_of, _)| as_of);
        if as_of < self.0 {
            let told = |offset: Option<Offset>| {
                offset.map_or("none".to_owned(), |offset| format!("that as of {offset}"))
            };
            let (found, newest) = (told(as_of), told(self.0));
            return wrong(format!(
                "forgotten: {found} is read, {newest} was committed"
            ));
        }
        match found {
            Some((as_of, _)) if as_of > end => wrong(format!(
                "the state as of {as_of} is ahead of the end, {end}"
            )),
            Some((as_of, bytes)) if *bytes != *state_of(as_of) => {
                wrong(format!("the state as of {as_of} is another's"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Newest, state_of};
    use tidewater_types::Offset;

    /// What a reader is told of a stream of 9 records whose states up to `newest` were committed.
    fn is_seen_behind(newest: &[u64], found: Option<(u64, &[u8])>) -> bool {
        let mut states = Newest::default();
        newest.iter().for_each(|end| states.committed(Offset(*end)));
        let found = found.map(|(as_of, bytes)| (Offset(as_of), bytes));
        let read = states.read(Offset(9), found);
        read.is_err_and(|violation| violation.checker == "snapshot")
    }

    fn is_seen(as_of: u64, bytes: &[u8]) -> bool {
        is_seen_behind(&[], Some((as_of, bytes)))
    }

    #[test]
    fn a_state_as_of_its_offset_passes() {
        assert!(!is_seen(7, &state_of(Offset(7))));
    }

    #[test]
    fn a_committed_state_that_is_not_there_is_seen() {
        assert!(is_seen_behind(&[6], None));
        assert!(!is_seen_behind(&[], None));
        assert!(!is_seen_behind(&[5, 7], None), "those have no state");
    }

    #[test]
    fn a_state_older_than_the_newest_is_seen() {
        let six = state_of(Offset(6));
        assert!(is_seen_behind(&[3, 9, 6], Some((6, &six))));
        assert!(!is_seen_behind(&[3, 6], Some((6, &six))));
        // Nobody was told of a commit whose answer was lost.
        assert!(!is_seen_behind(&[3, 5], Some((6, &six))));
    }

    #[test]
    fn a_state_ahead_of_its_stream_is_seen() {
        assert!(is_seen(10, &state_of(Offset(10))));
        assert!(!is_seen(9, &state_of(Offset(9))));
    }

    #[test]
    fn the_state_as_of_another_offset_is_seen() {
        assert!(is_seen(7, &state_of(Offset(6))));
        assert!(is_seen(6, &state_of(Offset(7))));
    }

    #[test]
    fn each_altered_byte_is_seen() {
        let state = state_of(Offset(7));
        for at in 0..state.len() {
            let mut wrong = state.to_vec();
            wrong[at] ^= 0x20;
            assert!(is_seen(7, &wrong), "byte {at}");
        }
    }

    #[test]
    fn a_state_that_breaks_off_or_goes_on_is_seen() {
        let state = state_of(Offset(7));
        assert!(is_seen(7, &state[..39]));
        assert!(is_seen(7, &[]));
        assert!(is_seen(7, &[&state[..], &[0]].concat()));
    }
}
