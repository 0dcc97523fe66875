//! Waiting for a point in virtual time.
//!
//! *Owns*: the future. *Does not own*: time, the event heap (exec.rs).
//!
//! *IO: none*

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tidewater_types::Instant;

use super::Handle;
use super::queue::Due;

/// The future of [`Handle::sleep`].
pub struct Sleep {
    pub(super) handle: Handle,
    pub(super) until: Instant,
    pub(super) waker: Option<Waker>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let handle = self.handle.clone();
        let mut state = handle.core.state.lock();
        if state.now_ns >= self.until.0 {
            return Poll::Ready(());
        }
        let known = self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()));
        if !known {
            // A timer cannot be taken back; an old one wakes a task for nothing, which it must bear.
            let waker = context.waker().clone();
            state.schedule(self.until.0, Due::Wake(waker.clone()));
            drop(state);
            self.waker = Some(waker);
        }
        Poll::Pending
    }
}
