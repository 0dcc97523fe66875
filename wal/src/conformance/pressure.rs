//! Checks of back-pressure: permits, the queue for them, a full log.
//!
//! *Owns*: that nothing is half accepted. *Does not own*: how much room there is.
//!
//! *IO: none*

use super::kind::Logs;
use super::support::{
    all_room, append, begin, frame_bytes, frame_bytes_max, poll_once, room, room_is_back,
};
use crate::error::WalError;
use crate::port::Frame;

/// Waits while there is none, then [`WalError::Full`]; a permit or a place in the queue that is
/// given up serves the next.
pub(super) async fn room_is_waited_for_and_given_back(logs: &Logs<'_>) {
    let wal = &*logs.create().await;
    let max = frame_bytes_max(wal);
    let mut held = all_room(wal).await;
    let count = held.len();
    assert!(
        count > 0 && held.iter().all(|permit| permit.num_bytes() == max),
        "a permit says what it is for"
    );
    let at_once = wal.try_reserve(max).map(drop);
    assert!(matches!(at_once, Err(WalError::Full { .. })), "{at_once:?}");

    let mut first = wal.reserve(max);
    let mut second = wal.reserve(max);
    assert!(poll_once(&mut first).is_none(), "reserve waits");
    assert!(poll_once(&mut second).is_none(), "the next one too");
    drop(first);
    held.pop();
    held.push(second.await.expect("room, as the one in front has left"));

    // A permit may be larger than its frame: all of its room comes back.
    let permit = held.pop().expect("one at least");
    let small = wal.append(permit, Frame::from(frame_bytes(1, 1)));
    small.expect("append").await.expect("durable");
    drop(held);
    room_is_back(logs, wal, count).await;
    // So does that of permits never used, any number of times.
    for _ in 0..count * 3 {
        drop(room(wal, max).await);
    }
    room_is_back(logs, wal, count).await;
}

/// Frames without a trim until there is no more room: then nothing is lost, and after a trim what
/// was accepted becomes durable and more is taken.
pub(super) async fn a_full_log_goes_on_after_a_trim(logs: &Logs<'_>) {
    let Some(capacity) = logs.kind.capacity_bytes() else {
        return;
    };
    let wal = &*logs.create().await;
    let frame_bytes_each = frame_bytes_max(wal).min(4_000);
    let mut accepted = Vec::new();
    let mut num_bytes = 0;
    loop {
        let permit = match wal.reserve(frame_bytes_each).await {
            Ok(permit) => permit,
            Err(WalError::Full { .. }) => break,
            Err(error) => panic!("reserve after {num_bytes} bytes: {error}"),
        };
        let body = frame_bytes(accepted.len() as u64, frame_bytes_each);
        let append = wal.append(permit, Frame::from(body)).expect("append");
        accepted.push(append);
        num_bytes += frame_bytes_each as u64;
        // Frames in memory come on top of the log's own capacity.
        assert!(
            num_bytes <= capacity.saturating_mul(4),
            "{num_bytes} bytes in {capacity}"
        );
    }
    // What is durable is readable while the log is full.
    let durable = wal.watermarks().durable;
    for (number, append) in accepted.iter().enumerate() {
        if append.end() <= durable {
            let found = wal.read(append.lsn()).await.expect("durable");
            assert!(
                found == frame_bytes(number as u64, frame_bytes_each),
                "frame {number}"
            );
        }
    }
    for append in &mut accepted {
        wal.trim(wal.watermarks().durable);
        append.await.expect("accepted, so it becomes durable");
    }
    for number in 0..accepted.len() as u64 * 2 {
        let append = begin(wal, frame_bytes(number, frame_bytes_each)).await;
        append.await.expect("durable");
        wal.trim(wal.watermarks().durable);
    }
    append(wal, Frame::from(frame_bytes(5, 5))).await;
}
