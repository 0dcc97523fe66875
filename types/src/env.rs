//! The environment port: time, sleep, tasks and randomness.
//!
//! *Owns*: the trait that production answers with an async runtime and the
//! simulator with its own executor.
//! *Does not own*: disk, bucket and network; each has a port in the crate that
//! calls it.
//!
//! Invariants
//! 1. `now` never goes back and has no relation to any other process's clock.
//! 2. A future given to `spawn` runs until it ends or its node is killed.
//! 3. `random` draws from one stream of numbers a label; in simulation the
//!    numbers follow from the seed and the label alone.
//!
//! *IO: none*

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Monotonic time in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The time `wait` later; saturates at the end of time.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// What code asks of the world besides its own I/O port.
pub trait Env: Send + Sync + 'static {
    /// Monotonic now.
    fn now(&self) -> Instant;

    /// Milliseconds since the Unix epoch, by this host's clock. May jump.
    fn wall_ms(&self) -> i64;

    /// Completes `wait` later.
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()>;

    /// Runs `task` in the background. `label` names it in traces.
    fn spawn(&self, label: &'static str, task: BoxFuture<'static, ()>);

    /// A number drawn from the random stream named `label`.
    fn random(&self, label: &'static str) -> u64;
}
