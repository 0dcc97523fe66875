//! Checks of frames: content, positions, lengths, reads, trims.
//!
//! *Owns*: what a frame is when it comes back. *Does not own*: when it does (`acks.rs`).
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::Lsn;

use super::kind::Logs;
use super::support::{append, begin, frame_bytes, frame_bytes_max, read, room, watermarks};
use crate::error::WalError;
use crate::port::{FRAME_HEAD_BYTES_MAX, Frame, Watermarks};

/// Heads and bodies of any length come back as one piece.
pub(super) async fn what_goes_in_comes_out(logs: &Logs<'_>) {
    let wal = &*logs.create().await;
    assert!(!wal.describe().is_empty(), "it describes itself");
    let mut written = Vec::new();
    for head in [0, 1, FRAME_HEAD_BYTES_MAX] {
        for body in [0, 1, 7, 100, 2_000] {
            let number = written.len() as u64;
            let (head, body) = (frame_bytes(number, head), frame_bytes(!number, body));
            let whole = [&head[..], &body[..]].concat();
            written.push((append(wal, Frame::new(&head, body)).await, whole));
        }
    }
    // In the other order, so that nothing is answered from a place that only moves on.
    for (lsn, whole) in written.iter().rev() {
        assert_eq!(read(wal, *lsn).await, whole, "the frame at {lsn}");
    }
}

/// Frames follow each other without a gap; each takes its bytes and the same number more.
pub(super) async fn lsns_count_frames_and_a_constant(logs: &Logs<'_>) {
    let wal = &*logs.create().await;
    let mut appends = Vec::new();
    for number in 0..50_usize {
        appends.push((number * 37, begin(wal, frame_bytes(7, number * 37)).await));
    }
    let prefix = appends[0].1.end().0 - appends[0].1.lsn().0;
    assert!(prefix > 0, "an empty frame has an LSN of its own");
    for (num_bytes, append) in &appends {
        let taken = append.end().0 - append.lsn().0;
        assert_eq!(
            taken,
            prefix + *num_bytes as u64,
            "LSNs of {num_bytes} bytes"
        );
    }
    for two in appends.windows(2) {
        assert_eq!(two[0].1.end(), two[1].1.lsn(), "the next frame's LSN");
    }
    let end = appends.last().map_or(Lsn(0), |(_, last)| last.end());
    assert_eq!(wal.watermarks().accepted, end, "accepted");
    for (_, append) in appends {
        append.await.expect("durable");
    }
    assert_eq!(wal.watermarks().durable, end, "durable");
}

/// The maximum that the log names is exact.
pub(super) async fn the_largest_frame_fits_and_one_byte_more_does_not(logs: &Logs<'_>) {
    let wal = &*logs.create().await;
    let max = frame_bytes_max(wal);
    let refused = |answer: Result<(), WalError>, what: &str| match answer {
        Err(WalError::FrameTooLarge {
            num_bytes,
            max: said,
        }) => {
            assert_eq!((num_bytes, said), (max + 1, max), "{what}");
        }
        other => panic!("{what} of {} bytes: {other:?}", max + 1),
    };
    refused(wal.try_reserve(max + 1).map(drop), "try_reserve");
    refused(wal.reserve(max + 1).await.map(drop), "reserve");
    let head = frame_bytes(1, FRAME_HEAD_BYTES_MAX.min(max));
    let body = frame_bytes(2, max - head.len());
    let large = append(wal, Frame::new(&head, body.clone())).await;
    let whole = read(wal, large).await;
    assert_eq!(whole.len(), max, "length of the largest frame");
    assert!(
        whole == [&head[..], &body[..]].concat(),
        "the largest frame's bytes"
    );
    // There may be no room for more beside it.
    wal.trim(wal.watermarks().durable);
    let small = append(wal, Frame::from(frame_bytes(3, 1))).await;
    assert_eq!(
        read(wal, small).await,
        frame_bytes(3, 1),
        "the frame behind it"
    );
}

/// What is between frames, past the end or not durable is not shown.
pub(super) async fn only_frames_are_read(logs: &Logs<'_>) {
    let wal = &*logs.create().await;
    let empty = append(wal, Frame::from(Bytes::new())).await;
    let first = append(wal, Frame::from(frame_bytes(1, 100))).await;
    let end = wal.watermarks().accepted;
    for nowhere in [
        Lsn(first.0 + 1),
        Lsn(end.0 - 1),
        end,
        Lsn(end.0 + 1),
        Lsn(1 << 60),
    ] {
        let answer = wal.read(nowhere).await;
        assert!(
            matches!(answer, Err(WalError::NoFrame { lsn }) if lsn == nowhere),
            "read({nowhere}) with frames at {empty} and {first}, end {end}: {answer:?}"
        );
    }
    // A frame under way may be read, but is shown only once no crash can take it back.
    let under_way = begin(wal, frame_bytes(2, 500)).await;
    let shown = read(wal, under_way.lsn()).await;
    assert!(
        wal.watermarks().durable >= under_way.end(),
        "a frame was read that is not durable"
    );
    assert_eq!(shown, frame_bytes(2, 500), "the frame under way");
}

/// A trim lets the front go, never goes back, and never goes past what is durable.
pub(super) async fn trims_only_rise(logs: &Logs<'_>) {
    let wal = &*logs.create().await;
    let mut lsns = Vec::new();
    for number in 0..6 {
        lsns.push(append(wal, Frame::from(frame_bytes(number, 300))).await);
    }
    let before = watermarks(wal, Watermarks::default());
    wal.trim(lsns[3]);
    let after = watermarks(wal, before);
    assert_eq!(after.trimmed, lsns[3], "the trim point");
    wal.trim(lsns[1]);
    assert_eq!(watermarks(wal, after), after, "a trim goes back");
    for (number, lsn) in lsns.iter().copied().enumerate() {
        let answer = wal.read(lsn).await;
        if number < 3 {
            let trimmed = matches!(answer, Err(WalError::Trimmed { lsn: said }) if said == lsn);
            assert!(
                trimmed,
                "read({lsn}), trimmed below {}: {answer:?}",
                lsns[3]
            );
        } else {
            assert_eq!(
                answer.expect("not trimmed"),
                frame_bytes(number as u64, 300)
            );
        }
    }
    // Past the end there is nothing to let go of, now or later.
    wal.trim(Lsn(u64::MAX));
    let all = watermarks(wal, after);
    assert_eq!(all.trimmed, all.durable, "everything is trimmed");
    let permit = room(wal, 9).await;
    let later = wal
        .append(permit, Frame::from(frame_bytes(9, 9)))
        .expect("append");
    let lsn = later.await.expect("durable");
    assert_eq!(
        read(wal, lsn).await,
        frame_bytes(9, 9),
        "a frame behind the trim"
    );
}
