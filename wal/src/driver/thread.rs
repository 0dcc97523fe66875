//! Running one future on the current thread.
//!
//! *Owns*: parking while nothing can go on.
//! *Does not own*: what ends the waiting; the parker's waker does.
//!
//! *IO: driver*

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// Something the thread can wait on.
pub(super) trait Parker {
    /// Ends the waiting, now or the next one.
    fn waker(&self) -> Waker;

    /// Waits until the waker was used, or something else may have happened.
    fn park(&self);
}

/// Polls `future` to its end, parking in between.
pub(super) fn block_on<T>(future: impl Future<Output = T>, parker: &dyn Parker) -> T {
    let mut future = pin!(future);
    let waker = parker.waker();
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
            return answer;
        }
        parker.park();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits by parking the thread it was made on.
pub(super) struct ThreadParker {
    waker: Waker,
}

impl ThreadParker {
    pub(super) fn new() -> Self {
        Self {
            waker: Waker::from(Arc::new(Unpark(std::thread::current()))),
        }
    }
}

impl Parker for ThreadParker {
    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn park(&self) {
        std::thread::park();
    }
}
