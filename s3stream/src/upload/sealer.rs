//! Takes batches from the tail when there is a reason to, and has their objects sent.
//!
//! *Owns*: the triggers (size, age, streams, request), how many batches are under way.
//! *Does not own*: what is sealed (the tail), how an object gets there (`store`), commits.
//!
//! Invariants
//! 1. Batches go to the committer in the order in which they were sealed, and so do the ids of
//!    their objects.
//! 2. While nothing is pending it waits without a timer.
//! 3. A flush is answered behind the batches that hold what was durable when it was asked for.
//!
//! *IO: none* (requests go through the bucket port)

use std::future::Future;
use std::sync::Arc;

use futures_util::future::{Either, pending, select};
use futures_util::{StreamExt, stream};
use tidewater_types::{BoxFuture, Env, Instant, mutant, sometimes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::config::TierConfig;
use crate::tail::{Pending, Tail};

use super::control::{Flush, Shared};
use super::encode::EncodedObject;
use super::pace::Burst;
use super::plan::{self, Limits, ObjectPlan};
use super::store::ObjectStorer;

/// What the committer does next.
pub(super) enum Step {
    /// Commits a batch once its objects are there.
    Commit(Batch),
    /// Tells that everything before is committed.
    Tell(Vec<Flush>),
}

/// A sealed batch whose objects are on their way.
pub(super) struct Batch {
    pub(super) plans: Arc<Vec<ObjectPlan>>,
    pub(super) sent: oneshot::Receiver<Vec<EncodedObject>>,
    /// Given back when the batch is committed.
    pub(super) slot: OwnedSemaphorePermit,
}

/// Seals batches.
pub(super) struct Sealer {
    pub(super) shared: Arc<Shared>,
    pub(super) storer: Arc<ObjectStorer>,
    pub(super) tail: Arc<dyn Tail>,
    pub(super) env: Arc<dyn Env>,
    pub(super) config: TierConfig,
    pub(super) steps: mpsc::UnboundedSender<Step>,
    pub(super) slots: Arc<Semaphore>,
}

type Timer = Option<(Instant, BoxFuture<'static, ()>)>;

/// What the wait for a reason remembers.
#[derive(Default)]
struct Waiting {
    timer: Timer,
    /// How much was pending when nothing could be sealed, and when to try that again.
    unsealable: Option<(u64, Instant)>,
    /// Held while room runs short.
    short: Option<Burst>,
}

impl Sealer {
    /// Runs until the committer is gone.
    pub(super) async fn run(&self) {
        let mut waiting = Waiting::default();
        loop {
            let (mut slot, flushes) = self.wait(&mut waiting).await;
            let mut wanted = if flushes.is_empty() {
                0
            } else {
                self.tail.pending().num_bytes
            };
            loop {
                let pending = self.tail.pending();
                let taken = match slot.take() {
                    Some(slot) => slot,
                    None => self.slot().await,
                };
                match self.seal(taken, &pending) {
                    Some(num_bytes) => wanted = wanted.saturating_sub(num_bytes),
                    None => {
                        let again = self.env.now().after(self.config.upload_age);
                        waiting.unsealable = Some((pending.num_bytes, again));
                        break;
                    }
                }
                if wanted == 0 {
                    break;
                }
            }
            if !flushes.is_empty() && self.steps.send(Step::Tell(flushes)).is_err() {
                return;
            }
        }
    }

    async fn slot(&self) -> OwnedSemaphorePermit {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        slot.expect("the slots are never closed")
    }

    /// Waits for a reason to seal and room to do it: a slot, or a flush that asks for it.
    ///
    /// If nothing of the pending bytes could be sealed, the same amount is no reason until the age
    /// of an upload has passed again.
    async fn wait(&self, waiting: &mut Waiting) -> (Option<OwnedSemaphorePermit>, Vec<Flush>) {
        loop {
            // Both are asked before the state is looked at, so that no change goes unseen.
            let mut changed = self.tail.changed();
            let has_changed = futures_util::poll!(&mut changed).is_ready();
            let flushes = self.shared.take_flushes();
            if !flushes.is_empty() {
                return (None, flushes);
            }
            let pending = self.tail.pending();
            let stuck = waiting
                .unsealable
                .filter(|(num_bytes, again)| {
                    *num_bytes == pending.num_bytes && self.env.now() < *again
                })
                .map(|(_, again)| again);
            let due = stuck.is_none() && self.is_due(&pending);
            if due && let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                return (Some(slot), Vec::new());
            }
            // With every slot taken the requests are what all waits for.
            let hurry = pending.is_short || due;
            if hurry && waiting.short.is_none() {
                sometimes!("s3stream: uploads hurry");
                waiting.short = Some(self.shared.pacer.burst());
            } else if !hurry {
                waiting.short = None;
            }
            if has_changed {
                continue;
            }
            let age = |oldest: Instant| stuck.unwrap_or(oldest.after(self.config.upload_age));
            let deadline = pending.oldest.map(age).filter(|_| !due);
            self.set_timer(&mut waiting.timer, deadline);
            if let Some(slot) = self.sleep(waiting, changed, due).await {
                return (Some(slot), Vec::new());
            }
        }
    }

    /// Until something changes, a flush is asked for, time is up, or there is a slot if one is due.
    async fn sleep(
        &self,
        waiting: &mut Waiting,
        changed: BoxFuture<'_, ()>,
        due: bool,
    ) -> Option<OwnedSemaphorePermit> {
        let request = std::pin::pin!(self.shared.request.notified());
        let slot: BoxFuture<'_, OwnedSemaphorePermit> = if due {
            Box::pin(self.slot())
        } else {
            Box::pin(pending())
        };
        let (slot, is_timed) = {
            let timed: BoxFuture<'_, ()> = match &mut waiting.timer {
                Some((_, sleep)) => Box::pin(sleep),
                None => Box::pin(pending()),
            };
            match select(slot, select(timed, select(request, changed))).await {
                Either::Left((slot, _)) => (Some(slot), false),
                Either::Right((Either::Left(_), _)) => (None, true),
                Either::Right((Either::Right(_), _)) => (None, false),
            }
        };
        if is_timed {
            waiting.timer = None;
        }
        slot
    }

    fn is_due(&self, pending: &Pending) -> bool {
        let age = pending.oldest.map(|oldest| self.env.now().since(oldest));
        pending.fills(self.config.upload_bytes)
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

    /// Seals one batch. By how much less is pending then, or `None` if there was nothing.
    fn seal(&self, slot: OwnedSemaphorePermit, pending: &Pending) -> Option<u64> {
        let limits = Limits {
            stream_object_bytes: self.config.stream_object_bytes,
            stream_set_streams: self.config.stream_set_streams,
            entry_bytes_max: self.config.meta.entry_bytes_max,
        };
        let before = self.tail.pending().num_bytes;
        let batch = self.tail.seal(self.config.upload_bytes);
        let payload_bytes: u64 = {
            let ranges = batch.ranges.iter();
            ranges
                .map(|range| plan::payload_bytes(&range.entries))
                .sum()
        };
        // What was appended meanwhile is pending, too; less than its payloads a batch never was.
        let num_bytes = before.saturating_sub(self.tail.pending().num_bytes);
        let num_bytes = num_bytes.max(payload_bytes);
        let plans = Arc::new(plan::split(batch, &limits));
        if plans.is_empty() {
            return None;
        }
        if let Some(oldest) = pending.oldest {
            self.shared.pacer.measure(pending.num_bytes, oldest);
        }
        let (answer, sent) = oneshot::channel();
        let counter = self.storer.reserve(plans.len());
        let upload = send(
            Arc::clone(&self.storer),
            Arc::clone(&plans),
            counter,
            answer,
        );
        let stop = Arc::clone(&self.shared);
        let upload = async move {
            select(std::pin::pin!(stop.stopped()), std::pin::pin!(upload)).await;
        };
        self.env.spawn("s3stream: upload", Box::pin(upload));
        let step = Step::Commit(Batch { plans, sent, slot });
        // Without a committer the loop is at its end.
        let _sent = self.steps.send(step);
        Some(num_bytes)
    }
}

/// Sends the objects of a batch and answers them, all confirmed.
async fn send(
    storer: Arc<ObjectStorer>,
    plans: Arc<Vec<ObjectPlan>>,
    counter: u64,
    answer: oneshot::Sender<Vec<EncodedObject>>,
) {
    if mutant!(24) {
        let numbered = (counter..).zip(plans.iter());
        let objects: Vec<_> = numbered
            .map(|(counter, plan)| storer.prepare(plan, counter))
            .collect();
        let _told = answer.send(objects.clone());
        for object in &objects {
            storer.confirm(object).await;
        }
        return;
    }
    let objects = store_all(&storer, &plans, counter).await;
    // Nobody waits any more if the loop has ended.
    let _told = answer.send(objects);
}

/// Sends the objects of all plans, several at a time, under ids from `counter` on.
pub(super) fn store_all<'a>(
    storer: &'a ObjectStorer,
    plans: &'a [ObjectPlan],
    counter: u64,
) -> impl Future<Output = Vec<EncodedObject>> + Send + 'a {
    let numbered = (counter..).zip(plans);
    let uploads: Vec<_> = numbered
        .map(|(counter, plan)| storer.store(plan, counter))
        .collect();
    stream::iter(uploads).buffered(storer.parallel).collect()
}
