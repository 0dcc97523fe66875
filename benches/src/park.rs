//! Waiting for a future without a runtime.
//!
//! *Owns*: parking the thread until the future's waker was used.
//!
//! Invariants
//! 1. A wake-up between a poll and the parking is not lost: the thread keeps it as its token.
//!
//! *IO: none*

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: Waker = Waker::from(Arc::new(Unpark(std::thread::current())));
}

/// Polls `future` to its end on the current thread, which sleeps in between.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = WAKER.with(Waker::clone);
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::block_on;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test")]
    fn an_answer_from_another_thread_ends_the_wait() {
        let (send, answer) = tokio::sync::oneshot::channel();
        let sender = std::thread::spawn(move || send.send(7));
        assert_eq!(block_on(answer), Ok(7));
        sender.join().unwrap().unwrap();
        assert_eq!(block_on(async { 1 }), 1);
    }
}
