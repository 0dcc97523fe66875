//! The environment of a bench: the host's clock and tokio's timers and tasks.
//!
//! *Owns*: nothing but the moment it was made.
//! *Does not own*: the runtime.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidewater_types::{BoxFuture, Env, Instant};

/// [`Env`] on a tokio runtime.
#[derive(Debug)]
pub struct BenchEnv {
    started: std::time::Instant,
    runtime: tokio::runtime::Handle,
}

impl BenchEnv {
    /// The environment on `runtime`.
    #[must_use]
    pub fn new(runtime: &tokio::runtime::Handle) -> Self {
        Self {
            started: std::time::Instant::now(),
            runtime: runtime.clone(),
        }
    }
}

impl Env for BenchEnv {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall_ms(&self) -> i64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let _in_runtime = self.runtime.enter();
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn(&self, _label: &'static str, task: BoxFuture<'static, ()>) {
        self.runtime.spawn(task);
    }

    fn random(&self, _label: &'static str) -> u64 {
        // The standard library's keys are drawn from the system's entropy.
        #[allow(clippy::disallowed_types, reason = "the one source of entropy at hand")]
        let keys = std::hash::RandomState::new();
        keys.build_hasher().finish()
    }
}
