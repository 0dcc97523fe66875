//! Back-pressure of one connection: what it has in flight.
//!
//! *Owns*: counting requests without a response, their bytes, and the bytes of
//! responses not yet written.
//!
//! Invariants
//! 1. Every `begin` is met by one `answered`, every byte that `answered` adds by
//!    `written`; so the counts return to zero.
//!
//! *IO: none*

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    requests: usize,
    bytes: usize,
}

/// What one connection has in flight.
#[derive(Debug)]
pub(crate) struct Window {
    requests_max: usize,
    bytes_max: usize,
    count: Mutex<Count>,
    changed: Notify,
}

impl Window {
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Self {
        let count = Mutex::new(Count::default());
        Self {
            requests_max,
            bytes_max,
            count,
            changed: Notify::new(),
        }
    }

    /// Completes once another request may begin. One task waits at a time.
    pub(crate) async fn room(&self) {
        loop {
            let changed = self.changed.notified();
            let count = *self.count.lock();
            if count.requests < self.requests_max && count.bytes < self.bytes_max {
                return;
            }
            changed.await;
        }
    }

    /// A request of `num_bytes` begins.
    pub(crate) fn begin(&self, num_bytes: usize) {
        let mut count = self.count.lock();
        count.requests += 1;
        count.bytes += num_bytes;
    }

    /// A request of `request_bytes` has its response, of which `response_bytes` are to be written.
    pub(crate) fn answered(&self, request_bytes: usize, response_bytes: usize) {
        let mut count = self.count.lock();
        count.requests = count.requests.checked_sub(1).expect("a request began");
        count.bytes = count
            .bytes
            .checked_sub(request_bytes)
            .expect("its bytes were counted");
        count.bytes += response_bytes;
        drop(count);
        self.changed.notify_one();
    }

    /// `num_bytes` of responses were written, or will never be.
    pub(crate) fn written(&self, num_bytes: usize) {
        let mut count = self.count.lock();
        count.bytes = count
            .bytes
            .checked_sub(num_bytes)
            .expect("they were counted");
        drop(count);
        self.changed.notify_one();
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        *self.count.lock() == Count::default()
    }
}
