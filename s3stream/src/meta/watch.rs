//! Subscriptions to changes of the metadata.
//!
//! *Owns*: the subscription, the poller for what other nodes write.
//! *Does not own*: the queues (`watchers`).
//!
//! Invariants
//! 1. The poller runs only while somebody watches, and asks only while other nodes are
//!    registered; otherwise it has no timer either.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;

use futures_util::future::{Either, select};
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::error::MetaError;

use super::store::Inner;
use super::watched::Watched;

/// A subscription to changes; see `Metadata::watch`.
pub struct Watch {
    inner: Arc<Inner>,
    id: u64,
    ready: Arc<Notify>,
}

impl Watch {
    pub(super) fn new(inner: Arc<Inner>, what: Vec<Watched>) -> Self {
        let (id, ready, starts) = {
            // So that no change falls between what the caller read and what it is told.
            let _state = inner.state.read();
            inner.watchers.add(what)
        };
        if starts {
            let task = poll(Arc::clone(&inner));
            let env = &inner.reader.env;
            env.spawn("s3stream: metadata poller", Box::pin(task));
        }
        Self { inner, id, ready }
    }

    /// The next changes, each with the number of its log entry, at least one. They are what
    /// changed, not what it became: read that from the metadata. A change of [`Watched::All`]
    /// says that changes were missed.
    ///
    /// # Errors
    /// Why the log cannot be continued; every later call says the same.
    pub async fn next(&mut self) -> Result<Vec<(u64, Watched)>, MetaError> {
        loop {
            let changes = self.inner.watchers.take(self.id);
            if !changes.is_empty() {
                return Ok(changes);
            }
            self.inner.failure()?;
            self.ready.notified().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.inner.watchers.remove(self.id);
    }
}

/// Looks for entries of others until nobody watches.
async fn poll(inner: Arc<Inner>) {
    let config = &inner.reader.config;
    let start = || Backoff::new(config.poll_min, config.poll_max);
    let mut wait = start();
    loop {
        if inner.watchers.poller_ends(inner.failure().is_err()) {
            return;
        }
        if !inner.others_are_registered() {
            inner.watchers.poller.notified().await;
            wait = start();
            continue;
        }
        let was_woken = {
            let woken = std::pin::pin!(inner.watchers.poller.notified());
            let pause = std::pin::pin!(wait.wait(&*inner.reader.env));
            matches!(select(woken, pause).await, Either::Left(_))
        };
        if was_woken {
            continue;
        }
        match inner.refresh().await {
            Ok(Some(0)) => {}
            Ok(_) => wait = start(),
            Err(err) => tracing::debug!(%err, "metadata log not polled"),
        }
    }
}

impl Inner {
    pub(super) fn others_are_registered(&self) -> bool {
        let own = self.queue.lock().node.map(|(node, _)| node);
        let state = self.state.read();
        state.nodes.keys().any(|node| Some(*node) != own)
    }
}
