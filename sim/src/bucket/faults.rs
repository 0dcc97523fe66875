//! What can go wrong with a request to the simulated store.
//!
//! *Owns*: the rates of the faults, and their names. *Does not own*: drawing them.
//!
//! *IO: none*

use serde::{Deserialize, Serialize};

/// Faults of a bucket, each in so many of 1,000 requests, and its speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BucketFaults {
    /// The store throttles; a burst of it follows.
    pub throttled: u32,
    /// The request never arrives; the client times out.
    pub never_arrives: u32,
    /// The store fails with a server error; nothing was applied.
    pub server_error: u32,
    /// The request is applied, its answer is lost.
    pub lost_answer: u32,
    /// The client times out and the request is applied later.
    pub late: u32,
    /// A read breaks off.
    pub truncated: u32,
    /// A bit of what is read flips on its way, once in an object's life.
    pub garbled: u32,
    /// A create arrives while another write or a delete of its key is under way, and is refused
    /// for that: S3's 409, which its adapter tells as throttled.
    pub conflict: u32,
    /// The store has forgotten an upload in parts when it is to be completed, as its rules for the
    /// age of uploads may tell it to.
    pub upload_forgotten: u32,
    /// Mean time of one way in nanoseconds.
    pub way_ns: u64,
    /// Time after which a client gives up in nanoseconds.
    pub timeout_ns: u64,
    /// Most keys on a page of a listing.
    pub page_keys: u32,
    /// The completion of an object in parts replaces what has the key: the store does not know
    /// the condition.
    pub completion_replaces: bool,
    /// Parts but for the last one must have one size.
    pub parts_equal: bool,
}

impl Default for BucketFaults {
    fn default() -> Self {
        Self {
            throttled: 0,
            never_arrives: 0,
            server_error: 0,
            lost_answer: 0,
            late: 0,
            truncated: 0,
            garbled: 0,
            conflict: 0,
            upload_forgotten: 0,
            way_ns: 300_000,
            timeout_ns: 20_000_000,
            page_keys: 1000,
            completion_replaces: false,
            parts_equal: false,
        }
    }
}

/// What becomes of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Fine,
    Throttled,
    NeverArrives,
    ServerError,
    LostAnswer,
    Late,
    Truncated,
    /// Drawn where the request arrives, not where it is sent.
    Conflict,
    /// Drawn where an object is read.
    Garbled,
    /// Drawn where the completion arrives.
    UploadForgotten,
    PartsUnequal,
    /// A listing goes on on another page, which is another look.
    ShortPage,
}

impl Fate {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fine => "bucket_fine",
            Self::Throttled => "bucket_throttled",
            Self::NeverArrives => "bucket_never_arrives",
            Self::ServerError => "bucket_server_error",
            Self::LostAnswer => "bucket_lost_answer",
            Self::Late => "bucket_late",
            Self::Truncated => "bucket_truncated",
            Self::Conflict => "bucket_conflict",
            Self::Garbled => "bucket_garbled",
            Self::UploadForgotten => "bucket_upload_forgotten",
            Self::PartsUnequal => "bucket_parts_unequal",
            Self::ShortPage => "bucket_short_page",
        }
    }
}
