//! When an attempt without an answer gets a twin.
//!
//! *Owns*: the latencies of late and what follows from them.
//! *Does not own*: the twin.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::time::Duration;

/// Latencies remembered.
const LATENCIES: usize = 128;

/// The delay of the hedge: the setting, or the slowest in a hundred of late if that is longer.
#[derive(Debug)]
pub(crate) struct Hedge {
    setting: Duration,
    now: Duration,
    latencies: VecDeque<Duration>,
}

impl Hedge {
    /// `setting` is zero for never.
    pub(crate) fn new(setting: Duration) -> Self {
        Self {
            setting,
            now: setting,
            latencies: VecDeque::new(),
        }
    }

    /// After how long a twin is sent.
    pub(crate) fn delay(&self) -> Duration {
        self.now
    }

    /// An object was created after `latency`.
    pub(crate) fn remember(&mut self, latency: Duration) {
        self.latencies.push_back(latency);
        if self.latencies.len() > LATENCIES {
            self.latencies.pop_front();
        }
        let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        if let Some(slow) = sorted.get(sorted.len() * 99 / 100)
            && !self.setting.is_zero()
        {
            self.now = self.setting.max(*slow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_slowest_in_a_hundred_and_forgets() {
        let ms = Duration::from_millis;
        let mut hedge = Hedge::new(ms(5));
        hedge.remember(ms(40));
        assert_eq!(hedge.delay(), ms(40));
        for _ in 0..LATENCIES {
            hedge.remember(ms(1));
        }
        assert_eq!(hedge.delay(), ms(5));
        let mut never = Hedge::new(ms(0));
        never.remember(ms(40));
        assert_eq!(never.delay(), ms(0));
    }
}
