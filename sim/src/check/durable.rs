//! Whether what is promised survives the worst crash, or whoever takes over now finds it.
//!
//! *Owns*: the verdict over durable bytes, over what a takeover serves, over what an opening finds.
//! *Does not own*: the image of the disk, the takeover, the opening: scenarios make them.
//!
//! Invariants
//! 1. No lottery: bytes that some crash loses are lost.
//! 2. What is half there is not there.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::ops::Range;

use tidewater_types::Lsn;

use super::{Violation, holds};

const CHECKER: &str = "durable";

/// The promised `bytes` stand whole in `durable`, which is what the worst crash leaves of their place.
///
/// # Errors
/// They do not; the detail is `what`.
pub(crate) fn survives(
    durable: &[u8],
    bytes: &[u8],
    what: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds(durable, bytes) {
        Ok(())
    } else {
        Err(Violation::new(CHECKER, what()))
    }
}

/// The place of the promised frame at `lsn`; none if it was trimmed.
///
/// # Errors
/// It has none and is wanted.
pub(crate) fn place_of(
    lsn: Lsn,
    place: Option<Range<u64>>,
    is_wanted: bool,
) -> Result<Option<Range<u64>>, Violation> {
    if place.is_none() && is_wanted {
        let detail = format!("frame at {lsn} is promised and has no place");
        return Err(Violation::new(CHECKER, detail));
    }
    Ok(place)
}

/// A takeover that served these frames served the promised `bytes` at `lsn`.
///
/// # Errors
/// It did not.
pub(crate) fn served(served: &[(Lsn, Vec<u8>)], lsn: Lsn, bytes: &[u8]) -> Result<(), Violation> {
    let mut served = served.iter();
    if served.any(|(at, found)| (*at, &found[..]) == (lsn, bytes)) {
        return Ok(());
    }
    let detail = format!("frame at {lsn} is promised, and a takeover now would not serve it");
    Err(Violation::new(CHECKER, detail))
}

/// An opening that found `lists` found the acknowledged `id` in each list of `of`.
///
/// # Errors
/// It did not.
pub(crate) fn found(
    lists: &BTreeMap<String, Vec<u64>>,
    id: u64,
    of: &[String],
) -> Result<(), Violation> {
    let holds = |list: &String| lists.get(list).is_some_and(|ids| ids.contains(&id));
    if of.iter().all(holds) {
        return Ok(());
    }
    let detail = format!("{id} was acknowledged, and an opening does not find it");
    Err(Violation::new(CHECKER, detail))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{found, place_of, served, survives};
    use crate::check::anomaly::anomaly;
    use crate::check::{Violation, payload};
    use crate::disk::image::Image;
    use tidewater_types::Lsn;

    const PLACE: u64 = 4096;

    /// The verdict on a frame of 1,000 bytes in a group of 4 KiB at `PLACE`.
    fn verdict(image: &Image, value: u64) -> Result<(), Violation> {
        let durable = image.bytes(PLACE, 4096);
        survives(&durable, &payload(value, 1000), || "lost".to_owned())
    }

    fn group(value: u64) -> Vec<u8> {
        let mut bytes = vec![7; 300];
        bytes.extend(payload(value, 1000));
        bytes.resize(4096, 0);
        bytes
    }

    fn lost(result: Result<(), Violation>) {
        let violation = result.unwrap_err();
        assert_eq!(violation.checker, "durable");
        assert_eq!(anomaly(&violation), Some("lost-write"));
    }

    #[test]
    fn a_group_that_a_flush_covers_survives() {
        let mut image = Image::default();
        image.write(PLACE, &group(5));
        image.write(PLACE + 4096, &group(6));
        verdict(&image, 5).unwrap();
    }

    #[test]
    fn an_acknowledgement_before_the_flush_is_seen() {
        // Nothing of it is durable; or only the log's head is.
        lost(verdict(&Image::default(), 5));
        let mut image = Image::default();
        image.write(0, &group(5)[..4096]);
        lost(verdict(&image, 5));
    }

    #[test]
    fn a_torn_group_is_seen_whichever_sector_is_missing() {
        for sector in 0..3 {
            let mut torn = group(5);
            torn[sector * 512..][..512].fill(0);
            let mut image = Image::default();
            image.write(PLACE, &torn);
            lost(verdict(&image, 5));
        }
    }

    #[test]
    fn a_short_write_and_the_last_lap_in_its_place_are_seen() {
        let mut short = Image::default();
        short.write(PLACE, &group(5)[..1024]);
        lost(verdict(&short, 5));
        let mut old = Image::default();
        old.write(PLACE, &group(4));
        lost(verdict(&old, 5));
    }

    #[test]
    fn a_frame_elsewhere_is_not_where_a_recovery_looks() {
        let mut astray = Image::default();
        astray.write(PLACE + 4096, &group(5));
        lost(verdict(&astray, 5));
    }

    #[test]
    fn a_wanted_frame_without_a_place_is_seen() {
        assert_eq!(place_of(Lsn(9), Some(3..4), true), Ok(Some(3..4)));
        assert_eq!(place_of(Lsn(9), None, false), Ok(None));
        lost(place_of(Lsn(9), None, true).map(drop));
    }

    #[test]
    fn a_takeover_that_serves_less_or_something_else_is_seen() {
        let frame = |at: u64, value: u64| (Lsn(at), payload(value, 40));
        let bytes = payload(2, 40);
        served(&[frame(10, 1), frame(20, 2)], Lsn(20), &bytes).unwrap();
        lost(served(&[], Lsn(20), &bytes));
        lost(served(&[frame(10, 1)], Lsn(20), &bytes));
        lost(served(&[frame(10, 1), frame(20, 3)], Lsn(20), &bytes));
        lost(served(&[frame(10, 1), frame(21, 2)], Lsn(20), &bytes));
        let cut = (Lsn(20), bytes[..39].to_vec());
        lost(served(&[frame(10, 1), cut], Lsn(20), &bytes));
    }

    #[test]
    fn an_opening_that_finds_none_or_half_of_a_transaction_is_seen() {
        let lists = |of: &[(&str, &[u64])]| -> BTreeMap<String, Vec<u64>> {
            let list = |(name, ids): &(&str, &[u64])| ((*name).to_owned(), ids.to_vec());
            of.iter().map(list).collect()
        };
        let of = ["a".to_owned(), "b".to_owned()];
        found(&lists(&[("a", &[1, 7]), ("b", &[7])]), 7, &of).unwrap();
        lost(found(&lists(&[]), 7, &of));
        lost(found(&lists(&[("a", &[1]), ("b", &[2])]), 7, &of));
        lost(found(&lists(&[("a", &[1, 7]), ("b", &[2])]), 7, &of));
        lost(found(&lists(&[("a", &[7]), ("c", &[7])]), 7, &of));
    }
}
