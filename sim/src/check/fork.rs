//! What a fork says: a crashed or abandoned copy that somebody opens, beside the run.
//!
//! *Owns*: that everything promised is served there, and what a finding in a fork is called.
//! *Does not own*: the models that look at it (`frames`, `streams`), the copy.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};

use tidewater_types::Lsn;

use super::frames::FrameModel;
use super::{Violation, value_of};

const CHECKER: &str = "fork";

/// Nothing excuses a refusal in a fork: it has no faults.
pub(crate) fn refused(what: &str, error: &dyn Display) -> Violation {
    Violation::new(CHECKER, format!("{what} refused: {error}"))
}

/// What a model found in a fork that crashed as `style` says.
pub(crate) fn after<T>(style: &dyn Debug, found: Result<T, Violation>) -> Result<T, Violation> {
    found.map_err(|violation| Violation::new(CHECKER, format!("after {style:?}: {violation}")))
}

/// A takeover that served these frames served every promised one.
///
/// # Errors
/// One is missing, or another stands in its place.
pub(crate) fn all_promised(
    served: Vec<(Lsn, Vec<u8>)>,
    frames: &FrameModel,
) -> Result<(), Violation> {
    let served: BTreeMap<_, _> = served.into_iter().collect();
    let value_at = |lsn| served.get(&lsn).and_then(|bytes| value_of(bytes));
    let mut promised = frames.promised();
    match promised.find(|(value, lsn)| value_at(*lsn) != Some(*value)) {
        None => Ok(()),
        Some((value, lsn)) => {
            let detail = format!("promised frame {value} at {lsn} is not served by a takeover");
            Err(Violation::new(CHECKER, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{after, all_promised, refused};
    use crate::check::anomaly::anomaly;
    use crate::check::frames::FrameModel;
    use crate::check::{Violation, payload};
    use tidewater_types::Lsn;

    fn frames(values: &[u64]) -> Vec<(Lsn, Vec<u8>)> {
        let frame = |value: &u64| (Lsn(value * 10), payload(*value, 30));
        values.iter().map(frame).collect()
    }

    /// 1 to 3 are promised, 1 is trimmed, 4 is appended.
    fn model() -> FrameModel {
        let mut model = FrameModel::default();
        for value in 1..5 {
            model.appended(value, Lsn(value * 10));
        }
        (1..4).for_each(|value| model.acked(value));
        model.trimmed(Lsn(15));
        model
    }

    fn name(result: Result<(), Violation>) -> Option<&'static str> {
        let violation = result.unwrap_err();
        assert_eq!(violation.checker, "fork");
        anomaly(&violation)
    }

    #[test]
    fn a_takeover_that_serves_what_is_promised_passes() {
        all_promised(frames(&[2, 3]), &model()).unwrap();
        all_promised(frames(&[1, 2, 3, 4]), &model()).unwrap();
    }

    #[test]
    fn a_takeover_that_misses_alters_or_moves_a_promised_frame_is_seen() {
        let seen = |served| assert_eq!(name(all_promised(served, &model())), Some("lost-write"));
        seen(frames(&[]));
        seen(frames(&[2, 4]));
        seen(frames(&[3]));
        let mut altered = frames(&[2, 3]);
        altered[1].1[20] ^= 1;
        seen(altered);
        let mut moved = frames(&[2, 3]);
        moved[0].0 = Lsn(21);
        seen(moved);
        let mut replaced = frames(&[2, 3]);
        replaced[0].1 = payload(9, 30);
        seen(replaced);
    }

    #[test]
    fn findings_of_a_fork_keep_the_name_of_what_was_found() {
        let of = |served: &[u64]| after(&"Sectors", model().recovered(&frames(served)));
        of(&[2, 3]).unwrap();
        assert_eq!(name(of(&[2])), Some("lost-write"));
        assert_eq!(name(of(&[3, 2])), Some("int-nonmonotonic-poll"));
        let violation = refused("takeover", &"damaged");
        assert_eq!(violation.detail, "takeover refused: damaged");
        assert_eq!(name(Err(violation)), Some("lost-write"));
    }
}
