//! How old this process's knowledge of the log is, and when that is too old.
//!
//! *Owns*: the rule that tells when an answer about an entry can be believed.
//! *Does not own*: the requests (`boundary`, `log`).
//!
//! The rule. A number is used once, but deletion makes it look unused again. So an
//! answer about entry N (created, exists, absent, these bytes) counts only if no
//! entry N had been deleted when the store gave it. Deletion is announced: a
//! boundary of at least N is durable, then `delete_delay` passes on the deleter's
//! clock, then requests to delete go out. `Fresh` holds a moment `at` of this
//! process's clock at or after which the boundary was seen, or known, to lie below
//! N. Any boundary of N or more is therefore later than `at`, any deletion later
//! than `at` plus the delay. An answer that has arrived within *half* the delay of
//! `at` was given before; the other half is for clocks that run unequally fast.
//! An older answer is confirmed by reading the boundary again, *after* it: if it
//! still lies below N, nothing had been deleted when the answer was given.
//!
//! What renews `at` for nothing: creating entry N (nobody had created it then, so no
//! boundary reached it) and finding it absent, each by when the request was sent.
//! So a process that commits or polls more often than every half delay never asks.
//!
//! Invariants
//! 1. `at` only ascends, and is never later than the moment it stands for.
//! 2. A host that was suspended may find its monotonic clock stopped; its wall clock
//!    is a second witness that can only make knowledge older.
//!
//! *IO: none*

use std::time::Duration;

use tidewater_types::{Env, Instant, mutant};

/// When the deletion boundary was last known to lie below the next entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fresh {
    at: Instant,
    wall_ms: i64,
    /// The greatest boundary seen.
    pub(crate) boundary: u64,
}

impl Fresh {
    /// Knowledge of what the store says from now on.
    pub(crate) fn now(env: &dyn Env, boundary: u64) -> Self {
        let (at, wall_ms) = (env.now(), env.wall_ms());
        Self {
            at,
            wall_ms,
            boundary,
        }
    }

    /// Whether an answer that has arrived was given before anything can have been deleted.
    pub(crate) fn holds(&self, env: &dyn Env, delete_delay: Duration) -> bool {
        let half = delete_delay / 2;
        let wall = Duration::from_millis(env.wall_ms().abs_diff(self.wall_ms));
        env.now().since(self.at) < half && (wall < half || mutant!(75))
    }

    /// The next entry did not exist at `sent` or later.
    pub(crate) fn renew(&mut self, sent: Self) {
        if sent.at >= self.at {
            (self.at, self.wall_ms) = (sent.at, sent.wall_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEnv;

    #[tokio::test(start_paused = true)]
    async fn knowledge_grows_old_by_either_clock() {
        let (env, delay) = (TestEnv::shared(1), Duration::from_secs(10));
        let fresh = Fresh::now(&*env, 3);
        env.sleep(Duration::from_millis(4_999)).await;
        assert!(fresh.holds(&*env, delay));
        let later = Fresh::now(&*env, 0);
        env.sleep(Duration::from_millis(1)).await;
        assert!(!fresh.holds(&*env, delay));
        let mut renewed = fresh;
        renewed.renew(later);
        assert!(renewed.holds(&*env, delay) && renewed.boundary == 3);
        // An older moment renews nothing.
        renewed.renew(fresh);
        assert!(renewed.holds(&*env, delay));
        for wall_ms in [later.wall_ms - 5_000, later.wall_ms + 5_001] {
            let suspended = Fresh { wall_ms, ..later };
            assert!(!suspended.holds(&*env, delay));
        }
    }
}
