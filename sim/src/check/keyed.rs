//! The model of a stream that is compacted by key: what may be missing, and when.
//!
//! *Owns*: what was written at each offset, and whether what a reader saw of it can be right.
//! *Does not own*: how a stream stores anything; offsets of whole streams (`streams`).
//!
//! Invariants
//! 1. A record that shows is the one that was written at its offset.
//! 2. A record is missing only if a later one has its key, or if it is a deletion that has stood
//!    for its time; and only where compaction was allowed.
//! 3. So of every key the newest value is there.
//! 4. A deletion outlives what it deletes.
//!
//! *IO: none*

use std::collections::BTreeMap;

use super::{Violation, payload, value_of};

const KEYS: &str = "keys";
/// Bytes of a record: delta, key, whether it deletes, value.
const RECORD_BYTES: usize = 3 + VALUE_BYTES;
const VALUE_BYTES: usize = 16;
const HORIZON_BYTES: usize = 8;

/// A record of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keyed {
    pub(crate) delta: u8,
    pub(crate) key: u8,
    pub(crate) is_tombstone: bool,
    pub(crate) value: u64,
}

/// The bytes of an entry.
pub(crate) fn keyed_payload(horizon_ms: Option<i64>, records: &[Keyed]) -> Vec<u8> {
    let mut bytes = horizon_ms.unwrap_or(i64::MIN).to_le_bytes().to_vec();
    for record in records {
        bytes.extend([record.delta, record.key, u8::from(record.is_tombstone)]);
        bytes.extend(payload(record.value, VALUE_BYTES));
    }
    bytes
}

/// Delete horizon and records of an entry, if every byte of it is right.
pub(crate) fn parse_keyed(bytes: &[u8]) -> Option<(Option<i64>, Vec<Keyed>)> {
    let (horizon, rest) = bytes.split_first_chunk::<HORIZON_BYTES>()?;
    let horizon = i64::from_le_bytes(*horizon);
    let records = rest.chunks(RECORD_BYTES).map(|record| {
        let ([delta, key, flag], value) = record.split_first_chunk::<3>()?;
        (value.len() == VALUE_BYTES && *flag < 2).then_some(Keyed {
            delta: *delta,
            key: *key,
            is_tombstone: *flag == 1,
            value: value_of(value)?,
        })
    });
    let records = records.collect::<Option<Vec<_>>>()?;
    Some(((horizon != i64::MIN).then_some(horizon), records))
}

#[derive(Clone, Copy, Debug)]
struct Written {
    record: Keyed,
    at_ms: i64,
}

/// One entry as a reader sees it.
pub(crate) type SeenEntry<'a> = (u64, u64, &'a [u8]);

/// One stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyedModel {
    /// Base offset → number of offsets.
    entries: BTreeMap<u64, u64>,
    records: BTreeMap<u64, Written>,
    /// Key → its newest offset.
    newest: BTreeMap<u8, u64>,
    /// Nothing at or above may be missing.
    bound: u64,
    delete_retention_ms: i64,
}

impl KeyedModel {
    pub(crate) fn new(delete_retention_ms: i64) -> Self {
        Self {
            delete_retention_ms,
            ..Self::default()
        }
    }

    /// An entry was written.
    pub(crate) fn written(&mut self, base: u64, records: &[Keyed], at_ms: i64) {
        self.entries.insert(base, records.len() as u64);
        for record in records {
            let (offset, record) = (base + u64::from(record.delta), *record);
            self.records.insert(offset, Written { record, at_ms });
            self.newest.insert(record.key, offset);
        }
    }

    /// Compaction is allowed below `bound`.
    pub(crate) fn allow(&mut self, bound: u64) {
        self.bound = self.bound.max(bound);
    }

    pub(crate) fn bound(&self) -> u64 {
        self.bound
    }

    /// A reader asked from `offset` on at `now_ms` and saw `entries`.
    ///
    /// # Errors
    /// What a right stream would not have shown, or not have left out.
    pub(crate) fn read(
        &self,
        offset: u64,
        entries: &[SeenEntry<'_>],
        now_ms: i64,
    ) -> Result<(), Violation> {
        let wrong = |detail: String| Err(Violation::new(KEYS, detail));
        let mut next = offset;
        for (base, count, bytes) in entries {
            if self.entries.get(base) != Some(count) {
                return wrong(format!("an entry at {base}+{count} was never written"));
            }
            if base + count <= next || (*base < next && next != offset) {
                return wrong(format!("the entry at {base}+{count} comes after {next}"));
            }
            let Some((_, records)) = parse_keyed(bytes) else {
                return wrong(format!("altered: the bytes at {base} were never written"));
            };
            for record in records {
                let at = base + u64::from(record.delta);
                let written = self.records.get(&at).map(|written| written.record);
                if written != Some(record) {
                    return wrong(format!("{at} shows {record:?}, written was {written:?}"));
                }
                self.may_be_missing(next.max(offset)..at.max(offset), now_ms)?;
                next = at + 1;
            }
            self.may_be_missing(next.max(offset)..base + count, now_ms)?;
            next = base + count;
        }
        Ok(())
    }

    /// A reader of everything, after the last pass, saw `entries` from `offset` on; all below `cleaned`
    /// is told to be compacted.
    ///
    /// # Errors
    /// As of a read; a record that another one supersedes below `cleaned`; a value that shows although
    /// its deletion is gone.
    pub(crate) fn final_read(
        &self,
        offset: u64,
        entries: &[SeenEntry<'_>],
        (now_ms, cleaned): (i64, u64),
    ) -> Result<(), Violation> {
        self.read(offset, entries, now_ms)?;
        let (mut shown, mut last) = (BTreeMap::new(), BTreeMap::new());
        for (base, _, bytes) in entries {
            for record in parse_keyed(bytes).map_or(Vec::new(), |(_, records)| records) {
                let at = base + u64::from(record.delta);
                shown.insert(at, record);
                if at < cleaned {
                    last.insert(record.key, at);
                }
            }
        }
        for (at, record) in shown.iter().filter(|(at, _)| **at >= offset) {
            let last = last.get(&record.key).copied().unwrap_or(*at);
            let newest = self.newest.get(&record.key).copied().unwrap_or(*at);
            let detail = if last > *at {
                format!("{record:?} at {at} is left although {last} supersedes it below {cleaned}")
            } else if newest > *at && !shown.contains_key(&newest) {
                format!("{record:?} at {at} came back: its deletion at {newest} is gone")
            } else {
                continue;
            };
            return Err(Violation::new(KEYS, detail));
        }
        Ok(())
    }

    fn may_be_missing(&self, offsets: std::ops::Range<u64>, now_ms: i64) -> Result<(), Violation> {
        if offsets.is_empty() {
            return Ok(());
        }
        for (offset, Written { record, at_ms }) in self.records.range(offsets) {
            let is_over =
                record.is_tombstone && at_ms.saturating_add(self.delete_retention_ms) <= now_ms;
            let is_newest = self.newest.get(&record.key) == Some(offset);
            let what = if *offset >= self.bound {
                "above the bound of compaction"
            } else if is_newest && !record.is_tombstone {
                "the newest of its key"
            } else if is_newest && !is_over {
                "a deletion that has not stood for its time"
            } else {
                continue;
            };
            let detail = format!("lost: {record:?} at {offset} is {what}, and is not there");
            return Err(Violation::new(KEYS, detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Keyed, KeyedModel, keyed_payload, parse_keyed};
    use crate::check::Violation;
    use crate::check::anomaly::anomaly;

    fn record(delta: u8, key: u8, value: u64) -> Keyed {
        Keyed {
            delta,
            key,
            is_tombstone: value == 0,
            value,
        }
    }

    /// Entries 0..2, 2..3, 3..5: key 1 at 0, 2 and 4, key 2 deleted at 1, key 3 at 3.
    fn model() -> KeyedModel {
        let mut model = KeyedModel::new(100);
        model.written(0, &[record(0, 1, 10), record(1, 2, 0)], 1_000);
        model.written(2, &[record(0, 1, 11)], 1_000);
        model.written(3, &[record(0, 3, 12), record(1, 1, 13)], 1_000);
        model.allow(4);
        model
    }

    type Seen<'a> = (u64, u64, &'a [Keyed]);

    fn read(offset: u64, entries: &[Seen<'_>], now_ms: i64) -> Result<(), Violation> {
        let bytes: Vec<_> = entries
            .iter()
            .map(|(base, count, records)| (*base, *count, keyed_payload(None, records)))
            .collect();
        let seen: Vec<_> = bytes
            .iter()
            .map(|(base, count, bytes)| (*base, *count, &bytes[..]))
            .collect();
        model().read(offset, &seen, now_ms)
    }

    fn complaint(result: Result<(), Violation>) -> String {
        result.unwrap_err().detail
    }

    const LAST: Seen<'static> = (
        3,
        2,
        &[
            Keyed {
                delta: 0,
                key: 3,
                is_tombstone: false,
                value: 12,
            },
            Keyed {
                delta: 1,
                key: 1,
                is_tombstone: false,
                value: 13,
            },
        ],
    );

    #[test]
    fn what_may_be_missing_is_not_missed() {
        let all: [Seen<'_>; 3] = [
            (0, 2, &[record(0, 1, 10), record(1, 2, 0)]),
            (2, 1, &[record(0, 1, 11)]),
            LAST,
        ];
        read(0, &all, 1_000).unwrap();
        read(1, &all, 1_000).unwrap();
        read(0, &[(0, 2, &[record(1, 2, 0)]), LAST], 1_050).unwrap();
        read(0, &[LAST], 1_100).unwrap();
        read(0, &[(0, 2, &[]), LAST], 1_100).unwrap();
        read(2, &[LAST], 1_000).unwrap();
        read(4, &[LAST], 1_000).unwrap();
    }

    #[test]
    fn a_deletion_that_goes_too_soon_is_seen() {
        assert!(complaint(read(0, &[LAST], 1_099)).contains("stood for its time"));
    }

    #[test]
    fn what_a_pass_left_and_what_outlives_its_deletion_is_seen_at_the_end() {
        let mut model = model();
        model.written(5, &[record(0, 3, 0)], 1_000);
        model.written(6, &[record(0, 9, 14)], 1_000);
        model.allow(7);
        let of = |cleaned: u64, entries: &[Seen<'_>]| {
            let bytes: Vec<_> = entries
                .iter()
                .map(|(base, count, records)| (*base, *count, keyed_payload(None, records)))
                .collect();
            let seen: Vec<_> = bytes
                .iter()
                .map(|(base, count, bytes)| (*base, *count, &bytes[..]))
                .collect();
            model.final_read(0, &seen, (2_000, cleaned))
        };
        let deletion: Seen<'_> = (5, 1, &[record(0, 3, 0)]);
        let last: Seen<'_> = (6, 1, &[record(0, 9, 14)]);
        of(5, &[LAST, deletion, last]).unwrap();
        of(6, &[(3, 2, &[record(1, 1, 13)]), last]).unwrap();
        assert!(complaint(of(6, &[LAST, deletion, last])).contains("supersedes it below 6"));
        assert!(complaint(of(5, &[LAST, last])).contains("came back"));
    }

    #[test]
    fn a_newest_value_that_is_missing_is_seen() {
        let last: Seen<'_> = (3, 2, &[record(1, 1, 13)]);
        assert!(complaint(read(2, &[last], 2_000)).contains("newest of its key"));
    }

    #[test]
    fn compaction_above_the_bound_is_seen() {
        let last: Seen<'_> = (3, 2, &[record(0, 3, 12)]);
        assert!(complaint(read(2, &[last], 2_000)).contains("above the bound"));
    }

    #[test]
    fn bad_histories_have_the_names_that_others_give_them() {
        let name = |result: Result<(), _>| anomaly(&result.unwrap_err());
        let newest: Seen<'_> = (3, 2, &[record(1, 1, 13)]);
        assert_eq!(name(read(2, &[newest], 2_000)), Some("lost-write"));
        assert_eq!(name(read(0, &[LAST], 1_099)), Some("lost-write"));
        assert_eq!(name(read(0, &[(1, 1, &[])], 2_000)), Some("G1a"));
        let twice = read(0, &[LAST, LAST], 2_000);
        assert_eq!(name(twice), Some("int-nonmonotonic-poll"));
        let moved = read(0, &[(0, 2, &[record(1, 1, 10)])], 2_000);
        assert_eq!(name(moved), Some("inconsistent-offsets"));
        let seen = [(0, 2, &b"not an entry"[..])];
        assert_eq!(name(model().read(0, &seen, 2_000)), Some("G1a"));
    }

    #[test]
    fn altered_moved_and_invented_records_are_seen() {
        let of = |records: &[Keyed]| complaint(read(0, &[(0, 2, records)], 2_000));
        assert!(of(&[record(0, 1, 99)]).contains("shows"));
        assert!(of(&[record(1, 1, 10)]).contains("shows"));
        assert!(of(&[record(0, 2, 10)]).contains("shows"));
        assert!(complaint(read(0, &[(1, 1, &[])], 2_000)).contains("never written"));
        assert!(complaint(read(0, &[LAST, LAST], 2_000)).contains("comes after"));
        let mut bytes = keyed_payload(Some(7), &[record(0, 1, 10)]);
        assert_eq!(parse_keyed(&bytes), Some((Some(7), vec![record(0, 1, 10)])));
        bytes[15] ^= 1;
        assert_eq!(parse_keyed(&bytes), None);
        let seen = [(0, 2, &bytes[..])];
        assert!(complaint(model().read(0, &seen, 2_000)).contains("altered"));
    }
}
