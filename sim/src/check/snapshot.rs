//! The state that an owner stores beside its stream comes back as of its own offset.
//!
//! *Owns*: states that tell their offset, and the verdict on one that was read.
//! *Does not own*: which states are stored.
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

/// A reader was given `bytes` as the state as of `as_of`.
///
/// # Errors
/// It is not that state.
pub(crate) fn read(as_of: Offset, bytes: &[u8]) -> Result<(), Violation> {
    if *bytes == *state_of(as_of) {
        return Ok(());
    }
    let detail = format!("the state as of {as_of} is another's");
    Err(Violation::new("snapshot", detail))
}

#[cfg(test)]
mod tests {
    use super::{read, state_of};
    use tidewater_types::Offset;

    fn is_seen(as_of: u64, bytes: &[u8]) -> bool {
        let read = read(Offset(as_of), bytes);
        read.is_err_and(|violation| violation.checker == "snapshot")
    }

    #[test]
    fn a_state_as_of_its_offset_passes() {
        assert!(!is_seen(7, &state_of(Offset(7))));
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
