//! The simulator's own single-threaded executor.
//!
//! *Owns*: virtual time, the ready set, the event heap, the tasks and their tags, the
//! trace.
//! *Does not own*: what the tasks do; disk and bucket schedule their completions here.
//!
//! Invariants
//! 1. The next task is drawn at random from all that are ready: every order that a
//!    scheduler could choose has a seed.
//! 2. Time moves by a small cost a poll, and jumps to the next event when nothing is ready.
//! 3. A task belongs to the tag it was spawned under; `kill(tag)` drops it, and nothing
//!    is spawned under that tag again.
//! 4. No future is polled or dropped while the state is locked.
//! 5. A panic of a task ends the run and is reported; it never unwinds through the executor.
//!
//! *IO: none*

mod queue;
mod stop;
mod trouble;

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Instant};

use crate::rng::Rng;
use crate::trace::{Event, Keep, Line, Trace};
use queue::{Due, Ready, Scheduled, TaskKey, TaskWaker};
pub use stop::{Limits, Stop};

/// Whose tasks die together: one life of one node. 0 is the world, which never dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub u32);

/// The executor; dropping it drops every task and event.
pub struct Executor {
    handle: Handle,
}

/// A handle on the executor: clones go to ports and environments.
#[derive(Clone)]
pub struct Handle {
    core: Arc<Core>,
}

struct Core {
    state: Mutex<State>,
    ready: Arc<Ready>,
}

struct State {
    now_ns: u64,
    slots: Vec<Slot>,
    free: Vec<usize>,
    events: BinaryHeap<Scheduled>,
    num_scheduled: u64,
    dead: BTreeSet<Tag>,
    /// Tags that are stopped, and what would run but for that.
    stopped: BTreeMap<Tag, Vec<TaskKey>>,
    polls: u64,
    rng: Rng,
    trace: Trace,
    /// The life whose task is polled.
    life: u32,
    strikes: BTreeMap<&'static str, u64>,
}

struct Slot {
    generation: u32,
    tag: Tag,
    label: &'static str,
    used: bool,
    future: Option<BoxFuture<'static, ()>>,
    waker: Arc<TaskWaker>,
}

impl Executor {
    /// An executor whose scheduling follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            now_ns: 0,
            slots: Vec::new(),
            free: Vec::new(),
            events: BinaryHeap::new(),
            num_scheduled: 0,
            dead: BTreeSet::new(),
            stopped: BTreeMap::new(),
            polls: 0,
            rng: Rng::new(seed, "scheduler"),
            trace: Trace::default(),
            life: 0,
            strikes: BTreeMap::new(),
        };
        let core = Core {
            state: Mutex::new(state),
            ready: Arc::default(),
        };
        Self {
            handle: Handle {
                core: Arc::new(core),
            },
        }
    }

    /// The handle that ports and environments hold.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `root` ends, under the tag of the world.
    ///
    /// # Errors
    /// [`Stop`] when the root cannot end, takes too long, or a task panics.
    pub fn run<T: Send + 'static>(
        &self,
        limits: Limits,
        root: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Stop> {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        self.handle.spawn(
            Tag(0),
            "root",
            Box::pin(async move {
                let value = root.await;
                *slot.lock() = Some(value);
            }),
        );
        loop {
            self.step(limits)?;
            if let Some(value) = answer.lock().take() {
                return Ok(value);
            }
        }
    }

    /// The hash over everything that happened.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.handle.core.state.lock().trace.hash()
    }

    /// Number of events and the hash after each 1,024 of them.
    #[must_use]
    pub fn trace_checkpoints(&self) -> (u64, Vec<u64>) {
        let state = self.handle.core.state.lock();
        (state.trace.num_events(), state.trace.checkpoints().to_vec())
    }

    /// Tells what happens from now on.
    pub(crate) fn keep(&self, keep: Keep) {
        self.handle.core.state.lock().trace.keep(keep);
    }

    /// What was told.
    pub(crate) fn take_lines(&self) -> Vec<Line> {
        self.handle.core.state.lock().trace.take_lines()
    }

    /// How often each thing that [`Handle::strike`] heard of struck.
    pub(crate) fn strikes(&self) -> Vec<(&'static str, u64)> {
        let state = self.handle.core.state.lock();
        state.strikes.iter().map(|(name, n)| (*name, *n)).collect()
    }

    fn step(&self, limits: Limits) -> Result<(), Stop> {
        let core = &self.handle.core;
        let mut state = core.state.lock();
        let now_ns = state.now_ns;
        if state.polls >= limits.polls || u128::from(now_ns) > limits.time.as_nanos() {
            return Err(Stop::Endless {
                polls: state.polls,
                now_ns,
            });
        }
        let due = state
            .events
            .peek()
            .is_some_and(|event| event.at_ns <= now_ns);
        let mut ready = core.ready.queue.lock();
        if due || ready.is_empty() {
            drop(ready);
            let Some(event) = state.events.pop() else {
                return Err(Stop::Deadlock { now_ns });
            };
            state.now_ns = now_ns.max(event.at_ns);
            state.trace.note(Event::Timer, event.at_ns, event.number);
            drop(state);
            match event.due {
                Due::Wake(waker) => waker.wake(),
                Due::Call(call) => call(),
            }
            return Ok(());
        }
        let place = state.rng.index(ready.len());
        let key = ready.swap_remove(place);
        drop(ready);
        drop(state);
        self.poll(key)
    }

    fn poll(&self, key: TaskKey) -> Result<(), Stop> {
        let mut state = self.handle.core.state.lock();
        let cost = state.rng.between(50, 400);
        let slot = &mut state.slots[key.slot];
        if slot.generation != key.generation {
            return Ok(());
        }
        let tag = slot.tag;
        if let Some(waiting) = state.stopped.get_mut(&tag) {
            waiting.push(key);
            return Ok(());
        }
        let slot = &mut state.slots[key.slot];
        slot.waker.queued.store(false, Ordering::Relaxed);
        let Some(mut future) = slot.future.take() else {
            return Ok(());
        };
        let (label, tag) = (slot.label, slot.tag);
        let waker = Waker::from(Arc::clone(&slot.waker));
        state.now_ns += cost;
        state.polls += 1;
        let now_ns = state.now_ns;
        state.trace.note(
            Event::Poll,
            now_ns,
            (u64::from(tag.0) << 32) ^ key.slot as u64,
        );
        state
            .trace
            .line(now_ns, tag.0, || format!("poll  node={} {label}", tag.0));
        state.life = tag.0;
        drop(state);

        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        let mut state = self.handle.core.state.lock();
        state.life = 0;
        let keep = matches!(polled, Ok(Poll::Pending)) && !state.dead.contains(&tag);
        if keep {
            state.slots[key.slot].future = Some(future);
            return Ok(());
        }
        state.release(key.slot);
        drop(state);
        // A future that panicked may panic again when it is dropped: that is the same failure.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        match polled.and(dropped) {
            Err(panic) => Err(Stop::Panic {
                label,
                message: panic_message(panic.as_ref()),
            }),
            Ok(_) => Ok(()),
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Tasks hold handles: without this the core and its tasks would keep each other alive.
        loop {
            let mut state = self.handle.core.state.lock();
            let futures: Vec<_> = state
                .slots
                .iter_mut()
                .filter_map(|s| s.future.take())
                .collect();
            let events = std::mem::take(&mut state.events);
            for tag in state
                .slots
                .iter()
                .map(|slot| slot.tag)
                .collect::<BTreeSet<_>>()
            {
                state.dead.insert(tag);
            }
            drop(state);
            if futures.is_empty() && events.is_empty() {
                break;
            }
            let dropped = catch_unwind(AssertUnwindSafe(|| drop((futures, events))));
            if dropped.is_err() {
                break;
            }
        }
    }
}

impl State {
    fn release(&mut self, slot: usize) {
        let entry = &mut self.slots[slot];
        entry.used = false;
        entry.generation = entry.generation.wrapping_add(1);
        entry.future = None;
        self.free.push(slot);
    }

    fn schedule(&mut self, at_ns: u64, due: Due) {
        let number = self.num_scheduled;
        self.num_scheduled += 1;
        self.events.push(Scheduled { at_ns, number, due });
    }
}

impl Handle {
    /// Virtual now.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant(self.core.state.lock().now_ns)
    }

    /// Runs `task` under `tag`; a task for a dead tag is dropped.
    pub fn spawn(&self, tag: Tag, label: &'static str, task: BoxFuture<'static, ()>) {
        let mut state = self.core.state.lock();
        if state.dead.contains(&tag) {
            drop(state);
            drop(task);
            return;
        }
        let slot = state.free.pop().unwrap_or(state.slots.len());
        let generation = state.slots.get(slot).map_or(0, |entry| entry.generation);
        let key = TaskKey { slot, generation };
        let ready = Arc::clone(&self.core.ready);
        let waker = Arc::new(TaskWaker {
            key,
            queued: AtomicBool::new(false),
            ready,
        });
        let first = Arc::clone(&waker);
        let entry = Slot {
            generation,
            tag,
            label,
            used: true,
            future: Some(task),
            waker,
        };
        if slot == state.slots.len() {
            state.slots.push(entry);
        } else {
            state.slots[slot] = entry;
        }
        drop(state);
        first.wake();
    }

    /// Drops every task of `tag`; nothing runs under it any more.
    pub fn kill(&self, tag: Tag) {
        let mut state = self.core.state.lock();
        state.dead.insert(tag);
        let mut futures = Vec::new();
        for slot in 0..state.slots.len() {
            let entry = &mut state.slots[slot];
            if entry.used
                && entry.tag == tag
                && let Some(future) = entry.future.take()
            {
                futures.push(future);
                state.release(slot);
            }
        }
        let now_ns = state.now_ns;
        state
            .trace
            .note(Event::Note, u64::from(tag.0), futures.len() as u64);
        state
            .trace
            .line(now_ns, tag.0, || format!("kill  node={}", tag.0));
        drop(state);
        drop(futures);
    }

    /// Stops the tasks of `tag` as SIGSTOP does: time and I/O go on without them.
    pub fn stop(&self, tag: Tag) {
        self.core.state.lock().stopped.entry(tag).or_default();
    }

    /// Lets the tasks of `tag` go on.
    pub fn resume(&self, tag: Tag) {
        let waiting = self.core.state.lock().stopped.remove(&tag);
        let mut ready = self.core.ready.queue.lock();
        ready.extend(waiting.unwrap_or_default());
    }

    /// Calls `call` after `wait`, whatever becomes of the tasks.
    pub fn call_after(&self, wait_ns: u64, call: impl FnOnce() + Send + 'static) {
        let mut state = self.core.state.lock();
        let at_ns = state.now_ns.saturating_add(wait_ns);
        state.schedule(at_ns, Due::Call(Box::new(call)));
    }

    /// Completes after `wait`.
    pub fn sleep(&self, wait: Duration) -> impl Future<Output = ()> + use<> {
        Sleep {
            handle: self.clone(),
            until: self.now().after(wait),
            waker: None,
        }
    }

    /// Puts an event into the trace.
    pub fn note(&self, event: Event, first: u64, second: u64) {
        self.core.state.lock().trace.note(event, first, second);
    }

    /// Adds a line to what a replay tells; `line` is not called otherwise. Its first word names
    /// the part that speaks (`disk`, `bucket`, `net`, `store`, …), words `key=value` what it
    /// speaks of: `value=7`, `values=7,8`, `stream=1 base=10`, `lsn=`, `up_to=`.
    pub fn line(&self, line: impl FnOnce() -> String) {
        let mut state = self.core.state.lock();
        let (now_ns, life) = (state.now_ns, state.life);
        state.trace.line(now_ns, life, line);
    }

    /// Whether lines are wanted: what costs time only for their sake may be left out.
    pub(crate) fn is_told(&self) -> bool {
        self.core.state.lock().trace.is_told()
    }

    /// Counts that a fault of the plan struck.
    pub fn strike(&self, fault: &'static str) {
        *self.core.state.lock().strikes.entry(fault).or_default() += 1;
    }
}

/// The future of [`Handle::sleep`].
struct Sleep {
    handle: Handle,
    until: Instant,
    waker: Option<Waker>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let handle = self.handle.clone();
        let mut state = handle.core.state.lock();
        if state.now_ns >= self.until.0 {
            return Poll::Ready(());
        }
        let known = self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()));
        if !known {
            // A timer cannot be taken back; an old one wakes a task for nothing, which it must bear.
            let waker = context.waker().clone();
            state.schedule(self.until.0, Due::Wake(waker.clone()));
            drop(state);
            self.waker = Some(waker);
        }
        Poll::Pending
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "?".to_owned())
}

#[cfg(test)]
mod tests;
