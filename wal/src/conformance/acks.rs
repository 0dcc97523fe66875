//! Checks of acknowledgements: their order, what dropping one does, who sees which watermark.
//!
//! *Owns*: when an append is said to be durable. *Does not own*: whether a crash agrees.
//!
//! *IO: none*

use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;
use tidewater_types::Lsn;
use tokio::sync::oneshot;

use super::kind::Logs;
use super::support::{append, begin, frame_bytes, poll_once, poll_with, read, settled, watermarks};
use crate::port::{Frame, Wal, Watermarks};

const APPENDERS: u64 = 8;
const FRAMES_EACH: u64 = 10;

/// Writes down who is woken.
struct Listed(usize, Arc<Mutex<Vec<usize>>>);

impl Wake for Listed {
    fn wake(self: Arc<Self>) {
        let mut woken = self.1.lock();
        if !woken.contains(&self.0) {
            woken.push(self.0);
        }
    }
}

/// Whoever waits hears of it in LSN order; when one append is done, all before it are.
pub(super) async fn futures_complete_in_lsn_order(logs: &Logs<'_>) {
    let wal = &*logs.create().await;
    let mut appends = Vec::new();
    for number in 0..60 {
        appends.push(begin(wal, frame_bytes(number, 200)).await);
    }
    let woken = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    let mut one_was_done = false;
    // The last one is asked first, so that the order of asking is not the order of completion.
    for (number, append) in appends.iter_mut().enumerate().rev() {
        let waker = Waker::from(Arc::new(Listed(number, Arc::clone(&woken))));
        match poll_with(&mut *append, &waker) {
            Some(answer) => {
                assert_eq!(answer.expect("durable"), append.lsn());
                one_was_done = true;
            }
            None => {
                assert!(!one_was_done, "append {number} waits, a later one is done");
                waiting.push(number);
            }
        }
    }
    append(wal, Frame::from(frame_bytes(99, 1))).await;
    for number in waiting.iter().copied() {
        let answer = poll_once(&mut appends[number]);
        assert!(
            matches!(answer, Some(Ok(lsn)) if lsn == appends[number].lsn()),
            "append {number} while a later one is done: {answer:?}"
        );
    }
    waiting.reverse();
    let all = || woken.lock().len() == waiting.len();
    settled(&*logs.env, "everybody who waits is woken", all).await;
    assert_eq!(
        *woken.lock(),
        waiting,
        "the order in which appends are woken"
    );
}

/// Neither one dropped at once nor one dropped while it waits.
pub(super) async fn a_dropped_future_takes_nothing_back(logs: &Logs<'_>) {
    let wal = &*logs.create().await;
    let at_once = begin(wal, frame_bytes(1, 50)).await;
    let first = at_once.lsn();
    drop(at_once);
    let mut waiting = begin(wal, frame_bytes(2, 60)).await;
    let second = waiting.lsn();
    // Whether it is done already is the log's affair.
    let _ = poll_once(&mut waiting);
    drop(waiting);
    append(wal, Frame::from(frame_bytes(3, 70))).await;
    assert_eq!(
        read(wal, first).await,
        frame_bytes(1, 50),
        "dropped at once"
    );
    assert_eq!(
        read(wal, second).await,
        frame_bytes(2, 60),
        "dropped while it waits"
    );
}

/// Tasks that append side by side: each sees its own frames, and watermarks in order that rise.
pub(super) async fn appenders_side_by_side_see_the_chain(logs: &Logs<'_>) {
    let wal = logs.create().await;
    let mut answers = Vec::new();
    for appender in 0..APPENDERS {
        let (done, answer) = oneshot::channel();
        let wal = Arc::clone(&wal);
        let task = async move {
            // Nobody waits for an appender whose check was given up.
            done.send(appends_of(appender, &*wal).await).ok();
        };
        logs.env.spawn("wal: conformance", Box::pin(task));
        answers.push(answer);
    }
    let mut lsns = Vec::new();
    for answer in answers {
        let answer = answer.await;
        lsns.extend(answer.unwrap_or_else(|_| panic!("an appender failed: see its panic")));
    }
    lsns.sort_unstable();
    lsns.dedup();
    assert_eq!(lsns.len() as u64, APPENDERS * FRAMES_EACH, "different LSNs");
}

async fn appends_of(appender: u64, wal: &dyn Wal) -> Vec<Lsn> {
    let mut lsns: Vec<Lsn> = Vec::new();
    let mut marks = Watermarks::default();
    for n in 0..FRAMES_EACH {
        let number = appender * 1_000 + n;
        let body = frame_bytes(number, 10 + (number as usize * 31) % 700);
        let append = begin(wal, body.clone()).await;
        marks = watermarks(wal, marks);
        assert!(
            marks.accepted >= append.end(),
            "accepted once it has an LSN"
        );
        let (lsn, end) = (append.lsn(), append.end());
        append.await.expect("durable");
        marks = watermarks(wal, marks);
        assert!(marks.durable >= end, "acknowledged and not durable");
        assert!(lsns.last().is_none_or(|last| *last < lsn), "LSNs ascend");
        assert_eq!(
            read(wal, lsn).await,
            body,
            "frame {n} of appender {appender}"
        );
        lsns.push(lsn);
    }
    lsns
}

/// Frames and their bytes are counted once they are durable; no count goes back.
pub(super) async fn counters_count(logs: &Logs<'_>) {
    let wal = &*logs.create().await;
    let before = wal.counters();
    assert_eq!(
        (before.appends, before.bytes),
        (0, 0),
        "counts of an empty log"
    );
    let mut num_bytes = 0;
    for number in 0..40 {
        let body = frame_bytes(number, number as usize * 11);
        num_bytes += body.len() as u64;
        append(wal, Frame::new(b"", body)).await;
        assert!(wal.counters().syncs >= before.syncs, "syncs");
    }
    settled(&*logs.env, "40 appends and their bytes are counted", || {
        let now = wal.counters();
        assert!(now.appends <= 40 && now.bytes <= num_bytes, "{now:?}");
        (now.appends, now.bytes) == (40, num_bytes)
    })
    .await;
}
