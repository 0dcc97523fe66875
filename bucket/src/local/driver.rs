//! Runs the blocking file operations on the runtime's blocking threads.
//!
//! *Owns*: the hand-over to tokio.
//! *Does not own*: any decision.
//!
//! Invariants
//! 1. An operation that was started runs to its end, also when its future is dropped.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "driver")]

use std::sync::Arc;

use tidewater_types::BoxFuture;

use super::tree::Tree;
use crate::port::BucketError;

/// Runs `operation` on a blocking thread of the current tokio runtime.
pub(super) fn run<'a, T: Send + 'static>(
    tree: &Arc<Tree>,
    key: &str,
    operation: impl FnOnce(&Tree, &str) -> Result<T, BucketError> + Send + 'static,
) -> BoxFuture<'a, Result<T, BucketError>> {
    let (tree, key) = (Arc::clone(tree), key.to_owned());
    Box::pin(async move {
        let lost = key.clone();
        let task = tokio::task::spawn_blocking(move || operation(&tree, &key));
        task.await.unwrap_or_else(|join| {
            // The runtime shuts down, or the operation panicked half-way.
            Err(BucketError::Unknown {
                key: lost,
                cause: join.to_string(),
            })
        })
    })
}
