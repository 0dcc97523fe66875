//! A device that is gone acknowledges nothing.
//!
//! *Owns*: which frames were appended after their device went away.
//! *Does not own*: when that is (the plan).
//!
//! *IO: none*

use std::collections::BTreeSet;

use tidewater_types::Lsn;

use super::Violation;

/// Frames that were handed to a device that was gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct RemovedModel {
    late: BTreeSet<Lsn>,
}

impl RemovedModel {
    /// A frame was accepted at `lsn`; `is_removed` is the device that had gone away before.
    pub(crate) fn appended(&mut self, lsn: Lsn, is_removed: bool) {
        if is_removed {
            self.late.insert(lsn);
        } else {
            // A frame of a later life at the place of one that never was written.
            self.late.remove(&lsn);
        }
    }

    /// Whether the frame was appended to a device that was gone.
    pub(crate) fn is_late(&self, lsn: Lsn) -> bool {
        self.late.contains(&lsn)
    }

    /// The frame at `lsn` was acknowledged.
    ///
    /// # Errors
    /// Its device had gone away before it was appended.
    pub(crate) fn acked(&self, lsn: Lsn) -> Result<(), Violation> {
        if !self.is_late(lsn) {
            return Ok(());
        }
        let detail = format!("frame at {lsn} was acknowledged by a device that is gone");
        Err(Violation::new("removed", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::RemovedModel;
    use crate::check::anomaly::anomaly;
    use tidewater_types::Lsn;

    /// 10 and 20 are appended, the device goes away, 30 and 40 are.
    fn model() -> RemovedModel {
        let mut model = RemovedModel::default();
        for (lsn, is_removed) in [(10, false), (20, false), (30, true), (40, true)] {
            model.appended(Lsn(lsn), is_removed);
        }
        model
    }

    fn is_seen(model: &RemovedModel, lsn: u64) {
        let violation = model.acked(Lsn(lsn)).unwrap_err();
        assert_eq!(violation.checker, "removed");
        assert_eq!(anomaly(&violation), Some("lost-write"));
    }

    #[test]
    fn what_was_handed_over_before_may_be_acknowledged_after() {
        let mut model = model();
        model.acked(Lsn(10)).unwrap();
        model.acked(Lsn(20)).unwrap();
        // The device is back, and a later life writes there.
        model.appended(Lsn(30), false);
        model.acked(Lsn(30)).unwrap();
    }

    #[test]
    fn the_first_frame_behind_the_removal_is_seen() {
        is_seen(&model(), 30);
    }

    #[test]
    fn a_later_frame_is_seen_though_an_earlier_one_was_refused() {
        let model = model();
        model.acked(Lsn(20)).unwrap();
        is_seen(&model, 40);
    }

    #[test]
    fn a_frame_is_seen_when_the_device_is_back_as_its_bytes_never_got_there() {
        let mut model = model();
        model.appended(Lsn(50), false);
        model.acked(Lsn(50)).unwrap();
        is_seen(&model, 40);
    }
}
