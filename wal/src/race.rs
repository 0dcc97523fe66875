//! The first of two futures.
//!
//! *Owns*: nothing but the choice: the left one wins a tie, so that runs are repeatable.
//! *Does not own*: either future's meaning.
//!
//! *IO: none*

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// `Some` of the left future's answer, or `None` if the right one ends first.
pub(crate) async fn race<T>(
    left: impl Future<Output = T>,
    right: impl Future<Output = ()>,
) -> Option<T> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(move |cx| {
        if let Poll::Ready(answer) = left.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        right.as_mut().poll(cx).map(|()| None)
    })
    .await
}
