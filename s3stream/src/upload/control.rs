//! What an upload loop shares with whoever asks something of it.
//!
//! *Owns*: requests to flush and to stop, the reason of the end.
//! *Does not own*: the loop.
//!
//! Invariants
//! 1. The end has a reason and everybody who waits learns it, also when a task panicked.
//!
//! *IO: none*

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::error::TierError;

use super::pace::{Burst, Pacer};

/// Whoever waits for the end of a flush.
pub(crate) struct Flush {
    pub(crate) reply: oneshot::Sender<()>,
    /// It does not wait for its turn.
    pub(crate) _burst: Burst,
}

/// The state that both sides hold.
pub(crate) struct Shared {
    control: Mutex<Control>,
    pub(crate) request: Notify,
    stop: Notify,
    ended: Notify,
    pub(crate) pacer: Arc<Pacer>,
}

#[derive(Default)]
struct Control {
    flushes: Vec<Flush>,
    stop: bool,
    ended: Option<TierError>,
}

impl Shared {
    pub(crate) fn new(pacer: Arc<Pacer>) -> Arc<Self> {
        Arc::new(Self {
            control: Mutex::default(),
            request: Notify::new(),
            stop: Notify::new(),
            ended: Notify::new(),
            pacer,
        })
    }

    /// Asks for a flush; the answer completes when it is done, or breaks off with the loop.
    pub(crate) fn ask_flush(&self) -> Result<oneshot::Receiver<()>, TierError> {
        let (reply, done) = oneshot::channel();
        let _burst = self.pacer.burst();
        {
            let mut control = self.control.lock();
            if let Some(err) = &control.ended {
                return Err(err.clone());
            }
            control.flushes.push(Flush { reply, _burst });
        }
        self.request.notify_one();
        Ok(done)
    }

    pub(crate) fn take_flushes(&self) -> Vec<Flush> {
        std::mem::take(&mut self.control.lock().flushes)
    }

    pub(crate) fn ask_stop(&self) {
        self.control.lock().stop = true;
        self.stop.notify_waiters();
    }

    /// Completes once a stop was asked for, or the loop has ended.
    pub(crate) async fn stopped(&self) {
        loop {
            let mut notified = std::pin::pin!(self.stop.notified());
            notified.as_mut().enable();
            if self.control.lock().stop {
                return;
            }
            notified.await;
        }
    }

    /// Completes with the reason once the loop has ended.
    pub(crate) async fn ended(&self) -> TierError {
        loop {
            let mut notified = std::pin::pin!(self.ended.notified());
            notified.as_mut().enable();
            if let Some(err) = &self.control.lock().ended {
                return err.clone();
            }
            notified.await;
        }
    }
}

/// Held by the loop. Dropped without a reason, by a panic, it says so.
pub(crate) struct EndGuard {
    shared: Arc<Shared>,
    pub(crate) reason: TierError,
}

impl EndGuard {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            reason: TierError::Died,
        }
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if !matches!(self.reason, TierError::Closed) {
            tracing::error!(reason = %self.reason, "uploads ended");
        }
        let flushes = {
            let mut control = self.shared.control.lock();
            control.ended = Some(self.reason.clone());
            control.stop = true;
            std::mem::take(&mut control.flushes)
        };
        drop(flushes);
        // The sweeper and the uploads under way end with the loop.
        self.shared.stop.notify_waiters();
        self.shared.ended.notify_waiters();
    }
}
