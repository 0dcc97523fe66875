//! The upload loop: seals, sends and commits, until it is stopped.
//!
//! *Owns*: the handle on the loop, and how its two halves run together.
//! *Does not own*: when to seal (`sealer`), the order of commits (`committer`).
//!
//! Invariants
//! 1. Objects are confirmed before their commit, commits are in the order of the seals, and
//!    each is durable before the tail hears of it.
//! 2. The loop never gives up while it runs; only a stop, a fence, a failed metadata log
//!    and a bug end it, and everybody who waits learns which.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;

use futures_util::future::{Either, select};
use tidewater_types::Env;
use tokio::sync::{Semaphore, mpsc};

use crate::config::TierConfig;
use crate::error::TierError;
use crate::meta::log::Metadata;
use crate::tail::Tail;

use super::committer::Committer;
use super::control::{EndGuard, Shared};
use super::sealer::Sealer;
use super::store::ObjectStorer;

/// A running upload loop. Dropping it stops the loop.
pub struct Uploader {
    shared: Arc<Shared>,
}

impl Uploader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Uploads everything that is durable now and comes back once it is committed.
    ///
    /// # Errors
    /// Why the loop ended, if it has or does.
    pub async fn flush(&self) -> Result<(), TierError> {
        match self.shared.ask_flush()?.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.shared.ended().await),
        }
    }

    /// Stops the loop without a flush and waits until it has ended. A commit that is under way
    /// may still take effect; the tail does not hear of it.
    pub async fn stop(&self) {
        self.shared.ask_stop();
        self.shared.ended().await;
    }

    /// Completes when the loop has ended, with the reason: [`TierError::Fenced`] if another
    /// process registered the node, [`TierError::Closed`] after a stop, [`TierError::Died`] after
    /// a panic.
    pub async fn ended(&self) -> TierError {
        self.shared.ended().await
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.shared.ask_stop();
    }
}

/// What the loop works with.
pub(crate) struct Work {
    pub(crate) shared: Arc<Shared>,
    pub(crate) metadata: Metadata,
    pub(crate) storer: ObjectStorer,
    pub(crate) tail: Arc<dyn Tail>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) config: TierConfig,
}

/// A loop that ends with a reason whatever becomes of it, also if it is never polled.
pub(crate) struct UploadLoop {
    /// Goes before the tail: whoever holds the tail may ask for the reason then.
    end: EndGuard,
    work: Work,
}

impl UploadLoop {
    pub(crate) fn new(work: Work) -> Self {
        let end = EndGuard::new(Arc::clone(&work.shared));
        Self { end, work }
    }

    /// Runs until stopped, fenced or failed.
    pub(crate) async fn run(self) {
        let Self { mut end, work } = self;
        let (shared, tail) = (Arc::clone(&work.shared), Arc::clone(&work.tail));
        let stopped = std::pin::pin!(shared.stopped());
        end.reason = match select(stopped, Box::pin(work.run())).await {
            Either::Left(((), _)) => TierError::Closed,
            Either::Right((err, _)) => err,
        };
        drop(end);
        drop(tail);
    }
}

impl Work {
    async fn run(self) -> TierError {
        self.tail.start_over();
        let (sender, steps) = mpsc::unbounded_channel();
        let storer = Arc::new(self.storer);
        let committer = Committer {
            metadata: self.metadata,
            storer: Arc::clone(&storer),
            tail: Arc::clone(&self.tail),
            entry_bytes_max: self.config.meta.entry_bytes_max,
        };
        let sealer = Sealer {
            shared: self.shared,
            storer,
            tail: self.tail,
            env: self.env,
            slots: Arc::new(Semaphore::new(self.config.upload.batches_parallel)),
            config: self.config,
            steps: sender,
        };
        let (seal, commit) = (
            std::pin::pin!(sealer.run()),
            std::pin::pin!(committer.run(steps)),
        );
        match select(commit, seal).await {
            Either::Left((err, _)) => err,
            Either::Right(((), commit)) => commit.await,
        }
    }
}
