//! What an answer of the store means for the caller.
//!
//! *Owns*: the table from (request, status, S3 error code) to the port's outcomes.
//! *Does not own*: retrying.
//!
//! Invariants
//! 1. `Throttled`, `NoSpace` and `Refused` are said only when the store itself says that
//!    it did nothing. In doubt the outcome is `Unknown`.
//!
//! *IO: none*

use std::error::Error as _;
use std::ops::Range;

use super::watch::Answer;
use crate::port::BucketError;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Create,
    Get,
    Range(Range<u64>),
    Size,
    Delete,
    List,
    Start,
    Part,
    Copy,
    Complete,
    Abort,
}

/// What is known of a failed attempt.
pub(super) struct Failure {
    pub(super) cause: String,
    pub(super) answer: Answer,
}

/// Turns a failed attempt into the port's outcome.
pub(super) fn judge(key: &str, asked: &Asked, failure: Failure) -> BucketError {
    let Failure { cause, answer } = failure;
    let code = code_in(&cause).unwrap_or_default().to_owned();
    let key = key.to_owned();
    let (status, object_size) = match answer {
        Answer::Status {
            status,
            object_size,
        } => (status, object_size),
        Answer::NotSent | Answer::NotConnected | Answer::None => {
            return BucketError::Unknown { key, cause };
        }
    };
    // Codes whose status differs between stores.
    match code.as_str() {
        "SlowDown" | "SlowDownRead" | "SlowDownWrite" | "TooManyRequests" => {
            return BucketError::Throttled { key };
        }
        "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => {
            return BucketError::NoSpace { key, cause };
        }
        // The body did not arrive whole, or not in time.
        "RequestTimeout" | "IncompleteBody" | "BadDigest" | "XAmzContentSHA256Mismatch" => {
            return BucketError::Unknown { key, cause };
        }
        "NoSuchBucket" => return BucketError::Refused { key, cause },
        _ => {}
    }
    let reads = matches!(
        asked,
        Asked::Get | Asked::Range(_) | Asked::Size | Asked::List
    );
    match (status, asked) {
        (304 | 412, Asked::Create | Asked::Complete) => BucketError::Exists { key },
        // For the requests on an upload that is under way: there is no such upload.
        (404, Asked::Create | Asked::Start | Asked::List) => BucketError::Refused { key, cause },
        (404, _) => BucketError::Absent { key },
        // A racing request on the key is under way; this one was not applied.
        (409 | 429, _) => BucketError::Throttled { key },
        (416, Asked::Range(Range { start, end })) => {
            // A store that does not tell the size tells that it ends before the range.
            let size = object_size.unwrap_or(*start).min(*start);
            BucketError::Short {
                key,
                size,
                start: *start,
                end: *end,
            }
        }
        (408, _) => BucketError::Unknown { key, cause },
        // From a proxy in between it may follow a request that was passed on.
        (503, _) if reads => BucketError::Throttled { key },
        (507, _) => BucketError::NoSpace { key, cause },
        (501, _) => BucketError::Refused { key, cause },
        (300..=499, _) => BucketError::Refused { key, cause },
        _ => BucketError::Unknown { key, cause },
    }
}

/// The messages of an error and of what caused it, without repetitions.
pub(super) fn text_of(error: &::object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let message = inner.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = inner.source();
    }
    text
}

/// The code in an S3 error document.
fn code_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code.trim())
}
