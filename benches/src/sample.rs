//! Numbers of a measurement: latencies, rounds, CPU time.
//!
//! *Owns*: percentiles, medians, the spread between rounds.
//!
//! *IO: driver (the process's CPU time)*

use std::time::Duration;

/// Latencies of single operations in nanoseconds; more than 4.29 s counts as 4.29 s.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds one operation.
    pub fn push(&mut self, latency: Duration) {
        self.0
            .push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// How many operations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The latencies in microseconds below which lie 50 %, 99 % and 99.9 % of the operations
    /// (nearest rank), or `None` if there is no operation.
    #[must_use]
    pub fn percentiles_us(&self) -> Option<[f64; 3]> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some([500, 990, 999].map(|per_mille| {
            let rank = (sorted.len() * per_mille).div_ceil(1000);
            f64::from(sorted[rank.saturating_sub(1).min(last)]) / 1000.0
        }))
    }
}

/// One value a round.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    /// Adds a round.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many rounds there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle round, or the mean of the two in the middle; zero without rounds.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        match sorted.len() {
            0 => 0.0,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// Each round as a part of the same round of `other`.
    #[must_use]
    pub(crate) fn parts_of(&self, other: &Self) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self(
            pairs
                .filter(|(_, whole)| **whole > 0.0)
                .map(|(part, whole)| part / whole)
                .collect(),
        )
    }

    /// Greatest less smallest, as a part of the median.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let greatest = self.0.iter().copied().fold(f64::MIN, f64::max);
        let smallest = self.0.iter().copied().fold(f64::MAX, f64::min);
        if self.0.len() < 2 || self.median() == 0.0 {
            return 0.0;
        }
        (greatest - smallest) / self.median()
    }
}

/// CPU time of this process, kernel workers of its rings included.
#[derive(Clone, Copy, Debug)]
pub struct Cpu(Duration);

impl Cpu {
    /// User and system time so far.
    #[must_use]
    pub fn now() -> Self {
        // SAFETY: all zeros are a valid `rusage`, which is plain data.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a live `rusage`, which the call fills.
        let answer = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
        assert_eq!(answer, 0, "getrusage of the process itself");
        let spent = |time: libc::timeval| {
            let micros = i128::from(time.tv_sec) * 1_000_000 + i128::from(time.tv_usec);
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        };
        Self(spent(usage.ru_utime) + spent(usage.ru_stime))
    }

    /// Time spent since.
    #[must_use]
    pub fn spent(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cpu, Latencies, Rounds};
    use std::time::Duration;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles_us(), None);
        (1..=1000u64)
            .rev()
            .for_each(|us| latencies.push(Duration::from_micros(us)));
        assert_eq!(latencies.percentiles_us(), Some([500.0, 990.0, 999.0]));
        let mut one = Latencies::default();
        one.push(Duration::from_secs(100));
        assert_eq!(
            one.percentiles_us(),
            Some([f64::from(u32::MAX) / 1000.0; 3])
        );
        one.merge(latencies);
        assert_eq!(one.len(), 1001);
    }

    #[test]
    fn the_median_ignores_an_outlier_and_the_spread_shows_it() {
        let mut rounds = Rounds::default();
        assert_eq!((rounds.median(), rounds.spread()), (0.0, 0.0));
        [10.0, 1000.0, 9.0]
            .into_iter()
            .for_each(|value| rounds.push(value));
        assert_eq!(rounds.median(), 10.0);
        assert_eq!(rounds.spread(), 99.1);
        rounds.push(11.0);
        assert_eq!(rounds.median(), 10.5);
    }

    #[test]
    fn parts_are_of_the_same_round() {
        let rounds = |values: &[f64]| {
            let mut rounds = Rounds::default();
            values.iter().for_each(|value| rounds.push(*value));
            rounds
        };
        // A machine that slows down from round to round still gives one ratio.
        let parts = rounds(&[8.0, 4.0, 1.0]).parts_of(&rounds(&[16.0, 8.0, 2.0]));
        assert_eq!((parts.median(), parts.spread()), (0.5, 0.0));
        assert_eq!(rounds(&[1.0]).parts_of(&rounds(&[0.0])).len(), 0);
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let begun = Cpu::now();
        let mut sum = 0u64;
        while begun.spent() < Duration::from_millis(1) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        assert!(begun.spent() >= Duration::from_millis(1));
    }
}
