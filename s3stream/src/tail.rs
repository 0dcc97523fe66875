//! The port s3stream pulls through: whoever holds durable, not yet uploaded data.
//!
//! *Owns*: the trait and what travels over it.
//! *Does not own*: the write-ahead log, the tail cache; stream-store plugs them in here.
//!
//! Invariants
//! 1. Only durable entries are sealed.
//! 2. A sealed range is contiguous and starts where the range of its stream that was sealed before
//!    ends; the first one starts at the committed end.
//! 3. What was sealed and never reported committed is sealed again by the next uploader.
//!
//! *IO: none*

use tidewater_types::{BoxFuture, Epoch, Instant, StreamId};

use crate::entry::{CommitReport, Entry, StateSnapshot};

/// How much waits to be uploaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Bytes of durable entries that were not sealed yet, about as many as objects of them have: at
    /// least their payloads, and never 0 if there is one.
    pub num_bytes: u64,
    /// When the oldest of them was appended; `None` if nothing is pending.
    pub oldest: Option<Instant>,
    /// Number of streams that have such entries.
    pub streams: usize,
    /// They take as much memory as one batch may, however few bytes they are.
    pub is_full: bool,
    /// Room for more runs short: what is uploaded goes as fast as it can.
    pub is_short: bool,
}

impl Pending {
    /// Whether they fill a batch of `upload_bytes`.
    pub(crate) fn fills(&self, upload_bytes: u64) -> bool {
        self.is_full || self.num_bytes >= upload_bytes
    }
}

/// A run of one stream's entries, taken for upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRange {
    /// The stream.
    pub stream: StreamId,
    /// The epoch under which the owner holds the stream.
    pub stream_epoch: Epoch,
    /// Contiguous entries; may be empty if there is a snapshot.
    pub entries: Vec<Entry>,
    /// The owner's state as of an offset not above the end of the entries.
    pub snapshot: Option<StateSnapshot>,
}

/// What to upload next; empty if there is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealedBatch {
    /// At most one range a stream.
    pub ranges: Vec<SealedRange>,
}

/// Durable data that waits for its upload.
pub trait Tail: Send + Sync + 'static {
    /// What is durable and not yet sealed. Cheap: asked at every change.
    fn pending(&self) -> Pending;

    /// Completes when `pending` may have changed since the call.
    fn changed(&self) -> BoxFuture<'_, ()>;

    /// An uploader begins: what was sealed for an earlier one and not reported is pending again.
    fn start_over(&self);

    /// Takes what to upload next, in the order of the write-ahead log, up to `bytes_max` bytes as
    /// [`Pending::num_bytes`] counts them, or as much memory as one batch may take, and at least one
    /// entry if any is pending. Several batches may be sealed and not reported.
    fn seal(&self, bytes_max: u64) -> SealedBatch;

    /// Called once the oldest of the sealed batches is committed. Dropped ranges will never be: the
    /// tail releases them as well. A batch that held nothing is not reported.
    fn committed(&self, report: &CommitReport);
}
