//! A stream that is taken by force without the log of its owner keeps all that was committed.
//!
//! *Owns*: the verdict on its end. *Does not own*: what was acknowledged and is lost with the log
//! (`streams`).
//!
//! *IO: none*

use tidewater_types::{Offset, StreamId};

use super::Violation;

/// The stream was committed up to `committed` before it was taken by force, and ends at `end` now.
///
/// # Errors
/// Some of what was committed is gone.
pub(crate) fn taken(stream: StreamId, committed: Offset, end: Offset) -> Result<(), Violation> {
    if end >= committed {
        return Ok(());
    }
    let detail = format!(
        "lost: stream {stream} is committed up to {committed}, and ends at {end} for a thief"
    );
    Err(Violation::new("log", detail))
}

#[cfg(test)]
mod tests {
    use super::taken;
    use crate::check::anomaly::anomaly;
    use tidewater_types::{Offset, StreamId};

    #[test]
    fn what_was_not_committed_may_be_lost_and_a_late_commit_be_found() {
        for (committed, end) in [(0, 0), (5, 5), (5, 6)] {
            taken(StreamId(1), Offset(committed), Offset(end)).unwrap();
        }
    }

    #[test]
    fn a_committed_record_that_is_gone_is_seen() {
        for end in [0, 1, 4] {
            let violation = taken(StreamId(1), Offset(5), Offset(end)).unwrap_err();
            assert_eq!(anomaly(&violation), Some("lost-write"));
        }
    }
}
