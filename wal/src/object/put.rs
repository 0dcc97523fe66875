//! One key, one content, until it is known what became of it.
//!
//! *Owns*: the attempts on a key, their pace, the hedge, the reading back.
//! *Does not own*: the requests themselves, the clock, what a foreign object means.
//!
//! Invariants
//! 1. Every attempt sends the same bytes to the same key, only if it is absent.
//! 2. Settled as ours only by an `Ok`, or by reading the very same bytes back.
//! 3. An absent key on read-back, a throttled and an unknown attempt settle nothing. Nor does a
//!    refusal, where refusals are borne: nothing was done, and credentials are renewed.
//!
//! *IO: none*

use std::time::Duration;

use bytes::Bytes;
use tidewater_bucket::BucketError;
use tidewater_types::{Instant, mutant, sometimes};

/// How attempts follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// An attempt without an answer gets a twin after this; zero for never.
    pub(crate) hedge: Duration,
    /// First wait between attempts.
    pub(crate) retry_min: Duration,
    /// Longest wait between attempts.
    pub(crate) retry_max: Duration,
    /// After this no attempt is begun.
    pub(crate) give_up: Duration,
    /// Whether a refusal is waited out: it says that nothing was done, and may pass.
    pub(crate) bears_refusals: bool,
    /// Bytes a second that a link makes at least.
    pub(crate) bytes_per_s_min: u64,
}

impl Pace {
    /// The time that `num_bytes` may take on their way.
    pub(crate) fn way(&self, num_bytes: u64) -> Duration {
        let nanos = u128::from(num_bytes) * 1_000_000_000 / u128::from(self.bytes_per_s_min.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What is to be asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send the bytes.
    Create,
    /// Read what is there.
    Read,
}

/// What became of the key.
#[derive(Clone, Debug)]
pub(crate) enum Settled {
    /// The object is there and it is ours.
    Ours,
    /// Another object is there.
    Foreign(Bytes),
    /// Unknown, and given up.
    Failed(BucketError),
}

/// The attempts on one key.
#[derive(Debug)]
pub(crate) struct Put {
    begun: Instant,
    sent: Instant,
    num_bytes: u64,
    salt: u64,
    attempts: u32,
    flying: u32,
    reading: bool,
    wants_read: bool,
    not_before: Instant,
    last: Option<BucketError>,
    settled: Option<Settled>,
}

impl Put {
    /// Attempts on an object of `num_bytes`.
    pub(crate) fn new(now: Instant, num_bytes: u64, salt: u64) -> Self {
        Self {
            begun: now,
            sent: now,
            num_bytes,
            salt,
            attempts: 0,
            flying: 0,
            reading: false,
            wants_read: false,
            not_before: now,
            last: None,
            settled: None,
        }
    }

    pub(crate) fn settled(&self) -> Option<&Settled> {
        self.settled.as_ref()
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Attempts begun so far.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next thing to ask, if there is one now.
    pub(crate) fn poll(&mut self, now: Instant, pace: &Pace) -> Option<Step> {
        if self.settled.is_some() {
            return None;
        }
        if now >= self.give_up_at(pace) {
            let key = String::new();
            let cause = "no answer in time".to_owned();
            let last = self.last.take();
            self.settled = Some(Settled::Failed(
                last.unwrap_or(BucketError::Unknown { key, cause }),
            ));
            return None;
        }
        if self.reading {
            return None;
        }
        if self.wants_read {
            self.wants_read = false;
            self.reading = true;
            return Some(Step::Read);
        }
        let hedged = self.hedge_at(pace).is_some_and(|at| at <= now);
        if hedged {
            sometimes!("object wal: hedged");
        }
        if (self.flying == 0 && self.not_before <= now) || hedged {
            self.flying += 1;
            self.attempts += 1;
            self.sent = now;
            return Some(Step::Create);
        }
        None
    }

    /// When [`Put::poll`] has more to ask, if nothing is answered before.
    pub(crate) fn timer(&self, pace: &Pace) -> Option<Instant> {
        if self.settled.is_some() {
            return None;
        }
        let retry = (self.flying == 0 && !self.reading).then_some(self.not_before);
        let hedge = self.hedge_at(pace).filter(|_| !self.reading);
        let give_up = Some(self.give_up_at(pace));
        [retry, hedge, give_up].into_iter().flatten().min()
    }

    fn give_up_at(&self, pace: &Pace) -> Instant {
        self.begun.after(pace.give_up + pace.way(self.num_bytes))
    }

    fn hedge_at(&self, pace: &Pace) -> Option<Instant> {
        (self.flying == 1 && !pace.hedge.is_zero()).then(|| self.sent.after(pace.hedge))
    }

    /// An attempt was answered.
    pub(crate) fn handle_created(
        &mut self,
        now: Instant,
        pace: &Pace,
        answer: Result<(), BucketError>,
    ) {
        self.flying = self.flying.saturating_sub(1);
        if self.settled.is_some() {
            return;
        }
        match answer {
            Ok(()) => self.settled = Some(Settled::Ours),
            Err(BucketError::Exists { .. }) if mutant!(18) => self.settled = Some(Settled::Ours),
            Err(BucketError::Exists { .. }) => self.wants_read = true,
            Err(BucketError::Throttled { .. }) if mutant!(19) => {
                self.last = answer.err();
                self.wants_read = true;
            }
            Err(refused @ BucketError::Refused { .. }) if !pace.bears_refusals => {
                self.settled = Some(Settled::Failed(refused));
            }
            Err(other) => {
                self.last = Some(other);
                self.wait(now, pace);
            }
        }
    }

    /// The key was read back. `is_ours` says whether the bytes are the very same.
    pub(crate) fn handle_read(
        &mut self,
        now: Instant,
        pace: &Pace,
        answer: Result<Bytes, BucketError>,
        is_ours: impl FnOnce(&[u8]) -> bool,
    ) {
        self.reading = false;
        if self.settled.is_some() {
            return;
        }
        match answer {
            Ok(found) if is_ours(&found) => {
                sometimes!("object wal: own entry found by reading back");
                self.settled = Some(Settled::Ours);
            }
            Ok(found) => self.settled = Some(Settled::Foreign(found)),
            Err(BucketError::Absent { .. })
                if mutant!(19) && matches!(self.last, Some(BucketError::Throttled { .. })) =>
            {
                self.settled = Some(Settled::Ours);
            }
            // Absent: a deletion or a store that lags; the next attempt tells.
            Err(other) => {
                self.last = Some(other);
                self.wait(now, pace);
            }
        }
    }

    /// Doubling waits, each cut to a share of one half to all.
    fn wait(&mut self, now: Instant, pace: &Pace) {
        let doubled = pace.retry_min * (1 << self.attempts.saturating_sub(1).min(16));
        let full = doubled.min(pace.retry_max);
        self.salt = self
            .salt
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(1);
        let half = u64::try_from(full.as_nanos() / 2).unwrap_or(u64::MAX);
        let cut = (self.salt >> 16) % half.saturating_add(1);
        self.not_before = now.after(full - Duration::from_nanos(cut));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        hedge: Duration::from_millis(100),
        retry_min: Duration::from_millis(10),
        retry_max: Duration::from_millis(80),
        give_up: Duration::from_secs(1),
        bears_refusals: false,
        bytes_per_s_min: 1 << 20,
    };

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    fn unknown() -> BucketError {
        BucketError::Unknown {
            key: String::new(),
            cause: "lost".to_owned(),
        }
    }

    fn exists() -> BucketError {
        BucketError::Exists { key: String::new() }
    }

    fn absent() -> BucketError {
        BucketError::Absent { key: String::new() }
    }

    fn begun() -> Put {
        let mut put = Put::new(at(0), 0, 7);
        assert_eq!(put.poll(at(0), &PACE), Some(Step::Create));
        assert_eq!(put.poll(at(0), &PACE), None);
        put
    }

    #[test]
    fn an_answer_settles() {
        let mut put = begun();
        put.handle_created(at(5), &PACE, Ok(()));
        assert!(matches!(put.settled(), Some(Settled::Ours)));
        assert_eq!(put.poll(at(5), &PACE), None);
        assert_eq!(put.timer(&PACE), None);
    }

    #[test]
    fn unknown_and_throttled_attempts_are_sent_again_after_a_wait() {
        for refusal in [unknown(), BucketError::Throttled { key: String::new() }] {
            let mut put = begun();
            put.handle_created(at(5), &PACE, Err(refusal));
            assert!(put.settled().is_none());
            assert_eq!(put.poll(at(5), &PACE), None);
            let again = put.timer(&PACE).unwrap();
            assert!(again > at(5) && again <= at(15), "{again:?}");
            assert_eq!(put.poll(again, &PACE), Some(Step::Create));
        }
    }

    #[test]
    fn a_taken_key_is_read_back_and_compared() {
        for (same, ours) in [(true, true), (false, false)] {
            let mut put = begun();
            put.handle_created(at(5), &PACE, Err(exists()));
            assert!(put.settled().is_none(), "not by the answer alone");
            assert_eq!(put.poll(at(5), &PACE), Some(Step::Read));
            put.handle_read(at(6), &PACE, Ok(Bytes::from_static(b"x")), |_| same);
            assert_eq!(matches!(put.settled(), Some(Settled::Ours)), ours);
            assert_eq!(matches!(put.settled(), Some(Settled::Foreign(_))), !ours);
        }
    }

    #[test]
    fn an_absent_key_on_read_back_proves_nothing() {
        let mut put = begun();
        put.handle_created(at(5), &PACE, Err(exists()));
        assert_eq!(put.poll(at(5), &PACE), Some(Step::Read));
        put.handle_read(at(6), &PACE, Err(absent()), |_| true);
        assert!(put.settled().is_none());
        let again = put.timer(&PACE).unwrap();
        assert_eq!(put.poll(again, &PACE), Some(Step::Create));
    }

    #[test]
    fn a_silent_attempt_gets_one_twin_and_either_answer_settles() {
        let mut put = begun();
        assert_eq!(put.timer(&PACE), Some(at(100)));
        assert_eq!(put.poll(at(100), &PACE), Some(Step::Create));
        assert_eq!(put.poll(at(300), &PACE), None, "two at most");
        // The twin meets the first one's object.
        put.handle_created(at(301), &PACE, Err(exists()));
        assert_eq!(put.poll(at(301), &PACE), Some(Step::Read));
        put.handle_created(at(302), &PACE, Ok(()));
        assert!(matches!(put.settled(), Some(Settled::Ours)));
        put.handle_read(at(303), &PACE, Err(absent()), |_| false);
        assert!(matches!(put.settled(), Some(Settled::Ours)));
    }

    #[test]
    fn it_gives_up_with_the_last_cause() {
        let mut put = begun();
        put.handle_created(at(5), &PACE, Err(unknown()));
        assert_eq!(put.poll(at(1000), &PACE), None);
        assert!(matches!(
            put.settled(),
            Some(Settled::Failed(BucketError::Unknown { cause, .. })) if cause == "lost"
        ));
    }

    fn refused() -> BucketError {
        let (key, cause) = (String::new(), "denied".to_owned());
        BucketError::Refused { key, cause }
    }

    #[test]
    fn a_refusal_settles_at_once_where_none_is_borne() {
        let mut put = begun();
        put.handle_created(at(5), &PACE, Err(refused()));
        assert!(matches!(put.settled(), Some(Settled::Failed(_))));
    }

    #[test]
    fn a_refusal_is_waited_out_where_it_is_borne_and_named_when_it_stays() {
        let pace = Pace {
            bears_refusals: true,
            ..PACE
        };
        let mut put = begun();
        put.handle_created(at(5), &pace, Err(refused()));
        assert!(put.settled().is_none());
        let again = put.timer(&pace).unwrap();
        assert_eq!(put.poll(again, &pace), Some(Step::Create));
        put.handle_created(at(20), &pace, Err(refused()));
        assert_eq!(put.poll(at(1000), &pace), None);
        let Some(Settled::Failed(BucketError::Refused { cause, .. })) = put.settled() else {
            panic!("{put:?}");
        };
        assert_eq!(cause, "denied");
    }

    #[test]
    fn a_large_object_is_given_the_time_that_its_bytes_take() {
        assert_eq!(PACE.way(8 << 20), Duration::from_secs(8));
        assert_eq!(PACE.way(0), Duration::ZERO);
        let mut put = Put::new(at(0), 8 << 20, 7);
        assert_eq!(put.poll(at(0), &PACE), Some(Step::Create));
        put.poll(at(8_999), &PACE);
        assert!(put.settled().is_none());
        assert_eq!(put.poll(at(9_000), &PACE), None);
        assert!(matches!(put.settled(), Some(Settled::Failed(_))));
    }
}
