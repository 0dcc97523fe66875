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
use serde::{Deserialize, Serialize};
use tidewater_types::{BoxFuture, Env, Instant};

use crate::exec::{Handle, Tag};
use crate::rng::{Rng, label_hash};
use crate::trace::Event;

/// Wall clock at virtual time zero: 2026-11-01T00:00:00Z.
const WALL_MS_START: i64 = 1_793_491_200_000;
/// A clock that jumps does it so soon after the life began.
const JUMP_NS_MAX: u64 = 300_000_000;

/// Lives whose wall clock goes wrong, in so many of 1,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClockFaults {
    /// It runs too fast or too slow.
    pub(crate) drift: u32,
    /// It jumps, forward or back.
    pub(crate) jump: u32,
}

/// How a wall clock goes.
#[derive(Clone, Copy, Debug, Default)]
struct WallClock {
    shift_ms: i64,
    /// When the life began, and by how many millionths it is too fast since.
    begun_ns: u64,
    drift_ppm: i64,
    /// When it jumps, and how far.
    jump: Option<(u64, i64)>,
}

impl WallClock {
    fn now_ms(&self, now_ns: u64) -> i64 {
        let ms = |ns: u64| i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX);
        let drifted = ms(now_ns.saturating_sub(self.begun_ns)).saturating_mul(self.drift_ppm);
        let jumped = self.jump.filter(|(at_ns, _)| now_ns >= *at_ns);
        WALL_MS_START
            .saturating_add(ms(now_ns))
            .saturating_add(drifted / 1_000_000)
            .saturating_add(self.shift_ms)
            .saturating_add(jumped.map_or(0, |(_, by_ms)| by_ms))
    }
}

/// One life of one node.
pub struct SimEnv {
    handle: Handle,
    seed: u64,
    tag: Tag,
    wall: WallClock,
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
            wall: WallClock {
                shift_ms: wall_shift_ms,
                ..WallClock::default()
            },
            streams: Mutex::default(),
        }
    }

    /// The same with a wall clock that may go wrong as `faults` say.
    #[must_use]
    pub(crate) fn with_clock(mut self, faults: ClockFaults) -> Self {
        let mut rng = Rng::new(self.seed ^ (u64::from(self.tag.0) << 40), "clock");
        self.wall.begun_ns = self.handle.now().0;
        let (drifts, jumps) = (rng.chance(faults.drift), rng.chance(faults.jump));
        let mut signed = |most: u64| {
            let size = i64::try_from(rng.between(1, most)).expect("small");
            if rng.chance(500) { size } else { -size }
        };
        if drifts {
            self.wall.drift_ppm = signed(200_000);
            self.handle.strike("clock_drift");
        }
        if jumps {
            let by_ms = signed(1_000_000);
            let after_ns = rng.below(JUMP_NS_MAX);
            self.wall.jump = Some((self.wall.begun_ns + after_ns, by_ms));
            self.handle.strike("clock_jump");
        }
        self
    }
}

impl Env for SimEnv {
    fn now(&self) -> Instant {
        self.handle.now()
    }

    fn wall_ms(&self) -> i64 {
        self.wall.now_ms(self.handle.now().0)
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
    use super::{ClockFaults, JUMP_NS_MAX, SimEnv};
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
    fn a_wall_clock_may_drift_and_jump_and_the_monotonic_one_does_not() {
        let executor = Executor::new(1);
        let plain = || SimEnv::new(executor.handle(), 9, Tag(1), 0);
        let all = |drift, jump| plain().with_clock(ClockFaults { drift, jump });
        let at = |env: &SimEnv, now_ns| env.wall.now_ms(now_ns) - plain().wall.now_ms(now_ns);
        let (right, drifts, jumps) = (all(0, 0), all(1000, 0), all(0, 1000));
        let later_ns = 100 * JUMP_NS_MAX;
        assert_eq!([at(&right, 0), at(&right, later_ns)], [0, 0]);
        assert_eq!(at(&drifts, 0), 0);
        assert_ne!(at(&drifts, later_ns), 0);
        assert_ne!(at(&drifts, later_ns), at(&drifts, later_ns / 2));
        assert_eq!(at(&jumps, 0), 0);
        assert_ne!(at(&jumps, later_ns), 0);
        assert_eq!(at(&jumps, later_ns), at(&jumps, later_ns / 2));
        assert_eq!(jumps.now(), right.now());
    }

    #[test]
    fn the_wall_clock_may_be_off() {
        let executor = Executor::new(1);
        let right = SimEnv::new(executor.handle(), 9, Tag(1), 0);
        let wrong = SimEnv::new(executor.handle(), 9, Tag(2), -5000);
        assert_eq!(right.wall_ms() - wrong.wall_ms(), 5000);
    }
}
