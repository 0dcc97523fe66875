//! A kind of log as the suite sees it.
//!
//! *Owns*: what the suite asks of a kind, and the places it asks for.
//! *Does not own*: any check.
//!
//! *IO: none*

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tidewater_types::{BoxFuture, Env, Lsn};

use crate::port::Wal;

/// A log that was opened again.
pub struct Reopened {
    /// The log.
    pub wal: Arc<dyn Wal>,
    /// What recovery delivered, in its order.
    pub frames: Vec<(Lsn, Bytes)>,
}

/// How logs of one kind are made. Two that are made for different places share nothing.
///
/// What the suite needs of the settings: `reserve` gives up, after 10 ms at least; each check has
/// up to 80 frames of 2 KiB in a log before it trims, and each may take a group of its own.
pub trait Kind: Send + Sync {
    /// A new and empty log at `place`. Each place is asked for once.
    fn create(&self, place: usize) -> BoxFuture<'_, Arc<dyn Wal>>;

    /// The log at `place` as a process finds it that starts anew. Every handle of the last one
    /// was dropped; it was closed or not. `None` says that this kind survives no restart.
    fn reopen(&self, place: usize) -> BoxFuture<'_, Option<Reopened>>;

    /// Bytes of frames beyond which the log is full until it is trimmed; a bound, not the exact
    /// number. `None` says that it never is.
    fn capacity_bytes(&self) -> Option<u64>;

    /// Whether a close makes trims durable. Where it does not, frames that were trimmed may come
    /// back, as after a kill.
    fn trims_on_close(&self) -> bool {
        true
    }
}

/// The logs of one run.
pub(super) struct Logs<'a> {
    pub(super) kind: &'a dyn Kind,
    pub(super) env: Arc<dyn Env>,
    next: AtomicUsize,
}

impl<'a> Logs<'a> {
    pub(super) fn new(kind: &'a dyn Kind, env: Arc<dyn Env>) -> Self {
        let next = AtomicUsize::new(0);
        Self { kind, env, next }
    }

    /// An empty log, and its place.
    pub(super) async fn create_at(&self) -> (usize, Arc<dyn Wal>) {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        (place, self.kind.create(place).await)
    }

    pub(super) async fn create(&self) -> Arc<dyn Wal> {
        self.create_at().await.1
    }
}
