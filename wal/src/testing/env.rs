//! A single-threaded executor with a clock of its own.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Env, Instant};

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

#[derive(Default)]
struct State {
    now: u64,
    draws: u64,
    timers: BTreeMap<(u64, u64), Waker>,
    timers_begun: u64,
    tasks: Vec<BoxFuture<'static, ()>>,
}

/// The world of a test.
#[derive(Clone, Default)]
pub(crate) struct TestEnv(Arc<Mutex<State>>);

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl TestEnv {
    /// Runs `future` and every task for up to `rounds` rounds; `None` if it does not end.
    pub(crate) fn run_for<T>(&self, future: impl Future<Output = T>, rounds: u64) -> Option<T> {
        let mut future = pin!(future);
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        let mut cx = Context::from_waker(&waker);
        for _ in 0..rounds {
            if let Poll::Ready(answer) = future.as_mut().poll(&mut cx) {
                return Some(answer);
            }
            let mut tasks = std::mem::take(&mut self.0.lock().tasks);
            tasks.retain_mut(|task| task.as_mut().poll(&mut cx).is_pending());
            let mut state = self.0.lock();
            state.tasks.append(&mut tasks);
            state.now += 10_000;
            if !flag.0.swap(false, Ordering::SeqCst) {
                let ((at, _), waker) = state.timers.pop_first()?;
                state.now = state.now.max(at);
                drop(state);
                waker.wake();
            }
        }
        None
    }

    /// Runs `future` to its end, which must come.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.run_for(future, 1_000_000).expect("the future ends")
    }

    /// Lets tasks run until virtual time has passed.
    pub(crate) fn pass(&self, wait: Duration) {
        let sleep = self.sleep(wait);
        self.run(sleep);
    }

    /// Every task is gone, as after a kill.
    pub(crate) fn kill(&self) {
        let tasks = std::mem::take(&mut self.0.lock().tasks);
        drop(tasks);
        self.0.lock().timers.clear();
    }
}

impl Env for TestEnv {
    fn now(&self) -> Instant {
        Instant(self.0.lock().now)
    }

    fn wall_ms(&self) -> i64 {
        0
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let state = self.0.clone();
        let at = self.now().after(wait).0;
        Box::pin(poll_fn(move |cx| {
            let mut state = state.lock();
            if state.now >= at {
                return Poll::Ready(());
            }
            state.timers_begun += 1;
            let key = (at, state.timers_begun);
            state.timers.insert(key, cx.waker().clone());
            Poll::Pending
        }))
    }

    fn spawn(&self, _label: &'static str, task: BoxFuture<'static, ()>) {
        self.0.lock().tasks.push(task);
    }

    fn random(&self, _label: &'static str) -> u64 {
        let mut state = self.0.lock();
        state.draws += 1;
        Rng(state.draws).next()
    }
}
