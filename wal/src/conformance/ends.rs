//! Checks of ends and beginnings: close, restart, neighbours.
//!
//! *Owns*: what a log leaves behind. *Does not own*: what a power failure leaves.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::Lsn;

use super::kind::{Logs, Reopened};
use super::support::{
    all_room, append, begin, frame_bytes, frame_bytes_max, poll_once, read, room,
};
use crate::error::WalError;
use crate::port::{Frame, Wal};

/// What was accepted is made durable; whoever comes later, or waits, is told.
pub(super) async fn closing_makes_durable_and_refuses(logs: &Logs<'_>) {
    let wal = &*logs.create().await;
    let pending = begin(wal, frame_bytes(1, 500)).await;
    drop(begin(wal, frame_bytes(2, 5)).await);
    let unused = room(wal, 5).await;
    wal.close().await.expect("close");
    pending
        .await
        .expect("accepted before the end, so it is durable");
    let marks = wal.watermarks();
    assert_eq!(marks.durable, marks.accepted, "everything is durable");
    assert_eq!(marks.submitted, marks.accepted, "everything is submitted");
    let late = wal.append(unused, Frame::from(frame_bytes(3, 5)));
    closed(late.map(drop), "append with a permit from before");
    closed(wal.try_reserve(5).map(drop), "try_reserve");
    closed(wal.reserve(5).await.map(drop), "reserve");
    assert_eq!(wal.watermarks(), marks, "nothing more is accepted");
    wal.close().await.expect("the second close");

    let wal = &*logs.create().await;
    let held = all_room(wal).await;
    let mut waiting = wal.reserve(frame_bytes_max(wal));
    assert!(poll_once(&mut waiting).is_none(), "reserve waits");
    wal.close().await.expect("close");
    closed(waiting.await.map(drop), "a reserve that waits");
    drop(held);
}

fn closed(answer: Result<(), WalError>, what: &str) {
    assert!(
        matches!(answer, Err(WalError::Closed)),
        "{what}: {answer:?}"
    );
}

/// Two logs in one process: neither frames nor trims nor the end of one reach the other.
pub(super) async fn two_logs_do_not_meet(logs: &Logs<'_>) {
    let (mine, first) = logs.create_at().await;
    let (theirs, second) = logs.create_at().await;
    let mut of_first = Vec::new();
    let mut of_second = Vec::new();
    for number in 0..10 {
        let (one, other) = (frame_bytes(number, 90), frame_bytes(1_000 + number, 90));
        of_first.push((append(&*first, Frame::from(one.clone())).await, one));
        of_second.push((append(&*second, Frame::from(other.clone())).await, other));
    }
    first.trim(first.watermarks().durable);
    first.close().await.expect("close");
    drop(first);
    let one_more = frame_bytes(2_000, 90);
    of_second.push((
        append(&*second, Frame::from(one_more.clone())).await,
        one_more,
    ));
    for (lsn, body) in &of_second {
        assert_eq!(
            read(&*second, *lsn).await,
            body,
            "the other log's frame at {lsn}"
        );
    }
    second.close().await.expect("close");
    drop(second);
    let (Some(first), Some(second)) =
        (logs.kind.reopen(mine).await, logs.kind.reopen(theirs).await)
    else {
        return;
    };
    if logs.kind.trims_on_close() {
        assert_eq!(first.frames, [], "the log that was trimmed");
    } else {
        let only = of_first.ends_with(&first.frames);
        assert!(only, "the log that was trimmed has frames not its own");
    }
    assert_eq!(second.frames, of_second, "the other log");
}

/// Every acknowledged frame comes back, after a close and after a kill; nothing else does but
/// what was trimmed lately or was under way.
pub(super) async fn a_restart_finds_what_was_acknowledged(logs: &Logs<'_>) {
    let (place, wal) = logs.create_at().await;
    let mut known = fill(logs, &*wal, 0).await;
    let gone = known[3].0;
    known.drain(..4);
    wal.trim(known[0].0);
    wal.close().await.expect("close");
    let end = wal.watermarks().durable;
    drop(wal);
    let Some(Reopened { wal, mut frames }) = logs.kind.reopen(place).await else {
        return;
    };
    let strict = logs.kind.trims_on_close();
    let kept = known[0].0;
    frames.retain(|(lsn, _)| strict || *lsn >= kept);
    assert_frames(&frames, &known, "after a close");
    assert!(
        wal.watermarks().durable >= end,
        "what was durable is durable"
    );
    if strict {
        assert!(
            wal.watermarks().trimmed >= known[0].0,
            "a trim that a close made durable"
        );
        let answer = wal.read(gone).await;
        assert!(
            matches!(answer, Err(WalError::Trimmed { .. })),
            "read({gone}): {answer:?}"
        );
    }
    assert_eq!(wal.counters().appends, 0, "counters begin anew");

    // A kill, twice: what is under way then may come back, behind everything else.
    let mut wal = wal;
    for life in 1..3_u64 {
        all_are_read(&*wal, &known).await;
        let more = fill(logs, &*wal, life * 100).await;
        assert!(more[0].0 >= end, "LSNs go on behind {end}");
        known.extend(more);
        let under_way = begin(&*wal, frame_bytes(life, 33)).await;
        let last = (under_way.lsn(), frame_bytes(life, 33));
        drop(under_way);
        drop(wal);
        let mut again = logs.kind.reopen(place).await.expect("it came back before");
        again.frames.retain(|(lsn, _)| strict || *lsn >= kept);
        if again.frames.last() == Some(&last) {
            known.push(last);
        }
        assert_frames(&again.frames, &known, "after a kill");
        wal = again.wal;
    }
    all_are_read(&*wal, &known).await;
    wal.close().await.expect("close");
}

/// Acknowledged frames with their LSNs, one of the greatest length if three of these fit.
async fn fill(logs: &Logs<'_>, wal: &dyn Wal, from: u64) -> Vec<(Lsn, Bytes)> {
    let max = frame_bytes_max(wal).min(1 << 20);
    let fits = |capacity| capacity / 4 > max as u64;
    let large = if logs.kind.capacity_bytes().is_none_or(fits) {
        max
    } else {
        max / 16
    };
    let mut frames = Vec::new();
    for number in from..from + 10 {
        let num_bytes = match number - from {
            5 => large,
            6 => 0,
            _ => 700,
        };
        let body = frame_bytes(number, num_bytes);
        frames.push((append(wal, Frame::from(body.clone())).await, body));
    }
    frames
}

fn assert_frames(found: &[(Lsn, Bytes)], expected: &[(Lsn, Bytes)], when: &str) {
    let shape = |frames: &[(Lsn, Bytes)]| -> Vec<(Lsn, usize)> {
        frames
            .iter()
            .map(|(lsn, body)| (*lsn, body.len()))
            .collect()
    };
    assert_eq!(shape(found), shape(expected), "LSNs and lengths {when}");
    for ((lsn, found), (_, expected)) in found.iter().zip(expected) {
        assert!(found == expected, "the frame at {lsn} {when}");
    }
}

async fn all_are_read(wal: &dyn Wal, known: &[(Lsn, Bytes)]) {
    for (lsn, body) in known {
        assert!(
            read(wal, *lsn).await == body,
            "the recovered frame at {lsn}"
        );
    }
}
