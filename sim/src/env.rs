//! The environment of one life of one node.
//!
//! *Owns*: the answer to `tidewater_types::Env` in simulation.
//! *Does not own*: time and tasks (the executor), disk and bucket (ports of their own).
//!
//! Invariants
//! 1. Each (seed, node, life, label) has its own stream of numbers.
//! 2. Tasks run under the life's tag and die with it.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Env, Instant};

use crate::exec::{Handle, Tag};
use crate::rng::{Rng, label_hash};
use crate::trace::Event;

/// Wall clock at virtual time zero: 2026-11-01T00:00:00Z.
const WALL_MS_START: i64 = 1_793_491_200_000;

/// One life of one node.
pub struct SimEnv {
    handle: Handle,
    seed: u64,
    tag: Tag,
    wall_shift_ms: i64,
    streams: Mutex<BTreeMap<&'static str, Rng>>,
}

impl SimEnv {
    /// The environment of the life `tag` in the run `seed`; its wall clock is off by `wall_shift_ms`.
    #[must_use]
    pub fn new(handle: Handle, seed: u64, tag: Tag, wall_shift_ms: i64) -> Self {
        if wall_shift_ms != 0 {
            handle.strike("clock_shift");
        }
        Self {
            handle,
            seed,
            tag,
            wall_shift_ms,
            streams: Mutex::default(),
        }
    }
}

impl Env for SimEnv {
    fn now(&self) -> Instant {
        self.handle.now()
    }

    fn wall_ms(&self) -> i64 {
        let passed = i64::try_from(self.handle.now().0 / 1_000_000).unwrap_or(i64::MAX);
        WALL_MS_START
            .saturating_add(passed)
            .saturating_add(self.wall_shift_ms)
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.handle.sleep(wait))
    }

    fn spawn(&self, label: &'static str, task: BoxFuture<'static, ()>) {
        self.handle.spawn(self.tag, label, task);
    }

    fn random(&self, label: &'static str) -> u64 {
        let value = {
            let mut streams = self.streams.lock();
            let life = self.seed ^ (u64::from(self.tag.0) << 40);
            streams
                .entry(label)
                .or_insert_with(|| Rng::new(life, label))
                .next_u64()
        };
        self.handle.note(Event::Draw, label_hash(label), value);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::SimEnv;
    use crate::exec::{Executor, Tag};
    use tidewater_types::Env;

    #[test]
    fn labels_and_lives_draw_from_streams_of_their_own() {
        let executor = Executor::new(1);
        let env = |tag| SimEnv::new(executor.handle(), 9, Tag(tag), 0);
        let first = env(1);
        let a = [first.random("a"), first.random("a")];
        let mixed = env(1);
        let b = mixed.random("b");
        assert_eq!(a, [mixed.random("a"), mixed.random("a")]);
        assert_ne!(a[0], b);
        assert_ne!(a[0], env(2).random("a"));
    }

    #[test]
    fn the_wall_clock_may_be_off() {
        let executor = Executor::new(1);
        let right = SimEnv::new(executor.handle(), 9, Tag(1), 0);
        let wrong = SimEnv::new(executor.handle(), 9, Tag(2), -5000);
        assert_eq!(right.wall_ms() - wrong.wall_ms(), 5000);
    }
}
