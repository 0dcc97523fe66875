//! The metadata of a cluster: read, change, watch.
//!
//! *Owns*: the entry points, and the bound on what waits.
//! *Does not own*: judgement (`apply`), commits (`commit`), reading at open (`load`).
//!
//! Invariants
//! 1. Nothing runs and nothing is requested while nobody proposes, apart from the
//!    deletion that follows a snapshot, and polls for whoever watches other nodes.
//! 2. Proposals wait for room in the order in which they came.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidewater_bucket::{Bucket, Purpose};
use tidewater_types::{ClusterId, Env, Epoch, NodeId, mutant};
use tokio::sync::oneshot;

use crate::config::MetaConfig;
use crate::entry::CommitReport;
use crate::error::MetaError;

use super::collect::write_snapshot;
use super::commit::commit_queue;
use super::format::entry::HEADER_SIZE;
use super::load::{MetaReader, OpenReport};
use super::op::MetaOp;
use super::queue::{Encoded, Proposal};
use super::state::MetaState;
use super::store::Inner;
use super::watch::Watch;
use super::watched::Watched;

/// How often a cluster that seems new is looked at again.
const CREATIONS_MAX: u32 = 3;

/// The metadata of a cluster. Clones share it.
#[derive(Clone)]
pub struct Metadata {
    inner: Arc<Inner>,
}

impl Metadata {
    /// Opens the metadata of the bucket: the newest valid snapshot and the log after it. An
    /// empty bucket becomes a new cluster with a random id.
    ///
    /// # Errors
    /// Damage to the log, a newer format, a bucket that does not answer.
    pub async fn open(
        bucket: Arc<dyn Bucket>,
        env: Arc<dyn Env>,
        config: MetaConfig,
    ) -> Result<Self, MetaError> {
        config.validate().map_err(|err| MetaError::InvalidConfig {
            field: err.field,
            range: err.range,
        })?;
        let reader = MetaReader {
            bucket,
            env,
            config,
            purpose: Purpose::Meta,
        };
        let mut creations = 0;
        loop {
            creations += 1;
            match Self::open_or_create(reader.clone()).await {
                // It slept while others created the cluster and deleted its first entries.
                Err(MetaError::Outpaced { .. }) if creations < CREATIONS_MAX => {}
                opened => return opened,
            }
        }
    }

    async fn open_or_create(reader: MetaReader) -> Result<Self, MetaError> {
        let mut loaded = reader.load().await?;
        let writer = reader.env.random("s3stream: metadata writer");
        let found = loaded.state.take();
        let is_new = found.is_none();
        let state = found.unwrap_or_else(|| {
            let draw = || u128::from(reader.env.random("s3stream: cluster id"));
            MetaState::new(ClusterId((draw() << 64 | draw()).to_be_bytes()))
        });
        let inner = Arc::new(Inner::new(reader, writer, state, loaded));
        if is_new {
            inner.create_cluster().await?;
        }
        let opened = Self { inner };
        opened.agree_on_delay().await?;
        Ok(opened)
    }

    /// What a process may believe, and when it may delete, follows from one deletion delay that all
    /// processes have: another one is refused. (Metadata that says none is told once.)
    async fn agree_on_delay(&self) -> Result<(), MetaError> {
        let reader = &self.inner.reader;
        if self.read(|state| state.delete_delay_ns) == 0 {
            match self.propose(vec![reader.delay_op()]).await {
                // Another process was faster.
                Ok(()) | Err(MetaError::Rejected { .. }) => {}
                Err(err) => return Err(err),
            }
        }
        let cluster = self.read(MetaState::delete_delay).unwrap_or_default();
        let own = reader.config.delete_delay;
        if cluster == own || mutant!(98) {
            Ok(())
        } else {
            Err(MetaError::OtherDeleteDelay { own, cluster })
        }
    }

    /// Whether the bucket holds a cluster's metadata. Changes nothing.
    ///
    /// # Errors
    /// A bucket that does not answer.
    pub async fn exists(
        bucket: &Arc<dyn Bucket>,
        env: &Arc<dyn Env>,
        config: &MetaConfig,
    ) -> Result<bool, MetaError> {
        let reader = MetaReader {
            bucket: Arc::clone(bucket),
            env: Arc::clone(env),
            config: config.clone(),
            purpose: Purpose::Meta,
        };
        reader.holds_metadata().await
    }

    /// The state that opening would begin with; `None` if the bucket has no metadata. Changes
    /// nothing; requests count as those of a check.
    ///
    /// # Errors
    /// As [`Metadata::open`].
    pub async fn peek(
        bucket: &Arc<dyn Bucket>,
        env: &Arc<dyn Env>,
    ) -> Result<Option<MetaState>, MetaError> {
        let mut reader = MetaReader {
            bucket: Arc::clone(bucket),
            env: Arc::clone(env),
            config: MetaConfig::default(),
            purpose: Purpose::Fsck,
        };
        let state = reader.load().await?.state;
        let delay = state.as_ref().and_then(MetaState::delete_delay);
        match delay.filter(|delay| *delay != reader.config.delete_delay) {
            // What was believed was believed by another cluster's rule.
            Some(delay) => {
                reader.config.delete_delay = delay;
                Ok(reader.load().await?.state)
            }
            None => Ok(state),
        }
    }

    /// How the metadata was opened.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// From now on every transaction proposed through this metadata, by whatever part of the
    /// process, is rejected once `node` is at another epoch than `node_epoch`: so no caller can
    /// forget the guard.
    pub fn act_for(&self, node: NodeId, node_epoch: Epoch) {
        self.inner.queue.lock().owner = Some((node, node_epoch));
    }

    /// Reads the state as of the last entry this process knows. `f` must be short: it holds a lock.
    pub fn read<R>(&self, f: impl FnOnce(&MetaState) -> R) -> R {
        f(&self.inner.state.read())
    }

    /// Commits a transaction: all of its operations or none. Returns once the log entry that
    /// holds it is durable and applied. Waits for room while `queue_bytes_max` are waiting or
    /// under way; from then on, dropping the future does not withdraw the transaction.
    ///
    /// # Errors
    /// [`MetaError::Rejected`] if an operation was refused; nothing of it took effect then.
    pub async fn propose(&self, txn: Vec<MetaOp>) -> Result<(), MetaError> {
        self.enqueue(txn)
            .await?
            .await
            .unwrap_or(Err(MetaError::Closed))
            .map(|_| ())
    }

    /// Hands a transaction in, once there is room; answers come later, one by one. Transactions
    /// keep the order in which they were handed in.
    pub(crate) async fn enqueue(
        &self,
        txn: Vec<MetaOp>,
    ) -> Result<oneshot::Receiver<Result<CommitReport, MetaError>>, MetaError> {
        let inner = &self.inner;
        let max = inner.reader.config.entry_bytes_max - HEADER_SIZE;
        let (reply, answer) = oneshot::channel();
        if txn.is_empty() {
            let _received = reply.send(Ok(CommitReport::default()));
            return Ok(answer);
        }
        let owner = inner.queue.lock().owner;
        let encoded = Encoded::new(txn, owner, max)?;
        let room = Arc::clone(&inner.room).acquire_many_owned(encoded.num_bytes());
        let room = room.await.expect("the semaphore is never closed");
        let proposal = Proposal::new(encoded, room, reply);
        let mut queue = inner.queue.lock();
        if let Some(err) = &queue.failed {
            return Err(err.clone());
        }
        queue.proposals.push_back(proposal);
        if !queue.committer_runs {
            queue.committer_runs = true;
            drop(queue);
            let task = commit_queue(Arc::clone(inner));
            let env = &inner.reader.env;
            env.spawn("s3stream: metadata committer", Box::pin(task));
        }
        Ok(answer)
    }

    /// Applies the entries others wrote since; one request if there are none. What any process
    /// was told to be committed before this call is in the state after it.
    ///
    /// # Errors
    /// Damage to the log, a bucket that does not answer.
    pub async fn refresh(&self) -> Result<(), MetaError> {
        self.inner.refresh().await.map(|_| ())
    }

    /// Watches parts of the metadata: changes are told in the order of the log, beginning with
    /// the first one after this call.
    ///
    /// This process's own changes cost nothing. As long as a watch lives and nodes other than
    /// this process's own are registered, the log is polled for theirs: every `poll_min` while
    /// they write, up to `poll_max` when they are idle. A single node polls nothing; so one that
    /// joins must be heard of in another way ([`Self::refresh`] looks once).
    #[must_use]
    pub fn watch(&self, what: Vec<Watched>) -> Watch {
        Watch::new(Arc::clone(&self.inner), what)
    }

    /// Writes a snapshot of the state. Also done by itself as the log grows.
    ///
    /// # Errors
    /// A bucket that does not answer.
    pub async fn write_snapshot(&self) -> Result<(), MetaError> {
        let state = self.inner.state.read().clone();
        write_snapshot(&self.inner, &state).await
    }

    /// Completes when objects may have died since the last call completed.
    pub(crate) async fn objects_died(&self) {
        self.inner.objects_died.notified().await;
    }

    /// Tells of every entry that is applied from now on.
    pub(crate) fn changes(&self) -> Changes {
        Changes {
            inner: Arc::clone(&self.inner),
            seen: self.inner.state.read().seq,
        }
    }

    /// Log entries this process wrote.
    pub(crate) fn entries_written(&self) -> u64 {
        self.inner.entries_written.load(Ordering::Relaxed)
    }
}

/// Who looks at the state after entries were applied. (Not tokio's `watch`: it wakes in an order
/// that it draws.)
pub(crate) struct Changes {
    inner: Arc<Inner>,
    seen: u64,
}

impl Changes {
    /// What was applied until now is known.
    pub(crate) fn mark_seen(&mut self) {
        self.seen = self.inner.state.read().seq;
    }

    /// Completes once an entry was applied that is not known.
    pub(crate) async fn changed(&mut self) {
        loop {
            let notified = self.inner.applied.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            let seq = self.inner.state.read().seq;
            if seq != self.seen {
                self.seen = seq;
                return;
            }
            notified.await;
        }
    }
}
