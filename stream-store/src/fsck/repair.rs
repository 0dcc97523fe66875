//! The one repair that is provably safe: orphans of a life that was fenced.
//!
//! *Owns*: which orphans may go, and deleting them.
//! *Does not own*: finding them.
//!
//! Invariants
//! 1. An object is deleted only if its node has registered a later epoch since: a commit that
//!    names it is refused whenever it arrives, as commits are judged by the epoch they state.
//! 2. Nothing is deleted while anything is wrong: metadata in doubt prove nothing, and an orphan
//!    may be the last copy.
//!
//! *IO: none* (through the bucket port)

use tidewater_bucket::{BucketError, Purpose};
use tidewater_s3stream::{FsckReport, MetaState, ObjectId, Severity, TierError};

use super::Fsck;
use crate::error::StoreError;

/// Attempts of one delete.
const ATTEMPTS_MAX: u32 = 8;

impl Fsck {
    /// Deletes the orphans of the report that no commit can ever name, and answers their keys.
    /// Does nothing if the report has a finding worse than information.
    ///
    /// # Errors
    /// A bucket that does not answer; what was deleted until then is gone.
    pub async fn repair(&self, report: &FsckReport) -> Result<Vec<String>, StoreError> {
        let mut deleted = Vec::new();
        if report
            .severity()
            .is_some_and(|worst| worst > Severity::Info)
            || self.skip_wals
        {
            return Ok(deleted);
        }
        let Some(state) = &report.metadata else {
            return Ok(deleted);
        };
        for orphan in report
            .orphans
            .iter()
            .filter(|orphan| is_fenced(orphan.id, state))
        {
            self.delete(&orphan.key).await?;
            deleted.push(orphan.key.clone());
        }
        Ok(deleted)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.bucket.delete(Purpose::Fsck, key).await {
                Ok(()) | Err(BucketError::Absent { .. }) => return Ok(()),
                Err(BucketError::Throttled { .. } | BucketError::Unknown { .. })
                    if attempts < ATTEMPTS_MAX =>
                {
                    let pause = std::time::Duration::from_millis(50 << attempts);
                    self.env.sleep(pause).await;
                }
                Err(error) => return Err(TierError::Unavailable(error).into()),
            }
        }
    }
}

/// Whether the node has registered a later epoch than that of the object.
fn is_fenced(id: Option<ObjectId>, state: &MetaState) -> bool {
    let epoch = |id: ObjectId| state.node(id.node).map(|node| node.epoch);
    id.is_some_and(|id| epoch(id).is_some_and(|epoch| epoch > id.epoch))
}
