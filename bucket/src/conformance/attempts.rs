//! Requests of the suite, each made until it is not throttled.
//!
//! *Owns*: how often. *Does not own*: what the outcome has to be.
//!
//! *IO: none*

use std::ops::Range;

use bytes::Bytes;

use crate::port::{Bucket, BucketError, ListEntry, Purpose};

pub(super) const PURPOSE: Purpose = Purpose::Fsck;
/// Throttled attempts a check makes before it gives up: a store that is well may throttle.
pub(super) const ATTEMPTS_MAX: usize = 50;

/// Makes the attempt `$attempt` until it is not throttled.
macro_rules! settled {
    ($attempt:expr) => {{
        let mut attempts = 0;
        loop {
            match $attempt.await {
                Err(BucketError::Throttled { .. }) if attempts < ATTEMPTS_MAX => attempts += 1,
                outcome => break outcome,
            }
        }
    }};
}

pub(super) use settled;

pub(super) async fn create(
    bucket: &dyn Bucket,
    key: &str,
    body: Vec<Bytes>,
) -> Result<(), BucketError> {
    settled!(bucket.create(PURPOSE, key, body.clone()))
}

pub(super) async fn get(
    bucket: &dyn Bucket,
    key: &str,
    range: Option<Range<u64>>,
) -> Result<Bytes, BucketError> {
    settled!(bucket.get(PURPOSE, key, range.clone()))
}

pub(super) async fn size(bucket: &dyn Bucket, key: &str) -> Result<u64, BucketError> {
    settled!(bucket.size(PURPOSE, key))
}

pub(super) async fn delete(bucket: &dyn Bucket, key: &str) -> Result<(), BucketError> {
    settled!(bucket.delete(PURPOSE, key))
}

pub(super) async fn list(bucket: &dyn Bucket, prefix: &str) -> Vec<ListEntry> {
    list_from(bucket, prefix, None).await
}

/// All pages of a listing.
pub(super) async fn list_from(
    bucket: &dyn Bucket,
    prefix: &str,
    mut after: Option<String>,
) -> Vec<ListEntry> {
    let mut all = Vec::new();
    loop {
        let page = settled!(bucket.list(PURPOSE, prefix, after.as_deref()));
        let page = page.unwrap_or_else(|e| panic!("list {prefix} after {after:?}: {e}"));
        assert!(
            !page.more || !page.entries.is_empty(),
            "{prefix}: an empty page with more behind"
        );
        all.extend(page.entries);
        if !page.more {
            return all;
        }
        after = all.last().map(|entry: &ListEntry| entry.key.clone());
    }
}
