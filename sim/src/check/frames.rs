//! The model of a WAL: which frames it may, and which it must give back.
//!
//! *Owns*: the fate of each frame over all lives of the WAL.
//! *Does not own*: bytes on the device (the durability oracle asks the simulated disk).
//!
//! Invariants
//! 1. Acknowledged or once recovered, and not trimmed: comes back at every recovery.
//! 2. Not recovered once: gone, and never comes back.
//! 3. Recovered frames ascend by LSN, are what was appended at that LSN, and leave no gap.
//!
//! *IO: none*

use std::collections::BTreeMap;

use tidewater_types::Lsn;

use super::{Violation, value_of};

const CHECKER: &str = "frames";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Appended, nothing promised.
    Appended,
    /// Acknowledged, or served by a recovery.
    Promised,
    /// A recovery went by without it.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    lsn: Lsn,
    fate: Fate,
}

/// What is known of each frame; frames are told apart by the value of their [`payload`](super::payload).
#[derive(Clone, Debug, Default)]
pub struct FrameModel {
    frames: BTreeMap<u64, Known>,
    trim: Lsn,
}

impl FrameModel {
    /// The frame of `value` was accepted at `lsn`.
    pub fn appended(&mut self, value: u64, lsn: Lsn) {
        self.frames.insert(
            value,
            Known {
                lsn,
                fate: Fate::Appended,
            },
        );
    }

    /// The frame of `value` was accepted by an owner that was fenced before.
    pub fn doomed(&mut self, value: u64, lsn: Lsn) {
        let fate = Fate::Gone;
        self.frames.insert(value, Known { lsn, fate });
    }

    /// Whether the frame of `value` must never be heard of again.
    pub fn is_gone(&self, value: u64) -> bool {
        let known = self.frames.get(&value);
        known.is_some_and(|known| known.fate == Fate::Gone)
    }

    /// The frame of `value` was acknowledged.
    pub fn acked(&mut self, value: u64) {
        if let Some(known) = self.frames.get_mut(&value) {
            known.fate = Fate::Promised;
        }
    }

    /// Nothing proves what was promised from `lsn` on: it comes back or is gone for good.
    pub fn doubtful_from(&mut self, lsn: Lsn) {
        let frames = self.frames.values_mut();
        for known in frames.filter(|known| known.lsn >= lsn && known.fate == Fate::Promised) {
            known.fate = Fate::Appended;
        }
    }

    /// Everything below `lsn` may be forgotten.
    pub fn trimmed(&mut self, lsn: Lsn) {
        self.trim = self.trim.max(lsn);
    }

    /// Whether a frame at `lsn` was not trimmed.
    pub fn is_wanted(&self, lsn: Lsn) -> bool {
        lsn >= self.trim
    }

    /// Frames that must come back.
    pub fn promised(&self) -> impl Iterator<Item = (u64, Lsn)> {
        self.frames
            .iter()
            .filter(|(_, known)| known.fate == Fate::Promised && known.lsn >= self.trim)
            .map(|(value, known)| (*value, known.lsn))
    }

    /// A recovery served `frames`, in this order.
    ///
    /// # Errors
    /// What a right WAL would not have done.
    pub fn recovered(&mut self, frames: &[(Lsn, Vec<u8>)]) -> Result<(), Violation> {
        let mut served = BTreeMap::new();
        let mut last = None;
        for (lsn, bytes) in frames {
            let value = self.recovered_one(*lsn, bytes, last)?;
            last = Some(*lsn);
            served.insert(value, *lsn);
        }
        for (value, known) in &mut self.frames {
            if served.contains_key(value) {
                known.fate = Fate::Promised;
                continue;
            }
            if known.lsn < self.trim || known.fate == Fate::Gone {
                continue;
            }
            if known.fate == Fate::Promised {
                return Err(lost(*value, known.lsn, last));
            }
            if last.is_some_and(|last| known.lsn < last) {
                let detail = format!(
                    "gap: frame {value} at {} is missing, {last:?} is there",
                    known.lsn
                );
                return Err(Violation::new(CHECKER, detail));
            }
            known.fate = Fate::Gone;
        }
        Ok(())
    }

    fn recovered_one(&self, lsn: Lsn, bytes: &[u8], last: Option<Lsn>) -> Result<u64, Violation> {
        let wrong = |what: String| Err(Violation::new(CHECKER, what));
        if last.is_some_and(|last| lsn <= last) {
            return wrong(format!("frame at {lsn} follows {last:?}"));
        }
        let Some(value) = value_of(bytes) else {
            return wrong(format!(
                "altered: {} bytes at {lsn} are no frame that was appended",
                bytes.len()
            ));
        };
        match self.frames.get(&value) {
            None => wrong(format!("frame {value} at {lsn} was never appended")),
            Some(known) if known.lsn != lsn => wrong(format!(
                "frame {value} was appended at {} and came back at {lsn}",
                known.lsn
            )),
            Some(known) if known.fate == Fate::Gone => wrong(format!(
                "resurrected: frame {value} at {lsn} was gone after an earlier recovery"
            )),
            Some(_) => Ok(value),
        }
    }
}

fn lost(value: u64, lsn: Lsn, last: Option<Lsn>) -> Violation {
    let detail =
        format!("lost: promised frame {value} at {lsn} did not come back (last is {last:?})");
    Violation::new(CHECKER, detail)
}

#[cfg(test)]
mod tests {
    use super::FrameModel;
    use crate::check::anomaly::anomaly;
    use crate::check::payload;
    use tidewater_types::Lsn;

    fn model(acked: &[u64], appended: &[u64]) -> FrameModel {
        let mut model = FrameModel::default();
        for value in acked.iter().chain(appended) {
            model.appended(*value, Lsn(value * 10));
        }
        acked.iter().for_each(|value| model.acked(*value));
        model
    }

    fn served(values: &[u64]) -> Vec<(Lsn, Vec<u8>)> {
        values
            .iter()
            .map(|value| (Lsn(value * 10), payload(*value, 30)))
            .collect()
    }

    fn complaint(model: &mut FrameModel, frames: &[(Lsn, Vec<u8>)]) -> String {
        model.recovered(frames).unwrap_err().detail
    }

    #[test]
    fn good_histories_pass() {
        let mut model = model(&[1, 2], &[3, 4]);
        assert_eq!(model.recovered(&served(&[1, 2, 3])), Ok(()));
        assert_eq!(model.recovered(&served(&[1, 2, 3])), Ok(()));
        model.trimmed(Lsn(25));
        assert_eq!(model.recovered(&served(&[3])), Ok(()));
        assert_eq!(model.promised().count(), 1);
    }

    #[test]
    fn a_doubtful_frame_comes_back_or_is_gone_for_good() {
        let mut model = model(&[1, 2, 3], &[]);
        model.doubtful_from(Lsn(20));
        assert!(complaint(&mut model.clone(), &[]).contains("lost"));
        assert!(complaint(&mut model.clone(), &served(&[1, 3])).contains("gap"));
        assert_eq!(model.recovered(&served(&[1, 2])), Ok(()));
        assert!(complaint(&mut model.clone(), &served(&[1])).contains("lost"));
        assert!(complaint(&mut model, &served(&[1, 2, 3])).contains("resurrected"));
    }

    #[test]
    fn a_lost_acknowledged_frame_is_seen() {
        assert!(complaint(&mut model(&[1, 2], &[]), &served(&[1])).contains("lost"));
        assert!(complaint(&mut model(&[1], &[]), &[]).contains("lost"));
    }

    #[test]
    fn a_frame_served_once_and_lost_later_is_seen() {
        let mut model = model(&[1], &[2]);
        model.recovered(&served(&[1, 2])).unwrap();
        assert!(complaint(&mut model, &served(&[1])).contains("lost"));
    }

    #[test]
    fn a_gap_is_seen() {
        assert!(complaint(&mut model(&[1], &[2, 3]), &served(&[1, 3])).contains("gap"));
    }

    #[test]
    fn a_resurrected_frame_is_seen() {
        let mut model = model(&[1], &[2]);
        model.recovered(&served(&[1])).unwrap();
        assert!(complaint(&mut model, &served(&[1, 2])).contains("resurrected"));
    }

    #[test]
    fn a_doomed_frame_that_comes_back_is_seen() {
        let mut model = model(&[1], &[]);
        model.doomed(2, Lsn(20));
        assert!(model.is_gone(2) && !model.is_gone(1));
        assert_eq!(model.clone().recovered(&served(&[1])), Ok(()));
        assert!(complaint(&mut model, &served(&[1, 2])).contains("resurrected"));
    }

    #[test]
    fn altered_foreign_moved_and_repeated_frames_are_seen() {
        let mut altered = served(&[1]);
        altered[0].1[20] ^= 1;
        assert!(complaint(&mut model(&[1], &[]), &altered).contains("altered"));
        assert!(complaint(&mut model(&[1], &[]), &served(&[1, 9])).contains("never appended"));
        let moved = vec![(Lsn(11), payload(1, 30))];
        assert!(complaint(&mut model(&[1], &[]), &moved).contains("came back at"));
        assert!(complaint(&mut model(&[1], &[]), &served(&[1, 1])).contains("follows"));
    }

    #[test]
    fn bad_histories_have_the_names_that_others_give_them() {
        let name = |model: &mut FrameModel, frames: &[(Lsn, Vec<u8>)]| {
            anomaly(&model.recovered(frames).unwrap_err())
        };
        let lost = name(&mut model(&[1, 2], &[]), &served(&[1]));
        assert_eq!(lost, Some("lost-write"));
        let gap = name(&mut model(&[1], &[2, 3]), &served(&[1, 3]));
        assert_eq!(gap, Some("int-poll-skip"));
        let mut gone = model(&[1], &[2]);
        gone.recovered(&served(&[1])).unwrap();
        let resurrected = name(&mut gone, &served(&[1, 2]));
        assert_eq!(resurrected, Some("G1a"));
        let order = name(&mut model(&[1, 2], &[]), &served(&[2, 1]));
        assert_eq!(order, Some("int-nonmonotonic-poll"));
        let moved = [(Lsn(11), payload(1, 30))];
        let moved = name(&mut model(&[1], &[]), &moved);
        assert_eq!(moved, Some("inconsistent-offsets"));
    }
}
