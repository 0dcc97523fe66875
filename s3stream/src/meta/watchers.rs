//! Who watches the metadata, and what waits for each.
//!
//! *Owns*: the queues. *Does not own*: the poller (`watch`), what changed (the state machine tells).
//!
//! Invariants
//! 1. Changes are told under the lock of the state: each watcher sees them in the
//!    order of the log, and reads a state at least as new as what it was told.
//! 2. A watcher that falls behind loses its queue and is told to read again; it never
//!    holds up a commit.
//!
//! *IO: none*

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_types::sometimes;
use tokio::sync::Notify;

use super::watched::Watched;

/// Changes that wait for a watcher; more than that, and it is told to read again. Few in simulation,
/// so that it happens there.
const QUEUE_MAX: usize = if cfg!(feature = "mutants") { 8 } else { 4_096 };

/// Who watches.
#[derive(Default)]
pub(super) struct Watchers {
    table: Mutex<Table>,
    /// Wakes the poller: a watcher came or went, a node was registered.
    pub(super) poller: Notify,
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

    /// Adds a watcher; its number, its bell, and whether the poller must be started.
    pub(super) fn add(&self, what: Vec<Watched>) -> (u64, Arc<Notify>, bool) {
        let ready = Arc::new(Notify::new());
        let mut table = self.table.lock();
        let id = table.next_id;
        table.next_id += 1;
        let watcher = Watcher {
            what,
            changes: VecDeque::new(),
            ready: Arc::clone(&ready),
        };
        table.watchers.insert(id, watcher);
        let starts = !std::mem::replace(&mut table.poller_runs, true);
        drop(table);
        self.poller.notify_one();
        (id, ready, starts)
    }

    pub(super) fn remove(&self, id: u64) {
        self.table.lock().watchers.remove(&id);
        self.poller.notify_one();
    }

    /// What waits for a watcher.
    pub(super) fn take(&self, id: u64) -> Vec<(u64, Watched)> {
        let mut table = self.table.lock();
        let watcher = table.watchers.get_mut(&id);
        let changes = &mut watcher.expect("listed while it lives").changes;
        changes.drain(..).collect()
    }

    /// Whether the poller has nothing to do for anybody any more; it ends then.
    pub(super) fn poller_ends(&self, has_failed: bool) -> bool {
        let mut table = self.table.lock();
        let ends = table.watchers.is_empty() || has_failed;
        if ends {
            table.poller_runs = false;
        }
        ends
    }
}
