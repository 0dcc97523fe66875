//! Other processes on the machine: waiting until they are quiet, and saying when they were not.
//!
//! *Owns*: how much of the processors others took while something was measured.
//! *Does not own*: whether a disturbed number is worth keeping; it is, and is said to be disturbed.
//!
//! Invariants
//! 1. What is measured again is measured again whole: no part of a disturbed slice is kept.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::io;
use std::time::{Duration, Instant};

use crate::sample::Cpu;

/// Part of all processors that others may take in a slice that counts as quiet.
const SHARE_MAX: f64 = 0.10;
const LOOK: Duration = Duration::from_millis(100);
/// The unit of `/proc/stat`: `USER_HZ` is 100 wherever Linux has a stable interface.
const TICK: Duration = Duration::from_millis(10);

/// Patience with other processes, for a whole run.
#[derive(Debug)]
pub struct Quiet {
    patience: Duration,
    shares: Vec<f64>,
    num_repeated: usize,
    num_waits: usize,
    num_in_vain: usize,
}

impl Quiet {
    /// Waits up to `TIDEWATER_BENCH_PATIENCE` seconds (default 0) in all.
    ///
    /// # Errors
    /// The variable is no number of seconds.
    pub fn from_environment() -> io::Result<Self> {
        let seconds = match std::env::var("TIDEWATER_BENCH_PATIENCE") {
            Err(_) => 0,
            Ok(text) => text.parse().map_err(|_| {
                let what = format!("TIDEWATER_BENCH_PATIENCE = {text}: expected seconds");
                io::Error::new(io::ErrorKind::InvalidInput, what)
            })?,
        };
        Ok(Self {
            patience: Duration::from_secs(seconds),
            shares: Vec::new(),
            num_repeated: 0,
            num_waits: 0,
            num_in_vain: 0,
        })
    }

    /// Waits, as long as there is patience, until others leave the processors alone.
    pub fn wait(&mut self) {
        self.num_waits += 1;
        loop {
            let before = Watch::begin();
            std::thread::sleep(LOOK);
            if before.share() <= SHARE_MAX {
                return;
            }
            if self.patience.is_zero() {
                self.num_in_vain += 1;
                return;
            }
            self.patience = self.patience.saturating_sub(LOOK);
        }
    }

    /// Measures in quiet; what was disturbed is done again as long as there is patience. Only for
    /// work of this process: children would count as others.
    ///
    /// # Errors
    /// Those of `measure`.
    pub fn measure<T, E>(&mut self, mut measure: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        loop {
            self.wait();
            let (watch, begun) = (Watch::begin(), Instant::now());
            let measured = measure()?;
            let share = watch.share();
            if share <= SHARE_MAX || self.patience.is_zero() {
                self.shares.push(share);
                return Ok(measured);
            }
            self.num_repeated += 1;
            self.patience = self.patience.saturating_sub(begun.elapsed());
        }
    }

    /// What to say about the run.
    #[must_use]
    pub fn verdict(&self) -> String {
        let disturbed = self
            .shares
            .iter()
            .filter(|share| **share > SHARE_MAX)
            .count();
        let worst = self.shares.iter().copied().fold(0.0, f64::max);
        let mut verdict = format!(
            "other processes: {} of {} measurements began while they were busy",
            self.num_in_vain, self.num_waits
        );
        if !self.shares.is_empty() {
            verdict += &format!(
                "; {disturbed} of {} slices disturbed (worst {:.0} % of the CPU), {} repeated",
                self.shares.len(),
                worst * 100.0,
                self.num_repeated
            );
        }
        verdict
    }
}

/// All processors' time and this process's, at one moment.
struct Watch {
    busy: u64,
    all: u64,
    own: Cpu,
}

impl Watch {
    fn begin() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let (busy, all) = ticks(&text);
        let own = Cpu::now();
        Self { busy, all, own }
    }

    /// Part of all processors that others took since.
    fn share(&self) -> f64 {
        let now = Self::begin();
        let all = TICK.as_secs_f64() * now.all.saturating_sub(self.all) as f64;
        let busy = TICK.as_secs_f64() * now.busy.saturating_sub(self.busy) as f64;
        if all == 0.0 {
            return 0.0;
        }
        ((busy - self.own.spent().as_secs_f64()) / all).max(0.0)
    }
}

/// Ticks that the processors were busy (stolen ones included), and ticks that passed.
fn ticks(stat: &str) -> (u64, u64) {
    let line = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guests are counted in user already.
    let numbers = line.split_whitespace().skip(1).take(8);
    let parts: Vec<u64> = numbers.filter_map(|part| part.parse().ok()).collect();
    let idle: u64 = parts.iter().skip(3).take(2).sum();
    let all: u64 = parts.iter().sum();
    (all - idle, all)
}

#[cfg(test)]
mod tests {
    use super::{Quiet, ticks};
    use std::time::Duration;

    #[test]
    fn waiting_for_the_disk_is_not_being_busy_and_stolen_time_is() {
        let stat = "cpu  10 1 20 500 40 2 3 4 999 999\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(ticks(stat), (40, 580));
        assert_eq!(ticks(""), (0, 0));
    }

    #[test]
    fn without_patience_everything_is_measured_once() {
        let mut quiet = Quiet {
            patience: Duration::ZERO,
            shares: Vec::new(),
            num_repeated: 0,
            num_waits: 0,
            num_in_vain: 0,
        };
        let mut times = 0;
        let answer: Result<i32, ()> = quiet.measure(|| {
            times += 1;
            Ok(times)
        });
        assert_eq!((answer, quiet.num_repeated), (Ok(1), 0));
        assert!(quiet.verdict().contains("of 1 slices"));
        let answer: Result<(), i32> = quiet.measure(|| Err(5));
        assert_eq!(answer, Err(5));
    }
}
