//! A request, or a part of one, that is answered with an error code.
//!
//! *Owns*: the code and the words, and how errors of the store map to codes.
//!
//! *IO: none*

use tidewater_protocol::ErrorCode;
use tidewater_stream_store::{MetaError, StoreError};
use tidewater_types::ErrorKind;
use tracing::{error, warn};

/// An error code and what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(failure: StoreError) -> Self {
        let code = match (&failure, failure.kind()) {
            (StoreError::OutOfRange { .. }, _) => ErrorCode::OFFSET_OUT_OF_RANGE,
            (StoreError::NoStream { .. }, _) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            _ if failure.is_too_large() => ErrorCode::MESSAGE_TOO_LARGE,
            (StoreError::Owned { .. }, _) | (_, ErrorKind::Fenced) => {
                ErrorCode::NOT_LEADER_OR_FOLLOWER
            }
            // Retriable for every client; nothing that was acknowledged is affected.
            (_, ErrorKind::Full | ErrorKind::Retry | ErrorKind::Closed) => {
                ErrorCode::KAFKA_STORAGE_ERROR
            }
            (_, ErrorKind::Corrupt) => ErrorCode::KAFKA_STORAGE_ERROR,
            (_, ErrorKind::Invalid) => ErrorCode::UNKNOWN_SERVER_ERROR,
        };
        match failure.kind() {
            ErrorKind::Corrupt => error!(%failure, "stored data is damaged"),
            ErrorKind::Full => warn!(%failure, "no room; the client is told to retry"),
            _ => {}
        }
        Self {
            code,
            message: failure.to_string(),
        }
    }
}

impl From<MetaError> for Refusal {
    /// What a broker that was replaced may no longer change is the controller's to change.
    fn from(error: MetaError) -> Self {
        let fenced = error.kind() == ErrorKind::Fenced || error.is_owned();
        let refusal = Self::from(StoreError::from(error));
        if fenced {
            let code = ErrorCode::NOT_CONTROLLER;
            return Self { code, ..refusal };
        }
        refusal
    }
}
