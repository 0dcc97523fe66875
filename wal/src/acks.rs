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

mod beds;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tidewater_types::Lsn;

use crate::error::WalError;
use crate::sync::{AtomicU64, Mutex, Ordering, yield_now};

use beds::{Beds, Bells};

/// Times a thread lets others run before it sleeps. On a busy machine the append is mostly durable
/// by then, and the thread never slept: neither going to sleep nor being woken is cheap.
#[cfg(not(feature = "loom"))]
const YIELDS: u32 = 20;
#[cfg(feature = "loom")]
const YIELDS: u32 = 0;

/// An append that is not durable.
#[derive(Debug)]
struct Waiting {
    end: Lsn,
    waiter: Waiter,
}

/// Who waits for an append.
#[derive(Debug)]
enum Waiter {
    Nobody,
    Task(Waker),
    Thread,
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
    beds: Beds,
}

impl Acks {
    /// A log that is durable below `durable`.
    #[must_use]
    pub fn new(durable: Lsn) -> Self {
        Self {
            durable: AtomicU64::new(durable.0),
            queue: Mutex::new(Queue::default()),
            beds: Beds::default(),
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
        let waiter = Waiter::Nobody;
        queue.waiting.push_back(Waiting { end, waiter });
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
        let (mut woken, mut bells) = (Wakers::default(), Bells::default());
        loop {
            let mut queue = self.queue.lock();
            self.durable.fetch_max(durable.0, Ordering::AcqRel);
            while woken.has_room()
                && queue
                    .waiting
                    .front()
                    .is_some_and(|first| first.end <= durable)
                && let Some(first) = queue.waiting.pop_front()
            {
                match first.waiter {
                    Waiter::Nobody => {}
                    Waiter::Task(waker) => woken.push(waker),
                    Waiter::Thread => bells.insert(queue.first),
                }
                queue.first += 1;
                queue.num_durable += 1;
            }
            drop(queue);
            if woken.wake() {
                return self.beds.ring(bells);
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
        for waiting in waiting {
            if let Waiter::Task(waker) = waiting.waiter {
                waker.wake();
            }
        }
        self.beds.ring(Bells::ALL);
    }

    fn poll(&self, end: Lsn, number: u64, cx: &mut Context<'_>) -> Poll<Result<(), WalError>> {
        let answer = self.answer_or(end, number, |waiter| match waiter {
            Waiter::Task(held) if held.will_wake(cx.waker()) => {}
            other => *other = Waiter::Task(cx.waker().clone()),
        });
        answer.map_or(Poll::Pending, Poll::Ready)
    }

    /// What the append came to. If nothing yet, `wait` changes who waits for it.
    fn answer_or(
        &self,
        end: Lsn,
        number: u64,
        wait: impl FnOnce(&mut Waiter),
    ) -> Option<Result<(), WalError>> {
        if self.durable() >= end {
            return Some(Ok(()));
        }
        let mut queue = self.queue.lock();
        if self.durable() >= end {
            return Some(Ok(()));
        }
        if let Some(failure) = &queue.failure {
            return Some(Err(failure.clone()));
        }
        let place = usize::try_from(number - queue.first).expect("not durable, so it waits");
        wait(&mut queue.waiting[place].waiter);
        None
    }

    fn wait(&self, end: Lsn, number: u64) -> Result<(), WalError> {
        for _ in 0..YIELDS {
            if self.durable() >= end {
                return Ok(());
            }
            yield_now();
        }
        let mut answer = None;
        self.beds.sleep(number, || {
            answer = self.answer_or(end, number, |waiter| *waiter = Waiter::Thread);
            answer.is_some()
        });
        answer.expect("sleeps until there is one")
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

    fn push(&mut self, waker: Waker) {
        self.held[self.len] = Some(waker);
        self.len += 1;
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

    /// Blocks the thread until the frame is durable: what awaiting it says, for callers without an
    /// executor. Many threads that wait this way are woken together, at a fraction of what it costs
    /// to wake each by its waker. Not to be called where an executor runs tasks.
    ///
    /// # Errors
    /// Why the log failed, as for the future.
    pub fn wait(self) -> Result<Lsn, WalError> {
        self.acks.wait(self.end, self.number).map(|()| self.lsn)
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

    use super::{Acks, Waiter};
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

    #[test]
    fn threads_that_wait_are_woken_by_an_answer_and_by_a_failure() {
        const APPENDS: u64 = 300;
        let acks = Arc::new(Acks::new(Lsn(0)));
        std::thread::scope(|scope| {
            let waits: Vec<_> = (0..APPENDS)
                .map(|n| {
                    let append = acks.issue(Lsn(n), Lsn(n + 1));
                    scope.spawn(move || append.wait())
                })
                .collect();
            let all_asleep = || {
                let queue = acks.queue.lock();
                let mut waiting = queue.waiting.iter();
                waiting.all(|append| matches!(append.waiter, Waiter::Thread))
            };
            while !all_asleep() {
                std::thread::yield_now();
            }
            acks.advance(Lsn(70));
            acks.advance(Lsn(200));
            acks.fail(WalError::Closed);
            for (n, wait) in (0..).zip(waits) {
                match wait.join().unwrap() {
                    Ok(lsn) => assert!(lsn == Lsn(n) && n < 200),
                    Err(failure) => assert!(matches!(failure, WalError::Closed) && n >= 200),
                }
            }
        });
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
    fn loom_a_thread_that_goes_to_sleep_is_woken() {
        loom::model(|| {
            let acks = Arc::new(Acks::new(Lsn(0)));
            let (first, second) = (acks.issue(Lsn(0), Lsn(1)), acks.issue(Lsn(1), Lsn(2)));
            let engine = Arc::clone(&acks);
            let engine = thread::spawn(move || {
                engine.advance(Lsn(1));
                engine.fail(WalError::Closed);
            });
            assert_eq!(first.wait().unwrap(), Lsn(0));
            assert!(second.wait().is_err());
            engine.join().unwrap();
        });
    }

    /// Three threads: up to three preemptions, as all orders would take hours.
    #[test]
    fn loom_a_thread_and_a_task_both_hear_of_one_advance() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let acks = Arc::new(Acks::new(Lsn(0)));
            let (first, second) = (acks.issue(Lsn(0), Lsn(1)), acks.issue(Lsn(1), Lsn(2)));
            let engine = thread::spawn(move || acks.advance(Lsn(2)));
            let other = thread::spawn(move || second.wait().unwrap());
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
