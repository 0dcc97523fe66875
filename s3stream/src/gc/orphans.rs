//! Sweeps orphans: data objects that were uploaded and never committed.
//!
//! *Owns*: which objects are orphans, and the two steps to their deletion.
//! *Does not own*: dead objects (`gc`), what condemning means for a commit (`meta::apply`).
//!
//! Invariants
//! 1. An object is deleted only if the metadata will refuse every commit that names it: its node
//!    is at a later epoch, or its counter is not above the greatest that was committed or
//!    condemned. That is asked of the state again right before the deletion.
//! 2. Nothing is forgotten, because nothing is remembered: a late landing of the same object is
//!    an orphan like any other, however long after.
//! 3. An object of a node or an epoch the metadata does not know is left alone: it is another
//!    cluster's, or the metadata is older than the bucket.
//! 4. An object counts only after it was seen for `age`, so that uploads under way are left in
//!    peace; if one is not, its uploader is refused and sends it again.
//!
//! *IO: none* (requests go through the bucket port)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidewater_bucket::{Bucket, BucketError, Purpose};
use tidewater_types::{Env, mutant, sometimes};

use crate::backoff::Backoff;
use crate::config::MetaConfig;
use crate::counters::{Counters, add};
use crate::error::TierError;
use crate::meta::log::Metadata;
use crate::meta::op::MetaOp;
use crate::meta::state::MetaState;
use crate::object_id::{DATA_PREFIX, ObjectId};

use super::delete;

/// A counter so far above the last one was not given by this cluster's software.
const COUNTERS_UNDER_WAY_MAX: u64 = 1 << 32;

/// What the metadata says about an object in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is part of the metadata.
    Committed,
    /// No commit of it will ever be granted.
    Condemned,
    /// It may be committed yet.
    Open,
    /// Not an object of this metadata's nodes.
    Foreign,
}

pub(crate) struct Orphans {
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) metadata: Metadata,
    pub(crate) counters: Arc<Counters>,
    pub(crate) retry: MetaConfig,
    /// How long an orphan must have been seen before it is condemned.
    pub(crate) age: Duration,
    /// How long it waits between that and its deletion.
    pub(crate) delay: Duration,
    /// Objects written before another sweep, at least.
    pub(crate) objects_min: u64,
    /// Orphans of one sweep.
    pub(crate) orphans_max: usize,
}

impl Orphans {
    /// Sweeps after enough objects were written; never without.
    pub(crate) async fn run(self) {
        let mut changes = self.metadata.changes();
        let mut written_then = 0;
        loop {
            let known = self.metadata.read(|state| state.objects.len() as u64);
            let written = self.written();
            if written - written_then >= self.objects_min.max(known / 10) {
                if let Err(err) = self.sweep().await {
                    tracing::warn!(%err, "orphans not swept");
                }
                written_then = written;
            }
            changes.changed().await;
        }
    }

    fn written(&self) -> u64 {
        self.counters.uploads.load(Relaxed) + self.counters.compaction_objects.load(Relaxed)
    }

    /// One sweep, from the listing to the deletion. How many objects were deleted.
    pub(crate) async fn sweep(&self) -> Result<u64, TierError> {
        let mut orphans = self.list().await?;
        if orphans.is_empty() {
            return Ok(0);
        }
        self.env.sleep(self.age).await;
        self.retain(&mut orphans, &[Standing::Condemned, Standing::Open]);
        if !mutant!(57) {
            self.condemn(&orphans).await?;
        }
        self.retain(&mut orphans, &[Standing::Condemned]);
        self.env.sleep(self.delay).await;
        self.retain(&mut orphans, &[Standing::Condemned]);
        let mut deleted = 0;
        for id in orphans {
            if delete(&*self.bucket, &*self.env, &self.retry, id).await {
                deleted += 1;
            }
        }
        if deleted > 0 {
            sometimes!("s3stream: orphans swept");
            tracing::info!(deleted, "objects that nobody committed are deleted");
        }
        add(&self.counters.orphans_deleted, deleted);
        Ok(deleted as u64)
    }

    fn retain(&self, orphans: &mut BTreeSet<ObjectId>, wanted: &[Standing]) {
        self.metadata.read(|state| {
            orphans.retain(|id| {
                let standing = standing(state, id);
                wanted.contains(&standing)
                    || (mutant!(29) && standing == Standing::Committed)
                    || (mutant!(57) && standing == Standing::Open)
            });
        });
    }

    /// Objects in the bucket that are not part of the metadata.
    async fn list(&self) -> Result<BTreeSet<ObjectId>, TierError> {
        let (mut orphans, mut after) = (BTreeSet::new(), None::<String>);
        let mut backoff = Backoff::new(self.retry.backoff_min, self.retry.backoff_max);
        loop {
            let listed = self.bucket.list(Purpose::Gc, DATA_PREFIX, after.as_deref());
            let page = match listed.await {
                Ok(page) => page,
                Err(BucketError::Throttled { .. } | BucketError::Unknown { .. })
                    if backoff.attempts() + 1 < self.retry.read_attempts =>
                {
                    backoff.wait(&*self.env).await;
                    continue;
                }
                Err(err) => return Err(TierError::Unavailable(err)),
            };
            self.metadata.read(|state| {
                let ids = page.entries.iter();
                let ids = ids.filter_map(|entry| ObjectId::from_key(&entry.key));
                orphans.extend(ids.filter(|id| {
                    matches!(standing(state, id), Standing::Condemned | Standing::Open)
                }));
            });
            match page.entries.last() {
                Some(last) if page.more && orphans.len() < self.orphans_max => {
                    after = Some(last.key.clone());
                }
                _ => return Ok(orphans),
            }
        }
    }

    /// Makes the metadata refuse what it might still grant.
    async fn condemn(&self, orphans: &BTreeSet<ObjectId>) -> Result<(), TierError> {
        let mut counters = BTreeMap::new();
        self.metadata.read(|state| {
            let open = orphans.iter();
            for id in open.filter(|id| standing(state, id) == Standing::Open) {
                // Ids ascend, so the greatest comes last.
                counters.insert((id.node, id.epoch, id.is_compacted()), id.counter);
            }
        });
        if counters.is_empty() {
            return Ok(());
        }
        sometimes!("s3stream: orphans condemned");
        let ops = counters
            .into_iter()
            .map(|((node, epoch, _), counter)| MetaOp::CondemnObjects {
                node,
                epoch,
                counter,
            });
        for op in ops {
            self.metadata.propose(vec![op]).await?;
        }
        Ok(())
    }
}

fn standing(state: &MetaState, id: &ObjectId) -> Standing {
    if state.object(*id).is_some() {
        return Standing::Committed;
    }
    let Some(node) = state.node(id.node) else {
        return Standing::Foreign;
    };
    let last = node.committed(id);
    if id.epoch < node.epoch || (id.epoch == node.epoch && id.counter <= last) {
        return Standing::Condemned;
    }
    if id.epoch == node.epoch && id.counter - last <= COUNTERS_UNDER_WAY_MAX {
        return Standing::Open;
    }
    Standing::Foreign
}
