//! Watermarks stand in their order and never go back.
//!
//! *Owns*: the last values seen. *Does not own*: what they mean (docs/watermarks.md).
//!
//! Invariants
//! 1. trimmed ≤ durable ≤ submitted ≤ accepted, each within one life of the WAL.
//! 2. None goes back within a life.
//!
//! *IO: none*

use tidewater_types::Lsn;
use tidewater_wal::Watermarks;

use super::Violation;

const CHECKER: &str = "watermarks";

/// The last watermarks seen in one life of a WAL.
#[derive(Clone, Debug, Default)]
pub struct WatermarkModel {
    last: Watermarks,
}

impl WatermarkModel {
    /// The WAL says `now`.
    ///
    /// # Errors
    /// They are out of order, or one went back.
    pub fn seen(&mut self, now: Watermarks) -> Result<(), Violation> {
        let chain = [now.trimmed, now.durable, now.submitted, now.accepted];
        if !chain.is_sorted() {
            return Err(Violation::new(CHECKER, format!("out of order: {now:?}")));
        }
        let last = [
            self.last.trimmed,
            self.last.durable,
            self.last.submitted,
            self.last.accepted,
        ];
        if chain.iter().zip(last).any(|(now, last)| *now < last) {
            return Err(Violation::new(
                CHECKER,
                format!("went back: {:?} then {now:?}", self.last),
            ));
        }
        self.last = now;
        Ok(())
    }

    /// The frame at `lsn` was acknowledged, and these are the watermarks.
    ///
    /// # Errors
    /// The durable one does not cover it.
    pub fn acked(&self, lsn: Lsn) -> Result<(), Violation> {
        let durable = self.last.durable;
        if durable > lsn {
            return Ok(());
        }
        let detail = format!("frame at {lsn} acknowledged, the durable mark is {durable}");
        Err(Violation::new(CHECKER, detail))
    }
}

/// A WAL closed in order: all that was `accepted` before is durable.
///
/// # Errors
/// It is not.
pub(crate) fn closed(accepted: Lsn, durable: Lsn) -> Result<(), Violation> {
    if durable >= accepted {
        return Ok(());
    }
    let detail = format!("closed with {durable} durable of {accepted} accepted");
    Err(Violation::new(CHECKER, detail))
}

/// A reader was told these two of a partition on which nobody has a transaction open.
///
/// # Errors
/// They are not the same.
pub(crate) fn nothing_open(last_stable: i64, high_watermark: i64) -> Result<(), Violation> {
    if last_stable == high_watermark {
        return Ok(());
    }
    let detail =
        format!("last stable offset is {last_stable}, the high watermark {high_watermark}");
    Err(Violation::new(CHECKER, detail))
}

#[cfg(test)]
mod tests {
    use super::{WatermarkModel, closed, nothing_open};
    use crate::check::anomaly::anomaly;
    use tidewater_types::Lsn;
    use tidewater_wal::Watermarks;

    fn marks(values: [u64; 4]) -> Watermarks {
        let [trimmed, durable, submitted, accepted] = values.map(Lsn);
        Watermarks {
            trimmed,
            durable,
            submitted,
            accepted,
        }
    }

    #[test]
    fn marks_in_order_that_grow_pass() {
        let mut model = WatermarkModel::default();
        assert_eq!(model.seen(marks([0, 1, 2, 3])), Ok(()));
        assert_eq!(model.seen(marks([1, 1, 2, 9])), Ok(()));
    }

    #[test]
    fn a_last_stable_offset_that_is_not_the_high_watermark_is_seen() {
        nothing_open(7, 7).unwrap();
        // Behind it, ahead of it, unknown as for brokers without transactions.
        for last_stable in [6, 0, 8, -1] {
            let violation = nothing_open(last_stable, 7).unwrap_err();
            assert_eq!(violation.checker, "watermarks");
            assert!(violation.detail.contains("the high watermark 7"));
        }
    }

    #[test]
    fn durable_above_submitted_is_seen() {
        assert!(WatermarkModel::default().seen(marks([0, 3, 2, 4])).is_err());
    }

    #[test]
    fn trimmed_above_durable_is_seen() {
        assert!(WatermarkModel::default().seen(marks([2, 1, 2, 4])).is_err());
    }

    #[test]
    fn a_mark_that_goes_back_is_seen() {
        let mut model = WatermarkModel::default();
        model.seen(marks([1, 2, 3, 4])).unwrap();
        assert!(
            model
                .seen(marks([1, 1, 3, 4]))
                .unwrap_err()
                .detail
                .contains("went back")
        );
    }

    #[test]
    fn an_acknowledgement_above_the_durable_mark_is_seen() {
        let mut model = WatermarkModel::default();
        assert!(model.acked(Lsn(0)).is_err());
        model.seen(marks([0, 10, 20, 30])).unwrap();
        assert_eq!(model.acked(Lsn(9)), Ok(()));
        for lsn in [10, 15, 29] {
            assert!(model.acked(Lsn(lsn)).is_err(), "{lsn}");
        }
    }

    #[test]
    fn a_close_that_leaves_something_behind_is_seen() {
        assert_eq!(closed(Lsn(30), Lsn(30)), Ok(()));
        assert_eq!(closed(Lsn(30), Lsn(40)), Ok(()));
        for durable in [0, 10, 29] {
            assert!(closed(Lsn(30), Lsn(durable)).is_err(), "{durable}");
        }
    }

    #[test]
    fn each_mark_that_goes_back_or_overtakes_the_next_is_seen() {
        let good = [2, 4, 6, 8];
        for place in 0..4 {
            let mut model = WatermarkModel::default();
            model.seen(marks(good)).unwrap();
            let mut back = good;
            back[place] -= 1;
            let violation = model.seen(marks(back)).unwrap_err();
            assert_eq!(anomaly(&violation), Some("nonmonotonic-send"));
            // What was refused is not what was seen last.
            assert_eq!(model.seen(marks(good)), Ok(()));
        }
        for place in 0..3 {
            let mut above = good;
            above[place] = above[place + 1] + 1;
            let violation = WatermarkModel::default().seen(marks(above)).unwrap_err();
            assert!(violation.detail.contains("out of order"), "{violation}");
        }
    }
}
