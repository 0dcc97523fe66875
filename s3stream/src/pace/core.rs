//! Decides which request goes next.
//!
//! *Owns*: classes and their queues, the shared rates, requests under way, throttled prefixes.
//! *Does not own*: time, waiting, requests (`paced.rs`).
//!
//! Invariants
//! 1. From the shares of all a request goes only if no request of a class before its own waits,
//!    and within a class first come is first served.
//! 2. Compaction gets its floor of each rate, whoever waits.
//! 3. Requests at the tail are held back by rates and throttled prefixes alone.
//! 4. Requests that go ahead stand in no queue: they are held back by each other alone, and count.
//!
//! *IO: none*

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidewater_bucket::Purpose;
use tidewater_types::Instant;

use super::rate::{Rate, Share};
use crate::config::PaceConfig;

/// Throttled prefixes remembered; beyond that the one whose pause ends first is forgotten.
const PREFIXES_MAX: usize = 1_024;

/// Who asks, first come those who may go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Appends, commits, uploads, readers at the tail.
    Tail,
    /// Readers that catch up, reading ahead.
    CatchUp,
    /// Compaction, deletion, checks.
    Compaction,
}

impl Class {
    /// The class of a request, unless its sender knows better.
    pub(crate) fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Wal | Purpose::Meta | Purpose::Upload => Self::Tail,
            Purpose::Read => Self::CatchUp,
            Purpose::Compaction | Purpose::Gc | Purpose::Fsck => Self::Compaction,
        }
    }
}

/// What a request takes, as far as is known before it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// A place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) class: Class,
    number: u64,
}

/// Whether a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    /// Ask again after this, or when something changed.
    Wait(Duration),
    /// Ask again when something changed.
    WaitForOthers,
}

struct Pause {
    until: Instant,
    wait: Duration,
}

pub(crate) struct Pace {
    requests: Option<Rate>,
    bytes_in: Option<Rate>,
    bytes_out: Option<Rate>,
    parallel: [usize; 3],
    under_way: [usize; 3],
    queues: [VecDeque<u64>; 3],
    next_number: u64,
    pauses: BTreeMap<String, Pause>,
    pause_min: Duration,
    pause_max: Duration,
}

impl Pace {
    pub(crate) fn new(config: &PaceConfig) -> Self {
        let (floor, ahead) = (config.compaction_floor_percent, config.wal_percent);
        let rate = |per_s: u64| (per_s > 0).then(|| Rate::new(per_s, floor, ahead));
        Self {
            requests: rate(config.requests_per_s),
            bytes_in: rate(config.bytes_in_per_s),
            bytes_out: rate(config.bytes_out_per_s),
            parallel: [
                usize::MAX,
                config.catch_up_parallel,
                config.compaction_parallel,
            ],
            under_way: [0; 3],
            queues: Default::default(),
            next_number: 0,
            pauses: BTreeMap::new(),
            pause_min: config.throttle_wait_min,
            pause_max: config.throttle_wait_max,
        }
    }

    /// How long the prefix of `key` is to be left alone; zero if it is not.
    pub(crate) fn pause(&self, now: Instant, key: &str) -> Duration {
        let pause = self.pauses.get(prefix(key));
        pause.map_or(Duration::ZERO, |pause| pause.until.since(now))
    }

    pub(crate) fn enter(&mut self, class: Class) -> Ticket {
        self.next_number += 1;
        self.queues[class as usize].push_back(self.next_number);
        Ticket {
            class,
            number: self.next_number,
        }
    }

    /// Its sender gave up waiting.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        self.queues[ticket.class as usize].retain(|number| *number != ticket.number);
    }

    /// Whether the request may be sent now. If so it is out of the queue and under way.
    pub(crate) fn ask(&mut self, now: Instant, ticket: Ticket, cost: Cost) -> Verdict {
        let class = ticket.class as usize;
        let is_first = self.queues[class].front() == Some(&ticket.number);
        if !is_first || self.under_way[class] >= self.parallel[class] {
            return Verdict::WaitForOthers;
        }
        let before = self.queues[..class].iter().any(|queue| !queue.is_empty());
        let has_floor = ticket.class == Class::Compaction;
        let rates = [
            (&mut self.requests, 1),
            (&mut self.bytes_in, cost.bytes_in),
            (&mut self.bytes_out, cost.bytes_out),
        ];
        let (mut shares, mut wait) = ([Share::Main; 3], Duration::ZERO);
        for ((rate, count), share) in rates.into_iter().zip(&mut shares) {
            let Some(rate) = rate.as_mut().filter(|_| count > 0) else {
                continue;
            };
            rate.fill(now);
            let floor = has_floor.then(|| rate.wait(Share::Floor)).flatten();
            let main = (!before).then(|| rate.wait(Share::Main)).flatten();
            let best = match (floor, main) {
                (Some(floor), main) if main.is_none_or(|main| floor <= main) => {
                    *share = Share::Floor;
                    floor
                }
                (_, Some(main)) => main,
                // Nothing is kept for this class, and others go first.
                (_, None) => return Verdict::WaitForOthers,
            };
            wait = wait.max(best);
        }
        if !wait.is_zero() {
            return Verdict::Wait(wait);
        }
        self.take(shares, cost);
        self.queues[class].pop_front();
        self.under_way[class] += 1;
        Verdict::Go
    }

    /// How long until a request that brings bytes may go ahead of all others; zero if it may now.
    pub(crate) fn wait_ahead(&mut self, now: Instant) -> Duration {
        let rates = [&mut self.requests, &mut self.bytes_out];
        let waits = rates.into_iter().flatten().filter_map(|rate| {
            rate.fill(now);
            rate.wait(Share::Ahead)
        });
        waits.max().unwrap_or_default()
    }

    /// A request goes ahead of all others.
    pub(crate) fn take_ahead(&mut self, now: Instant, cost: Cost) {
        let rates = [&mut self.requests, &mut self.bytes_in, &mut self.bytes_out];
        rates.into_iter().flatten().for_each(|rate| rate.fill(now));
        self.take([Share::Ahead; 3], cost);
    }

    fn take(&mut self, shares: [Share; 3], cost: Cost) {
        let rates = [
            (&mut self.requests, 1),
            (&mut self.bytes_in, cost.bytes_in),
            (&mut self.bytes_out, cost.bytes_out),
        ];
        for ((rate, count), share) in rates.into_iter().zip(shares) {
            if let Some(rate) = rate {
                rate.take(share, count);
            }
        }
    }

    /// A request ended, or was given up.
    pub(crate) fn ended(&mut self, class: Class) {
        self.under_way[class as usize] -= 1;
    }

    /// What a read brought, beside what was known before.
    pub(crate) fn was_read(&mut self, known: u64, found: u64, ahead: bool) {
        if let Some(rate) = &mut self.bytes_in {
            let share = if ahead { Share::Ahead } else { Share::Main };
            rate.take(share, found.saturating_sub(known));
            rate.give_back(known.saturating_sub(found));
        }
    }

    /// The store throttles `key`: its prefix is left alone, twice as long as the last time.
    pub(crate) fn throttled(&mut self, now: Instant, key: &str) {
        let (first, most) = (self.pause_min, self.pause_max);
        if self.pauses.len() >= PREFIXES_MAX && !self.pauses.contains_key(prefix(key)) {
            let soonest = self.pauses.iter().min_by_key(|(_, pause)| pause.until);
            let soonest = soonest.map(|(prefix, _)| prefix.clone());
            soonest.map(|prefix| self.pauses.remove(&prefix));
        }
        let pause = self.pauses.entry(prefix(key).to_owned());
        let pause = pause.or_insert(Pause {
            until: now,
            wait: first / 2,
        });
        // Requests that were under way together are one answer.
        if pause.until <= now {
            pause.wait = (pause.wait * 2).clamp(first, most);
            pause.until = now.after(pause.wait);
        }
    }

    /// The store answered a request on `key`.
    pub(crate) fn answered(&mut self, now: Instant, key: &str) {
        let Some(pause) = self.pauses.get_mut(prefix(key)) else {
            return;
        };
        // An answer to what was sent before the pause says nothing.
        if pause.until <= now {
            pause.wait /= 2;
            if pause.wait < self.pause_min {
                self.pauses.remove(prefix(key));
            }
        }
    }
}

/// What stores throttle by: the key up to its last part.
fn prefix(key: &str) -> &str {
    key.rfind('/').map_or("", |end| &key[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [Class; 3] = [Class::Tail, Class::CatchUp, Class::Compaction];

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    fn limited(requests_per_s: u64, compaction_floor_percent: u32) -> Pace {
        Pace::new(&PaceConfig {
            requests_per_s,
            compaction_floor_percent,
            ..PaceConfig::default()
        })
    }

    /// Every class always wants more; what each got in so many seconds.
    fn compete(pace: &mut Pace, classes: &[Class], seconds: u64) -> [u64; 3] {
        let mut got = [0; 3];
        let mut tickets: Vec<_> = classes.iter().map(|class| pace.enter(*class)).collect();
        for ms in 0..seconds * 1_000 {
            for ticket in &mut tickets {
                while pace.ask(at(ms), *ticket, Cost::default()) == Verdict::Go {
                    got[ticket.class as usize] += 1;
                    pace.ended(ticket.class);
                    *ticket = pace.enter(ticket.class);
                }
            }
        }
        got
    }

    #[test]
    fn the_tail_goes_first_and_compaction_keeps_its_floor() {
        let [tail, catch_up, compaction] = compete(&mut limited(1_000, 10), &CLASSES, 100);
        assert!((89_000..=91_000).contains(&tail), "{tail}");
        assert_eq!(catch_up, 0);
        assert!((9_900..=10_100).contains(&compaction), "{compaction}");
    }

    #[test]
    fn who_is_alone_gets_everything() {
        for class in CLASSES {
            let got = compete(&mut limited(1_000, 10), &[class], 100)[class as usize];
            assert!((99_000..=101_000).contains(&got), "{class:?}: {got}");
        }
        let got = compete(&mut limited(1_000, 0), &CLASSES[1..], 100);
        assert!(got[1] > 99_000 && got[2] == 0, "{got:?}");
    }

    #[test]
    fn bytes_that_were_not_known_before_are_made_up_for() {
        let mut pace = Pace::new(&PaceConfig {
            bytes_in_per_s: 1 << 20,
            compaction_floor_percent: 0,
            ..PaceConfig::default()
        });
        let cost = Cost {
            bytes_in: 1,
            bytes_out: 0,
        };
        let ticket = pace.enter(Class::Tail);
        assert_eq!(pace.ask(at(0), ticket, cost), Verdict::Go);
        pace.was_read(1, 10 << 20, false);
        let ticket = pace.enter(Class::Tail);
        let Verdict::Wait(wait) = pace.ask(at(0), ticket, cost) else {
            panic!("ten seconds' worth were read")
        };
        assert!((9..=10).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(pace.ask(at(10_000), ticket, cost), Verdict::Go);
    }

    #[test]
    fn requests_under_way_are_bounded_for_all_but_the_tail() {
        let mut pace = Pace::new(&PaceConfig {
            catch_up_parallel: 2,
            ..PaceConfig::default()
        });
        let mut go = |class| {
            let ticket = pace.enter(class);
            pace.ask(at(0), ticket, Cost::default())
        };
        assert_eq!(go(Class::CatchUp), Verdict::Go);
        assert_eq!(go(Class::CatchUp), Verdict::Go);
        assert_eq!(go(Class::CatchUp), Verdict::WaitForOthers);
        assert!((0..1_000).all(|_| go(Class::Tail) == Verdict::Go));
    }

    #[test]
    fn who_leaves_the_queue_is_in_nobodys_way() {
        let mut pace = limited(1, 0);
        let first = pace.enter(Class::CatchUp);
        assert_eq!(pace.ask(at(0), first, Cost::default()), Verdict::Go);
        let (tail, behind) = (pace.enter(Class::Tail), pace.enter(Class::CatchUp));
        assert_eq!(
            pace.ask(at(2_000), behind, Cost::default()),
            Verdict::WaitForOthers
        );
        pace.leave(tail);
        assert_eq!(pace.ask(at(2_000), behind, Cost::default()), Verdict::Go);
    }

    #[test]
    fn a_throttled_prefix_is_left_alone_longer_each_time() {
        let mut pace = limited(0, 0);
        let (key, ms) = ("data/0a/1-1-1-1", Duration::from_millis);
        pace.throttled(at(0), key);
        pace.throttled(at(1), key);
        assert_eq!(pace.pause(at(1), "data/0a/2-2-2-2"), ms(49));
        assert_eq!(pace.pause(at(1), "data/0b/1-1-1-1"), ms(0));
        pace.answered(at(2), key);
        pace.throttled(at(60), key);
        assert_eq!(pace.pause(at(60), key), ms(100));
        for round in 1..20 {
            pace.throttled(at(round * 10_000), key);
        }
        assert_eq!(pace.pause(at(190_000), key), ms(5_000));
        for _ in 0..8 {
            pace.answered(at(200_000), key);
        }
        pace.throttled(at(200_000), key);
        assert_eq!(pace.pause(at(200_000), key), ms(50), "it was forgiven");
        for prefix in 0..5_000 {
            pace.throttled(at(0), &format!("data/{prefix}/1"));
        }
        assert_eq!(pace.pauses.len(), PREFIXES_MAX);
    }
}
