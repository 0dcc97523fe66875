//! What was appended where, and what was promised: written by the workload, read by the judge.
//!
//! *Owns*: the history file (`value lsn len`, in hexadecimal, a line an append), the promises in
//! front of a crash.
//! *Does not own*: the rules (the simulator's model of frames has them).
//!
//! Invariants
//! 1. A promise counts only if its mark stands in front of the crash.
//!
//! *IO: none*

use std::collections::BTreeMap;

use tidewater_types::Lsn;

use super::log::{Action, Entry};
use super::marks::Mark;
use crate::check::frames::FrameModel;

/// Every append of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    appended: BTreeMap<u64, Lsn>,
}

/// What a crash may not take away.
#[derive(Clone, Debug, Default)]
pub(super) struct Promises {
    /// The log was there.
    pub(super) opened: bool,
    acked: Vec<u64>,
    trim: Lsn,
}

/// One line of the history file.
pub(super) fn line(value: u64, lsn: Lsn) -> String {
    format!("{value:x} {:x}\n", lsn.0)
}

impl History {
    /// Reads the file's text; the number of the first bad line on failure.
    pub(super) fn parse(text: &str) -> Result<Self, usize> {
        let mut appended = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let number = |text: &str| u64::from_str_radix(text, 16).ok();
            let numbers = line
                .split_once(' ')
                .and_then(|(value, lsn)| Some((number(value)?, number(lsn)?)));
            let (value, lsn) = numbers.ok_or(index + 1)?;
            appended.insert(value, Lsn(lsn));
        }
        Ok(Self { appended })
    }

    /// Frames appended in the whole run.
    pub(super) fn num_frames(&self) -> usize {
        self.appended.len()
    }

    /// The model of a log that was given these frames, and made these promises.
    pub(super) fn model(&self, promises: &Promises) -> FrameModel {
        let mut model = FrameModel::default();
        for (value, lsn) in &self.appended {
            model.appended(*value, *lsn);
        }
        promises.acked.iter().for_each(|value| model.acked(*value));
        model.trimmed(promises.trim);
        model
    }
}

impl Promises {
    /// The promises in the marks of `log`.
    pub(super) fn of_log(log: &[Entry]) -> Self {
        Self::of_marks(log.iter().filter_map(|entry| match &entry.action {
            Action::Mark(text) => Some(text.as_str()),
            _ => None,
        }))
    }

    /// The promises in these marks.
    pub(super) fn of_marks<'a>(marks: impl IntoIterator<Item = &'a str>) -> Self {
        let mut promises = Self::default();
        for mark in marks.into_iter().filter_map(Mark::parse) {
            match mark {
                Mark::Opened => promises.opened = true,
                Mark::Acked(values) => promises.acked.extend(values),
                Mark::Trim(lsn) => promises.trim = promises.trim.max(lsn),
            }
        }
        promises
    }
}

#[cfg(test)]
mod tests {
    use super::{History, Promises, line};
    use tidewater_types::Lsn;

    #[test]
    fn a_history_reads_back_and_a_bad_line_is_named() {
        let text = [line(1, Lsn(0x20)), line(0xab, Lsn(0x40))].concat();
        assert_eq!(History::parse(&text).unwrap().num_frames(), 2);
        assert_eq!(History::parse("1 2\nx 3\n").unwrap_err(), 2);
        assert_eq!(History::parse("12\n").unwrap_err(), 1);
    }

    #[test]
    fn only_promised_frames_that_are_not_trimmed_must_come_back() {
        let text: String = (1..=4).map(|value| line(value, Lsn(value * 16))).collect();
        let history = History::parse(&text).unwrap();
        let promises = Promises::of_marks(["o", "a1,2,3", "t20", "dm-log-writes-end"]);
        assert!(promises.opened);
        let promised: Vec<_> = history.model(&promises).promised().collect();
        assert_eq!(promised, [(2, Lsn(32)), (3, Lsn(48))]);
        assert_eq!(history.model(&Promises::default()).promised().count(), 0);
    }
}
