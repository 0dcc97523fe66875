//! How long everything takes.
//!
//! *Owns*: rounds and slices, quick and full; the estimate that is printed before a run.
//! *Does not own*: what is measured.
//!
//! *IO: driver (environment)*

use std::io;
use std::time::Duration;

use tidewater_benches::{Options, rounds};

/// Looking for quiet, starting and stopping appenders.
const OVERHEAD: Duration = Duration::from_millis(130);

/// The times of one turn, and how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) slice: Duration,
    /// Of raw writing behind the slice.
    pub(crate) limit: Duration,
}

impl Plan {
    pub(crate) fn of(options: &Options) -> io::Result<Self> {
        let ms = Duration::from_millis;
        let (default, [warm_up, slice, limit]) = if options.quick {
            (3, [ms(60), ms(150), ms(120)])
        } else {
            (5, [ms(120), ms(500), ms(350)])
        };
        Ok(Self {
            rounds: rounds(default)?,
            warm_up,
            slice,
            limit,
        })
    }

    /// Slices that last at least as long as `factor` times `latency`.
    pub(crate) fn stretched(self, latency: Duration, factor: u32) -> Self {
        let least = latency * factor;
        Self {
            warm_up: self.warm_up.max(least / 4),
            slice: self.slice.max(least),
            limit: self.limit.max(least / 2),
            ..self
        }
    }

    /// What `turns` take in all rounds, of which `limited` are compared with raw writing.
    pub(crate) fn estimate(&self, turns: usize, limited: usize) -> Duration {
        let times = |count: usize| u32::try_from(count * self.rounds).unwrap_or(u32::MAX);
        (self.warm_up + self.slice + OVERHEAD) * times(turns) + self.limit * times(limited)
    }
}
