//! Once nothing fails any more, everything comes to its end: what was written is uploaded, what can be
//! compacted is, and whoever waits is answered.
//!
//! *Owns*: the verdict on what is left. *Does not own*: the clock, and how long each step may take.
//!
//! *IO: none*

use tidewater_types::{Offset, StreamId};

use super::Violation;
use crate::exec::{Stop, Tag};

const CHECKER: &str = "liveness";

/// Somebody is done, or still at it when the time that was given is over.
///
/// # Errors
/// The latter; the detail is `what`.
pub(crate) fn done(is_done: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if is_done {
        return Ok(());
    }
    Err(Violation::new(CHECKER, what()))
}

/// A run that stopped before its root was done: a panic is one, all else is a hang.
pub(crate) fn stopped(stop: &Stop) -> Violation {
    let checker = match stop {
        Stop::Panic { .. } => "panic",
        Stop::Deadlock { .. } | Stop::Endless { .. } => CHECKER,
    };
    Violation::new(checker, stop.to_string())
}

/// The life `serving` is the only one, and `in_charge` is the one whose answers count.
///
/// # Errors
/// They are two: all that the serving one says would pass as old.
pub(crate) fn in_charge(serving: Tag, in_charge: Tag) -> Result<(), Violation> {
    done(serving == in_charge, || {
        let (serving, other) = (serving.0, in_charge.0);
        format!("life {serving} serves alone, and life {other} opened the streams behind it")
    })
}

/// So many bytes wait for their upload behind a flush that nobody disturbed, and so many are taken of
/// the room there is for them.
///
/// # Errors
/// Some are.
pub(crate) fn nothing_waits(waiting_bytes: u64, room_taken: u64) -> Result<(), Violation> {
    done((waiting_bytes, room_taken) == (0, 0), || {
        format!(
            "{waiting_bytes} bytes wait after a flush that nobody disturbed, {room_taken} bytes of room are taken"
        )
    })
}

/// A stream whose high watermark is `end` is committed up to there behind a flush.
///
/// # Errors
/// It is not, or unknown.
pub(crate) fn committed(
    stream: StreamId,
    committed: Option<Offset>,
    end: Offset,
) -> Result<(), Violation> {
    done(committed == Some(end), || {
        format!(
            "stream {stream} is committed up to {committed:?} after a flush, its high watermark is \
             {end}"
        )
    })
}

/// A second run of the compaction, behind one that ran until it was done, did so much.
///
/// # Errors
/// It found work.
pub(crate) fn compacted(num_done: u64) -> Result<(), Violation> {
    done(num_done == 0, || {
        "compaction that was done goes on".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::{committed, compacted, done, in_charge, nothing_waits, stopped};
    use crate::check::Violation;
    use crate::exec::{Stop, Tag};
    use tidewater_types::{Offset, StreamId};

    fn is_seen(result: Result<(), Violation>) -> bool {
        result.is_err_and(|violation| violation.checker == "liveness")
    }

    fn upload(found: Option<u64>, end: u64) -> bool {
        is_seen(committed(StreamId(1), found.map(Offset), Offset(end)))
    }

    #[test]
    fn what_is_done_passes() {
        assert!(!is_seen(done(true, || unreachable!("nothing is wrong"))));
        assert!(!is_seen(nothing_waits(0, 0)));
        assert!(!is_seen(compacted(0)));
        assert!(!upload(Some(5), 5));
        assert!(!upload(Some(0), 0));
    }

    #[test]
    fn a_stream_that_is_not_committed_to_its_end_is_seen() {
        assert!(upload(Some(4), 5));
        assert!(upload(None, 5));
        // Nor may it be committed beyond what was acknowledged.
        assert!(upload(Some(6), 5));
    }

    #[test]
    fn a_life_that_serves_and_is_not_in_charge_is_seen() {
        assert!(!is_seen(in_charge(Tag(3), Tag(3))));
        assert!(is_seen(in_charge(Tag(3), Tag(2))));
        assert!(is_seen(in_charge(Tag(3), Tag(0))));
    }

    #[test]
    fn bytes_that_wait_for_ever_are_seen() {
        assert!(is_seen(nothing_waits(1, 0)));
        assert!(is_seen(nothing_waits(0, 1)));
        assert!(is_seen(nothing_waits(u64::MAX, u64::MAX)));
    }

    #[test]
    fn a_compaction_that_never_ends_is_seen() {
        assert!(is_seen(compacted(1)));
    }

    #[test]
    fn whoever_does_not_end_is_seen() {
        let violation = done(false, || "a reader waits for ever".to_owned()).unwrap_err();
        assert_eq!(violation.to_string(), "liveness: a reader waits for ever");
    }

    #[test]
    fn a_deadlock_and_a_run_without_end_are_hangs_and_a_panic_is_not() {
        let now_ns = 7;
        assert_eq!(stopped(&Stop::Deadlock { now_ns }).checker, "liveness");
        let polls = 3_000_000;
        assert_eq!(
            stopped(&Stop::Endless { polls, now_ns }).checker,
            "liveness"
        );
        let (label, message) = ("life", "assertion failed".to_owned());
        let panic = stopped(&Stop::Panic { label, message });
        assert_eq!(panic.checker, "panic");
        assert!(panic.detail.contains("assertion failed"), "{panic}");
    }
}
