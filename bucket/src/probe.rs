//! Does the store keep its promise not to replace?
//!
//! *Owns*: the probe for stores that ignore `If-None-Match`, and the object that remembers it.
//! *Does not own*: repeating it after an unclear answer (its caller has a clock).
//!
//! Invariants
//! 1. A probe uses keys that nobody used before: it can neither find nor harm anything.
//! 2. It is remembered in the store it was made in, under the store's name: neither a restart nor a
//!    second node repeats it, and a copy of the bucket in another store is probed anew.
//! 3. Only what the store certainly did wrong counts against it; an unclear answer is an error of
//!    the request.
//!
//! *Format: docs/formats/store-probe.md* · *IO: none* (requests go through the port)

use bytes::Bytes;
use futures_util::future::join_all;
use tidewater_types::{ErrorKind, crc32c};

use crate::port::{Bucket, BucketError, Purpose};

/// What the keys begin with.
const PREFIX: &str = "probe/";
/// What remembers that a store passed.
const PASSED: &[u8] = b"tidewater probe 1\n";
/// Writers that race for a key.
const RACERS: usize = 4;
/// Requests are for the metadata's sake: their log rests on it.
const PURPOSE: Purpose = Purpose::Meta;

/// Why a store cannot be used, or is not known to be usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It replaces objects although it was told not to.
    #[error(
        "{store} replaces objects although If-None-Match forbids it: {key}: expected {expected}, \
         found {found}; records would be lost in it"
    )]
    Replaces {
        /// The store.
        store: String,
        /// The key that was tried.
        key: String,
        /// What a store that can be used does.
        expected: &'static str,
        /// What it did.
        found: String,
    },
    /// A request did not succeed; the store is not judged.
    #[error("{store} cannot be probed: {cause}")]
    Request {
        /// The store.
        store: String,
        /// The outcome.
        cause: BucketError,
    },
}

impl ProbeError {
    /// What the caller does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Replaces { .. } => ErrorKind::Invalid,
            Self::Request { cause, .. } => cause.kind(),
        }
    }
}

/// Checks once that `bucket`, which is at `store`, creates only what is absent, one writer after
/// the other and several at a time. `nonce` must never have been used before. Whether it had to be
/// done, or was remembered.
///
/// # Errors
/// [`ProbeError::Replaces`] is final; after [`ProbeError::Request`] with a kind of
/// [`ErrorKind::Retry`] it may be tried again, with another nonce.
pub async fn probe(bucket: &dyn Bucket, store: &str, nonce: u64) -> Result<bool, ProbeError> {
    let run = Run { bucket, store };
    let name = format!("{PREFIX}{:08x}", crc32c(&[store.as_bytes()]));
    match bucket.size(PURPOSE, &name).await {
        Ok(_) => return Ok(false),
        Err(BucketError::Absent { .. }) => {}
        Err(cause) => return Err(run.request(cause)),
    }
    let keys = [
        format!("{name}-{nonce:016x}-0"),
        format!("{name}-{nonce:016x}-1"),
    ];
    let judged = match run.in_turn(&keys[0]).await {
        Ok(()) => run.at_once(&keys[1]).await,
        refused => refused,
    };
    for key in &keys {
        // What stays is a few bytes that nobody looks at.
        let _ = bucket.delete(PURPOSE, key).await;
    }
    judged?;
    match bucket
        .create(PURPOSE, &name, vec![Bytes::from_static(PASSED)])
        .await
    {
        Ok(()) | Err(BucketError::Exists { .. }) => Ok(true),
        Err(cause) => Err(run.request(cause)),
    }
}

struct Run<'a> {
    bucket: &'a dyn Bucket,
    store: &'a str,
}

impl Run<'_> {
    /// The second of two creates of a key is refused, and changes nothing.
    async fn in_turn(&self, key: &str) -> Result<(), ProbeError> {
        self.create(key, "first")
            .await
            .map_err(|cause| self.request(cause))?;
        match self.create(key, "second").await {
            Err(BucketError::Exists { .. }) => {}
            Ok(()) => return Err(self.replaces(key, "412", "a second creation")),
            Err(cause) => return Err(self.request(cause)),
        }
        let found = self.bucket.get(PURPOSE, key, None).await;
        let found = found.map_err(|cause| self.request(cause))?;
        if &found[..] != b"first" {
            return Err(self.replaces(key, "the first content", "another one"));
        }
        Ok(())
    }

    /// Of several creates of a key at most one is answered with success, and its bytes are there.
    async fn at_once(&self, key: &str) -> Result<(), ProbeError> {
        let bodies: Vec<String> = (0..RACERS).map(|racer| format!("racer {racer}")).collect();
        let answers = join_all(bodies.iter().map(|body| self.create(key, body))).await;
        let winners: Vec<_> = answers
            .iter()
            .zip(&bodies)
            .filter(|(answer, _)| answer.is_ok())
            .map(|(_, body)| body)
            .collect();
        let [winner] = winners[..] else {
            if winners.len() > 1 {
                let found = format!("{} of {RACERS} racing creations", winners.len());
                return Err(self.replaces(key, "success for one", found));
            }
            // A busy store may have asked all of them to come again.
            let unclear = answers.into_iter().find_map(|answer| match answer {
                Err(cause) if cause.kind() != ErrorKind::Invalid => Some(cause),
                _ => None,
            });
            let refused = || BucketError::Unknown {
                key: key.to_owned(),
                cause: "every racing creation was refused".to_owned(),
            };
            return Err(self.request(unclear.unwrap_or_else(refused)));
        };
        let found = self.bucket.get(PURPOSE, key, None).await;
        let found = found.map_err(|cause| self.request(cause))?;
        if &found[..] != winner.as_bytes() {
            return Err(self.replaces(key, "the content of the one that succeeded", "another one"));
        }
        Ok(())
    }

    async fn create(&self, key: &str, body: &str) -> Result<(), BucketError> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.bucket.create(PURPOSE, key, vec![body]).await
    }

    fn replaces(&self, key: &str, expected: &'static str, found: impl Into<String>) -> ProbeError {
        ProbeError::Replaces {
            store: self.store.to_owned(),
            key: key.to_owned(),
            expected,
            found: found.into(),
        }
    }

    fn request(&self, cause: BucketError) -> ProbeError {
        ProbeError::Request {
            store: self.store.to_owned(),
            cause,
        }
    }
}

#[cfg(test)]
mod tests;
