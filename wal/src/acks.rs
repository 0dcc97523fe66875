//! Acknowledgements: who waits for which append, and how far the log is durable.
//!
//! *Owns*: the durable LSN as callers see it, the wakers of those who wait, the failure they get.
//! *Does not own*: what makes the log durable.
//!
//! Invariants
//! 1. An append completes with `Ok` only if its end is at or below the durable LSN, and with an
//!    error only after the log failed. Neither is ever taken back.
//! 2. Wakers are called in LSN order, and never under the lock.
//! 3. An append costs no allocation here: its place in the queue is used again.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tidewater_types::Lsn;

use crate::error::WalError;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// An append that is not durable.
#[derive(Debug)]
struct Waiting {
    end: Lsn,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Number of the first in `waiting`; numbers count appends.
    first: u64,
    num_durable: u64,
    failure: Option<WalError>,
}

/// The appends of one log that are not durable yet, in LSN order.
///
/// A WAL of one's own makes the future of an append with [`Acks::issue`] and completes it with
/// [`Acks::advance`] or [`Acks::fail`].
#[derive(Debug)]
pub struct Acks {
    durable: AtomicU64,
    queue: Mutex<Queue>,
}

impl Acks {
    /// A log that is durable below `durable`.
    #[must_use]
    pub fn new(durable: Lsn) -> Self {
        Self {
            durable: AtomicU64::new(durable.0),
            queue: Mutex::new(Queue::default()),
        }
    }

    /// How far the log is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// The future of an append that takes the log from `lsn` up to and without `end`. To be called
    /// in LSN order.
    #[must_use]
    pub fn issue(self: &Arc<Self>, lsn: Lsn, end: Lsn) -> Append {
        let mut queue = self.queue.lock();
        let number = queue.first + queue.waiting.len() as u64;
        let last = queue.waiting.back().map_or(Lsn(0), |last| last.end);
        assert!(last <= lsn, "appends in LSN order");
        queue.waiting.push_back(Waiting { end, waker: None });
        drop(queue);
        let acks = Arc::clone(self);
        Append {
            lsn,
            end,
            number,
            acks,
        }
    }

    /// The future of an append that is as durable as it will ever be when it is accepted. Not to
    /// be mixed with [`Acks::issue`] on the same log.
    #[must_use]
    pub fn grant(self: &Arc<Self>, lsn: Lsn, end: Lsn) -> Append {
        self.durable.fetch_max(end.0, Ordering::AcqRel);
        Append {
            lsn,
            end,
            number: 0,
            acks: Arc::clone(self),
        }
    }

    /// How many appends became durable.
    #[must_use]
    pub fn num_durable(&self) -> u64 {
        self.queue.lock().num_durable
    }

    /// Everything below `durable` survives a power failure: completes whom that concerns.
    pub fn advance(&self, durable: Lsn) {
        let mut woken = Wakers::default();
        loop {
            let mut queue = self.queue.lock();
            self.durable.fetch_max(durable.0, Ordering::AcqRel);
            while let Some(first) = queue.waiting.front()
                && first.end <= durable
                && woken.has_room()
            {
                woken.extend(queue.waiting.pop_front().and_then(|first| first.waker));
                queue.first += 1;
                queue.num_durable += 1;
            }
            drop(queue);
            if woken.wake() {
                return;
            }
        }
    }

    /// Nothing more becomes durable: everybody who waits, now or later, gets `failure`. Only the
    /// first failure counts.
    pub fn fail(&self, failure: WalError) {
        let mut queue = self.queue.lock();
        queue.failure.get_or_insert(failure);
        queue.first += queue.waiting.len() as u64;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        waiting
            .into_iter()
            .filter_map(|waiting| waiting.waker)
            .for_each(Waker::wake);
    }

    fn poll(&self, end: Lsn, number: u64, cx: &mut Context<'_>) -> Poll<Result<(), WalError>> {
        if self.durable() >= end {
            return Poll::Ready(Ok(()));
        }
        let mut queue = self.queue.lock();
        if self.durable() >= end {
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = &queue.failure {
            return Poll::Ready(Err(failure.clone()));
        }
        let place = usize::try_from(number - queue.first).expect("not durable, so it waits");
        let waker = &mut queue.waiting[place].waker;
        if !waker
            .as_ref()
            .is_some_and(|held| held.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Wakers to call once the lock is released, a bounded number at a time.
#[derive(Default)]
struct Wakers {
    held: [Option<Waker>; Self::MOST],
    len: usize,
}

impl Wakers {
    const MOST: usize = 32;

    fn has_room(&self) -> bool {
        self.len < Self::MOST
    }

    fn extend(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.held[self.len] = Some(waker);
            self.len += 1;
        }
    }

    /// Calls them; answers whether there was room for more, so that nobody was left out.
    fn wake(&mut self) -> bool {
        let had_room = self.has_room();
        let held = &mut self.held[..std::mem::take(&mut self.len)];
        held.iter_mut()
            .filter_map(Option::take)
            .for_each(Waker::wake);
        had_room
    }
}

/// An append under way. Completes when the frame is durable, in LSN order.
///
/// Dropping it takes nothing back: the frame becomes durable all the same, unless the log fails.
#[derive(Debug)]
pub struct Append {
    lsn: Lsn,
    end: Lsn,
    number: u64,
    acks: Arc<Acks>,
}

impl Append {
    /// The frame's position; valid at once, durable only when the future says so.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// One past the frame: a trim up to here lets the frame itself be forgotten.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.end
    }
}

impl Future for Append {
    type Output = Result<Lsn, WalError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.acks.poll(self.end, self.number, cx);
        answer.map(|answer| answer.map(|()| self.lsn))
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use tidewater_types::Lsn;

    use super::Acks;
    use crate::error::{Resource, WalError};

    #[test]
    fn an_append_completes_once_its_end_is_durable() {
        let acks = Arc::new(Acks::new(Lsn(10)));
        let mut first = acks.issue(Lsn(10), Lsn(20));
        let mut second = acks.issue(Lsn(20), Lsn(35));
        acks.advance(Lsn(19));
        assert_eq!(acks.num_durable(), 0);
        assert!((&mut first).now_or_never().is_none());
        acks.advance(Lsn(20));
        assert_eq!(acks.num_durable(), 1);
        assert!(matches!((&mut first).now_or_never(), Some(Ok(Lsn(10)))));
        assert!((&mut second).now_or_never().is_none());
        acks.advance(Lsn(35));
        assert!(matches!(second.now_or_never(), Some(Ok(Lsn(20)))));
    }

    #[test]
    fn a_failure_ends_what_is_not_durable_and_nothing_else() {
        let acks = Arc::new(Acks::new(Lsn(0)));
        let (first, second) = (acks.issue(Lsn(0), Lsn(5)), acks.issue(Lsn(5), Lsn(9)));
        acks.advance(Lsn(5));
        acks.fail(WalError::Full {
            what: Resource::Disk,
        });
        acks.fail(WalError::Closed);
        assert!(matches!(first.now_or_never(), Some(Ok(_))));
        assert!(matches!(
            second.now_or_never(),
            Some(Err(WalError::Full { .. }))
        ));
        let later = acks.issue(Lsn(9), Lsn(10));
        assert!(matches!(
            later.now_or_never(),
            Some(Err(WalError::Full { .. }))
        ));
    }

    #[test]
    fn more_waiters_than_are_woken_at_a_time_all_hear_of_it() {
        let acks = Arc::new(Acks::new(Lsn(0)));
        let appends: Vec<_> = (0..100).map(|n| acks.issue(Lsn(n), Lsn(n + 1))).collect();
        let all = futures_util::future::join_all(appends);
        let mut all = std::pin::pin!(all);
        assert!((&mut all).now_or_never().is_none());
        acks.advance(Lsn(100));
        assert_eq!(acks.num_durable(), 100);
        assert_eq!(all.now_or_never().unwrap().len(), 100);
    }
}

/// Exhaustive interleavings, under loom.
#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use loom::future::block_on;
    use loom::thread;
    use std::sync::Arc;
    use tidewater_types::Lsn;

    use super::Acks;
    use crate::error::{Resource, WalError};

    #[test]
    fn loom_no_wake_up_of_an_append_is_lost() {
        loom::model(|| {
            let acks = Arc::new(Acks::new(Lsn(0)));
            let (first, second) = (acks.issue(Lsn(0), Lsn(1)), acks.issue(Lsn(1), Lsn(2)));
            let engine = Arc::clone(&acks);
            let engine = thread::spawn(move || {
                engine.advance(Lsn(1));
                engine.advance(Lsn(2));
            });
            assert_eq!(block_on(first).unwrap(), Lsn(0));
            assert_eq!(block_on(second).unwrap(), Lsn(1));
            engine.join().unwrap();
        });
    }

    /// Three threads: up to three preemptions, as all orders would take hours.
    #[test]
    fn loom_two_who_wait_both_hear_of_one_advance() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let acks = Arc::new(Acks::new(Lsn(0)));
            let (first, second) = (acks.issue(Lsn(0), Lsn(1)), acks.issue(Lsn(1), Lsn(2)));
            let engine = thread::spawn(move || acks.advance(Lsn(2)));
            let other = thread::spawn(move || block_on(second).unwrap());
            assert_eq!(block_on(first).unwrap(), Lsn(0));
            assert_eq!(other.join().unwrap(), Lsn(1));
            engine.join().unwrap();
        });
    }

    #[test]
    fn loom_a_failure_reaches_whoever_waits_then_or_later() {
        loom::model(|| {
            let acks = Arc::new(Acks::new(Lsn(0)));
            let first = acks.issue(Lsn(0), Lsn(1));
            let engine = Arc::clone(&acks);
            let engine = thread::spawn(move || {
                engine.fail(WalError::Full {
                    what: Resource::Disk,
                })
            });
            let second = acks.issue(Lsn(1), Lsn(2));
            assert!(block_on(first).is_err());
            assert!(block_on(second).is_err());
            engine.join().unwrap();
        });
    }
}
