//! No owner is told that a frame is durable once a later owner has begun without it, and no epoch is
//! two owners'.
//!
//! *Owns*: the verdict on an opening and on an acknowledgement by an owner of whatever epoch.
//! *Does not own*: the fate of the frames (`frames`), who owns what.
//!
//! *IO: none*

use tidewater_types::{Epoch, Lsn};

use super::Violation;
use super::frames::FrameModel;

/// The owner of `epoch` is told that its frame `value` at `lsn` is durable.
///
/// # Errors
/// A later owner had opened before it was appended, or began without it.
pub(crate) fn acked(
    frames: &FrameModel,
    epoch: Epoch,
    value: u64,
    lsn: Lsn,
) -> Result<(), Violation> {
    if !frames.is_gone(value) {
        return Ok(());
    }
    let detail = format!("frame {value} at {lsn} acknowledged by epoch {epoch}, which was fenced");
    Err(Violation::new("fence", detail))
}

/// An owner is told that the log is its own under `epoch`, and `latest` is the greatest epoch that
/// anybody was told of; it `is_last` if nobody takes over any more once it has begun.
///
/// # Errors
/// The epoch is another's too, or the last owner's is not the greatest.
pub(crate) fn opened(epoch: Epoch, latest: Epoch, is_last: bool) -> Result<(), Violation> {
    if epoch > latest || epoch < latest && !is_last {
        return Ok(());
    }
    let detail = format!("opened under epoch {epoch}, and epoch {latest} was opened before");
    Err(Violation::new("epoch", detail))
}

#[cfg(test)]
mod tests {
    use super::{acked, opened};
    use crate::check::anomaly::anomaly;
    use crate::check::frames::FrameModel;
    use crate::check::payload;
    use tidewater_types::{Epoch, Lsn};

    /// Epoch 1 appended 1 and 2, of which 1 is acknowledged.
    fn model() -> FrameModel {
        let mut model = FrameModel::default();
        model.appended(1, Lsn(10));
        model.appended(2, Lsn(20));
        model.acked(1);
        model
    }

    fn recovered(model: &mut FrameModel, values: &[u64]) {
        let frame = |value: &u64| (Lsn(value * 10), payload(*value, 30));
        let frames: Vec<_> = values.iter().map(frame).collect();
        model.recovered(&frames).unwrap();
    }

    fn is_seen(model: &FrameModel, value: u64) {
        let violation = acked(model, Epoch(1), value, Lsn(value * 10)).unwrap_err();
        assert_eq!(violation.checker, "fence");
        assert_eq!(anomaly(&violation), Some("lost-write"));
    }

    #[test]
    fn the_owner_and_a_zombie_whose_frame_a_takeover_served_are_told() {
        let mut model = model();
        acked(&model, Epoch(1), 2, Lsn(20)).unwrap();
        // The answer was under way when epoch 2 took over, and epoch 2 has the frame.
        recovered(&mut model, &[1, 2]);
        acked(&model, Epoch(1), 2, Lsn(20)).unwrap();
    }

    #[test]
    fn a_frame_that_a_zombie_appended_after_the_takeover_is_seen() {
        let mut model = model();
        recovered(&mut model, &[1, 2]);
        model.doomed(3, Lsn(30));
        is_seen(&model, 3);
    }

    #[test]
    fn a_frame_that_the_takeover_did_not_serve_is_seen() {
        let mut model = model();
        recovered(&mut model, &[1]);
        is_seen(&model, 2);
    }

    #[test]
    fn a_fenced_frame_stays_fenced_whatever_later_owners_do() {
        let mut model = model();
        recovered(&mut model, &[1]);
        model.appended(5, Lsn(50));
        model.acked(5);
        recovered(&mut model, &[1, 5]);
        acked(&model, Epoch(3), 5, Lsn(50)).unwrap();
        is_seen(&model, 2);
    }

    #[test]
    fn an_owner_who_hears_late_of_its_opening_passes_while_others_take_over() {
        opened(Epoch(1), Epoch(0), true).unwrap();
        opened(Epoch(3), Epoch(1), false).unwrap();
        opened(Epoch(2), Epoch(3), false).unwrap();
    }

    #[test]
    fn an_epoch_of_two_owners_and_a_last_owner_who_is_not_the_latest_are_seen() {
        for (epoch, latest, is_last) in [(2, 2, false), (2, 2, true), (1, 2, true), (0, 0, true)] {
            let violation = opened(Epoch(epoch), Epoch(latest), is_last).unwrap_err();
            assert_eq!(violation.checker, "epoch");
            assert!(
                violation.detail.contains("opened under epoch"),
                "{violation}"
            );
        }
    }
}
