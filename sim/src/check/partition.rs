//! One partition, as producers and consumers are told of it.
//!
//! *Owns*: which value each offset has shown, what was acknowledged, who saw which watermark.
//! *Does not own*: where the bytes come from.
//!
//! Invariants
//! 1. A value is (producer, sequence) and is sent once by an idempotent producer, however often its
//!    request is; a plain producer's may show at several offsets.
//! 2. What an offset has shown, or an acknowledgement has named, it shows for ever.
//! 3. The values of one idempotent producer ascend with the offsets.
//! 4. A value of a producer that waits for no answer shows once or never.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;

const LOG: &str = "log";
const MARKS: &str = "watermarks";

/// Who sent a value, and which of its values it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value {
    pub(crate) producer: u32,
    pub(crate) sequence: u32,
}

impl Value {
    /// The number a payload carries.
    pub(crate) fn number(self) -> u64 {
        u64::from(self.producer) << 32 | u64::from(self.sequence)
    }

    /// The value with this number.
    pub(crate) fn of(number: u64) -> Self {
        let low = number & u64::from(u32::MAX);
        Self {
            producer: u32::try_from(number >> 32).expect("32 bits"),
            sequence: u32::try_from(low).expect("32 bits"),
        }
    }
}

/// What a reader knew before it asked; what it is told must not be older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) high_watermark: i64,
    pub(crate) start: i64,
}

/// One partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionModel {
    sent: BTreeSet<Value>,
    shown: BTreeMap<i64, Value>,
    /// Offsets that an acknowledgement named.
    acked: BTreeSet<i64>,
    /// Where each value of an idempotent producer shows.
    place: BTreeMap<Value, i64>,
    plain: BTreeSet<u32>,
    unordered: BTreeSet<u32>,
    floor: Floor,
}

impl PartitionModel {
    /// `producer` does not de-duplicate.
    pub(crate) fn plain(&mut self, producer: u32) {
        self.plain.insert(producer);
    }

    /// `producer` sends each value once and waits for no answer: what it sends over another
    /// connection may overtake what is on its way.
    pub(crate) fn unordered(&mut self, producer: u32) {
        self.unordered.insert(producer);
    }

    /// `value` is on its way for the first time.
    pub(crate) fn sent(&mut self, value: Value) {
        self.sent.insert(value);
    }

    /// `values` were acknowledged at `base` and behind.
    ///
    /// # Errors
    /// The base is no offset, these offsets have shown something else, or the values show elsewhere.
    pub(crate) fn acked(&mut self, base: i64, values: &[Value]) -> Result<(), Violation> {
        if base < 0 {
            let detail = format!("{values:?} are acknowledged at {base}, which is no offset");
            return Err(Violation::new(LOG, detail));
        }
        let mut offset = base;
        for value in values {
            self.show(offset, *value)?;
            self.acked.insert(offset);
            offset += 1;
        }
        // A read that begins from now on must see them.
        self.floor.high_watermark = self.floor.high_watermark.max(offset);
        Ok(())
    }

    /// What whoever asks now must at least be told.
    pub(crate) fn floor(&self) -> Floor {
        self.floor
    }

    /// A reader that knew of `floor` is told these marks.
    ///
    /// # Errors
    /// One went back.
    pub(crate) fn marks(
        &mut self,
        start: i64,
        high_watermark: i64,
        floor: Floor,
    ) -> Result<(), Violation> {
        let went_back = |what: &str, from: i64, to: i64| {
            Err(Violation::new(
                MARKS,
                format!("{what} went back from {from} to {to}"),
            ))
        };
        if high_watermark < floor.high_watermark {
            return went_back("high watermark", floor.high_watermark, high_watermark);
        }
        if start < floor.start {
            return went_back("log start", floor.start, start);
        }
        if start > 0 {
            let detail = format!("log start is {start}, and nobody deleted anything");
            return Err(Violation::new(MARKS, detail));
        }
        self.floor.high_watermark = self.floor.high_watermark.max(high_watermark);
        self.floor.start = self.floor.start.max(start);
        Ok(())
    }

    /// A reader asked from `offset` on and saw `records`, below `high_watermark`.
    ///
    /// # Errors
    /// What a right partition would not have shown.
    pub(crate) fn read(
        &mut self,
        offset: i64,
        records: &[(i64, Value)],
        high_watermark: i64,
    ) -> Result<(), Violation> {
        let mut next = None;
        for (at, value) in records {
            // The first batch may begin before the offset that was asked for.
            let wrong = match next {
                None if *at > offset => "skip: the first is",
                Some(next) if *at > next => "gap: behind it comes",
                Some(next) if *at < next => "back: behind it comes",
                _ => "",
            };
            if !wrong.is_empty() {
                let place = next.unwrap_or(offset);
                let detail = format!("{wrong} {at} in place of {place}, asked for {offset}");
                return Err(Violation::new(LOG, detail));
            }
            next = Some(at + 1);
            if *at >= high_watermark {
                let detail = format!("offset {at} shown, the high watermark is {high_watermark}");
                return Err(Violation::new(LOG, detail));
            }
            self.show(*at, *value)?;
        }
        if next.is_some_and(|next| next <= offset) {
            let detail = format!("nothing at {offset}: the answer ends before it");
            return Err(Violation::new(LOG, detail));
        }
        Ok(())
    }

    fn show(&mut self, offset: i64, value: Value) -> Result<(), Violation> {
        if !self.sent.contains(&value) {
            let detail = format!("offset {offset} shows {value:?}, which nobody sent here");
            return Err(Violation::new(LOG, detail));
        }
        let known = *self.shown.entry(offset).or_insert(value);
        if known != value {
            let detail = format!("offset {offset} showed {known:?} and now shows {value:?}");
            return Err(Violation::new(LOG, detail));
        }
        if self.plain.contains(&value.producer) {
            return Ok(());
        }
        let place = *self.place.entry(value).or_insert(offset);
        if place != offset {
            let detail = format!("duplicate: {value:?} shows at {place} and at {offset}");
            return Err(Violation::new(LOG, detail));
        }
        if self.unordered.contains(&value.producer) {
            return Ok(());
        }
        self.check_order(offset, value)
    }

    /// The neighbours of `value` among its producer's values stand on the right sides of it.
    fn check_order(&self, offset: i64, value: Value) -> Result<(), Violation> {
        let first = Value {
            sequence: 0,
            ..value
        };
        let last = Value {
            sequence: u32::MAX,
            ..value
        };
        let before = self.place.range(first..value).next_back();
        let after = self.place.range(value..=last).nth(1);
        let wrong = before.filter(|(_, at)| **at > offset);
        let wrong = wrong.or_else(|| after.filter(|(_, at)| **at < offset));
        match wrong {
            None => Ok(()),
            Some((other, at)) => {
                let detail = format!("order: {value:?} shows at {offset}, {other:?} at {at}");
                Err(Violation::new(LOG, detail))
            }
        }
    }

    /// Everything, read when all is healed.
    ///
    /// # Errors
    /// Something acknowledged or shown is missing, or anything [`PartitionModel::read`] finds.
    pub(crate) fn final_read(
        &mut self,
        records: &[(i64, Value)],
        high_watermark: i64,
    ) -> Result<(), Violation> {
        if !records.is_empty() {
            self.read(0, records, high_watermark)?;
        }
        let end = records.last().map_or(0, |(at, _)| at + 1);
        if end != high_watermark {
            let detail =
                format!("the final read ends at {end}, the high watermark is {high_watermark}");
            return Err(Violation::new(LOG, detail));
        }
        match self.shown.range(end..).next() {
            None => Ok(()),
            Some((at, value)) => {
                let how = if self.acked.contains(at) {
                    "acknowledged"
                } else {
                    "shown"
                };
                let detail = format!("lost: {value:?} was {how} at {at}, the log ends at {end}");
                Err(Violation::new(LOG, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Floor, PartitionModel, Value};
    use crate::check::anomaly::anomaly;

    fn value(sequence: u32) -> Value {
        Value {
            producer: 1,
            sequence,
        }
    }

    /// Values 0 to 5 of an idempotent producer and one of a plain one are sent; 0 and 1 are
    /// acknowledged.
    fn model() -> PartitionModel {
        let mut model = PartitionModel::default();
        for sequence in 0..6 {
            model.sent(value(sequence));
        }
        model.plain(2);
        model.sent(Value {
            producer: 2,
            sequence: 0,
        });
        model.acked(0, &[value(0), value(1)]).unwrap();
        model
    }

    fn complaint(result: Result<(), crate::check::Violation>) -> String {
        result.unwrap_err().detail
    }

    #[test]
    fn a_value_is_its_number() {
        assert_eq!(Value::of(value(7).number()), value(7));
    }

    #[test]
    fn good_histories_pass() {
        let mut model = model();
        let plain = Value {
            producer: 2,
            sequence: 0,
        };
        model.read(1, &[(0, value(0)), (1, value(1))], 2).unwrap();
        model.acked(2, &[value(2)]).unwrap();
        let all = [
            (0, value(0)),
            (1, value(1)),
            (2, value(2)),
            (3, plain),
            (4, plain),
            (5, value(3)),
        ];
        model.marks(0, 6, model.floor()).unwrap();
        model.final_read(&all, 6).unwrap();
    }

    #[test]
    fn a_lost_value_is_seen_whether_acknowledged_or_only_shown() {
        assert!(complaint(model().final_read(&[(0, value(0))], 1)).contains("acknowledged"));
        assert!(complaint(model().final_read(&[], 0)).contains("lost"));
        let mut shown = model();
        shown.read(2, &[(2, value(2))], 3).unwrap();
        let all = [(0, value(0)), (1, value(1))];
        assert!(complaint(shown.final_read(&all, 2)).contains("shown"));
    }

    #[test]
    fn an_offset_that_changes_its_value_is_seen() {
        assert!(complaint(model().read(1, &[(1, value(2))], 2)).contains("now shows"));
        assert!(complaint(model().acked(1, &[value(2)])).contains("now shows"));
        let mut seen = model();
        seen.read(2, &[(2, value(2))], 3).unwrap();
        assert!(complaint(seen.acked(2, &[value(3)])).contains("now shows"));
    }

    #[test]
    fn an_acknowledgement_without_an_offset_is_seen() {
        assert!(complaint(model().acked(-1, &[value(2)])).contains("no offset"));
        assert!(complaint(model().acked(i64::MIN, &[value(2)])).contains("no offset"));
    }

    #[test]
    fn a_duplicate_is_seen() {
        assert!(complaint(model().acked(2, &[value(1)])).contains("duplicate"));
        let twice = [(1, value(1)), (2, value(1))];
        assert!(complaint(model().read(1, &twice, 3)).contains("duplicate"));
        let all = [(0, value(0)), (1, value(1)), (2, value(0))];
        assert!(complaint(model().final_read(&all, 3)).contains("duplicate"));
    }

    #[test]
    fn values_out_of_order_are_seen() {
        let swapped = [(2, value(3)), (3, value(2))];
        assert!(complaint(model().read(2, &swapped, 4)).contains("order"));
        let mut model = model();
        model.acked(5, &[value(4)]).unwrap();
        assert!(complaint(model.acked(4, &[value(5)])).contains("order"));
        let mut later = self::model();
        later.acked(3, &[value(3)]).unwrap();
        assert!(complaint(later.acked(4, &[value(2)])).contains("order"));
    }

    #[test]
    fn a_producer_that_waits_for_no_answer_may_be_overtaken_and_shows_once() {
        let mut model = model();
        model.unordered(3);
        let value = |sequence| Value {
            producer: 3,
            sequence,
        };
        (0..3).for_each(|sequence| model.sent(value(sequence)));
        model.read(2, &[(2, value(1)), (3, value(0))], 4).unwrap();
        assert!(complaint(model.read(4, &[(4, value(0))], 5)).contains("duplicate"));
        let mut lost = model.clone();
        assert!(complaint(lost.read(2, &[(2, value(0))], 4)).contains("now shows"));
        assert!(complaint(model.read(4, &[(4, value(5))], 5)).contains("nobody sent"));
    }

    #[test]
    fn gaps_strangers_and_answers_that_end_too_early_are_seen() {
        assert!(complaint(model().read(1, &[(2, value(2))], 3)).contains("skip"));
        let gap = [(0, value(0)), (2, value(2))];
        assert!(complaint(model().read(0, &gap, 3)).contains("gap"));
        assert!(complaint(model().read(2, &[(2, value(9))], 3)).contains("nobody sent"));
        assert!(complaint(model().read(1, &[(0, value(0))], 2)).contains("ends before"));
        assert!(complaint(model().final_read(&[(0, value(0))], 2)).contains("ends at"));
    }

    #[test]
    fn bad_histories_have_the_names_that_others_give_them() {
        let name = |result: Result<(), _>| anomaly(&result.unwrap_err());
        let all = [(0, value(0)), (1, value(1))];
        let lost = model().final_read(&all[..1], 1);
        assert_eq!(name(lost), Some("lost-write"));
        assert_eq!(name(model().final_read(&all, 3)), Some("unseen"));
        let short = model().read(1, &all[..1], 2);
        assert_eq!(name(short), Some("unseen"));
        let changed = model().acked(1, &[value(2)]);
        assert_eq!(name(changed), Some("inconsistent-offsets"));
        let duplicate = model().acked(2, &[value(1)]);
        assert_eq!(name(duplicate), Some("duplicate"));
        let swapped = [(2, value(3)), (3, value(2))];
        let order = model().read(2, &swapped, 4);
        assert_eq!(name(order), Some("nonmonotonic-send"));
        let stranger = model().read(2, &[(2, value(9))], 3);
        assert_eq!(name(stranger), Some("G1a"));
        let above = model().read(1, &all[1..], 1);
        assert_eq!(name(above), Some("precommitted-read"));
        let skip = model().read(1, &[(2, value(2))], 3);
        assert_eq!(name(skip), Some("poll-skip"));
        let gap = model().read(0, &[(0, value(0)), (2, value(2))], 3);
        assert_eq!(name(gap), Some("int-poll-skip"));
        let back = model().read(0, &[all[0], all[1], all[1]], 3);
        assert_eq!(name(back), Some("int-nonmonotonic-poll"));
        let mut model = model();
        let floor = model.floor();
        assert_eq!(name(model.marks(0, 1, floor)), Some("nonmonotonic-poll"));
        assert_eq!(name(model.marks(1, 2, floor)), Some("lost-write"));
    }

    #[test]
    fn marks_that_go_back_and_reads_above_them_are_seen() {
        let mut model = model();
        assert!(complaint(model.read(1, &[(1, value(1))], 1)).contains("high watermark"));
        let floor = model.floor();
        assert_eq!(floor.high_watermark, 2);
        assert!(complaint(model.marks(0, 1, floor)).contains("went back"));
        assert!(complaint(model.marks(1, 2, floor)).contains("nobody deleted"));
        let later = Floor {
            start: 1,
            high_watermark: 0,
        };
        assert!(complaint(model.marks(0, 2, later)).contains("log start"));
    }
}
