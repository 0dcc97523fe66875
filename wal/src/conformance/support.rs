//! What the checks share: frames that are like no other, waiting without a clock.
//!
//! *Owns*: how long a check waits for what another thread does: never by a clock of its own.
//! *Does not own*: any check.
//!
//! *IO: none*

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidewater_types::{Env, Lsn};

use super::kind::Logs;
use crate::acks::Append;
use crate::error::WalError;
use crate::port::{Frame, Wal, Watermarks};
use crate::room::Permit;

/// How often a check looks again before it says that something never happens.
const LOOKS_MAX: usize = 20_000;
/// How often room is asked for that a slow device is late to give back.
const ASKS_MAX: usize = 1_000;

/// The bytes of frame `number`: like no other frame's.
pub(crate) fn frame_bytes(number: u64, num_bytes: usize) -> Bytes {
    let seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..num_bytes)
        .map(|i| (seed >> (8 * (i % 8))) as u8 ^ (i / 8) as u8)
        .collect()
}

/// Room for a frame, however slow the device.
pub(super) async fn room(wal: &dyn Wal, num_bytes: usize) -> Permit {
    for _ in 0..ASKS_MAX {
        match wal.reserve(num_bytes).await {
            Ok(permit) => return permit,
            Err(WalError::Full { .. }) => {}
            Err(error) => panic!("reserve({num_bytes}): {error}"),
        }
    }
    panic!("reserve({num_bytes}): full, {ASKS_MAX} times");
}

/// Begins an append of `body`.
pub(super) async fn begin(wal: &dyn Wal, body: Bytes) -> Append {
    let permit = room(wal, body.len()).await;
    wal.append(permit, Frame::from(body)).expect("append")
}

/// Appends `frame` and waits until it is durable.
pub(super) async fn append(wal: &dyn Wal, frame: Frame) -> Lsn {
    let permit = room(wal, frame.num_bytes()).await;
    let append = wal.append(permit, frame).expect("append");
    let lsn = append.lsn();
    assert_eq!(append.await.expect("durable"), lsn, "the LSN of an append");
    lsn
}

/// Reads the frame at `lsn`, which must be there.
pub(super) async fn read(wal: &dyn Wal, lsn: Lsn) -> Bytes {
    let answer = wal.read(lsn).await;
    answer.unwrap_or_else(|error| panic!("read({lsn}): {error}"))
}

/// Polls once; nobody is woken for it.
pub(super) fn poll_once<T>(future: impl Future<Output = T> + Unpin) -> Option<T> {
    poll_with(future, Waker::noop())
}

/// Polls once, `waker` being the one to call.
pub(super) fn poll_with<T>(
    mut future: impl Future<Output = T> + Unpin,
    waker: &Waker,
) -> Option<T> {
    match Pin::new(&mut future).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Waits until `holds`; `what` is said if it never does.
pub(super) async fn settled(env: &dyn Env, what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..LOOKS_MAX {
        if holds() {
            return;
        }
        env.sleep(Duration::from_millis(1)).await;
    }
    panic!("never happened: {what}");
}

/// The watermarks, in order, none below where it stood in `before`.
pub(super) fn watermarks(wal: &dyn Wal, before: Watermarks) -> Watermarks {
    let marks = wal.watermarks();
    assert!(
        marks.trimmed <= marks.durable
            && marks.durable <= marks.submitted
            && marks.submitted <= marks.accepted,
        "watermarks out of order: {marks:?}"
    );
    assert!(
        before.trimmed <= marks.trimmed
            && before.durable <= marks.durable
            && before.submitted <= marks.submitted
            && before.accepted <= marks.accepted,
        "a watermark went back: {before:?}, then {marks:?}"
    );
    marks
}

/// Length of the largest frame, as the log says itself.
pub(super) fn frame_bytes_max(wal: &dyn Wal) -> usize {
    match wal.try_reserve(usize::MAX).map(|permit| permit.num_bytes()) {
        Err(WalError::FrameTooLarge { num_bytes, max }) => {
            assert_eq!(num_bytes, usize::MAX, "the length that was asked for");
            max
        }
        other => panic!("try_reserve(usize::MAX): {other:?}, expected FrameTooLarge"),
    }
}

/// All the room there is in permits for the largest frame: more were waited for, and did not come.
pub(super) async fn all_room(wal: &dyn Wal) -> Vec<Permit> {
    let max = frame_bytes_max(wal);
    let mut permits = Vec::new();
    loop {
        match wal.reserve(max).await {
            Ok(permit) => permits.push(permit),
            Err(WalError::Full { .. }) => return permits,
            Err(error) => panic!("reserve({max}): {error}"),
        }
    }
}

/// Lets go of everything durable, and waits until there is room for `count` largest frames again.
pub(super) async fn room_is_back(logs: &Logs<'_>, wal: &dyn Wal, count: usize) {
    let max = frame_bytes_max(wal);
    wal.trim(wal.watermarks().durable);
    settled(&*logs.env, "room that is given back", || {
        let permits: Result<Vec<_>, _> = (0..count).map(|_| wal.try_reserve(max)).collect();
        permits.is_ok()
    })
    .await;
}
