//! How fast compaction goes.
//!
//! *Owns*: the debt of bytes and the wait that pays it.
//! *Does not own*: the transfers.
//!
//! Invariants
//! 1. Over any stretch of time the bytes paid for are at most the rate times that stretch, and
//!    one transfer.
//! 2. The rate is never below the floor, so every wait ends.
//!
//! *IO: none* (sleeps through the environment port)

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_types::{Env, Instant};

use crate::tail::Tail;

pub(crate) struct Pace {
    pub(crate) env: Arc<dyn Env>,
    /// Bytes a second, ordinarily and while uploads are behind.
    pub(crate) rate: u64,
    pub(crate) rate_floor: u64,
    /// As much pending starts an upload.
    pub(crate) upload_bytes: u64,
    pub(crate) free_at: Mutex<Instant>,
}

impl Pace {
    /// Waits until `num_bytes`, which were or will be transferred, are paid for.
    pub(crate) async fn pay(&self, num_bytes: u64, tail: Option<&Weak<dyn Tail>>) {
        // Held by the uploader alone: whoever made it learns of its end by the drop.
        let tail = tail.and_then(Weak::upgrade);
        let is_behind = tail.is_some_and(|tail| tail.pending().fills(self.upload_bytes));
        let rate = if is_behind {
            self.rate_floor
        } else {
            self.rate
        };
        let nanos = u128::from(num_bytes) * 1_000_000_000 / u128::from(rate);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = self.env.now();
        let wait = {
            let mut free_at = self.free_at.lock();
            *free_at = now.max(*free_at).after(cost);
            free_at.since(now)
        };
        if !wait.is_zero() {
            self.env.sleep(wait).await;
        }
    }
}
