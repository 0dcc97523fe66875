//! The model of the streams: offsets, acknowledgements, reads, watermarks.
//!
//! *Owns*: which value each offset has shown, and what was acknowledged.
//! *Does not own*: how a stream stores anything.
//!
//! Invariants
//! 1. An offset that was acknowledged or read never shows another value, and no value
//!    shows at two offsets.
//! 2. A final read gives every acknowledged value at or above the start, without a gap.
//! 3. High watermark and start never go back, over crashes too: visible ≤ durable.
//! 4. The start never lies above the highest trim asked for.
//! 5. What was lost with consent never shows again.
//! 6. What lies below a start that is known never shows again.
//!
//! *IO: none*

use std::collections::BTreeMap;

use super::{Violation, value_of};

const LOG: &str = "log";
const MARKS: &str = "watermarks";

/// One entry as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its first offset.
    pub base: u64,
    /// Offsets it takes.
    pub count: u64,
    /// What it holds.
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    value: u64,
    count: u64,
    acked: bool,
}

/// One stream: which value each offset has shown, and what was acknowledged.
#[derive(Clone, Debug, Default)]
pub struct StreamModel {
    /// Value → (offset, count) it was given, in the last life that appended it.
    given: BTreeMap<u64, (u64, u64)>,
    /// First offset → what it has shown.
    shown: BTreeMap<u64, Place>,
    high_watermark: u64,
    start: u64,
    trim: u64,
}

impl StreamModel {
    /// `value` was given the offsets `base..base + count`.
    pub fn given(&mut self, value: u64, base: u64, count: u64) {
        self.given.insert(value, (base, count));
    }

    /// `value` was acknowledged.
    ///
    /// # Errors
    /// Its offsets have shown something else before.
    pub fn acked(&mut self, value: u64) -> Result<(), Violation> {
        let Some((base, count)) = self.given.get(&value).copied() else {
            return Err(Violation::new(
                LOG,
                format!("value {value} was acknowledged, not appended"),
            ));
        };
        // A read that begins after the acknowledgement must see it.
        self.high_watermark = self.high_watermark.max(base + count);
        self.show(value, base, count, true)
    }

    /// A reader asked from `offset` on and saw `entries`; the high watermark it was told is
    /// `high_watermark`, and it knew of `floor` when it asked.
    ///
    /// # Errors
    /// What a right stream would not have shown.
    pub fn read(
        &mut self,
        offset: u64,
        entries: &[Seen],
        high_watermark: u64,
        floor: u64,
    ) -> Result<(), Violation> {
        self.seen_high_watermark(high_watermark, floor)?;
        let mut next = offset;
        for (index, entry) in entries.iter().enumerate() {
            let follows = if index == 0 {
                entry.base <= next
            } else {
                entry.base == next
            };
            if !follows || entry.base + entry.count <= next {
                return Err(misplaced_read(index == 0, next, entry));
            }
            next = entry.base + entry.count;
            if next > high_watermark {
                let detail =
                    format!("entry up to {next} shown above the high watermark {high_watermark}");
                return Err(Violation::new(LOG, detail));
            }
            let Some(value) = value_of(&entry.bytes) else {
                let detail = format!("altered: the bytes at {} were never appended", entry.base);
                return Err(Violation::new(LOG, detail));
            };
            if self.given.get(&value) != Some(&(entry.base, entry.count)) {
                return Err(self.misplaced(value, entry));
            }
            self.show(value, entry.base, entry.count, false)?;
        }
        Ok(())
    }

    /// As [`StreamModel::fetched`], of a reader who knew that the stream starts at `start`.
    ///
    /// # Errors
    /// As of such a call; what lies below the start.
    pub fn fetched_above(
        &mut self,
        start: u64,
        offset: u64,
        entries: &[Seen],
        (high_watermark, floor): (u64, u64),
    ) -> Result<(), Violation> {
        let end = |entry: &Seen| entry.base + entry.count;
        if let Some(trimmed) = entries.iter().find(|entry| end(entry) <= start) {
            let (base, count) = (trimmed.base, trimmed.count);
            let detail = format!("read {base}+{count}, the start was known as {start}");
            return Err(Violation::new("trimmed", detail));
        }
        self.fetched(offset, entries, high_watermark, floor)
    }

    /// As [`StreamModel::read`], of one call that asked for what there is.
    ///
    /// # Errors
    /// As of a read; nothing below the high watermark.
    pub fn fetched(
        &mut self,
        offset: u64,
        entries: &[Seen],
        high_watermark: u64,
        floor: u64,
    ) -> Result<(), Violation> {
        self.read(offset, entries, high_watermark, floor)?;
        if entries.is_empty() && offset < high_watermark {
            let detail = format!("nothing at {offset}, the high watermark is {high_watermark}");
            return Err(Violation::new(LOG, detail));
        }
        Ok(())
    }

    /// What is wrong with a value at an offset that it was not given.
    fn misplaced(&self, value: u64, entry: &Seen) -> Violation {
        let (base, count) = (entry.base, entry.count);
        let mut shown = self.shown.iter();
        let detail = match shown.find(|(at, place)| place.value == value && **at != base) {
            Some((first, _)) => format!("value {value} shows twice: at {first} and at {base}"),
            None => {
                let given = self.given.get(&value);
                format!("value {value} was given {given:?} and shows at {base}+{count}")
            }
        };
        Violation::new(LOG, detail)
    }

    fn show(&mut self, value: u64, base: u64, count: u64, acked: bool) -> Result<(), Violation> {
        let place = self.shown.entry(base).or_insert(Place {
            value,
            count,
            acked,
        });
        if (place.value, place.count) != (value, count) {
            let detail = format!(
                "offset {base} showed value {} and now shows {value}",
                place.value
            );
            return Err(Violation::new(LOG, detail));
        }
        place.acked |= acked;
        Ok(())
    }

    /// The stream says its high watermark is `now`; whoever asked knew of `floor` before.
    ///
    /// # Errors
    /// It went back.
    pub fn seen_high_watermark(&mut self, now: u64, floor: u64) -> Result<(), Violation> {
        if now < floor {
            let detail = format!("high watermark went back from {floor} to {now}");
            return Err(Violation::new(MARKS, detail));
        }
        self.high_watermark = self.high_watermark.max(now);
        Ok(())
    }

    /// A trim up to `offset` was asked for.
    pub fn trim_asked(&mut self, offset: u64) {
        self.trim = self.trim.max(offset);
    }

    /// The highest trim that was asked for.
    pub fn trim(&self) -> u64 {
        self.trim
    }

    /// A trim up to `offset` was answered: the start never lies below it again.
    ///
    /// # Errors
    /// It was not asked for.
    pub fn trim_done(&mut self, offset: u64) -> Result<(), Violation> {
        let start = self.start.max(offset);
        self.seen_start(start)
    }

    /// The stream says its start is `now`.
    ///
    /// # Errors
    /// It went back, or was never asked for.
    pub fn seen_start(&mut self, now: u64) -> Result<(), Violation> {
        if now < self.start {
            return Err(Violation::new(
                MARKS,
                format!("start went back from {} to {now}", self.start),
            ));
        }
        if now > self.trim {
            let detail = format!("start is {now}, no trim beyond {} was asked for", self.trim);
            return Err(Violation::new(MARKS, detail));
        }
        self.start = now;
        Ok(())
    }

    /// What lies from `offset` on was lost, and the loss accepted: it must not come back.
    pub fn lost_from(&mut self, offset: u64) {
        self.given.retain(|_, (base, _)| *base < offset);
        self.shown.retain(|base, _| *base < offset);
        self.high_watermark = self.high_watermark.min(offset);
    }

    /// The highest start that anybody saw or was promised by a trim.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The highest high watermark that anybody saw or was promised by an acknowledgement.
    pub fn high_watermark(&self) -> u64 {
        self.high_watermark
    }

    /// Everything from `start` on, read when all is healed.
    ///
    /// # Errors
    /// An acknowledged or shown value is missing, or anything [`StreamModel::read`] finds.
    pub fn final_read(
        &mut self,
        start: u64,
        entries: &[Seen],
        high_watermark: u64,
    ) -> Result<(), Violation> {
        self.seen_start(start)?;
        self.read(start, entries, high_watermark, 0)?;
        let end = entries
            .last()
            .map_or(start, |entry| entry.base + entry.count);
        if end != high_watermark {
            let detail =
                format!("the final read ends at {end}, the high watermark is {high_watermark}");
            return Err(Violation::new(LOG, detail));
        }
        let read: BTreeMap<u64, u64> = entries
            .iter()
            .map(|entry| (entry.base, entry.count))
            .collect();
        for (base, place) in &self.shown {
            if base + place.count > start && read.get(base) != Some(&place.count) {
                let how = if place.acked { "acknowledged" } else { "shown" };
                let detail = format!(
                    "lost: value {} at {base} was {how} and is not there",
                    place.value
                );
                return Err(Violation::new(LOG, detail));
            }
        }
        self.seen_high_watermark(high_watermark, self.high_watermark)
    }
}

/// What is wrong with the place of an entry that is not where `next` is.
fn misplaced_read(is_first: bool, next: u64, entry: &Seen) -> Violation {
    let what = match (is_first, entry.base > next) {
        (true, true) => "skip: asked for",
        (true, false) => "nothing at",
        (false, true) => "gap: behind",
        (false, false) => "back: behind",
    };
    let detail = format!("{what} {next}, read {}+{}", entry.base, entry.count);
    Violation::new(LOG, detail)
}

#[cfg(test)]
mod tests {
    use super::{Seen, StreamModel};
    use crate::check::anomaly::anomaly;
    use crate::check::payload;

    fn seen(value: u64, base: u64, count: u64) -> Seen {
        Seen {
            base,
            count,
            bytes: payload(value, 24),
        }
    }

    /// Values 1 and 2 acknowledged at 0..2 and 2..3, value 3 given 3..4.
    fn model() -> StreamModel {
        let mut model = StreamModel::default();
        for (value, base, count) in [(1, 0, 2), (2, 2, 1), (3, 3, 1)] {
            model.given(value, base, count);
        }
        model.acked(1).unwrap();
        model.acked(2).unwrap();
        model
    }

    fn complaint(result: Result<(), crate::check::Violation>) -> String {
        result.unwrap_err().detail
    }

    fn name(result: Result<(), crate::check::Violation>) -> Option<&'static str> {
        anomaly(&result.unwrap_err())
    }

    #[test]
    fn good_histories_pass() {
        let mut model = model();
        model.read(0, &[seen(1, 0, 2)], 3, 0).unwrap();
        model
            .read(1, &[seen(1, 0, 2), seen(2, 2, 1)], 3, 0)
            .unwrap();
        model.trim_asked(2);
        model
            .final_read(2, &[seen(2, 2, 1), seen(3, 3, 1)], 4)
            .unwrap();
    }

    #[test]
    fn a_lost_acknowledged_value_is_seen() {
        assert!(complaint(model().final_read(0, &[seen(1, 0, 2)], 2)).contains("lost"));
        assert!(complaint(model().final_read(0, &[], 0)).contains("lost"));
    }

    #[test]
    fn an_answer_without_entries_below_the_high_watermark_is_seen() {
        model().fetched(3, &[], 3, 3).unwrap();
        model().fetched(2, &[seen(2, 2, 1)], 3, 3).unwrap();
        for offset in 0..3 {
            assert!(complaint(model().fetched(offset, &[], 3, 3)).contains("nothing at"));
        }
    }

    #[test]
    fn an_offset_that_changes_its_value_is_seen() {
        let mut model = model();
        model
            .read(0, &[seen(1, 0, 2), seen(2, 2, 1), seen(3, 3, 1)], 4, 0)
            .unwrap();
        model.given(9, 3, 1);
        assert!(complaint(model.acked(9)).contains("now shows"));
    }

    #[test]
    fn a_read_that_misses_what_was_acknowledged_before_it_began_is_seen() {
        let mut model = model();
        let floor = model.high_watermark();
        assert_eq!(floor, 3);
        assert!(complaint(model.read(0, &[seen(1, 0, 2)], 2, floor)).contains("went back"));
    }

    #[test]
    fn bad_histories_have_the_names_that_others_give_them() {
        let lost = model().final_read(0, &[seen(1, 0, 2)], 2);
        assert_eq!(name(lost), Some("lost-write"));
        let short = model().final_read(0, &[seen(1, 0, 2), seen(2, 2, 1)], 4);
        assert_eq!(name(short), Some("unseen"));
        let gap = model().read(0, &[seen(1, 0, 2), seen(3, 3, 1)], 4, 0);
        assert_eq!(name(gap), Some("int-poll-skip"));
        let skip = model().read(0, &[seen(2, 2, 1)], 4, 0);
        assert_eq!(name(skip), Some("poll-skip"));
        let twice = model().read(0, &[seen(1, 0, 2), seen(1, 0, 2)], 4, 0);
        assert_eq!(name(twice), Some("int-nonmonotonic-poll"));
        let old = model().read(2, &[seen(1, 0, 2)], 4, 0);
        assert_eq!(name(old), Some("unseen"));
        assert_eq!(name(model().fetched(0, &[], 3, 0)), Some("unseen"));
        let early = model().read(0, &[seen(1, 0, 2)], 1, 0);
        assert_eq!(name(early), Some("precommitted-read"));
        let back = model().read(0, &[seen(1, 0, 2)], 2, 3);
        assert_eq!(name(back), Some("nonmonotonic-poll"));
        let never = model().read(3, &[seen(8, 3, 1)], 4, 0);
        assert_eq!(name(never), Some("G1a"));
        let mut changed = model();
        changed.given(9, 0, 2);
        assert_eq!(name(changed.acked(9)), Some("inconsistent-offsets"));
        let moved = model().read(4, &[seen(3, 4, 1)], 5, 0);
        assert_eq!(name(moved), Some("inconsistent-offsets"));
        let unknown = model().acked(77);
        assert_eq!(name(unknown), None);
    }

    #[test]
    fn a_value_that_shows_at_two_offsets_is_a_duplicate() {
        let result = model().read(2, &[seen(2, 2, 1), seen(1, 3, 2)], 5, 0);
        let violation = result.unwrap_err();
        assert_eq!(anomaly(&violation), Some("duplicate"));
        assert!(
            violation.detail.contains("shows twice: at 0 and at 3"),
            "{violation}"
        );
    }

    #[test]
    fn a_trim_that_nobody_asked_for_and_a_start_that_goes_back_are_seen() {
        let mut model = model();
        model.trim_asked(1);
        assert_eq!(name(model.seen_start(2)), Some("lost-write"));
        assert_eq!(name(model.trim_done(3)), Some("lost-write"));
        model.seen_start(1).unwrap();
        assert_eq!(name(model.seen_start(0)), Some("nonmonotonic-poll"));
        assert_eq!(name(model.final_read(0, &[], 0)), Some("nonmonotonic-poll"));
    }

    #[test]
    fn what_lies_below_a_start_that_is_known_is_seen() {
        let all = [seen(1, 0, 2), seen(2, 2, 1)];
        let read = |start| model().fetched_above(start, 0, &all, (3, 3));
        read(0).unwrap();
        // The entry holds what lies above, too.
        read(1).unwrap();
        assert!(complaint(read(2)).contains("read 0+2"));
        assert!(complaint(read(3)).contains("the start was known as 3"));
        assert!(complaint(model().fetched_above(3, 2, &all[1..], (3, 3))).contains("read 2+1"));
        // All that any reader must not see counts as ever.
        assert!(complaint(model().fetched_above(1, 1, &[], (3, 3))).contains("nothing at"));
    }

    #[test]
    fn a_value_at_another_offset_is_seen() {
        assert!(complaint(model().read(3, &[seen(3, 3, 2)], 5, 0)).contains("was given"));
    }

    #[test]
    fn gaps_overlaps_and_altered_bytes_are_seen() {
        assert!(complaint(model().read(0, &[seen(2, 2, 1)], 4, 0)).contains("skip"));
        assert!(complaint(model().read(0, &[seen(1, 0, 2), seen(3, 3, 1)], 4, 0)).contains("gap"));
        let mut wrong = seen(1, 0, 2);
        wrong.bytes[17] ^= 1;
        assert!(complaint(model().read(0, &[wrong], 4, 0)).contains("altered"));
    }

    #[test]
    fn marks_that_go_back_and_reads_above_them_are_seen() {
        let mut model = model();
        assert!(
            complaint(model.read(0, &[seen(1, 0, 2)], 1, 0)).contains("above the high watermark")
        );
        model.seen_high_watermark(3, 3).unwrap();
        assert!(complaint(model.seen_high_watermark(2, 3)).contains("went back"));
        assert!(complaint(model.seen_start(1)).contains("no trim"));
        model.trim_asked(2);
        model.seen_start(2).unwrap();
        assert!(complaint(model.seen_start(1)).contains("went back"));
    }

    #[test]
    fn what_was_lost_with_consent_may_not_come_back() {
        let mut model = model();
        model.lost_from(2);
        assert_eq!(model.high_watermark(), 2);
        model.read(0, &[seen(1, 0, 2)], 2, 2).unwrap();
        assert!(model.clone().read(2, &[seen(2, 2, 1)], 3, 2).is_err());
        model.given(9, 2, 1);
        model.acked(9).unwrap();
        model
            .final_read(0, &[seen(1, 0, 2), seen(9, 2, 1)], 3)
            .unwrap();
    }
}
