//! Back-pressure of connections: what each has in flight, and all together.
//!
//! *Owns*: counting requests without a response, their bytes, the bytes of responses that are being
//! made, and of those not yet written.
//!
//! Invariants
//! 1. Every `begin` is met by one `answered`, every byte that `answered` adds by
//!    `written`; so the counts return to zero. What a connection leaves goes with its window.
//! 2. A connection with nothing in flight may begin a request, whatever the others hold: so each gets
//!    on, and beyond the total there is at most one request or response a connection.
//! 3. Responses that are being made take half of the total at most, and the least that each may have:
//!    readers of what comes slowly leave room to everybody else.
//!
//! *IO: none*

use std::sync::Arc;

use futures_util::future::select;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What all connections of a listener have in flight.
#[derive(Debug)]
pub(crate) struct Pool {
    bytes_max: usize,
    bytes: Mutex<usize>,
    /// Bytes among these for responses that are being made.
    making: Mutex<usize>,
    has_room: Notify,
}

/// Room for a response that is being made. It is given back when this is dropped; what was made of it is
/// counted as a response right after.
#[derive(Debug)]
pub(crate) struct Making {
    pool: Arc<Pool>,
    num_bytes: usize,
}

/// A response may be made of so many bytes however many others there are.
const MAKING_MIN: usize = 64 << 10;

impl Pool {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            bytes: Mutex::default(),
            making: Mutex::default(),
            has_room: Notify::new(),
        })
    }

    /// The limit in bytes, and what is in flight of it.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.bytes_max, *self.bytes.lock())
    }

    /// Room for a response of `wanted` bytes that is about to be made: less if others are many, so that
    /// they get smaller ones all together.
    pub(crate) fn make(self: &Arc<Self>, wanted: usize) -> Making {
        let mut making = self.making.lock();
        let free = (self.bytes_max / 2).saturating_sub(*making);
        let num_bytes = wanted.min((free / 4).max(MAKING_MIN));
        *making += num_bytes;
        drop(making);
        self.add(num_bytes);
        Making {
            pool: Arc::clone(self),
            num_bytes,
        }
    }

    fn is_full(&self) -> bool {
        *self.bytes.lock() >= self.bytes_max
    }

    fn add(&self, num_bytes: usize) {
        *self.bytes.lock() += num_bytes;
    }

    fn sub(&self, num_bytes: usize) {
        let mut bytes = self.bytes.lock();
        let was_full = *bytes >= self.bytes_max;
        *bytes = bytes.checked_sub(num_bytes).expect("they were counted");
        if was_full && *bytes < self.bytes_max {
            self.has_room.notify_waiters();
        }
    }
}

impl Making {
    /// Most bytes that the response may have.
    pub(crate) fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    /// The response has `num_bytes`; what it does not need is given back.
    pub(crate) fn made(&mut self, num_bytes: usize) {
        let spare = self.num_bytes.saturating_sub(num_bytes);
        self.give_back(spare);
    }

    fn give_back(&mut self, num_bytes: usize) {
        self.num_bytes -= num_bytes;
        *self.pool.making.lock() -= num_bytes;
        self.pool.sub(num_bytes);
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.give_back(self.num_bytes);
    }
}

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
    pool: Arc<Pool>,
}

impl Drop for Window {
    fn drop(&mut self) {
        self.pool.sub(self.count.get_mut().bytes);
    }
}

impl Window {
    pub(crate) fn new(requests_max: usize, bytes_max: usize, pool: Arc<Pool>) -> Self {
        let count = Mutex::new(Count::default());
        Self {
            requests_max,
            bytes_max,
            count,
            changed: Notify::new(),
            pool,
        }
    }

    /// Completes once another request may begin. One task waits at a time.
    pub(crate) async fn room(&self) {
        loop {
            let changed = std::pin::pin!(self.changed.notified());
            let mut has_room = std::pin::pin!(self.pool.has_room.notified());
            has_room.as_mut().enable();
            let count = *self.count.lock();
            let fits = count.requests < self.requests_max && count.bytes < self.bytes_max;
            if count == Count::default() || (fits && !self.pool.is_full()) {
                return;
            }
            select(changed, has_room).await;
        }
    }

    /// A request of `num_bytes` begins.
    pub(crate) fn begin(&self, num_bytes: usize) {
        let mut count = self.count.lock();
        count.requests += 1;
        count.bytes += num_bytes;
        self.pool.add(num_bytes);
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
        self.pool.add(response_bytes);
        self.pool.sub(request_bytes);
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
        self.pool.sub(num_bytes);
        self.changed.notify_one();
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        *self.count.lock() == Count::default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::{MAKING_MIN, Pool, Window};

    #[test]
    fn who_has_nothing_in_flight_may_begin_and_the_others_wait_for_all() {
        let pool = Pool::new(100);
        let window = || Window::new(10, 1_000, pool.clone());
        let (first, second) = (window(), window());
        first.begin(60);
        assert!(first.room().now_or_never().is_some());
        second.begin(60);
        assert!(first.room().now_or_never().is_none(), "120 of 100");
        assert!(window().room().now_or_never().is_some());
        second.answered(60, 50);
        assert!(first.room().now_or_never().is_none(), "110 of 100");
        let mut waits = std::pin::pin!(first.room());
        assert!(waits.as_mut().now_or_never().is_none());
        second.written(20);
        assert!(waits.now_or_never().is_some(), "90 of 100");
        // What a connection leaves behind goes with it.
        second.begin(10);
        assert!(first.room().now_or_never().is_none());
        drop(second);
        assert!(first.room().now_or_never().is_some());
        first.answered(60, 0);
        assert!(first.is_idle());
        assert_eq!(*pool.bytes.lock(), 0);
    }

    #[test]
    fn responses_that_are_made_get_smaller_and_leave_half_to_others() {
        const MIB: usize = 1 << 20;
        let pool = Pool::new(64 * MIB);
        let mut all: Vec<_> = (0..100).map(|_| pool.make(50 * MIB)).collect();
        let sizes: Vec<_> = all.iter().map(|making| making.num_bytes()).collect();
        assert_eq!(sizes[..3], [8 * MIB, 6 * MIB, 9 * MIB / 2]);
        assert!(sizes.is_sorted_by(|one, next| one >= next));
        assert_eq!(sizes.last(), Some(&MAKING_MIN));
        let (_, in_flight) = pool.usage();
        assert_eq!(in_flight, sizes.iter().sum::<usize>());
        assert!(in_flight <= 32 * MIB + 100 * MAKING_MIN, "{in_flight}");
        assert!(!pool.is_full());
        // What is not needed is there for the next one.
        all[0].made(MIB);
        all[0].made(2 * MIB);
        assert_eq!(all[0].num_bytes(), MIB);
        assert!(pool.make(50 * MIB).num_bytes() > MAKING_MIN);
        drop(all);
        assert_eq!((pool.usage().1, *pool.making.lock()), (0, 0));
    }
}
