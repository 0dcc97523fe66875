//! The compactor of a node: what runs in the background, and until all is done.
//!
//! *Owns*: when a step is made, what is left alone after damage.
//! *Does not own*: the steps.
//!
//! Invariants
//! 1. One step at a time in a process; other processes are told apart by the metadata.
//! 2. While the metadata does not change and nothing is to be done it waits without a timer and
//!    asks for nothing.
//! 3. Damage stops the objects it was found in, not the rest.
//!
//! *IO: none* (requests go through the bucket port)

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tidewater_types::{Epoch, ErrorKind, NodeId, sometimes};

use crate::config::TierConfig;
use crate::error::{MetaError, TierError};
use crate::meta::format::replace::SOURCE_SIZE;
use crate::meta::log::Metadata;
use crate::object_id::ObjectId;
use crate::read::source::Source;
use crate::tail::Tail;
use crate::upload::plan::OBJECT_COMMIT_BYTES;
use crate::upload::store::ObjectStorer;

use super::job::{Outcome, Steps, commit_bytes};
use super::pace::Pace;
use super::plan::{Job, Limits, plan};
use super::read::objects_of;

pub(crate) struct Compactor {
    steps: Steps,
    /// Objects that turned out to be damaged, or not worth it.
    bad: Mutex<BTreeSet<ObjectId>>,
    /// Held by whoever makes a step.
    step: tokio::sync::Mutex<()>,
}

impl Compactor {
    pub(crate) fn new(
        metadata: Metadata,
        source: Source,
        storer: ObjectStorer,
        config: &TierConfig,
    ) -> Self {
        let pace = Pace {
            env: Arc::clone(&storer.env),
            rate: config.compact.rate,
            rate_floor: config.compact.rate_floor,
            upload_bytes: config.upload_bytes,
            free_at: Mutex::default(),
        };
        let steps = Steps {
            metadata,
            source,
            storer,
            config: config.compact.clone(),
            pace,
            stream_object_bytes: config.stream_object_bytes,
            stream_set_streams: config.stream_set_streams,
        };
        Self {
            steps,
            bad: Mutex::default(),
            step: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn is_of(&self, node: NodeId, epoch: Epoch) -> bool {
        (self.steps.storer.node, self.steps.storer.node_epoch) == (node, epoch)
    }

    fn next(&self) -> Option<Job> {
        let overhead = commit_bytes(0) + OBJECT_COMMIT_BYTES;
        let limits = Limits {
            objects_min: self.steps.config.objects_min,
            object_bytes: self.steps.config.object_bytes,
            sources_max: (self.steps.commit_room() - overhead) / SOURCE_SIZE,
        };
        let bad = self.bad.lock();
        self.steps
            .metadata
            .read(|state| plan(state, self.steps.storer.node, &limits, &bad))
    }

    /// Compacts until nothing is to be done. How many steps that took.
    pub(crate) async fn until_done(&self, tail: Option<&Weak<dyn Tail>>) -> Result<u64, TierError> {
        let mut steps = 0;
        let _one_at_a_time = self.step.lock().await;
        while let Some(job) = self.next() {
            steps += 1;
            let objects = objects_of(&job.runs);
            match self.steps.make(job, tail).await {
                Ok(Outcome::Done | Outcome::MovedOn) => {}
                Ok(Outcome::Fruitless) => self.bad.lock().extend(objects.into_keys()),
                Err(TierError::Missing { object }) => self.missing(&object).await?,
                Err(err @ (TierError::Corrupt { .. } | TierError::Unsupported { .. })) => {
                    tracing::error!(%err, "objects are not compacted");
                    self.bad.lock().extend(objects.into_keys());
                    return Err(err);
                }
                Err(err) => return Err(err),
            }
        }
        Ok(steps)
    }

    /// Another process may have replaced and deleted it: the metadata is read again.
    async fn missing(&self, object: &str) -> Result<(), TierError> {
        sometimes!("s3stream: object gone under a compactor");
        self.steps.metadata.refresh().await?;
        let id = ObjectId::from_key(object);
        let is_live = |id| {
            self.steps.metadata.read(|state| {
                state
                    .object(id)
                    .is_some_and(|known| known.died_seq.is_none())
            })
        };
        let Some(id) = id.filter(|id| is_live(*id)) else {
            return Ok(());
        };
        self.bad.lock().insert(id);
        tracing::error!(%id, "an object that is referenced is missing");
        Err(TierError::Missing { object: id.key() })
    }

    /// Compacts whenever there is something to compact; ends with the node's epoch.
    pub(crate) async fn run(&self, tail: Weak<dyn Tail>) {
        let mut changes = self.steps.metadata.changes();
        loop {
            changes.mark_seen();
            match self.until_done(Some(&tail)).await {
                Ok(_) => {}
                Err(err) if is_the_end(&err) => {
                    tracing::warn!(%err, "compaction ended");
                    return;
                }
                Err(err) => {
                    tracing::warn!(%err, "compaction will be tried again");
                    self.steps
                        .storer
                        .env
                        .sleep(self.steps.storer.retry.backoff_max)
                        .await;
                    continue;
                }
            }
            changes.changed().await;
            self.steps.storer.env.sleep(self.steps.config.pause).await;
        }
    }
}

/// Whether this process can commit nothing any more.
fn is_the_end(err: &TierError) -> bool {
    let is_over = matches!(err.kind(), ErrorKind::Fenced | ErrorKind::Closed);
    is_over || matches!(err, TierError::Meta(MetaError::Corrupt { .. }))
}
