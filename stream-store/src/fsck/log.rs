//! A write-ahead log that was read.
//!
//! *Owns*: what is kept of it. *Does not own*: reading it, judging it.
//!
//! *IO: none*

use tidewater_types::Lsn;
use tidewater_wal::Identity;

use crate::format::frame::{BadFrame, FrameHead};

/// The head of a frame, or why there is none.
pub(super) type Headed = (Lsn, Result<FrameHead, BadFrame>);

/// A log that could be read.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) identity: Identity,
    /// Where it lies.
    pub(super) name: String,
    pub(super) frames: Vec<Headed>,
    /// LSN behind its last frame.
    pub(super) end: Lsn,
}
