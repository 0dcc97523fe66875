//! When a snapshot is due.
//!
//! *Owns*: how much log there is since the last snapshot, and who writes the next.
//! *Does not own*: writing it.
//!
//! Invariants
//! 1. A snapshot costs about as much as it saves: it is due once the log since the
//!    last is half its size, so that a large state is not written again and again; after
//!    `snapshot_entries` at the earliest and `snapshot_entries_max` at the latest.
//! 2. The writer of the entry that makes it due writes it. Others step in once the log
//!    has grown by half more: all count the same entries, so seldom do two write.
//!
//! *IO: none*

use crate::config::MetaConfig;

/// The log since a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogSize {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl LogSize {
    fn is_due(self, snapshot_bytes: u64, config: &MetaConfig) -> bool {
        let grown = self.bytes.saturating_mul(2) >= snapshot_bytes;
        self.entries >= config.snapshot_entries_max
            || (self.entries >= config.snapshot_entries && grown)
    }

    fn minus(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(other.entries),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The entry of the last snapshot known.
    pub(super) snapshot_seq: u64,
    snapshot_bytes: u64,
    since: LogSize,
    /// The log at which this process took the last snapshot up, if it is not written yet.
    begun: Option<LogSize>,
    /// An entry of this process made the next one due.
    owed: bool,
    /// Entries before the next try, after one that failed.
    entries_next: u64,
}

impl Pace {
    pub(super) fn new(snapshot_seq: u64, snapshot_bytes: u64, since: LogSize) -> Self {
        Self {
            snapshot_seq,
            snapshot_bytes,
            since,
            ..Self::default()
        }
    }

    /// An entry was applied. Whether this process should write a snapshot now.
    pub(super) fn applied(&mut self, bytes: u64, is_own: bool, config: &MetaConfig) -> bool {
        let uncovered = |since: LogSize| since.minus(self.begun.unwrap_or_default());
        let was_due = uncovered(self.since).is_due(self.snapshot_bytes, config);
        self.since.entries += 1;
        self.since.bytes += bytes;
        let log = uncovered(self.since);
        let two_thirds = LogSize {
            entries: log.entries * 2 / 3,
            bytes: log.bytes * 2 / 3,
        };
        let is_due = log.is_due(self.snapshot_bytes, config);
        self.owed |= is_own && is_due && !was_due;
        let overdue = is_own && two_thirds.is_due(self.snapshot_bytes, config);
        let mine = is_own && (self.owed || overdue);
        if !mine || self.begun.is_some() || self.since.entries < self.entries_next {
            return false;
        }
        (self.begun, self.owed) = (Some(self.since), false);
        true
    }

    /// The snapshot that was begun is written, or another's of entry `seq` was found.
    pub(super) fn written(&mut self, seq: u64, snapshot_bytes: u64) {
        let covered = self.begun.take().unwrap_or(self.since);
        if seq > self.snapshot_seq {
            (self.snapshot_seq, self.snapshot_bytes) = (seq, snapshot_bytes);
            self.since = self.since.minus(covered);
            self.entries_next = 0;
        }
    }

    /// It could not be written: the log holds everything, so some more entries are no loss.
    pub(super) fn failed(&mut self, config: &MetaConfig) {
        self.begun = None;
        self.entries_next = self.since.entries + config.snapshot_entries.div_ceil(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> MetaConfig {
        MetaConfig {
            snapshot_entries: 10,
            snapshot_entries_max: 100,
            ..MetaConfig::default()
        }
    }

    fn due_at(pace: &mut Pace, bytes: u64, is_own: bool) -> u64 {
        (1..1_000)
            .find(|_| pace.applied(bytes, is_own, &config()))
            .unwrap_or(0)
    }

    #[test]
    fn a_small_state_is_due_by_entries_a_large_one_by_bytes_and_at_last_by_entries() {
        let pace = |snapshot_bytes| Pace::new(5, snapshot_bytes, LogSize::default());
        assert_eq!(due_at(&mut pace(100), 100, true), 10);
        assert_eq!(due_at(&mut pace(10_000), 100, true), 50);
        assert_eq!(due_at(&mut pace(1 << 40), 100, true), 100);
    }

    #[test]
    fn the_writer_of_the_due_entry_takes_it_others_wait_for_half_more() {
        let mut pace = Pace::new(0, 0, LogSize::default());
        assert_eq!(due_at(&mut pace, 100, false), 0);
        let mut pace = Pace::new(0, 0, LogSize::default());
        (0..11).for_each(|_| assert!(!pace.applied(100, false, &config())));
        assert_eq!(due_at(&mut pace, 100, true), 4);
    }

    #[test]
    fn one_at_a_time_and_what_came_meanwhile_counts() {
        let mut pace = Pace::new(0, 0, LogSize::default());
        assert_eq!(due_at(&mut pace, 100, true), 10);
        (0..7).for_each(|_| assert!(!pace.applied(100, true, &config())));
        pace.written(10, 500);
        assert_eq!(pace.snapshot_seq, 10);
        assert_eq!(due_at(&mut pace, 100, true), 3);
        pace.failed(&config());
        assert_eq!(due_at(&mut pace, 100, true), 5);
    }
}
