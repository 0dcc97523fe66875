//! The WAL port: opaque frames in, durable LSNs out.
//!
//! *Owns*: the trait every kind of WAL implements, and the frame.
//! *Does not own*: how any kind makes bytes durable; the future of an append (`acks.rs`) and the
//! room for one (`room.rs`), which the kinds share.
//!
//! Invariants
//! 1. LSNs ascend in the order of the `append` calls; futures complete in LSN order.
//! 2. A future that completes with `Ok` says that its frame and every frame
//!    before it survive a power failure.
//! 3. Dropping the future does not take the append back.
//! 4. trimmed ≤ durable ≤ submitted ≤ accepted.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::{BoxFuture, Lsn};

use crate::acks::Append;
use crate::error::WalError;
use crate::room::{Permit, Reserve};

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

    /// Both parts in one piece.
    #[must_use]
    pub fn join(&self) -> Bytes {
        let [head, body] = self.parts();
        if head.is_empty() {
            return self.body();
        }
        [head, body].concat().into()
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

/// Monotonic counts since the WAL was opened. More may come: a WAL of one's own fills in what it
/// counts and takes the rest from `..WalCounters::default()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalCounters {
    /// Frames made durable.
    pub appends: u64,
    /// Frame bytes made durable.
    pub bytes: u64,
    /// Syncs (flushes, or synchronous writes) completed.
    pub syncs: u64,
    /// Requests for room that found the pool used up, whatever the reason: they waited, or got
    /// [`WalError::Full`].
    pub full_pool: u64,
    /// Times that frames had to wait for a trim, every segment of the ring being in use.
    pub full_ring: u64,
    /// Writes that the device refused for lack of space, repetitions included.
    pub no_space: u64,
    /// Writes that failed for any other reason; the first one poisons the WAL.
    pub write_errors: u64,
    /// Flushes that failed; the first one poisons the WAL.
    pub sync_errors: u64,
    /// Writes that the device took in part; the rest was written again.
    pub short_writes: u64,
    /// Writes and flushes that took `slow_op_ms` or longer, those that have not ended too.
    pub slow_ops: u64,
}

/// A write-ahead log, opened and recovered.
pub trait Wal: Send + Sync + 'static {
    /// Waits for room for a frame of `num_bytes`; [`WalError::Full`] when there is none for
    /// longer than the configured patience, [`WalError::FrameTooLarge`] at once.
    fn reserve(&self, num_bytes: usize) -> Reserve;

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

    /// Bytes of memory that a durable frame takes beside its body until it is trimmed; the same for as
    /// long as the log is open.
    fn frame_bytes_held(&self) -> usize {
        0
    }

    /// Whether nobody has claimed the log since it was opened. It may be another's a moment later.
    ///
    /// # Errors
    /// [`WalError::Fenced`]; [`WalError::Bucket`] for a store that does not answer. A log that only
    /// one process can have open is always its own.
    fn confirm(&self) -> BoxFuture<'static, Result<(), WalError>> {
        Box::pin(async { Ok(()) })
    }

    /// Makes everything accepted durable, refuses further appends and stops.
    fn close(&self) -> BoxFuture<'static, Result<(), WalError>>;
}
