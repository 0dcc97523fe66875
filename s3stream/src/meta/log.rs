//! The metadata log: proposals in, committed entries out.
//!
//! *Owns*: group commit, the resolution of lost answers, automatic snapshots.
//! *Does not own*: judgement (`apply`), reading at open (`load`).
//!
//! Invariants
//! 1. An entry is created at the number after the last one known. `Exists` is
//!    read back: one's own nonce means committed, any other entry is applied and
//!    the proposals go to the next number.
//! 2. After an unknown outcome the same bytes are sent to the same number until
//!    it is taken; so a proposal is never in two entries.
//! 3. A proposal fails only if it certainly was not committed (or the whole log
//!    failed for good).
//! 4. Nothing runs and nothing is requested while nobody proposes.
//! 5. Log entries are not deleted in this version, so a number is never used
//!    twice and there is no deletion boundary to read after a create.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tidewater_bucket::{Bucket, BucketError, Purpose};
use tidewater_types::{ClusterId, Env, mutant, sometimes};
use tokio::sync::{Notify, oneshot};

use crate::config::MetaConfig;
use crate::entry::CommitReport;
use crate::error::MetaError;

use super::apply::apply;
use super::format::entry::{self, EntryHeader, HEADER_SIZE, LogEntry};
use super::load::{MetaReader, OpenReport, apply_entry, check_place, log_key};
use super::op::MetaOp;
use super::queue::{Proposal, Queue};
use super::state::MetaState;

/// The metadata of a cluster. Clones share it.
#[derive(Clone)]
pub struct Metadata {
    inner: Arc<Inner>,
}

struct Inner {
    reader: MetaReader,
    /// Drawn once a process; with the nonce it names the author of an entry.
    writer: u64,
    report: OpenReport,
    state: RwLock<MetaState>,
    /// Held by whoever extends the log or reads its end.
    log: tokio::sync::Mutex<()>,
    queue: Mutex<Queue>,
    objects_died: Notify,
    snapshot_seq: AtomicU64,
    entries_written: AtomicU64,
}

enum Created {
    Ours,
    Foreign(LogEntry),
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
        let (state, report) = reader.load().await?;
        let writer = reader.env.random("s3stream: metadata writer");
        let is_new = state.is_none();
        let state = state.unwrap_or_else(|| {
            let draw = || u128::from(reader.env.random("s3stream: cluster id"));
            MetaState::new(ClusterId((draw() << 64 | draw()).to_be_bytes()))
        });
        let inner = Arc::new(Inner {
            reader,
            writer,
            snapshot_seq: AtomicU64::new(report.snapshot_seq),
            report,
            state: RwLock::new(state),
            log: tokio::sync::Mutex::new(()),
            queue: Mutex::default(),
            objects_died: Notify::new(),
            entries_written: AtomicU64::new(0),
        });
        if is_new {
            inner.create_cluster().await?;
        }
        Ok(Self { inner })
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

    /// How the metadata was opened.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// Reads the state as of the last entry this process knows. `f` must be short: it holds a lock.
    pub fn read<R>(&self, f: impl FnOnce(&MetaState) -> R) -> R {
        f(&self.inner.state.read())
    }

    /// Commits a transaction: all of its operations or none. Returns once the log entry that
    /// holds it is durable and applied. Dropping the future does not withdraw the transaction.
    ///
    /// # Errors
    /// [`MetaError::Rejected`] if an operation was refused; nothing of it took effect then.
    pub async fn propose(&self, txn: Vec<MetaOp>) -> Result<(), MetaError> {
        self.enqueue(txn)?
            .await
            .unwrap_or(Err(MetaError::Closed))
            .map(|_| ())
    }

    /// Hands transactions in at once, so that they keep their order; answers come one by one.
    pub(crate) fn enqueue(
        &self,
        txn: Vec<MetaOp>,
    ) -> Result<oneshot::Receiver<Result<CommitReport, MetaError>>, MetaError> {
        let max = self.inner.reader.config.entry_bytes_max - HEADER_SIZE;
        let (reply, answer) = oneshot::channel();
        if txn.is_empty() {
            let _received = reply.send(Ok(CommitReport::default()));
            return Ok(answer);
        }
        let proposal = Proposal::new(txn, max, reply)?;
        let mut queue = self.inner.queue.lock();
        if let Some(err) = &queue.failed {
            return Err(err.clone());
        }
        queue.proposals.push_back(proposal);
        if !queue.committer_runs {
            queue.committer_runs = true;
            drop(queue);
            let inner = Arc::clone(&self.inner);
            self.inner.reader.env.spawn(
                "s3stream: metadata committer",
                Box::pin(commit_queue(inner)),
            );
        }
        Ok(answer)
    }

    /// Applies the entries others wrote since; one request if there are none.
    ///
    /// # Errors
    /// Damage to the log, a bucket that does not answer.
    pub async fn refresh(&self) -> Result<(), MetaError> {
        let _log = self.inner.log.lock().await;
        loop {
            let seq = self.inner.state.read().seq + 1;
            let Some(entry) = self.inner.reader.entry(seq).await? else {
                return Ok(());
            };
            self.inner.apply_foreign(&entry)?;
        }
    }

    /// Writes a snapshot of the state. Also done after every `snapshot_entries` entries.
    ///
    /// # Errors
    /// A bucket that does not answer.
    pub async fn write_snapshot(&self) -> Result<(), MetaError> {
        self.inner.write_snapshot().await
    }

    /// Completes when objects may have died since the last call completed.
    pub(crate) async fn objects_died(&self) {
        self.inner.objects_died.notified().await;
    }

    /// Log entries this process wrote.
    pub(crate) fn entries_written(&self) -> u64 {
        self.inner.entries_written.load(Ordering::Relaxed)
    }
}

/// Commits what is queued until nothing is.
async fn commit_queue(inner: Arc<Inner>) {
    loop {
        let batch = {
            let mut queue = inner.queue.lock();
            let batch = queue.take_batch(inner.reader.config.entry_bytes_max);
            if batch.is_empty() {
                queue.committer_runs = false;
                return;
            }
            batch
        };
        if batch.len() > 1 {
            sometimes!("s3stream: proposals share a log entry");
        }
        let crossed = inner.commit(batch).await;
        if crossed {
            let snapshot = Arc::clone(&inner);
            let task = async move {
                if let Err(err) = snapshot.write_snapshot().await {
                    // The log holds everything; the next entry that is due tries again.
                    tracing::warn!(%err, "metadata snapshot not written");
                }
            };
            inner
                .reader
                .env
                .spawn("s3stream: metadata snapshot", Box::pin(task));
        }
    }
}

impl Inner {
    /// The first entry carries no transaction: its header names the cluster.
    async fn create_cluster(&self) -> Result<(), MetaError> {
        let _log = self.log.lock().await;
        let (header, bytes, crc) = self.encode(&[]);
        match self.create(&header, bytes).await? {
            Created::Ours => {
                let mut state = self.state.write();
                (state.seq, state.log_crc) = (header.seq, crc);
                self.entries_written.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Created::Foreign(entry) => {
                sometimes!("s3stream: cluster creation raced");
                *self.state.write() = MetaState::new(entry.header.cluster);
                self.apply_foreign(&entry)
            }
        }
    }

    fn encode(&self, batch: &[Proposal]) -> (EntryHeader, Bytes, u32) {
        let env = &self.reader.env;
        let (seq, cluster, previous_crc) = {
            let state = self.state.read();
            (state.seq + 1, state.cluster, state.log_crc)
        };
        let nonce = env.random("s3stream: entry nonce");
        let (writer, node, written_ms) = (self.writer, self.queue.lock().node, env.wall_ms());
        let header = EntryHeader {
            seq,
            cluster,
            writer,
            nonce,
            node,
            previous_crc,
            written_ms,
        };
        let (bytes, crc) = entry::encode(
            &header,
            batch.iter().map(|proposal| proposal.encoded.as_slice()),
        );
        (header, bytes, crc)
    }

    /// Commits the proposals in one entry. Whether a snapshot is due.
    async fn commit(&self, batch: Vec<Proposal>) -> bool {
        let _log = self.log.lock().await;
        loop {
            let (header, bytes, crc) = self.encode(&batch);
            match self.create(&header, bytes).await {
                Ok(Created::Ours) => {
                    self.entries_written.fetch_add(1, Ordering::Relaxed);
                    self.apply_ours(header.seq, crc, batch);
                    return self.snapshot_due(header.seq);
                }
                Ok(Created::Foreign(entry)) => {
                    sometimes!("s3stream: metadata create raced");
                    if let Err(err) = self.apply_foreign(&entry) {
                        self.fail(err, batch);
                        return false;
                    }
                }
                Err(err @ MetaError::Unavailable(_)) => {
                    // The store refused for good and nothing was applied: the log is still sound.
                    batch
                        .into_iter()
                        .for_each(|proposal| drop(proposal.reply.send(Err(err.clone()))));
                    return false;
                }
                Err(err) => {
                    self.fail(err, batch);
                    return false;
                }
            }
        }
    }

    /// Creates the entry until its number is taken, by it or by another's.
    async fn create(&self, header: &EntryHeader, bytes: Bytes) -> Result<Created, MetaError> {
        let key = log_key(header.seq);
        let (mut backoff, mut is_unknown) = (self.reader.backoff(), false);
        loop {
            match self
                .reader
                .bucket
                .create(Purpose::Meta, &key, vec![bytes.clone()])
                .await
            {
                Ok(()) => return Ok(Created::Ours),
                Err(BucketError::Exists { .. }) => match self.read_back(header).await {
                    Ok(Some(created)) => return Ok(created),
                    Ok(None) => {}
                    // It exists, so it will be readable; giving up would leave the outcome open.
                    Err(MetaError::Unavailable(_)) => is_unknown = true,
                    Err(err) => return Err(err),
                },
                Err(BucketError::Throttled { .. }) => {}
                Err(BucketError::Unknown { .. }) => is_unknown = true,
                // Refused or full: certain, unless an earlier attempt may have been applied.
                Err(err) if !is_unknown => return Err(MetaError::Unavailable(err)),
                Err(_) => {}
            }
            backoff.wait(&*self.reader.env).await;
        }
    }

    async fn read_back(&self, header: &EntryHeader) -> Result<Option<Created>, MetaError> {
        let Some(entry) = self.reader.entry(header.seq).await? else {
            return Ok(None);
        };
        let is_ours = entry.header.writer == header.writer && entry.header.nonce == header.nonce;
        if is_ours && !mutant!(27) {
            sometimes!("s3stream: lost answer of a metadata create resolved");
            return Ok(Some(Created::Ours));
        }
        Ok(Some(Created::Foreign(entry)))
    }

    fn apply_ours(&self, seq: u64, crc: u32, batch: Vec<Proposal>) {
        let mut verdicts = Vec::with_capacity(batch.len());
        let mut registered = None;
        {
            let mut state = self.state.write();
            assert_eq!(seq, state.seq + 1, "entries are applied in order");
            let dead_before = state.dead.len();
            for proposal in batch {
                let verdict = apply(&mut state, seq, &proposal.txn);
                if verdict.is_ok() {
                    registered = proposal.registration().or(registered);
                }
                verdicts.push((proposal.reply, verdict));
            }
            (state.seq, state.log_crc) = (seq, crc);
            self.tell_dead(&state, dead_before);
        }
        if registered.is_some() {
            self.queue.lock().node = registered;
        }
        for (reply, verdict) in verdicts {
            let verdict = verdict.map_err(|(index, reason)| MetaError::Rejected { index, reason });
            // Nobody waits any more if the proposer's future was dropped.
            let _received = reply.send(verdict);
        }
    }

    fn apply_foreign(&self, entry: &LogEntry) -> Result<(), MetaError> {
        let mut state = self.state.write();
        check_place(&state, entry)?;
        let dead_before = state.dead.len();
        apply_entry(&mut state, entry);
        self.tell_dead(&state, dead_before);
        Ok(())
    }

    /// An entry that buries as many as it kills wakes nobody: whoever knows of the dead has a timer.
    fn tell_dead(&self, state: &MetaState, dead_before: usize) {
        if state.dead.len() > dead_before {
            self.objects_died.notify_one();
        }
    }

    /// The log cannot be continued: everybody learns why.
    fn fail(&self, err: MetaError, batch: Vec<Proposal>) {
        let mut queue = self.queue.lock();
        queue.failed = Some(err.clone());
        let rest: Vec<_> = batch.into_iter().chain(queue.proposals.drain(..)).collect();
        drop(queue);
        rest.into_iter()
            .for_each(|proposal| drop(proposal.reply.send(Err(err.clone()))));
    }

    fn snapshot_due(&self, seq: u64) -> bool {
        let last = self.snapshot_seq.load(Ordering::Relaxed);
        let due = seq - last >= self.reader.config.snapshot_entries;
        if due {
            self.snapshot_seq.store(seq, Ordering::Relaxed);
        }
        due
    }

    async fn write_snapshot(&self) -> Result<(), MetaError> {
        let state = self.state.read().clone();
        self.reader.write_snapshot(&state).await?;
        self.snapshot_seq.fetch_max(state.seq, Ordering::Relaxed);
        Ok(())
    }
}
