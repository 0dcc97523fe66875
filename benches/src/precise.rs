//! Sleeps that end when they should: tokio's timers have a grain of a millisecond, which is all of
//! a fast object store's latency.
//!
//! *Owns*: one thread that waits for the next end.
//! *Does not own*: the rest of the environment.
//!
//! Invariants
//! 1. A sleep that was dropped wakes nobody.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidewater_types::{BoxFuture, Env, Instant};

/// An [`Env`] like another, with precise sleeps.
pub struct Precise {
    inner: Arc<dyn Env>,
    timer: Arc<Timer>,
}

#[derive(Default)]
struct Timer {
    ends: Mutex<Ends>,
    earlier: Condvar,
}

#[derive(Default)]
struct Ends {
    /// By end, then by the order of the sleeps.
    wakers: BTreeMap<(std::time::Instant, u64), Waker>,
    num_sleeps: u64,
}

impl Precise {
    /// `inner` with precise sleeps.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn new(inner: Arc<dyn Env>) -> io::Result<Self> {
        let timer = Arc::new(Timer::default());
        let of_thread = Arc::downgrade(&timer);
        std::thread::Builder::new()
            .name("timer".to_owned())
            .spawn(move || run(&of_thread))?;
        Ok(Self { inner, timer })
    }
}

/// How long the thread waits before it looks whether anybody still has the timer.
const IDLE: Duration = Duration::from_millis(100);

fn run(timer: &Weak<Timer>) {
    while let Some(timer) = timer.upgrade() {
        let mut ends = timer.lock();
        let now = std::time::Instant::now();
        let later = ends.wakers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut ends.wakers, later);
        let next = ends.wakers.keys().next().map(|(end, _)| *end);
        if due.is_empty() {
            let wait = next.map_or(IDLE, |end| end.duration_since(now).min(IDLE));
            drop(timer.earlier.wait_timeout(ends, wait));
        } else {
            drop(ends);
            due.into_values().for_each(Waker::wake);
        }
    }
}

impl Timer {
    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Sleep {
    timer: Arc<Timer>,
    end: std::time::Instant,
    /// Set once the timer knows of it.
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::time::Instant::now() >= self.end {
            return Poll::Ready(());
        }
        let (timer, end, number) = (self.timer.clone(), self.end, self.number);
        let mut ends = timer.lock();
        let number = number.unwrap_or_else(|| {
            ends.num_sleeps += 1;
            ends.num_sleeps
        });
        self.number = Some(number);
        ends.wakers.insert((end, number), cx.waker().clone());
        let is_first = ends.wakers.keys().next() == Some(&(end, number));
        drop(ends);
        if is_first {
            timer.earlier.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.timer.lock().wakers.remove(&(self.end, number));
        }
    }
}

impl Env for Precise {
    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn wall_ms(&self) -> i64 {
        self.inner.wall_ms()
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        Box::pin(Sleep {
            timer: self.timer.clone(),
            end: std::time::Instant::now() + wait,
            number: None,
        })
    }

    fn spawn(&self, label: &'static str, task: BoxFuture<'static, ()>) {
        self.inner.spawn(label, task);
    }

    fn random(&self, label: &'static str) -> u64 {
        self.inner.random(label)
    }
}

#[cfg(test)]
mod tests {
    use super::Precise;
    use crate::{BenchEnv, block_on};
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;
    use tidewater_types::Env;

    fn precise() -> (tokio::runtime::Runtime, Precise) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let env = Arc::new(BenchEnv::new(runtime.handle()));
        (runtime, Precise::new(env).unwrap())
    }

    #[test]
    fn sleeps_end_in_the_order_of_their_ends() {
        let (_runtime, env) = precise();
        let long = env.sleep(Duration::from_millis(4));
        let short = env.sleep(Duration::from_millis(1));
        let ended = env.now();
        block_on(async {
            short.await;
            long.await;
        });
        assert!(env.now() >= ended);
        assert!(env.timer.lock().wakers.is_empty());
    }

    #[test]
    fn a_dropped_sleep_is_forgotten() {
        let (_runtime, env) = precise();
        let mut sleep = env.sleep(Duration::from_secs(3600));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(sleep.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(env.timer.lock().wakers.len(), 1);
        drop(sleep);
        assert!(env.timer.lock().wakers.is_empty());
    }
}
