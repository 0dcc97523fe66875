//! The committer: proposals in, log entries out.
//!
//! *Owns*: group commit, the resolution of lost answers, what a failure of the log does.
//! *Does not own*: judgement (`apply`), snapshots and deletion (`collect`).
//!
//! Invariants
//! 1. An entry is created at the number after the last one known. `Exists` is
//!    read back: one's own nonce means committed, any other entry is applied and
//!    the proposals go to the next number.
//! 2. After an unknown outcome the same bytes are sent to the same number until
//!    it is taken; so a proposal is never in two entries.
//! 3. A proposal fails only if it certainly was not committed (or the whole log
//!    failed for good).
//! 4. A create counts only if its number cannot have been used and deleted before
//!    (`fresh`). One that deletion has passed meanwhile has no known outcome: the log
//!    fails for good and the process opens it anew.
//! 5. What is read beside a create says what is at its number only once the create was told that it
//!    is taken.
//! 6. If the committer panics, everybody who waits is told.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use tidewater_bucket::{BucketError, Purpose};
use tidewater_types::{mutant, sometimes};
use tokio::sync::oneshot;

use crate::error::MetaError;

use super::apply::apply_and_tell;
use super::collect::snapshot_and_collect;
use super::format::entry::{self, EntryHeader, LogEntry};
use super::fresh::Fresh;
use super::load::log_key;
use super::queue::{Encoded, Proposal};
use super::state::MetaState;
use super::store::Inner;

enum Created {
    Ours,
    /// The entry that is there, and those behind it that were read with it.
    Foreign(Vec<LogEntry>),
}

/// Tells whoever waits that the committer is gone, should it end in any way but the planned one.
struct Running(Option<Arc<Inner>>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            inner.fail(&MetaError::Closed, Vec::new());
        }
    }
}

/// Commits what is queued until nothing is.
pub(super) async fn commit_queue(inner: Arc<Inner>) {
    let mut running = Running(Some(Arc::clone(&inner)));
    loop {
        let wait = inner.turns.lock().wait(inner.reader.env.now());
        if let Some(wait) = wait {
            sometimes!("s3stream: a winner stands back");
            inner.reader.env.sleep(wait).await;
        }
        let batch = {
            let mut queue = inner.queue.lock();
            let batch = queue.take_batch(inner.reader.config.entry_bytes_max);
            if batch.is_empty() {
                queue.committer_runs = false;
                running.0 = None;
                return;
            }
            batch
        };
        if batch.len() > 1 {
            sometimes!("s3stream: proposals share a log entry");
        }
        if let Some(state) = inner.commit(batch).await {
            let task = snapshot_and_collect(Arc::clone(&inner), state);
            inner
                .reader
                .env
                .spawn("s3stream: metadata snapshot", Box::pin(task));
        }
    }
}

impl Inner {
    /// The first entry: its header names the cluster, its transaction the deletion delay.
    pub(super) async fn create_cluster(&self) -> Result<(), MetaError> {
        let mut fresh = self.log.lock().await;
        let (reply, _answer) = oneshot::channel();
        let encoded = Encoded::new(vec![self.reader.delay_op()], None, usize::MAX)?;
        let room = Arc::clone(&self.room).acquire_many_owned(encoded.num_bytes());
        let room = room.await.expect("the semaphore is never closed");
        let batch = vec![Proposal::new(encoded, room, reply)];
        let (header, bytes, crc) = self.encode(&batch);
        let num_bytes = bytes.len() as u64;
        match self.create(&header, bytes, &mut fresh).await? {
            Created::Ours => {
                self.apply_ours(header.seq, crc, num_bytes, batch);
                self.entries_written.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Created::Foreign(entries) => {
                sometimes!("s3stream: cluster creation raced");
                *self.state.write() = MetaState::new(entries[0].header.cluster);
                self.apply_found(&entries, &fresh)
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

    /// Commits the proposals in one entry. The state, if its snapshot is due.
    async fn commit(&self, batch: Vec<Proposal>) -> Option<MetaState> {
        let mut fresh = self.log.lock().await;
        let err = loop {
            // Mutant 73: a writer that slept believes what it knew.
            if !mutant!(73)
                && let Err(err) = self.catch_up(&mut fresh).await
            {
                break err;
            }
            let (header, bytes, crc) = self.encode(&batch);
            let num_bytes = bytes.len() as u64;
            match self.create(&header, bytes, &mut fresh).await {
                Ok(Created::Ours) => {
                    self.entries_written.fetch_add(1, Ordering::Relaxed);
                    return self.apply_ours(header.seq, crc, num_bytes, batch);
                }
                Ok(Created::Foreign(entries)) => {
                    sometimes!("s3stream: metadata create raced");
                    if let Err(err) = self.apply_found(&entries, &fresh) {
                        break err;
                    }
                }
                Err(err) => break err,
            }
        };
        if matches!(err, MetaError::Unavailable(_)) {
            // The store refused for good and nothing was applied: the log is still sound.
            batch
                .into_iter()
                .for_each(|proposal| drop(proposal.reply.send(Err(err.clone()))));
        } else {
            self.fail(&err, batch);
        }
        None
    }

    /// Creates the entry until its number is taken, by it or by another's.
    async fn create(
        &self,
        header: &EntryHeader,
        bytes: Bytes,
        fresh: &mut Fresh,
    ) -> Result<Created, MetaError> {
        let key = log_key(header.seq);
        let sent = Fresh::now(&*self.reader.env, 0);
        let (mut backoff, mut is_unknown) = (self.reader.backoff(), false);
        loop {
            let asked = self.reader.env.now();
            let (outcome, beside) = self.attempt(&key, header.seq, bytes.clone()).await;
            let latency = self.reader.env.now().since(asked);
            match outcome {
                Ok(()) => {
                    self.confirm_created(fresh, header.seq).await?;
                    fresh.renew(sent);
                    self.won(latency);
                    return Ok(Created::Ours);
                }
                Err(BucketError::Exists { .. }) => match self.read_back(header, beside).await {
                    Ok(Some(foreign @ Created::Foreign(_))) if mutant!(72) => return Ok(foreign),
                    Ok(Some(created)) => {
                        self.confirm_created(fresh, header.seq).await?;
                        match &created {
                            Created::Ours => {
                                fresh.renew(sent);
                                self.won(latency);
                            }
                            Created::Foreign(found) => {
                                self.turns.lock().lost(found.len() as u64);
                            }
                        }
                        return Ok(created);
                    }
                    // It was deleted between the two: somebody passed this number.
                    Ok(None) => self.confirm_created(fresh, header.seq).await?,
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

    /// One create, and the entries that were read beside it if its number is taken.
    async fn attempt(
        &self,
        key: &str,
        seq: u64,
        bytes: Bytes,
    ) -> (Result<(), BucketError>, Vec<LogEntry>) {
        // No more at a time than a replay reads.
        let parallel = self.reader.config.read_parallel as u64;
        let ahead = self.turns.lock().ahead().min(parallel);
        let create = self.reader.bucket.create(Purpose::Meta, key, vec![bytes]);
        let beside = std::pin::pin!(self.reader.entries_there(seq, ahead));
        match select(create, beside).await {
            Either::Left((Err(err @ BucketError::Exists { .. }), beside)) => {
                (Err(err), beside.await)
            }
            Either::Left((outcome, _)) => (outcome, Vec::new()),
            Either::Right((found, create)) => (create.await, found),
        }
    }

    /// An entry of ours is there; the request took `latency`.
    fn won(&self, latency: Duration) {
        let env = &self.reader.env;
        let now = env.now();
        let has_others = self.others_are_registered();
        let random = env.random("s3stream: metadata turn");
        self.turns.lock().won((now, latency), has_others, random);
    }

    /// Applies what was found at the next number, and what lies behind it as long as it can be
    /// believed without asking; the rest is found again.
    fn apply_found(&self, found: &[LogEntry], fresh: &Fresh) -> Result<(), MetaError> {
        for (index, entry) in found.iter().enumerate() {
            if index > 0 && !self.holds(fresh) {
                break;
            }
            self.apply_foreign(entry)?;
        }
        if found.len() > 1 {
            sometimes!("s3stream: a loser caught up by more than an entry");
        }
        Ok(())
    }

    /// Confirms what was found at the number; as long as the store does not tell, nothing is known.
    async fn confirm_created(&self, fresh: &mut Fresh, seq: u64) -> Result<(), MetaError> {
        let mut backoff = self.reader.backoff();
        loop {
            match self.confirm(fresh, seq).await {
                _ if mutant!(73) => return Ok(()),
                Err(MetaError::Unavailable(_)) => backoff.wait(&*self.reader.env).await,
                confirmed => return confirmed,
            }
        }
    }

    /// What is at the number that is taken: the first of `beside`, or read now.
    async fn read_back(
        &self,
        header: &EntryHeader,
        beside: Vec<LogEntry>,
    ) -> Result<Option<Created>, MetaError> {
        let was_beside = !beside.is_empty();
        let found = if was_beside {
            sometimes!("s3stream: a loser read the winner's entry beside its create");
            beside
        } else {
            self.reader.entry(header.seq).await?.into_iter().collect()
        };
        let Some(LogEntry { header: there, .. }) = found.first() else {
            return Ok(None);
        };
        let is_ours = there.writer == header.writer && there.nonce == header.nonce;
        // Mutant 107: what was read beside the create cannot be what it created.
        if is_ours && !mutant!(27) && !(was_beside && mutant!(107)) {
            sometimes!("s3stream: lost answer of a metadata create resolved");
            return Ok(Some(Created::Ours));
        }
        Ok(Some(Created::Foreign(found)))
    }

    /// The state, if its snapshot is due.
    fn apply_ours(
        &self,
        seq: u64,
        crc: u32,
        num_bytes: u64,
        batch: Vec<Proposal>,
    ) -> Option<MetaState> {
        let mut verdicts = Vec::with_capacity(batch.len());
        let mut registered = None;
        let mut changed = self.watchers.listens().then(Vec::new);
        let snapshot = {
            let mut state = self.state.write();
            assert_eq!(seq, state.seq + 1, "entries are applied in order");
            let dead_before = state.dead.len();
            for proposal in batch {
                let verdict = apply_and_tell(&mut state, seq, &proposal.txn, changed.as_mut());
                if verdict.is_ok() {
                    registered = proposal.registration().or(registered);
                }
                let verdict = verdict.map_err(|(index, reason)| {
                    let index = index.saturating_sub(proposal.num_guards);
                    MetaError::Rejected { index, reason }
                });
                verdicts.push((proposal.reply, verdict));
            }
            (state.seq, state.log_crc) = (seq, crc);
            self.tell_applied(&state, dead_before);
            self.watchers
                .tell(seq, changed.as_deref().unwrap_or_default());
            let config = &self.reader.config;
            let is_due = self.pace.lock().applied(num_bytes, true, config);
            is_due.then(|| state.clone())
        };
        if registered.is_some() {
            self.queue.lock().node = registered;
        }
        for (reply, verdict) in verdicts {
            // Nobody waits any more if the proposer's future was dropped.
            let _received = reply.send(verdict);
        }
        snapshot
    }

    /// The log cannot be continued: everybody learns why.
    fn fail(&self, err: &MetaError, batch: Vec<Proposal>) {
        let mut queue = self.queue.lock();
        let err = queue.failed.get_or_insert_with(|| err.clone()).clone();
        let rest: Vec<_> = batch.into_iter().chain(queue.proposals.drain(..)).collect();
        drop(queue);
        rest.into_iter()
            .for_each(|proposal| drop(proposal.reply.send(Err(err.clone()))));
        self.watchers.tell(u64::MAX, &[]);
    }
}
