//! A point in time that moves, waited for with few timers.
//!
//! *Owns*: keeping an armed timer while the deadline only moves away.
//!
//! Invariants
//! 1. `passed(at)` never completes before `at`.
//!
//! *IO: none*

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidewater_types::{BoxFuture, Env, Instant};

/// One deadline. A read on a busy connection moves it thousands of times a second, so a timer
/// that was armed for an earlier point is kept and armed again only when it fires.
pub(crate) struct Deadline {
    env: Arc<dyn Env>,
    armed: Option<(Instant, BoxFuture<'static, ()>)>,
}

impl Deadline {
    pub(crate) fn new(env: Arc<dyn Env>) -> Self {
        Self { env, armed: None }
    }

    /// Completes once `at` is not in the future any more.
    pub(crate) async fn passed(&mut self, at: Instant) {
        poll_fn(|cx| self.poll_passed(at, cx)).await;
    }

    fn poll_passed(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.armed {
                Some((point, timer)) if *point <= at => {
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.armed = None;
                }
                _ => {
                    let now = self.env.now();
                    if now >= at {
                        return Poll::Ready(());
                    }
                    self.armed = Some((at, self.env.sleep(at.since(now))));
                }
            }
        }
    }
}
