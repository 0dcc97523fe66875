//! The upload loop: waits for a reason, uploads, commits, reports.
//!
//! *Owns*: the triggers (size, age, streams, request), the order of commits.
//! *Does not own*: what is sealed (the tail), how an object gets there (`store`).
//!
//! Invariants
//! 1. Objects are confirmed before their commit, the commit is durable before
//!    the tail hears of it, and the next batch is sealed after that.
//! 2. The loop never gives up while it runs; only a stop, a fence and a failed
//!    metadata log end it.
//! 3. While nothing is pending it waits without a timer.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;

use futures_util::future::{Either, select};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Env, Instant, mutant, sometimes};
use tokio::sync::{Notify, oneshot};

use crate::config::TierConfig;
use crate::counters::add;
use crate::entry::CommitReport;
use crate::error::{MetaError, Rejection, TierError};
use crate::meta::log::Metadata;
use crate::tail::{Pending, SealedBatch, Tail};

use super::commits::{commit, commit_op, commits};
use super::encode::EncodedObject;
use super::plan::{self, Limits, ObjectPlan};
use super::store::ObjectStorer;

/// A running upload loop. Dropping it stops the loop.
pub struct Uploader {
    shared: Arc<Shared>,
}

#[derive(Default)]
pub(crate) struct Shared {
    control: Mutex<Control>,
    request: Notify,
    stop: Notify,
    ended: Notify,
}

#[derive(Default)]
struct Control {
    flushes: Vec<oneshot::Sender<()>>,
    stop: bool,
    ended: Option<TierError>,
}

impl Shared {
    /// Completes once a stop was asked for.
    pub(crate) async fn stopped(&self) {
        loop {
            let notified = self.stop.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            if self.control.lock().stop {
                return;
            }
            notified.await;
        }
    }

    fn ask_stop(&self) {
        self.control.lock().stop = true;
        self.stop.notify_waiters();
    }

    async fn ended(&self) -> TierError {
        loop {
            let notified = self.ended.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            if let Some(err) = &self.control.lock().ended {
                return err.clone();
            }
            notified.await;
        }
    }
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
        let (reply, done) = oneshot::channel();
        {
            let mut control = self.shared.control.lock();
            if let Some(err) = &control.ended {
                return Err(err.clone());
            }
            control.flushes.push(reply);
        }
        self.shared.request.notify_one();
        match done.await {
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
    /// process registered the node, [`TierError::Closed`] after a stop.
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
pub(crate) struct UploadLoop {
    pub(crate) shared: Arc<Shared>,
    pub(crate) metadata: Metadata,
    pub(crate) storer: ObjectStorer,
    pub(crate) tail: Arc<dyn Tail>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) config: TierConfig,
}

type Timer = Option<(Instant, BoxFuture<'static, ()>)>;

impl UploadLoop {
    /// Runs until stopped, fenced or failed.
    pub(crate) async fn run(self) {
        let shared = Arc::clone(&self.shared);
        let reason = {
            let stopped = std::pin::pin!(shared.stopped());
            let work = std::pin::pin!(self.work());
            match select(stopped, work).await {
                Either::Left(((), _)) => TierError::Closed,
                Either::Right((err, _)) => err,
            }
        };
        if !matches!(reason, TierError::Closed) {
            tracing::error!(%reason, "uploads ended");
        }
        let mut control = shared.control.lock();
        control.ended = Some(reason);
        control.stop = true;
        control.flushes.clear();
        drop(control);
        // The sweeper ends with the loop.
        shared.stop.notify_waiters();
        shared.ended.notify_waiters();
    }

    async fn work(&self) -> TierError {
        let mut timer: Timer = None;
        // How much was pending when nothing could be sealed.
        let mut unsealable = None;
        loop {
            let flushes = self.wait(&mut timer, unsealable.take()).await;
            let mut wanted = if flushes.is_empty() {
                0
            } else {
                self.tail.pending().num_bytes
            };
            loop {
                let pending = self.tail.pending().num_bytes;
                match self.upload_batch().await {
                    Ok(Some(num_bytes)) => wanted = wanted.saturating_sub(num_bytes),
                    Ok(None) => {
                        unsealable = Some(pending);
                        break;
                    }
                    Err(err) => return err,
                }
                if wanted == 0 {
                    break;
                }
            }
            for reply in flushes {
                // Nobody waits any more if the future was dropped.
                let _received = reply.send(());
            }
        }
    }

    /// Waits for a reason to upload; the flushes that ask for it, if any.
    ///
    /// If nothing of `unsealable` pending bytes could be sealed, the same amount is no reason
    /// until the age of an upload has passed again.
    async fn wait(
        &self,
        timer: &mut Timer,
        mut unsealable: Option<u64>,
    ) -> Vec<oneshot::Sender<()>> {
        let again = self.env.now().after(self.config.upload_age);
        loop {
            // Both are asked before the state is looked at, so that no change goes unseen.
            let mut changed = self.tail.changed();
            let has_changed = futures_util::poll!(&mut changed).is_ready();
            let flushes = std::mem::take(&mut self.shared.control.lock().flushes);
            let pending = self.tail.pending();
            let is_stuck = unsealable == Some(pending.num_bytes);
            if !flushes.is_empty() || (!is_stuck && self.is_due(&pending)) {
                return flushes;
            }
            if has_changed {
                continue;
            }
            let due = |oldest: Instant| {
                if is_stuck {
                    again
                } else {
                    oldest.after(self.config.upload_age)
                }
            };
            self.set_timer(timer, pending.oldest.map(due));
            let request = std::pin::pin!(self.shared.request.notified());
            let woken = select(request, changed);
            match timer {
                Some((_, sleep)) => {
                    if let Either::Right(_) = select(woken, sleep).await {
                        (*timer, unsealable) = (None, None);
                    }
                }
                None => drop(woken.await),
            }
        }
    }

    fn is_due(&self, pending: &Pending) -> bool {
        let age = pending.oldest.map(|oldest| self.env.now().since(oldest));
        pending.num_bytes >= self.config.upload_bytes
            || pending.streams >= self.config.upload_streams
            || age.is_some_and(|age| age >= self.config.upload_age)
    }

    /// Keeps a running timer if the deadline is the same.
    fn set_timer(&self, timer: &mut Timer, deadline: Option<Instant>) {
        if timer.as_ref().map(|(at, _)| *at) != deadline {
            let sleep = |at: Instant| (at, self.env.sleep(at.since(self.env.now())));
            *timer = deadline.map(sleep);
        }
    }

    /// Uploads and commits one batch. Payload bytes of it, or `None` if there was nothing.
    async fn upload_batch(&self) -> Result<Option<u64>, TierError> {
        let limits = Limits {
            stream_object_bytes: self.config.stream_object_bytes,
            stream_set_streams: self.config.stream_set_streams,
            entry_bytes_max: self.config.meta.entry_bytes_max,
        };
        let batch: SealedBatch = self.tail.seal(self.config.upload_bytes);
        let num_bytes = batch
            .ranges
            .iter()
            .map(|range| plan::payload_bytes(&range.entries))
            .sum();
        let plans = plan::split(batch, &limits);
        if plans.is_empty() {
            return Ok(None);
        }
        let mut report = CommitReport::default();
        loop {
            let (objects, unsent) = self.store(&plans).await;
            let is_done = self.commit(objects, &mut report).await?;
            for object in &unsent {
                self.storer.confirm(object).await;
            }
            if is_done {
                break;
            }
        }
        // Sent again behind a commit that took it: it is where it belongs.
        let CommitReport { committed, dropped } = &mut report;
        dropped.retain(|range| !committed.contains(range));
        add(
            &self.storer.counters.ranges_committed,
            report.committed.len(),
        );
        add(&self.storer.counters.ranges_dropped, report.dropped.len());
        if !report.dropped.is_empty() {
            sometimes!("s3stream: uploaded range dropped");
        }
        self.tail.committed(&report);
        Ok(Some(num_bytes))
    }

    /// The objects, all confirmed. (The second list is for mutant 24 alone.)
    async fn store(&self, plans: &[ObjectPlan]) -> (Vec<EncodedObject>, Vec<EncodedObject>) {
        if mutant!(24) {
            let objects: Vec<_> = plans.iter().map(|plan| self.storer.prepare(plan)).collect();
            return (objects.clone(), objects);
        }
        let uploads: Vec<_> = plans.iter().map(|plan| self.storer.store(plan)).collect();
        (
            stream::iter(uploads)
                .buffered(self.config.upload_parallel)
                .collect()
                .await,
            Vec::new(),
        )
    }

    /// Commits the objects of a batch. `false` if one was condemned: all must be sent again.
    async fn commit(
        &self,
        objects: Vec<EncodedObject>,
        report: &mut CommitReport,
    ) -> Result<bool, TierError> {
        let (node, node_epoch) = (self.storer.node, self.storer.node_epoch);
        for objects in commits(objects, self.config.meta.entry_bytes_max) {
            let op = commit_op(node, node_epoch, objects);
            match commit(&self.metadata, &self.storer, op).await {
                Ok(judged) => report.merge(judged),
                Err(TierError::Meta(MetaError::Rejected {
                    reason: Rejection::ObjectReused { .. },
                    ..
                })) => {
                    sometimes!("s3stream: uploaded object was condemned");
                    self.storer.skip_condemned(&self.metadata);
                    return Ok(false);
                }
                Err(err) => return Err(err),
            }
            add(&self.storer.counters.commits, 1);
        }
        Ok(true)
    }
}
