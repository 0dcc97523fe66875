//! A rate that classes share, with a floor for the last of them and a pass for the first.
//!
//! *Owns*: how many tokens there are. *Does not own*: who is next (`core.rs`).
//!
//! Invariants
//! 1. Over any time, what is taken is at most the rate times that time, a burst of a tenth of a
//!    second for each share, and the last thing taken from each; and what went ahead without waiting, of
//!    which a second's worth is made up for.
//! 2. What the floor does not need goes to the others.
//! 3. Who goes ahead takes from everybody's share, whatever is left of it, and waits for nothing but
//!    what went ahead before: the others make up for it.
//!
//! *IO: none*

use std::time::Duration;

use tidewater_types::Instant;

/// Parts of a token: a rate of one in a second gains one part in a nanosecond.
const PARTS: i128 = 1_000_000_000;
/// Time whose tokens can be saved up.
const BURST_NS: i128 = 100_000_000;
/// Time in which what went ahead, one thing after the other, is made up for at most: a log that repeats
/// much, or reads much when it is opened, must not stand still for long afterwards.
const DEBT_NS: i128 = 1_000_000_000;

/// Which share tokens are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Everybody's.
    Main,
    /// Kept for compaction.
    Floor,
    /// Everybody's, without waiting for what the others took.
    Ahead,
}

#[derive(Clone, Copy, Debug)]
struct Tokens {
    per_s: i128,
    parts: i128,
}

/// Tokens that come at a rate. What is taken may be more than there is: then nothing can be taken
/// before that is made up for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    main: Tokens,
    floor: Tokens,
    /// How much may go ahead.
    ahead: Tokens,
    filled: Instant,
}

impl Tokens {
    fn new(per_s: i128) -> Self {
        let mut tokens = Self { per_s, parts: 0 };
        tokens.parts = tokens.most();
        tokens
    }

    fn most(&self) -> i128 {
        (self.per_s * BURST_NS).max(PARTS)
    }

    /// Takes parts whether they are there or not, but leaves no debt above that of one thing or of
    /// [`DEBT_NS`], unless there is one already. How many it took.
    fn take_at_once(&mut self, parts: i128) -> i128 {
        let least = -(self.per_s * DEBT_NS).max(parts);
        let before = self.parts;
        self.parts = (before - parts).max(least.min(before));
        before - self.parts
    }

    /// Adds parts; what there is no room for.
    fn add(&mut self, parts: i128) -> i128 {
        let sum = self.parts + parts;
        self.parts = sum.min(self.most());
        sum - self.parts
    }
}

impl Rate {
    /// `per_s` tokens a second, `floor_percent` of them for the floor; `ahead_percent` of them may go
    /// ahead.
    pub(crate) fn new(per_s: u64, floor_percent: u32, ahead_percent: u32) -> Self {
        let per_s = i128::from(per_s);
        let share = |percent: u32| per_s * i128::from(percent) / 100;
        Self {
            main: Tokens::new(per_s - share(floor_percent)),
            floor: Tokens::new(share(floor_percent)),
            // Of the least rates, too, one goes ahead some day.
            ahead: Tokens::new(share(ahead_percent).max(1)),
            filled: Instant::default(),
        }
    }

    pub(crate) fn fill(&mut self, now: Instant) {
        let ns = i128::try_from(now.since(self.filled).as_nanos()).unwrap_or(i128::MAX / PARTS);
        self.filled = now;
        let spare = self.floor.add(ns * self.floor.per_s);
        self.main.add(ns * self.main.per_s + spare);
        self.ahead.add(ns * self.ahead.per_s);
    }

    /// How long until something can be taken from a share; zero if it can now, `None` if never.
    pub(crate) fn wait(&self, share: Share) -> Option<Duration> {
        let tokens = match share {
            Share::Main => &self.main,
            Share::Floor => &self.floor,
            Share::Ahead => &self.ahead,
        };
        if share == Share::Floor && tokens.per_s == 0 {
            return None;
        }
        let missing = 1 - tokens.parts;
        if missing <= 0 {
            return Some(Duration::ZERO);
        }
        let ns = missing.div_euclid(tokens.per_s) + 1;
        Some(Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX)))
    }

    pub(crate) fn take(&mut self, share: Share, count: u64) {
        let parts = i128::from(count) * PARTS;
        match share {
            Share::Main => self.main.parts -= parts,
            Share::Floor => self.floor.parts -= parts,
            Share::Ahead => {
                self.main.parts -= self.ahead.take_at_once(parts);
            }
        }
    }

    /// Less was needed than was taken.
    pub(crate) fn give_back(&mut self, count: u64) {
        self.main.add(i128::from(count) * PARTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `count` at a time from a share whenever it can, for so many seconds; how much that was.
    fn taken(rate: &mut Rate, share: Share, count: u64, seconds: u64) -> u64 {
        let (mut sum, mut now) = (0, rate.filled);
        let end = now.after(Duration::from_secs(seconds));
        while now < end {
            rate.fill(now);
            let wait = rate.wait(share).unwrap();
            if wait.is_zero() {
                rate.take(share, count);
                sum += count;
            } else {
                now = now.after(wait);
            }
        }
        sum
    }

    #[test]
    fn what_is_taken_follows_the_rate_whatever_its_size() {
        for (per_s, count) in [(1, 1), (10, 3), (1_000_000, 1), (1_000_000, 5_000_000)] {
            let sum = taken(&mut Rate::new(per_s, 0, 50), Share::Main, count, 100);
            let most = per_s * 100 + per_s / 10 + 1 + count;
            assert!(
                (per_s * 100..=most).contains(&sum),
                "{sum} at {per_s} by {count}"
            );
        }
    }

    #[test]
    fn what_goes_ahead_waits_for_itself_alone_and_the_others_make_up_for_it() {
        let mut rate = Rate::new(1_000, 10, 50);
        // Somebody took ten seconds' worth.
        rate.take(Share::Main, 10_000);
        assert_eq!(rate.wait(Share::Ahead), Some(Duration::ZERO));
        let ahead = taken(&mut rate, Share::Ahead, 10, 10);
        assert!((4_990..=5_070).contains(&ahead), "{ahead}");
        // 15,000 went in 10 s: at 1000 a second, with what was saved up, 5 s are owed and the floor's
        // share of them.
        let wait = rate.wait(Share::Main).unwrap().as_secs_f64();
        assert!((4.5..6.0).contains(&wait), "{wait}");
        assert!(Rate::new(1, 0, 10).wait(Share::Ahead).unwrap().is_zero());
    }

    #[test]
    fn what_went_ahead_without_waiting_is_made_up_for_in_a_second() {
        let mut rate = Rate::new(10, 10, 50);
        (0..600).for_each(|_| rate.take(Share::Ahead, 1));
        for share in [Share::Ahead, Share::Main] {
            let wait = rate.wait(share).unwrap();
            assert!(wait <= Duration::from_millis(1_001), "{share:?} {wait:?}");
        }
        // One large thing is made up for wholly, and what others owe stays.
        rate.take(Share::Main, 900);
        rate.take(Share::Ahead, 50);
        assert!(rate.wait(Share::Ahead).unwrap() >= Duration::from_secs(10));
        assert!(rate.wait(Share::Main).unwrap() >= Duration::from_secs(100));
    }

    #[test]
    fn the_floor_is_there_and_what_it_does_not_need_goes_to_all() {
        let mut rate = Rate::new(1_000, 10, 50);
        let main = taken(&mut rate, Share::Main, 10, 100);
        assert!((99_900..100_300).contains(&main), "{main}");
        let mut rate = Rate::new(1_000, 10, 50);
        let floor = taken(&mut rate, Share::Floor, 10, 100);
        assert!((9_990..10_050).contains(&floor), "{floor}");
        assert_eq!(Rate::new(1_000, 0, 50).wait(Share::Floor), None);
    }
}
