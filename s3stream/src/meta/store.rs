//! What the parts of an open metadata log share.
//!
//! *Owns*: the state, the lock on the end of the log, and catching up with it.
//! *Does not own*: proposals (`commit`), snapshots and deletion (`collect`), watching.
//!
//! Invariants
//! 1. An entry is applied only if the answer that brought it is believed (`fresh`);
//!    so the state is always that after some entry of the one log.
//! 2. A process that deletion has overtaken takes the state from a snapshot; whoever
//!    watches is told to read again.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};
use tidewater_types::{mutant, sometimes};
use tokio::sync::{Notify, Semaphore};

use crate::error::MetaError;

use super::collecting::Collecting;
use super::format::entry::LogEntry;
use super::fresh::Fresh;
use super::load::{Loaded, MetaReader, OpenReport, apply_entry, check_place, log_key};
use super::pace::Pace;
use super::queue::Queue;
use super::state::MetaState;
use super::turns::Turns;
use super::watched::Watched;
use super::watchers::Watchers;

pub(super) struct Inner {
    pub(super) reader: MetaReader,
    /// Drawn once a process; with the nonce it names the author of an entry.
    pub(super) writer: u64,
    pub(super) report: OpenReport,
    pub(super) state: RwLock<MetaState>,
    /// Held by whoever extends the log or reads its end.
    pub(super) log: tokio::sync::Mutex<Fresh>,
    pub(super) queue: Mutex<Queue>,
    /// Bytes of proposals that may wait.
    pub(super) room: Arc<Semaphore>,
    pub(super) pace: Mutex<Pace>,
    pub(super) turns: Mutex<Turns>,
    pub(super) watchers: Watchers,
    pub(super) objects_died: Notify,
    /// Told of every entry that is applied.
    pub(super) applied: Notify,
    pub(super) collecting: Mutex<Collecting>,
    pub(super) entries_written: AtomicU64,
}

impl Inner {
    pub(super) fn new(reader: MetaReader, writer: u64, state: MetaState, loaded: Loaded) -> Self {
        let pace = Pace::new(
            loaded.report.snapshot_seq,
            loaded.snapshot_bytes,
            loaded.log,
        );
        let room = Arc::new(Semaphore::new(reader.config.queue_bytes_max));
        Self {
            writer,
            report: loaded.report,
            state: RwLock::new(state),
            log: tokio::sync::Mutex::new(loaded.fresh),
            queue: Mutex::default(),
            room,
            pace: Mutex::new(pace),
            turns: Mutex::default(),
            watchers: Watchers::default(),
            objects_died: Notify::new(),
            applied: Notify::new(),
            collecting: Mutex::default(),
            entries_written: AtomicU64::new(0),
            reader,
        }
    }

    /// Why the log cannot be continued, if it cannot.
    pub(super) fn failure(&self) -> Result<(), MetaError> {
        self.queue.lock().failed.clone().map_or(Ok(()), Err)
    }

    pub(super) fn holds(&self, fresh: &Fresh) -> bool {
        fresh.holds(&*self.reader.env, self.reader.config.delete_delay)
    }

    /// Applies the entries others wrote since. How many, or `None` if the state was taken anew.
    pub(super) async fn refresh(&self) -> Result<Option<u64>, MetaError> {
        let mut fresh = self.log.lock().await;
        self.failure()?;
        let anew = !mutant!(72) && self.catch_up(&mut fresh).await?;
        let mut count = (!anew).then_some(0);
        loop {
            let seq = self.state.read().seq + 1;
            let sent = Fresh::now(&*self.reader.env, 0);
            let found = self.reader.entry(seq).await;
            match self.confirm(&mut fresh, seq).await {
                _ if mutant!(72) => {}
                Err(MetaError::Outpaced { .. }) => {
                    self.reload(&mut fresh).await?;
                    count = None;
                    continue;
                }
                confirmed => confirmed?,
            }
            let Some(entry) = found? else {
                fresh.renew(sent);
                return Ok(count);
            };
            self.apply_foreign(&entry)?;
            count = count.map(|count| count + 1);
        }
    }

    /// Takes the state from a snapshot if deletion has passed it. Asks nothing while that cannot
    /// be. Whether it was so.
    pub(super) async fn catch_up(&self, fresh: &mut Fresh) -> Result<bool, MetaError> {
        if self.holds(fresh) {
            return Ok(false);
        }
        let seen = self.reader.boundary(fresh.boundary).await?;
        if seen.boundary > self.state.read().seq {
            self.reload(fresh).await?;
            return Ok(true);
        }
        *fresh = seen;
        Ok(false)
    }

    /// Believes an answer about entry `seq`, which has arrived, or says why not.
    pub(super) async fn confirm(&self, fresh: &mut Fresh, seq: u64) -> Result<(), MetaError> {
        if self.holds(fresh) {
            return Ok(());
        }
        sometimes!("s3stream: an answer about the log is confirmed");
        let seen = self.reader.boundary(fresh.boundary).await?;
        if seen.boundary >= seq {
            sometimes!("s3stream: a process was overtaken by deletion");
            let boundary = seen.boundary;
            return Err(MetaError::Outpaced { seq, boundary });
        }
        *fresh = seen;
        Ok(())
    }

    async fn reload(&self, fresh: &mut Fresh) -> Result<(), MetaError> {
        sometimes!("s3stream: metadata taken anew from a snapshot");
        let loaded = self.reader.load().await?;
        let missing = || MetaError::MissingEntry { key: log_key(1) };
        let new = loaded.state.ok_or_else(missing)?;
        {
            let mut state = self.state.write();
            // The log only grows: a bucket that now holds less, or another cluster, was exchanged.
            if new.cluster != state.cluster || new.seq < state.seq {
                let key = log_key(state.seq);
                return Err(MetaError::MissingEntry { key });
            }
            *state = new;
            self.applied.notify_waiters();
            self.watchers.tell(state.seq, &[Watched::All]);
        }
        *fresh = loaded.fresh;
        *self.pace.lock() = Pace::new(
            loaded.report.snapshot_seq,
            loaded.snapshot_bytes,
            loaded.log,
        );
        self.objects_died.notify_one();
        Ok(())
    }

    pub(super) fn apply_foreign(&self, entry: &LogEntry) -> Result<(), MetaError> {
        let mut changed = self.watchers.listens().then(Vec::new);
        {
            let mut state = self.state.write();
            check_place(&state, entry)?;
            let dead_before = state.dead.len();
            apply_entry(&mut state, entry, changed.as_mut());
            self.tell_applied(&state, dead_before);
            self.watchers
                .tell(state.seq, changed.as_deref().unwrap_or_default());
        }
        let config = &self.reader.config;
        self.pace.lock().applied(entry.num_bytes, false, config);
        Ok(())
    }

    /// An entry that buries as many as it kills tells of no death: whoever knows of the dead has a
    /// timer.
    pub(super) fn tell_applied(&self, state: &MetaState, dead_before: usize) {
        self.applied.notify_waiters();
        if state.dead.len() > dead_before {
            self.objects_died.notify_one();
        }
    }
}
