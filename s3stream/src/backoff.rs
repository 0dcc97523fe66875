//! Waits between attempts.
//!
//! *Owns*: how long to wait: doubling from the first wait to the longest, each
//! cut to a random share of one half to all, so that writers do not march in step.
//! *Does not own*: whether to try again.
//!
//! *IO: none* (sleeps through the environment port)

use std::time::Duration;

use tidewater_types::Env;

#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self {
            next: min,
            max,
            attempts: 0,
        }
    }

    /// How many waits there were.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) async fn wait(&mut self, env: &dyn Env) {
        let full = u64::try_from(self.next.as_nanos()).unwrap_or(u64::MAX);
        let cut = env.random("s3stream: backoff") % (full / 2 + 1);
        self.next = (self.next * 2).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        env.sleep(Duration::from_nanos(full - cut)).await;
    }
}
