//! Commits batches in the order in which they were sealed.
//!
//! *Owns*: the order: objects confirmed, then committed, then told to the tail, batch by batch.
//! *Does not own*: when a batch is sealed, how its objects get there.
//!
//! Invariants
//! 1. A batch is committed after all of its objects were confirmed and after the batch before it:
//!    a range that comes before its predecessor would leave a hole and be refused.
//! 2. The tail hears of a batch once its commit is durable.
//! 3. A batch that has to be sent again gets ids above those of the batches behind it, so they are
//!    sent again, too. Until that is done nothing more is sealed: what was would be refused in turn,
//!    and everything sent twice for as long as there is something to send.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;

use tidewater_types::{mutant, sometimes};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::counters::add;
use crate::entry::CommitReport;
use crate::error::{MetaError, Rejection, TierError};
use crate::meta::log::Metadata;
use crate::tail::Tail;

use super::commits::{commit, commit_op, commits};
use super::encode::EncodedObject;
use super::sealer::{Batch, Step, store_all};
use super::store::ObjectStorer;

/// Commits batches.
pub(super) struct Committer {
    pub(super) metadata: Metadata,
    pub(super) storer: Arc<ObjectStorer>,
    pub(super) tail: Arc<dyn Tail>,
    pub(super) entry_bytes_max: usize,
}

/// A batch that is committed.
struct Committed {
    slot: OwnedSemaphorePermit,
    /// Its first ids were condemned or passed.
    was_resent: bool,
}

impl Committer {
    /// Runs until the node is fenced, the metadata log fails, or an upload died.
    pub(super) async fn run(&self, mut steps: mpsc::UnboundedReceiver<Step>) -> TierError {
        // Slots of batches that were committed since one was sent again.
        let mut kept = Vec::new();
        while let Some(step) = steps.recv().await {
            let done = match step {
                Step::Commit(batch) if mutant!(80) => match steps.try_recv() {
                    Ok(Step::Commit(next)) => match self.batch(next).await {
                        Ok(_) => self.batch(batch).await,
                        failed => failed,
                    },
                    Ok(tell) => {
                        let done = self.batch(batch).await;
                        answer(tell);
                        done
                    }
                    Err(_) => self.batch(batch).await,
                },
                Step::Commit(batch) => self.batch(batch).await,
                tell @ Step::Tell(_) => {
                    answer(tell);
                    Ok(None)
                }
            };
            match done {
                Ok(Some(Committed { slot, was_resent })) => {
                    if was_resent || !kept.is_empty() {
                        kept.push(slot);
                    }
                }
                Ok(None) => {}
                Err(err) => return err,
            }
            if steps.is_empty() {
                kept.clear();
            }
        }
        TierError::Died
    }

    async fn batch(&self, batch: Batch) -> Result<Option<Committed>, TierError> {
        let Batch { plans, sent, slot } = batch;
        // A task that died without an answer panicked: nothing else drops it while the loop runs.
        let mut objects = sent.await.map_err(|_| TierError::Died)?;
        let mut report = CommitReport::default();
        let mut was_resent = false;
        while !self.commit(objects, &mut report).await? {
            was_resent = true;
            let counter = self.storer.reserve(plans.len());
            objects = store_all(&self.storer, &plans, counter).await;
        }
        // Sent again behind a commit that took it: it is where it belongs.
        let CommitReport { committed, dropped } = &mut report;
        dropped.retain(|range| !committed.contains(range));
        let counters = &self.storer.counters;
        add(&counters.ranges_committed, report.committed.len());
        add(&counters.ranges_dropped, report.dropped.len());
        if !report.dropped.is_empty() {
            sometimes!("s3stream: uploaded range dropped");
            if mutant!(58) {
                // As if the whole batch were refused and tried again for ever.
                std::future::pending::<()>().await;
            }
        }
        // With the plans goes what they hold of the entries: the tail gives their room to others.
        drop(plans);
        self.tail.committed(&report);
        Ok(Some(Committed { slot, was_resent }))
    }

    /// Commits the objects of a batch. `false` if one was condemned: all must be sent again.
    async fn commit(
        &self,
        objects: Vec<EncodedObject>,
        report: &mut CommitReport,
    ) -> Result<bool, TierError> {
        let (node, node_epoch) = (self.storer.node, self.storer.node_epoch);
        for objects in commits(objects, self.entry_bytes_max) {
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

fn answer(tell: Step) {
    if let Step::Tell(flushes) = tell {
        for flush in flushes {
            // Nobody waits any more if the future was dropped.
            let _received = flush.reply.send(());
        }
    }
}
