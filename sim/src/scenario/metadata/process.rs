//! A process that may be held up: its requests and answers wait, and its clock may stop.
//!
//! *Owns*: the clock of a host that was suspended. *Does not own*: the bucket's gate.
//!
//! Invariants
//! 1. The monotonic clock never goes back; the wall clock of the host goes on.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Env, Instant};

use super::world::World;
use crate::env::SimEnv;
use crate::exec::{Handle, Tag};
use crate::plan::Life;
use crate::scenario::gate::Gate;

/// One life of a node.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) node: u32,
    pub(super) tag: Tag,
    pub(super) gate: Gate,
    pub(super) env: Arc<HostEnv>,
    handle: Handle,
}

/// The environment of a host that may be suspended.
pub(super) struct HostEnv {
    inner: SimEnv,
    clock: Mutex<Clock>,
}

#[derive(Default)]
struct Clock {
    /// Time that passed unseen.
    missed: Duration,
    /// From when to when it stands.
    stands: Option<(Instant, Instant)>,
}

impl Process {
    pub(super) fn new(world: &World, node: u32, life: Life) -> Self {
        let tag = world.next_tag();
        let seed = world.plan.seed;
        let inner = SimEnv::new(world.handle.clone(), seed, tag, life.wall_shift_ms);
        let env = HostEnv {
            inner,
            clock: Mutex::default(),
        };
        Self {
            node,
            tag,
            gate: Gate::new(world.handle.clone(), world.bucket.clone()),
            env: Arc::new(env),
            handle: world.handle.clone(),
        }
    }

    /// Nothing is sent and nothing is heard for `time`; its monotonic clock may stand still.
    pub(super) fn hold_up(&self, time: Duration, clock_stands: bool) {
        self.handle.strike("pause");
        self.gate.sleep(time);
        if clock_stands {
            self.handle.strike("clock_stopped");
            self.env.suspend(time);
        }
    }
}

impl HostEnv {
    fn suspend(&self, time: Duration) {
        let now = self.now();
        let from = self.inner.now();
        let mut clock = self.clock.lock();
        clock.missed = from.since(now);
        clock.stands = Some((from, from.after(time)));
    }
}

impl Env for HostEnv {
    fn now(&self) -> Instant {
        let real = self.inner.now();
        let mut clock = self.clock.lock();
        let shown = match clock.stands {
            Some((from, until)) if real < until => from,
            Some((from, until)) => {
                clock.missed += until.since(from);
                clock.stands = None;
                real
            }
            None => real,
        };
        Instant::default().after(shown.since(Instant::default().after(clock.missed)))
    }

    fn wall_ms(&self) -> i64 {
        self.inner.wall_ms()
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.inner.sleep(wait)
    }

    fn spawn(&self, label: &'static str, task: BoxFuture<'static, ()>) {
        self.inner.spawn(label, task);
    }

    fn random(&self, label: &'static str) -> u64 {
        self.inner.random(label)
    }
}
