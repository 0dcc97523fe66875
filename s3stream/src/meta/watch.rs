//! Subscriptions to changes of the metadata.
//!
//! *Owns*: who watches what, the queue of each, the poller for what other nodes write.
//! *Does not own*: what changed (the state machine tells).
//!
//! Invariants
//! 1. Changes are told under the lock of the state: each watcher sees them in the
//!    order of the log, and reads a state at least as new as what it was told.
//! 2. A watcher that falls behind loses its queue and is told to read again; it never
//!    holds up a commit.
//! 3. The poller runs only while somebody watches, and asks only while other nodes are
//!    registered; otherwise it has no timer either.
//!
//! *IO: none* (requests go through the bucket port)

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tidewater_types::sometimes;
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::error::MetaError;

use super::store::Inner;
use super::watched::Watched;

/// Changes that wait for a watcher; more than that, and it is told to read again.
const QUEUE_MAX: usize = 4_096;

/// Who watches.
#[derive(Default)]
pub(super) struct Watchers {
    table: Mutex<Table>,
    /// Wakes the poller: a watcher came or went, a node was registered.
    poller: Notify,
}

#[derive(Default)]
struct Table {
    next_id: u64,
    watchers: BTreeMap<u64, Watcher>,
    poller_runs: bool,
}

struct Watcher {
    what: Vec<Watched>,
    changes: VecDeque<(u64, Watched)>,
    ready: Arc<Notify>,
}

impl Watchers {
    /// Whether anybody wants to know what changes.
    pub(super) fn listens(&self) -> bool {
        !self.table.lock().watchers.is_empty()
    }

    /// Entry `seq` changed these; none is told when the log has failed, which watchers then ask.
    pub(super) fn tell(&self, seq: u64, changed: &[Watched]) {
        let mut table = self.table.lock();
        for watcher in table.watchers.values_mut() {
            for change in changed {
                if watcher.what.iter().any(|what| what.covers(change)) {
                    watcher.changes.push_back((seq, change.clone()));
                }
            }
            if watcher.changes.len() > QUEUE_MAX {
                sometimes!("s3stream: a watcher fell behind");
                watcher.changes.clear();
                watcher.changes.push_back((seq, Watched::All));
            }
            if !watcher.changes.is_empty() || changed.is_empty() && seq == u64::MAX {
                watcher.ready.notify_one();
            }
        }
        if changed.iter().any(|what| Watched::Nodes.covers(what)) || seq == u64::MAX {
            self.poller.notify_one();
        }
    }
}

/// A subscription to changes; see `Metadata::watch`.
pub struct Watch {
    inner: Arc<Inner>,
    id: u64,
    ready: Arc<Notify>,
}

impl Watch {
    pub(super) fn new(inner: Arc<Inner>, what: Vec<Watched>) -> Self {
        let ready = Arc::new(Notify::new());
        let (id, starts) = {
            // So that no change falls between what the caller read and what it is told.
            let _state = inner.state.read();
            let mut table = inner.watchers.table.lock();
            let id = table.next_id;
            table.next_id += 1;
            let watcher = Watcher {
                what,
                changes: VecDeque::new(),
                ready: Arc::clone(&ready),
            };
            table.watchers.insert(id, watcher);
            (id, !std::mem::replace(&mut table.poller_runs, true))
        };
        inner.watchers.poller.notify_one();
        if starts {
            let task = poll(Arc::clone(&inner));
            let env = &inner.reader.env;
            env.spawn("s3stream: metadata poller", Box::pin(task));
        }
        Self { inner, id, ready }
    }

    /// The next changes, each with the number of its log entry, at least one. They are what
    /// changed, not what it became: read that from the metadata. A change of [`Watched::All`]
    /// says that changes were missed.
    ///
    /// # Errors
    /// Why the log cannot be continued; every later call says the same.
    pub async fn next(&mut self) -> Result<Vec<(u64, Watched)>, MetaError> {
        loop {
            {
                let mut table = self.inner.watchers.table.lock();
                let watcher = table.watchers.get_mut(&self.id);
                let changes = &mut watcher.expect("listed while it lives").changes;
                if !changes.is_empty() {
                    return Ok(changes.drain(..).collect());
                }
            }
            self.inner.failure()?;
            self.ready.notified().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.inner.watchers.table.lock().watchers.remove(&self.id);
        self.inner.watchers.poller.notify_one();
    }
}

/// Looks for entries of others until nobody watches.
async fn poll(inner: Arc<Inner>) {
    let config = &inner.reader.config;
    let start = || Backoff::new(config.poll_min, config.poll_max);
    let mut wait = start();
    loop {
        {
            let mut table = inner.watchers.table.lock();
            if table.watchers.is_empty() || inner.failure().is_err() {
                table.poller_runs = false;
                return;
            }
        }
        if !inner.others_are_registered() {
            inner.watchers.poller.notified().await;
            wait = start();
            continue;
        }
        let was_woken = {
            let woken = std::pin::pin!(inner.watchers.poller.notified());
            let pause = std::pin::pin!(wait.wait(&*inner.reader.env));
            matches!(select(woken, pause).await, Either::Left(_))
        };
        if was_woken {
            continue;
        }
        match inner.refresh().await {
            Ok(Some(0)) => {}
            Ok(_) => wait = start(),
            Err(err) => tracing::debug!(%err, "metadata log not polled"),
        }
    }
}

impl Inner {
    fn others_are_registered(&self) -> bool {
        let own = self.queue.lock().node.map(|(node, _)| node);
        let state = self.state.read();
        state.nodes.keys().any(|node| Some(*node) != own)
    }
}
