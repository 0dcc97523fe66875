//! Turns of processes that write the log at the same time.
//!
//! *Owns*: whether this process has rivals, what it reads beside a create, how long it stands back
//! after one that it won.
//! *Does not own*: the requests (`commit`).
//!
//! A loser that first hears that its number is taken, then reads the entry there, and then creates the
//! next one is a request behind the winner, for ever: the winner has created that one, too. So whoever
//! lost of late reads beside the create, and more entries at a time as long as all of them are there.
//! And whoever won in front of rivals stands back for up to the time of a request: those who are
//! behind it by less than that come first then.
//!
//! Invariants
//! 1. Without rivals nothing is read and nobody waits; but who commits without a pause in a cluster of
//!    several nodes waits once in [`STREAK`] times, for it would never hear of those it shuts out.
//! 2. Time since the win counts as waiting.
//!
//! *IO: none*

use std::time::Duration;

use tidewater_types::Instant;

/// Wins until a process that lost believes that it has no rivals.
const WINS: u32 = 8;
/// Commits in a row, without a loss, before a process waits for rivals that it does not know.
const STREAK: u32 = 16;
/// Most entries that are read beside a create.
const AHEAD_MAX: u64 = 16;
/// Longest wait, however slow the store.
const WAIT_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    /// Wins since the last loss, up to [`WINS`].
    wins: u32,
    /// Wins since the last loss or the last wait for rivals that it does not know.
    streak: u32,
    ahead: u64,
    not_before: Instant,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            wins: WINS,
            streak: 0,
            ahead: 1,
            not_before: Instant(0),
        }
    }
}

impl Turns {
    /// How many entries are read beside the next create.
    pub(super) fn ahead(&self) -> u64 {
        if self.wins < WINS { self.ahead } else { 0 }
    }

    /// Another's entry was there; `found` entries were read, this one among them.
    pub(super) fn lost(&mut self, found: u64) {
        self.ahead = if found >= self.ahead {
            (self.ahead * 2).min(AHEAD_MAX)
        } else {
            found.max(1)
        };
        (self.wins, self.streak) = (0, 0);
    }

    /// The entry was created at `now`, which took `latency`. `random` is any number.
    pub(super) fn won(
        &mut self,
        (now, latency): (Instant, Duration),
        has_others: bool,
        random: u64,
    ) {
        self.streak = (self.streak + 1) % STREAK;
        let has_rivals = self.wins < WINS;
        let unheard = has_others && self.streak == 0;
        self.wins = (self.wins + 1).min(WINS);
        self.ahead = 1;
        let longest = u64::try_from(latency.min(WAIT_MAX).as_nanos()).expect("a second fits");
        let wait = if has_rivals || unheard {
            Duration::from_nanos(random % (longest + 1))
        } else {
            Duration::ZERO
        };
        self.not_before = now.after(wait);
    }

    /// How long to wait in front of the next create.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let wait = self.not_before.since(now);
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const NOW: Instant = Instant(1_000_000_000);

    #[test]
    fn without_rivals_nothing_is_read_and_nobody_waits() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            turns.won((NOW, 20 * MS), false, u64::MAX);
            assert_eq!((turns.ahead(), turns.wait(NOW)), (0, None));
        }
    }

    #[test]
    fn among_nodes_one_commit_in_many_waits() {
        let mut turns = Turns::default();
        let waits = (0..64).filter(|_| {
            turns.won((NOW, 20 * MS), true, 7_000_000);
            turns.wait(NOW).is_some()
        });
        assert_eq!(waits.count(), 4);
    }

    #[test]
    fn who_lost_reads_beside_and_stands_back_until_it_won_often() {
        let mut turns = Turns::default();
        turns.lost(1);
        assert_eq!(turns.ahead(), 2);
        turns.lost(2);
        assert_eq!(turns.ahead(), 4);
        // Two were there: as many the next time.
        turns.lost(2);
        assert_eq!(turns.ahead(), 2);
        for _ in 0..10 {
            turns.lost(turns.ahead());
        }
        assert_eq!(turns.ahead(), AHEAD_MAX);
        for _ in 0..WINS {
            assert!(turns.ahead() > 0);
            turns.won((NOW, 20 * MS), false, 7_000_000);
            assert_eq!(turns.wait(NOW), Some(7 * MS));
            assert_eq!(turns.wait(Instant(NOW.0 + 6_000_000)), Some(MS));
            assert_eq!(turns.wait(Instant(NOW.0 + 7_000_000)), None);
        }
        turns.won((NOW, 20 * MS), false, 7_000_000);
        assert_eq!((turns.ahead(), turns.wait(NOW)), (0, None));
    }

    #[test]
    fn nobody_waits_longer_than_a_request_or_a_second() {
        let mut turns = Turns::default();
        turns.lost(1);
        turns.won((NOW, 60_000 * MS), false, u64::MAX);
        assert!(turns.wait(NOW).unwrap() <= WAIT_MAX);
    }
}
