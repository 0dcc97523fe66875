//! The WAL port: opaque frames in, durable LSNs out.
//!
//! *Owns*: the trait every kind of WAL implements, the frame, and the future of
//! an append.
//! *Does not own*: how any kind makes bytes durable.
//!
//! Invariants
//! 1. LSNs ascend in the order of the `append` calls; futures complete in LSN order.
//! 2. A future that completes with `Ok` says that its frame and every frame
//!    before it survive a power failure.
//! 3. Dropping the future does not take the append back.
//! 4. trimmed ≤ durable ≤ submitted ≤ accepted.
//!
//! *IO: none*

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidewater_types::{BoxFuture, Lsn};
use tokio::sync::oneshot;

use crate::error::WalError;

/// Bytes of a frame's head that travel without an allocation of their own.
pub const FRAME_HEAD_BYTES_MAX: usize = 64;

/// One append: a short head and a body, stored back to back, read back as one.
#[derive(Clone, Debug)]
pub struct Frame {
    head: [u8; FRAME_HEAD_BYTES_MAX],
    head_len: usize,
    body: Bytes,
}

impl Frame {
    /// A frame of `head` (at most [`FRAME_HEAD_BYTES_MAX`] bytes) and `body`.
    ///
    /// # Panics
    /// If `head` is longer; its length is the caller's constant.
    #[must_use]
    pub fn new(head: &[u8], body: Bytes) -> Self {
        assert!(
            head.len() <= FRAME_HEAD_BYTES_MAX,
            "frame head of {} bytes",
            head.len()
        );
        let mut inline = [0; FRAME_HEAD_BYTES_MAX];
        inline[..head.len()].copy_from_slice(head);
        Self {
            head: inline,
            head_len: head.len(),
            body,
        }
    }

    /// The two parts, in order.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.head[..self.head_len], &self.body]
    }

    /// The second part, shared.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// Length of both parts in bytes.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.head_len + self.body.len()
    }
}

impl From<Bytes> for Frame {
    fn from(body: Bytes) -> Self {
        Self::new(&[], body)
    }
}

/// Room for one frame, taken before the caller fixes the frame's place in an order of its own.
///
/// Dropping an unused permit gives the room back.
pub struct Permit {
    num_bytes: usize,
    release: Option<Box<dyn FnOnce(usize) + Send>>,
}

impl Permit {
    /// A permit for `num_bytes`; `release` is called with them when it is dropped unused.
    pub fn new(num_bytes: usize, release: impl FnOnce(usize) + Send + 'static) -> Self {
        Self {
            num_bytes,
            release: Some(Box::new(release)),
        }
    }

    /// The room held, in bytes of frame.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    /// Uses the permit up: the WAL now accounts for the bytes itself.
    pub fn consume(mut self) {
        self.release = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release(self.num_bytes);
        }
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit")
            .field("num_bytes", &self.num_bytes)
            .finish_non_exhaustive()
    }
}

/// An append under way. Completes when the frame is durable, in LSN order.
#[derive(Debug)]
pub struct Append {
    lsn: Lsn,
    end: Lsn,
    done: oneshot::Receiver<Result<(), WalError>>,
}

impl Append {
    /// An append that takes the log from `lsn` up to and without `end`, and that `done` completes.
    #[must_use]
    pub fn new(lsn: Lsn, end: Lsn, done: oneshot::Receiver<Result<(), WalError>>) -> Self {
        Self { lsn, end, done }
    }

    /// The frame's position; valid at once, durable only when the future says so.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// One past the frame: a trim up to here lets the frame itself be forgotten.
    #[must_use]
    pub fn end(&self) -> Lsn {
        self.end
    }
}

impl Future for Append {
    type Output = Result<Lsn, WalError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lsn = self.lsn;
        Pin::new(&mut self.done)
            .poll(cx)
            .map(|answer| match answer {
                Ok(result) => result.map(|()| lsn),
                Err(_) => Err(WalError::Closed),
            })
    }
}

/// How far each stage has come. All are LSNs one past the last byte of the stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// Frames below may be gone.
    pub trimmed: Lsn,
    /// Frames below survive a power failure.
    pub durable: Lsn,
    /// Frames below were handed to the device.
    pub submitted: Lsn,
    /// Frames below were taken from callers.
    pub accepted: Lsn,
}

/// Monotonic counts since the WAL was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalCounters {
    /// Frames made durable.
    pub appends: u64,
    /// Frame bytes made durable.
    pub bytes: u64,
    /// Syncs (flushes, or synchronous writes) completed.
    pub syncs: u64,
}

/// A write-ahead log, opened and recovered.
pub trait Wal: Send + Sync + 'static {
    /// Waits for room for a frame of `num_bytes`; [`WalError::Full`] when there is none for
    /// longer than the configured patience, [`WalError::FrameTooLarge`] at once.
    fn reserve(&self, num_bytes: usize) -> BoxFuture<'static, Result<Permit, WalError>>;

    /// Room at once, or [`WalError::Full`].
    fn try_reserve(&self, num_bytes: usize) -> Result<Permit, WalError>;

    /// Appends a frame into the room taken before. Never blocks.
    ///
    /// # Errors
    /// [`WalError::Poisoned`] or [`WalError::Closed`]; the frame was not accepted then.
    fn append(&self, permit: Permit, frame: Frame) -> Result<Append, WalError>;

    /// Lets everything below `up_to` be forgotten. Lazy: room comes back once the trim is durable.
    fn trim(&self, up_to: Lsn);

    /// Reads an accepted frame back that is not trimmed.
    fn read(&self, lsn: Lsn) -> BoxFuture<'static, Result<Bytes, WalError>>;

    /// Where the stages stand now.
    fn watermarks(&self) -> Watermarks;

    /// Counts since the WAL was opened.
    fn counters(&self) -> WalCounters;

    /// What it is and why it was chosen, in a few words for the operator.
    fn describe(&self) -> String;

    /// Makes everything accepted durable, refuses further appends and stops.
    fn close(&self) -> BoxFuture<'static, Result<(), WalError>>;
}
