//! One attempt of the client.
//!
//! *Owns*: putting together what the client says and what the store answered.
//! *Does not own*: either, nor what both together mean (`outcome`).
//!
//! *IO: driver*

use std::future::Future;

use super::outcome::{self, Asked, Failure};
use super::watch::{self, Answer};
use crate::port::BucketError;

/// Makes one attempt and turns what the store answered into the port's outcome.
pub(super) async fn watched<T>(
    key: &str,
    asked: Asked,
    attempt: impl Future<Output = ::object_store::Result<T>> + Send,
) -> Result<T, BucketError> {
    let (result, answer): (_, Answer) = watch::observe(attempt).await;
    result.map_err(|error| {
        outcome::judge(
            key,
            &asked,
            Failure {
                cause: outcome::text_of(&error),
                answer,
            },
        )
    })
}
