//! Deletes dead objects, late.
//!
//! *Owns*: the delay between death and deletion, the deletion itself.
//! *Does not own*: what is dead (the metadata says), orphans (`orphans`).
//!
//! Invariants
//! 1. Only objects the metadata calls dead are deleted; dead is for ever.
//! 2. The delay counts by this process's clock from when it first saw the object
//!    dead: no clock of another host is trusted, a restart waits anew.
//! 3. The object is deleted before the metadata forgets it, so none is lost
//!    track of.
//! 4. While nothing is dead it waits without a timer.
//!
//! *IO: none* (requests go through the bucket port)

pub(crate) mod orphans;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tidewater_bucket::{Bucket, BucketError, Purpose};
use tidewater_types::{Env, ErrorKind, Instant, mutant, sometimes};

use crate::backoff::Backoff;
use crate::config::MetaConfig;
use crate::counters::{Counters, add};
use crate::meta::log::Metadata;
use crate::meta::op::MetaOp;
use crate::object_id::ObjectId;

/// Objects forgotten in one transaction; it must fit the smallest log entry.
const REMOVED_AT_ONCE: usize = 128;

pub(crate) struct Sweeper {
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) metadata: Metadata,
    pub(crate) counters: Arc<Counters>,
    pub(crate) delay: Duration,
    pub(crate) retry: MetaConfig,
}

/// What became of objects that were due.
enum Swept {
    Forgotten,
    Refused,
    Fenced,
}

impl Sweeper {
    /// Sweeps until the node is fenced; dropped when the uploader ends.
    pub(crate) async fn run(self) {
        let mut first_seen: BTreeMap<ObjectId, Instant> = BTreeMap::new();
        loop {
            let now = self.env.now();
            self.look(&mut first_seen, now);
            let due: Vec<_> = first_seen
                .iter()
                .filter(|(_, seen)| now.since(**seen) >= self.delay || mutant!(33))
                .map(|(id, _)| *id)
                .take(REMOVED_AT_ONCE)
                .collect();
            if due.is_empty() {
                self.wait(&first_seen).await;
                continue;
            }
            match self.sweep(&due).await {
                Swept::Forgotten => {}
                // The store refuses for good: leave it alone for a while.
                Swept::Refused => self.env.sleep(self.delay.max(self.retry.backoff_max)).await,
                // The node's successor sweeps.
                Swept::Fenced => return,
            }
        }
    }

    fn look(&self, first_seen: &mut BTreeMap<ObjectId, Instant>, now: Instant) {
        self.metadata.read(|state| {
            first_seen.retain(|id, _| state.dead.contains(id));
            for id in state.dead_objects() {
                first_seen.entry(id).or_insert(now);
            }
        });
    }

    async fn wait(&self, first_seen: &BTreeMap<ObjectId, Instant>) {
        let died = std::pin::pin!(self.metadata.objects_died());
        let Some(oldest) = first_seen.values().min() else {
            died.await;
            return;
        };
        let sleep = self
            .env
            .sleep(oldest.after(self.delay).since(self.env.now()));
        if let Either::Left(_) = select(died, sleep).await {
            // More died; they are due later than what is known, and are seen now.
        }
    }

    /// Deletes the objects and forgets them.
    async fn sweep(&self, due: &[ObjectId]) -> Swept {
        let mut deleted = Vec::with_capacity(due.len());
        for id in due {
            if delete(&*self.bucket, &*self.env, &self.retry, *id).await {
                deleted.push(*id);
            }
        }
        if deleted.is_empty() {
            return Swept::Refused;
        }
        sometimes!("s3stream: dead objects swept");
        add(&self.counters.objects_deleted, deleted.len());
        let forget = MetaOp::RemoveObjects { objects: deleted };
        match self.metadata.propose(vec![forget]).await {
            Ok(()) => Swept::Forgotten,
            Err(err) if err.kind() == ErrorKind::Fenced => Swept::Fenced,
            Err(err) => {
                // They stay dead in the metadata and are deleted once more.
                tracing::warn!(%err, "deleted objects not forgotten yet");
                Swept::Refused
            }
        }
    }
}

/// Deletes an object; whether it is gone.
async fn delete(bucket: &dyn Bucket, env: &dyn Env, retry: &MetaConfig, id: ObjectId) -> bool {
    let key = id.key();
    let mut backoff = Backoff::new(retry.backoff_min, retry.backoff_max);
    loop {
        match bucket.delete(Purpose::Gc, &key).await {
            Ok(()) | Err(BucketError::Absent { .. }) => return true,
            Err(BucketError::Throttled { .. } | BucketError::Unknown { .. })
                if backoff.attempts() + 1 < retry.read_attempts =>
            {
                backoff.wait(env).await;
            }
            Err(err) => {
                tracing::warn!(%err, "object not deleted");
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests;
