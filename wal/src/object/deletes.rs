//! What is to be deleted, one object at a time, late and lazily.
//!
//! *Owns*: the queue and its pace.
//! *Does not own*: what may be deleted.
//!
//! Invariants
//! 1. A store that refuses is left alone until there is more to delete.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::time::Duration;

use tidewater_bucket::BucketError;
use tidewater_types::Instant;

use super::format::Place;

const ATTEMPTS_MAX: u32 = 5;

/// The objects to delete.
#[derive(Debug)]
pub(crate) struct Deletes {
    waiting: VecDeque<Place>,
    flying: Option<Place>,
    attempts: u32,
    not_before: Instant,
    delay: Duration,
}

impl Deletes {
    pub(crate) fn new(now: Instant, delay: Duration, first: Vec<Place>) -> Self {
        Self {
            waiting: first.into(),
            flying: None,
            attempts: 0,
            not_before: now.after(delay),
            delay,
        }
    }

    /// The object at `place` is not needed from `now` on.
    pub(crate) fn push(&mut self, now: Instant, place: Place) {
        if self.waiting.is_empty() {
            self.not_before = now.after(self.delay);
        }
        self.attempts = 0;
        self.waiting.push_back(place);
    }

    pub(crate) fn poll(&mut self, now: Instant) -> Option<Place> {
        if self.flying.is_some() || self.not_before > now || self.attempts >= ATTEMPTS_MAX {
            return None;
        }
        self.flying = self.waiting.pop_front();
        self.flying
    }

    pub(crate) fn timer(&self) -> Option<Instant> {
        let idle =
            self.flying.is_some() || self.waiting.is_empty() || self.attempts >= ATTEMPTS_MAX;
        (!idle).then_some(self.not_before)
    }

    pub(crate) fn handle_deleted(&mut self, now: Instant, answer: Result<(), BucketError>) {
        let place = self.flying.take();
        match answer {
            Ok(()) | Err(BucketError::Absent { .. }) => self.attempts = 0,
            Err(_) => {
                self.attempts += 1;
                self.not_before = now.after(self.delay * (1 << self.attempts));
                place
                    .into_iter()
                    .for_each(|place| self.waiting.push_front(place));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewater_types::Epoch;

    fn place(seq: u64) -> Place {
        Place::new(Epoch(1), seq)
    }

    #[test]
    fn one_at_a_time_after_the_delay() {
        let delay = Duration::from_nanos(10);
        let mut deletes = Deletes::new(Instant(0), delay, vec![]);
        deletes.push(Instant(5), place(1));
        deletes.push(Instant(6), place(2));
        assert_eq!(deletes.poll(Instant(14)), None);
        assert_eq!(deletes.poll(Instant(15)), Some(place(1)));
        assert_eq!(deletes.poll(Instant(15)), None);
        deletes.handle_deleted(Instant(20), Ok(()));
        assert_eq!(deletes.poll(Instant(20)), Some(place(2)));
        let absent = BucketError::Absent { key: String::new() };
        deletes.handle_deleted(Instant(20), Err(absent));
        assert_eq!((deletes.poll(Instant(99)), deletes.timer()), (None, None));
    }

    #[test]
    fn a_store_that_refuses_is_left_alone() {
        let mut deletes = Deletes::new(Instant(0), Duration::from_nanos(1), vec![place(1)]);
        for _ in 0..ATTEMPTS_MAX {
            let at = deletes.timer().unwrap();
            assert_eq!(deletes.poll(at), Some(place(1)));
            let throttled = BucketError::Throttled { key: String::new() };
            deletes.handle_deleted(at, Err(throttled));
        }
        assert_eq!(deletes.timer(), None);
        deletes.push(Instant(999), place(2));
        assert!(deletes.timer().is_some());
    }
}
