//! The compactor of a node: what runs in the background, and until all is done.
//!
//! *Owns*: when a step is made, what is left alone after damage.
//! *Does not own*: the steps.
//!
//! Invariants
//! 1. One step at a time in a process; other processes are told apart by the metadata.
//! 2. While the metadata does not change and nothing is to be done it asks for nothing; it has a
//!    timer only where records or deletions must grow older before a pass is due.
//! 3. Damage stops the objects it was found in, not the rest.
//!
//! *IO: none* (requests go through the bucket port)

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::select;
use parking_lot::Mutex;
use tidewater_types::{Epoch, ErrorKind, NodeId, sometimes};

use crate::config::TierConfig;
use crate::counters::add;
use crate::error::{MetaError, TierError};
use crate::meta::format::replace::SOURCE_SIZE;
use crate::meta::log::{Changes, Metadata};
use crate::meta::state::MetaState;
use crate::object_id::ObjectId;
use crate::read::source::Source;
use crate::tail::Tail;
use crate::upload::plan::OBJECT_COMMIT_BYTES;
use crate::upload::store::ObjectStorer;

use super::job::{Outcome, commit_bytes};
use super::keys::due::{KeyJob, KeyPasses, Look, Owners, forget};
use super::pace::Pace;
use super::plan::{Job, LeftAlone, Limits, SplitLimits, plan};
use super::read::objects_of;
use super::steps::Steps;

/// What is to be done next.
enum Work {
    Join(Job),
    Keys(KeyJob),
}

pub(crate) struct Compactor {
    steps: Steps,
    owners: Arc<Owners>,
    passes: KeyPasses,
    /// Objects that turned out to be damaged.
    bad: Mutex<BTreeSet<ObjectId>>,
    /// Those, and objects that turned out not to be worth joining.
    not_joined: Mutex<BTreeSet<ObjectId>>,
    /// Sets that turned out not to be worth a split.
    not_split: Mutex<BTreeSet<ObjectId>>,
    /// Held by whoever makes a step.
    step: tokio::sync::Mutex<()>,
}

impl Compactor {
    pub(crate) fn new(
        metadata: Metadata,
        source: Source,
        storer: ObjectStorer,
        owners: Arc<Owners>,
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
            upload_bytes: config.upload_bytes,
            stream_set_streams: config.stream_set_streams,
        };
        Self {
            steps,
            owners,
            passes: KeyPasses::default(),
            bad: Mutex::default(),
            not_joined: Mutex::default(),
            not_split: Mutex::default(),
            step: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn is_of(&self, node: NodeId, epoch: Epoch) -> bool {
        (self.steps.storer.node, self.steps.storer.node_epoch) == (node, epoch)
    }

    /// Joining comes first: it is short, and a pass over a stream reads fewer objects after it.
    fn next(&self) -> Result<Option<Work>, TierError> {
        if let Some(job) = self.next_join() {
            return Ok(Some(Work::Join(job)));
        }
        Ok(self.look()?.job.map(Work::Keys))
    }

    fn next_join(&self) -> Option<Job> {
        let limits = self.limits();
        // Planned on a copy, which costs little: commits do not wait for a plan.
        let state = self.steps.metadata.read(MetaState::clone);
        let (not_joined, not_split) = (self.not_joined.lock(), self.not_split.lock());
        let left = LeftAlone {
            not_joined: &not_joined,
            not_split: &not_split,
        };
        plan(&state, self.steps.storer.node, &limits, left)
    }

    fn limits(&self) -> Limits {
        let config = &self.steps.config;
        let overhead = commit_bytes(0) + OBJECT_COMMIT_BYTES;
        let sources_max = (self.steps.commit_room() - overhead) / SOURCE_SIZE;
        // Rows are in memory three times: as an index, to be read, and of a run.
        let index_bytes = config.step_bytes / 4;
        let sets = config.step_bytes / config.split_read_bytes_min;
        let uploaded_max = 2 * self.steps.upload_bytes;
        let split = SplitLimits {
            set_bytes_max: if config.split_joined {
                u64::MAX
            } else {
                uploaded_max
            },
            window_bytes: config.split_window_bytes,
            index_bytes,
            sets_max: usize::try_from(sets).map_or(sources_max, |sets| sets.min(sources_max)),
            stream_bytes: self.steps.stream_object_bytes * config.split_percent / 100,
        };
        Limits {
            objects_min: config.objects_min,
            growth_min: config.growth_min,
            object_bytes: self.steps.object_bytes(),
            index_bytes,
            sets_max: self.steps.sets_max(),
            sources_max,
            split,
        }
    }

    /// A mark that cannot be read is told once, and its stream left alone.
    fn look(&self) -> Result<Look, TierError> {
        let Steps {
            metadata,
            storer,
            config,
            ..
        } = &self.steps;
        let state = metadata.read(MetaState::clone);
        let when = (storer.env.wall_ms(), config.key_records_min);
        let (owners, bad) = (&self.owners, &self.bad.lock());
        let look = self.passes.look(&state, storer.node, owners, bad, when);
        look.map_err(|(stream, error)| {
            tracing::error!(%stream, %error, "a stream is not compacted by key");
            self.passes.give_up(stream);
            error
        })
    }

    /// Forgets how far streams were compacted that are no more.
    async fn forget_marks(&self) -> Result<(), TierError> {
        loop {
            let state = self.steps.metadata.read(MetaState::clone);
            let gone = forget(&state);
            if gone.is_empty() {
                return Ok(());
            }
            self.steps.metadata.propose(gone).await?;
        }
    }

    /// Compacts until nothing is to be done. How many steps that took.
    pub(crate) async fn until_done(&self, tail: Option<&Weak<dyn Tail>>) -> Result<u64, TierError> {
        let mut steps = 0;
        let _one_at_a_time = self.step.lock().await;
        self.forget_marks().await?;
        while let Some(work) = self.next()? {
            steps += 1;
            add(&self.steps.storer.counters.compaction_steps, 1);
            let done = match work {
                Work::Join(job) => self.join(job, tail).await,
                Work::Keys(job) => self.pass(job, tail).await,
            };
            match done {
                Err(TierError::Missing { object }) => self.missing(&object).await?,
                done => done?,
            }
        }
        Ok(steps)
    }

    async fn join(&self, job: Job, tail: Option<&Weak<dyn Tail>>) -> Result<(), TierError> {
        let objects = objects_of(&job.runs);
        match self.steps.make(job, tail).await {
            Ok(Outcome::Done | Outcome::MovedOn) => Ok(()),
            Ok(Outcome::Fruitless) => {
                self.not_joined.lock().extend(objects);
                Ok(())
            }
            Ok(Outcome::NotSplit) => {
                let mut not_split = self.not_split.lock();
                not_split.retain(|id| is_live(&self.steps.metadata, *id));
                not_split.extend(objects);
                Ok(())
            }
            Err(err @ (TierError::Corrupt { .. } | TierError::Unsupported { .. })) => {
                tracing::error!(%err, "objects are not compacted");
                let bad = blamed(&err, objects);
                self.not_joined.lock().extend(&bad);
                self.bad.lock().extend(bad);
                Err(err)
            }
            Err(err) => Err(err),
        }
    }

    async fn pass(&self, job: KeyJob, tail: Option<&Weak<dyn Tail>>) -> Result<(), TierError> {
        let stream = job.stream;
        match self.steps.pass(job, &self.passes, tail).await {
            Ok(_) => Ok(()),
            Err(
                err @ (TierError::Corrupt { .. }
                | TierError::Unsupported { .. }
                | TierError::NotKeyed(_)),
            ) => {
                tracing::error!(%stream, %err, "a stream is not compacted by key");
                self.passes.give_up(stream);
                Err(err)
            }
            Err(err) => Err(err),
        }
    }

    /// Another process may have replaced and deleted it: the metadata is read again.
    async fn missing(&self, object: &str) -> Result<(), TierError> {
        sometimes!("s3stream: object gone under a compactor");
        self.steps.metadata.refresh().await?;
        let id = ObjectId::from_key(object);
        let Some(id) = id.filter(|id| is_live(&self.steps.metadata, *id)) else {
            return Ok(());
        };
        self.not_joined.lock().insert(id);
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
            self.until_due(&mut changes).await;
            self.steps.storer.env.sleep(self.steps.config.pause).await;
        }
    }

    /// Waits for a change, or until records or deletions are old enough.
    async fn until_due(&self, changes: &mut Changes) {
        let env = &self.steps.storer.env;
        let again_ms = self.look().map_or(None, |look| {
            let now = look.job.map(|job| job.now_ms);
            now.or(look.again_ms)
        });
        let (changed, owners) = (pin!(changes.changed()), pin!(self.owners.changed()));
        let changed = select(changed, owners);
        let Some(again_ms) = again_ms else {
            changed.await;
            return;
        };
        let wait_ms = again_ms.saturating_sub(env.wall_ms());
        let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
        select(changed, env.sleep(wait)).await;
    }
}

/// The source that is damaged; all of them if the error names none.
fn blamed(err: &TierError, sources: BTreeSet<ObjectId>) -> BTreeSet<ObjectId> {
    let named = match err {
        TierError::Corrupt { object, .. } | TierError::Unsupported { object, .. } => {
            ObjectId::from_key(object)
        }
        _ => None,
    };
    match named.filter(|id| sources.contains(id)) {
        Some(id) => BTreeSet::from([id]),
        None => sources,
    }
}

/// Whether something still needs the object.
fn is_live(metadata: &Metadata, id: ObjectId) -> bool {
    let died_seq = |state: &MetaState| state.object(id).map(|object| object.died_seq);
    metadata.read(died_seq) == Some(None)
}

/// Whether this process can commit nothing any more.
fn is_the_end(err: &TierError) -> bool {
    let is_over = matches!(err.kind(), ErrorKind::Fenced | ErrorKind::Closed);
    is_over || matches!(err, TierError::Meta(MetaError::Corrupt { .. }))
}
